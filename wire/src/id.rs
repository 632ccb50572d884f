//! Identifiers. Each is one NATS token, so it can stand in a subject as it is.

use serde::{Deserialize, Serialize};

/// Longest stream name, session id or gateway id, in characters.
pub const MAX_TOKEN_LEN: usize = 64;

/// Why a string is no valid token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Nothing there.
    #[error("the name is empty; use 1 to {MAX_TOKEN_LEN} letters, digits, '-' or '_'")]
    Empty,
    /// Longer than [`MAX_TOKEN_LEN`].
    #[error("the name has {0} characters; at most {MAX_TOKEN_LEN} are allowed")]
    TooLong(usize),
    /// A character that a NATS token, or ours, must not hold.
    #[error("the name holds {0:?}; only letters, digits, '-' and '_' are allowed")]
    Character(char),
}

fn check_token(s: &str) -> Result<(), TokenError> {
    if s.is_empty() {
        return Err(TokenError::Empty);
    }
    if let Some(c) = s.chars().find(|c| !(c.is_ascii_alphanumeric() || *c == '-' || *c == '_')) {
        return Err(TokenError::Character(c));
    }
    if s.len() > MAX_TOKEN_LEN {
        return Err(TokenError::TooLong(s.len()));
    }
    Ok(())
}

macro_rules! token {
    ($(#[$attribute:meta])* $name:ident) => {
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        $(#[$attribute])*
        #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// Checks `s` and takes it.
            ///
            /// # Errors
            /// [`TokenError`] unless `s` is 1 to 64 letters, digits, `-` or `_`.
            pub fn new(s: &str) -> Result<Self, TokenError> {
                check_token(s)?;
                Ok(Self(s.into()))
            }

            /// The token as it stands in a subject.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = TokenError;
            fn try_from(s: String) -> Result<Self, TokenError> {
                Self::new(&s)
            }
        }

        impl std::str::FromStr for $name {
            type Err = TokenError;
            fn from_str(s: &str) -> Result<Self, TokenError> {
                Self::new(s)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0.as_ref().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

token! {
    /// Names a stream: what a camera sends over one or more sessions. Chosen by the client.
    StreamName
}
token! {
    /// One WebSocket connection, or one HTTP request that holds a still. Chosen by the gateway, unique.
    SessionId
}
token! {
    /// One ingest process. Results are addressed to it.
    GatewayId
}
token! {
    /// Work whose results are kept until they are taken, whoever asked for it. Chosen by who begins it, unique.
    JobId
}
token! {
    /// First token of every subject: keeps deployments apart that share a NATS server.
    Prefix
}
token! {
    /// A JetStream domain: the queues of one NATS server or cluster among several that are joined by leaf nodes.
    Domain
}

token! {
    /// Names a model. Chosen by its manifest.
    #[schema(as = ModelName)]
    ModelId
}
token! {
    /// Names a skeleton.
    SkeletonName
}
token! {
    /// Names a keypoint of a skeleton.
    KeypointName
}

token! {
    /// On whose account work is done: keeps those apart who share a deployment.
    Tenant
}
token! {
    /// Names a key of a tenant.
    KeyName
}
token! {
    /// One thing that a key allows.
    Scope
}

impl Default for Tenant {
    /// The one where nobody has to say who he is.
    fn default() -> Self {
        Self("default".into())
    }
}

impl Tenant {
    /// Whether it is the one where nobody has to say who he is: nothing is said of it.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for KeyName {
    /// None was shown.
    fn default() -> Self {
        Self("none".into())
    }
}

impl Default for SkeletonName {
    /// COCO's: whose keypoints they are where nothing is said of it.
    fn default() -> Self {
        crate::Skeleton::coco_17().name().clone()
    }
}

impl SkeletonName {
    /// Whether it is what is meant where nothing is said.
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Default for Prefix {
    fn default() -> Self {
        Self(crate::subject::DEFAULT_PREFIX.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_nats_token() {
        assert_eq!(StreamName::new("cam-1_A").unwrap().as_str(), "cam-1_A");
        assert_eq!(StreamName::new(""), Err(TokenError::Empty));
        for bad in ["a.b", "a b", "a*", "a>", "ä", "a\n", "a/b"] {
            assert!(matches!(StreamName::new(bad), Err(TokenError::Character(_))), "{bad:?}");
        }
        assert!(StreamName::new(&"x".repeat(64)).is_ok());
        assert_eq!(StreamName::new(&"x".repeat(65)), Err(TokenError::TooLong(65)));
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<StreamName>("\"a.b\"").is_err());
        assert_eq!(serde_json::from_str::<StreamName>("\"ab\"").unwrap().as_str(), "ab");
    }
}
