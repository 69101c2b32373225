//! ∞ in JSON.

/// ∞, which JSON has no number for, as the string "inf".
pub(crate) mod number_or_inf {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
    pub(crate) fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
        if *value == f32::INFINITY {
            serializer.serialize_str("inf")
        } else {
            serializer.serialize_f32(*value)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum NumberOrText {
            Number(f32),
            Text(String),
        }
        match NumberOrText::deserialize(deserializer)? {
            NumberOrText::Number(value) => Ok(value),
            NumberOrText::Text(text) if text == "inf" => Ok(f32::INFINITY),
            NumberOrText::Text(text) => {
                Err(D::Error::custom(format!("`{text}` is neither a number nor inf")))
            }
        }
    }
}

/// The same for lists.
pub(crate) mod numbers_or_inf {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    #[serde(transparent)]
    struct Number(#[serde(with = "super::number_or_inf")] f32);

    pub(crate) fn serialize<S: Serializer>(values: &[f32], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(values.iter().map(|&value| Number(value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<f32>, D::Error> {
        Ok(Vec::<Number>::deserialize(deserializer)?.into_iter().map(|Number(value)| value).collect())
    }
}
