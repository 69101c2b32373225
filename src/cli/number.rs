//! Flags with a fraction.

use std::fmt::{Display, LowerExp};
use std::ops::Add;
use std::str::FromStr;

/// f32 or f64.
pub(super) trait Float:
    FromStr<Err: Display> + PartialOrd + Default + LowerExp + Add<Output = Self>
{
    /// The largest finite one.
    const MOST: Self;
}

impl Float for f32 {
    const MOST: Self = Self::MAX;
}

impl Float for f64 {
    const MOST: Self = Self::MAX;
}

/// The number in `text`: -0 as 0; digits for more than it can hold, which Rust takes for infinity, are refused.
pub(super) fn number<T: Float>(text: &str) -> Result<T, String> {
    let value: T = text.parse().map_err(|error: T::Err| error.to_string())?;
    if value > T::MOST && text.bytes().any(|byte| byte.is_ascii_digit()) {
        return Err(format!("beyond the largest number, {:e}; for no bound say inf", T::MOST));
    }
    Ok(value + T::default())
}
