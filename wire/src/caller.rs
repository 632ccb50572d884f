//! Who asks.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{KeyName, Scope, Tenant};

/// Who asks for a frame to be worked on. It rides with the frame. Where nobody has to say who he is there is one caller,
/// the default one, and nothing is said of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Caller {
    /// On whose account.
    pub tenant: Tenant,
    /// With which of the tenant's keys. The name, never the key.
    pub key: KeyName,
    /// What the key may do.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<Scope>,
}

impl Caller {
    /// Whether it is the one that there is where nobody has to say who he is.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_caller_is_the_one_of_whom_nothing_is_known() {
        assert!(Caller::default().is_default());
        for known in [
            Caller { tenant: "acme".parse().unwrap(), ..Caller::default() },
            Caller { key: "door".parse().unwrap(), ..Caller::default() },
            Caller { scopes: ["pose".parse().unwrap()].into(), ..Caller::default() },
        ] {
            assert!(!known.is_default(), "{known:?}");
        }
    }
}
