//! Flags that take several values.

use std::fmt::Display;
use std::str::FromStr;

/// Values parted by commas. Unlike a `Vec`, which would gather them, a flag given twice counts once: the last.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr<Err: Display>> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = |part: &str| part.trim().parse().map_err(|error: T::Err| format!("`{part}`: {error}"));
        text.split(',').map(value).collect::<Result<_, _>>().map(Self)
    }
}
