//! Flags that take several values.

use std::str::FromStr;

use super::number::number;

/// What a list may be of.
pub(super) trait Item: Sized {
    /// The value of `text`.
    fn read(text: &str) -> Result<Self, String>;
}

macro_rules! items {
    ($($kind:ty: $read:expr),+) => {
        $(impl Item for $kind {
            fn read(text: &str) -> Result<Self, String> {
                $read(text)
            }
        })+
    };
}

fn parsed<T: FromStr<Err: ToString>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

items!(f32: number, f64: number, u64: parsed, usize: parsed);

/// Values parted by commas. Unlike a `Vec`, which would gather them, a flag given twice counts once: the last.
#[derive(Clone, Debug)]
pub(super) struct List<T>(pub(super) Vec<T>);

impl<T: Item> FromStr for List<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let value = |part: &str| T::read(part.trim()).map_err(|error| format!("`{part}`: {error}"));
        text.split(',').map(value).collect::<Result<_, _>>().map(Self)
    }
}
