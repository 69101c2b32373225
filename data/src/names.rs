//! Values by their names, and as text.

/// Displays unit variants by their names in files, which [`clap::ValueEnum`] gives to their flags too.
#[macro_export]
macro_rules! display_by_name {
    ($($kind:ty),+) => {
        $(impl std::fmt::Display for $kind {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                serde::Serialize::serialize(self, f)
            }
        })+
    };
}

/// Conversions for `#[serde(into = "String", try_from = "String")]`, for a type that is written and parsed as text.
#[macro_export]
macro_rules! serde_by_text {
    ($($kind:ty),+) => {
        $(impl TryFrom<String> for $kind {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }

        impl From<$kind> for String {
            fn from(value: $kind) -> Self {
                value.to_string()
            }
        })+
    };
}
