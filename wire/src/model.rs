//! The models by name.

use serde::{Deserialize, Serialize};

/// A model that a client can ask for.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum ModelName {
    /// MoveNet SinglePose Lightning, 192×192: one person, fastest.
    Lightning,
    /// MoveNet SinglePose Thunder, 256×256: one person, most accurate.
    Thunder,
    /// MoveNet MultiPose Lightning, longer side 256: up to six people.
    #[default]
    MultiPose,
}

impl ModelName {
    /// All models, in the order in which people are shown them.
    pub const ALL: [ModelName; 3] = [Self::MultiPose, Self::Lightning, Self::Thunder];

    /// The name used in queries, events, metrics and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Lightning => "lightning",
            Self::Thunder => "thunder",
            Self::MultiPose => "multipose",
        }
    }
}

impl std::fmt::Display for ModelName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Nobody knows this model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown model {0:?}; use one of multipose, lightning, thunder")]
pub struct UnknownModel(pub String);

impl std::str::FromStr for ModelName {
    type Err = UnknownModel;
    fn from_str(s: &str) -> Result<Self, UnknownModel> {
        Self::ALL.into_iter().find(|m| m.as_str() == s).ok_or_else(|| UnknownModel(s.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_parses_back_and_serde_agrees() {
        for model in ModelName::ALL {
            assert_eq!(model.as_str().parse(), Ok(model));
            assert_eq!(serde_json::to_string(&model).unwrap(), format!("\"{model}\""));
        }
        assert_eq!("yolo".parse::<ModelName>(), Err(UnknownModel("yolo".into())));
    }
}
