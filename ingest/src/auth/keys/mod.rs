//! API keys: long random strings, of which the gateway knows the SHA-256 only.
//!
//! Their file is JSON:
//!
//! ```json
//! {"keys": [{
//!   "name": "door", "tenant": "acme", "scopes": ["photo", "stream"], "expires": "2027-01-31T00:00:00Z",
//!   "sha256": "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
//! }]}
//! ```
//!
//! Beside `keys` may stand `"quotas"`, what each tenant may use: `{"acme": {"sessions": 50, "frames": 200}}`
//! ([`cloudpose_policy::quota`]).
//!
//! `tenant` and `expires` may be absent. The hash is a plain one: a key has 256 random bits, which nobody guesses, however
//! fast the hash is.

mod file;
mod ring;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    path::PathBuf,
    time::SystemTime,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cloudpose_policy::quota::{BadLimits, Limits};
use cloudpose_wire::{Caller, KeyName, Tenant};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use self::file::KeyFile;
pub(crate) use self::ring::{ASK_AGAIN, Keyring};
pub use super::scope::Scope;

/// What every key of ours begins with: people and scanners of secrets know it by that.
const PREFIX: &str = "cpk_";
/// Random bytes of a key.
const RANDOM_BYTES: usize = 32;

/// Why keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such file, or it may not be read.
    #[error("cannot read the keys of {}; make the first one with `cloudpose keys new NAME --keys {}`", .path.display(), .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file does not say what keys there are.
    #[error("the keys of {} cannot be used: {flaw}", .path.display())]
    Flawed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// The changed file could not be written; the old one is as it was.
    #[error("cannot write the keys to {}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A new key has the name of one that is there.
    #[error("tenant {tenant} has a key {name} already; choose another name, or revoke that one first")]
    Taken {
        /// Whose.
        tenant: Tenant,
        /// Which.
        name: KeyName,
    },
    /// There is nothing to revoke.
    #[error("tenant {tenant} has no key {name}; `cloudpose keys list` shows all")]
    Unknown {
        /// Whose.
        tenant: Tenant,
        /// Which.
        name: KeyName,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// What is wrong with a file of keys.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Flaw {
    /// It is not the JSON that it should be.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Two keys have one name.
    #[error("tenant {tenant} has two keys {name}")]
    SameName {
        /// Whose.
        tenant: Tenant,
        /// Which.
        name: KeyName,
    },
    /// A tenant's quota cannot be one.
    #[error("the quota of tenant {tenant}: {why}")]
    Quota {
        /// Whose.
        tenant: Tenant,
        /// What is wrong with it.
        why: BadLimits,
    },
    /// One key has two names.
    #[error("{0} and {1} are the same key")]
    SameKey(KeyName, KeyName),
}

/// SHA-256 of a key; 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest([u8; 32]);

impl Digest {
    /// That of `key`.
    pub fn of(key: &str) -> Self {
        Self(Sha256::digest(key).into())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let mut digest = [0; 32];
        let digits: Option<Vec<u8>> = text.chars().map(|digit| digit.to_digit(16)?.try_into().ok()).collect();
        match digits {
            Some(digits) if digits.len() == 2 * digest.len() => {
                for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
                    *byte = pair[0] << 4 | pair[1];
                }
                Ok(Self(digest))
            }
            _ => Err("a SHA-256 has 64 hexadecimal digits"),
        }
    }
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// For people; unique within its tenant.
    pub name: KeyName,
    /// On whose account work is done.
    #[serde(default)]
    pub tenant: Tenant,
    /// What it allows.
    pub scopes: BTreeSet<Scope>,
    /// When it ends; never if absent. In text as RFC 3339 has it, in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "rfc3339")]
    pub expires: Option<SystemTime>,
    /// Its SHA-256.
    pub sha256: Digest,
}

impl Key {
    /// Whether it has ended.
    pub fn expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// Who asks with it.
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            tenant: self.tenant.clone(),
            key: self.name.clone(),
            scopes: self.scopes.iter().map(|&scope| scope.into()).collect(),
        }
    }
}

/// A new key, which nobody knows yet.
///
/// # Errors
/// [`Error::Random`].
pub fn random_key() -> Result<String, Error> {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
    Ok(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

/// The keys of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Keys {
    list: Vec<Key>,
    /// Where each is in the list.
    places: HashMap<Digest, usize>,
    quotas: BTreeMap<Tenant, Quota>,
}

/// What a tenant may use, by resource.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Quota {
    said: BTreeMap<String, f64>,
    #[serde(skip)]
    limits: Limits,
}

impl Quota {
    fn check(&mut self) -> Result<(), BadLimits> {
        for (resource, amount) in &self.said {
            self.limits.set(resource.parse()?, *amount)?;
        }
        Ok(())
    }
}

/// The file as it is.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    keys: Vec<Key>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    quotas: BTreeMap<Tenant, Quota>,
}

impl Keys {
    /// Reads a file's JSON.
    ///
    /// # Errors
    /// [`Flaw`].
    pub fn parse(json: &[u8]) -> Result<Self, Flaw> {
        let Listed { keys, quotas } = serde_json::from_slice(json)?;
        Self::new(keys, quotas)
    }

    fn new(list: Vec<Key>, mut quotas: BTreeMap<Tenant, Quota>) -> Result<Self, Flaw> {
        for (tenant, quota) in &mut quotas {
            quota.check().map_err(|why| Flaw::Quota { tenant: tenant.clone(), why })?;
        }
        let mut places = HashMap::with_capacity(list.len());
        let mut names = HashSet::new();
        for (place, key) in list.iter().enumerate() {
            if !names.insert((&key.tenant, &key.name)) {
                return Err(Flaw::SameName { tenant: key.tenant.clone(), name: key.name.clone() });
            }
            if let Some(other) = places.insert(key.sha256, place) {
                return Err(Flaw::SameKey(list[other].name.clone(), key.name.clone()));
            }
        }
        Ok(Self { list, places, quotas })
    }

    /// All, in the file's order.
    pub fn list(&self) -> &[Key] {
        &self.list
    }

    /// The one with this SHA-256, ended or not.
    pub(crate) fn find(&self, sha256: &Digest) -> Option<&Key> {
        self.places.get(sha256).map(|&place| &self.list[place])
    }
}

/// A point in time in text.
mod rfc3339 {
    use std::time::SystemTime;

    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.collect_str(&humantime::format_rfc3339_seconds(*time)),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let parse = |text: String| {
            humantime::parse_rfc3339(&text)
                .map_err(|error| D::Error::custom(format!("{error}; write it like 2027-01-31T00:00:00Z")))
        };
        text.map(parse).transpose()
    }
}

#[cfg(test)]
mod tests;
