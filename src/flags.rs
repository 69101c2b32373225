//! The values of flags as text.

use std::fmt::Display;
use std::ops::Add;
use std::str::FromStr;

/// Values separated by commas. A type of its own, because clap would append the values of a repeated flag to a `Vec`; here the
/// last flag counts.
pub type List<T> = Vec<T>;

/// Parses a number. −0 becomes 0. Digits beyond the largest finite number, which Rust parses as infinity, are refused.
///
/// # Errors
/// When `text` is not a number, or is beyond the largest finite one.
///
/// ```
/// use slth::flags::number;
/// assert_eq!(number::<f32>("-0").unwrap().to_bits(), 0);
/// assert_eq!(number("inf"), Ok(f32::INFINITY));
/// assert!(number::<f32>("1e39").is_err() && number::<u64>("-1").is_err());
/// ```
pub fn number<T>(text: &str) -> Result<T, String>
where
    T: FromStr<Err: Display> + Display + Default + Add<Output = T>,
{
    let value: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    if value.to_string() == "inf" && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err("beyond the largest number; for no bound say inf".to_owned());
    }
    Ok(value + T::default())
}

/// The numbers in `text`, separated by commas.
///
/// # Errors
/// For the first item that is not a number.
///
/// ```
/// use slth::flags::list;
/// assert_eq!(list("0, 0.5"), Ok(vec![0.0, 0.5]));
/// assert!(list::<f64>("1,,2").is_err());
/// ```
pub fn list<T>(text: &str) -> Result<List<T>, String>
where
    T: FromStr<Err: Display> + Display + Default + Add<Output = T>,
{
    text.split(',').map(|part| number(part.trim()).map_err(|error| format!("`{part}`: {error}"))).collect()
}

/// The names in `text`, separated by commas.
///
/// # Errors
/// When one is empty.
pub fn names(text: &str) -> Result<List<String>, String> {
    let names: List<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    if names.iter().any(String::is_empty) { Err("a name is empty".to_owned()) } else { Ok(names) }
}

/// An optional value whose flag takes `none`. The alias is needed because clap takes a flag of type `Option` as one without default.
pub type Maybe<T> = Option<T>;

/// The value in `text`, unless that is `none`.
///
/// # Errors
/// When it is no such value.
pub fn maybe<T: FromStr>(text: &str) -> Result<Maybe<T>, T::Err> {
    if text == "none" { Ok(None) } else { text.parse().map(Some) }
}

/// What the flags of `A` give where none is on the command line.
pub(crate) fn defaults<A: clap::Args>() -> A {
    let command = A::augment_args(clap::Command::new("").no_binary_name(true));
    let given = command.try_get_matches_from([""; 0]);
    given.and_then(|given| A::from_arg_matches(&given)).expect("every flag has a default")
}

pub(crate) use slth_data::{display_by_name, serde_by_text};
