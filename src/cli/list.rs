//! Flags that take several numbers.

use std::str::FromStr;

/// Numbers parted by commas. Unlike a `Vec`, which would gather them, a flag given twice counts once: the last.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: FromStr> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse().map_err(|_| format!("`{part}` is no number"));
        text.split(',').map(number).collect::<Result<_, _>>().map(Self)
    }
}
