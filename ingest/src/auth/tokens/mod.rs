//! Tokens that somebody else signs: JSON Web Tokens (RFC 7519) by RS256, ES256 or EdDSA.
//!
//! | claim | what it says |
//! |---|---|
//! | `exp` | when it ends; must be there |
//! | `nbf` | when it begins |
//! | `aud` | whom it is for: must name us |
//! | `iss` | who made it: must be whom we believe, if one is set |
//! | `scope` | what it allows: a text with blanks between, or a list; what we do not know is left out |
//! | `tenant` | on whose account; the default one if absent |
//! | `sub` | whose it is: takes the place of a key's name |

mod fetch;
mod jwks;
mod signatures;

use std::{
    collections::BTreeSet,
    convert::Infallible,
    fs,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cloudpose_wire::{Caller, KeyName, Tenant};
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use tokio::sync::Notify;

use self::{fetch::Source, jwks::Signers};
use super::{
    Denied, KeySet, Need, Pass, Proof, Scope,
    keys::{ASK_AGAIN, Digest},
    need_met,
};
use crate::followed::Followed;

/// How much an issuer's clock may be ahead of ours.
const AHEAD: Duration = Duration::from_secs(60);

/// Whose tokens are believed.
#[derive(Debug)]
pub(crate) struct Tokens {
    signers: Followed<Signers>,
    /// Where they are published, if not in a file.
    published: Option<Published>,
    audience: String,
    issuer: Option<String>,
}

/// A key set at an address.
#[derive(Debug)]
struct Published {
    source: Source,
    /// A token came whose key is not in it.
    unknown: Notify,
    pace: Pace,
}

/// How often a key set is fetched.
#[derive(Debug, Clone, Copy)]
struct Pace {
    every: Duration,
    /// After a failure.
    again: Duration,
    /// Not more often, whatever keys tokens name.
    apart: Duration,
}

const PACE: Pace =
    Pace { every: Duration::from_secs(300), again: Duration::from_secs(10), apart: Duration::from_secs(30) };

impl Published {
    async fn follow(&self, signers: &Followed<Signers>) -> Infallible {
        let Pace { every, again, apart } = self.pace;
        loop {
            let fetched = self.source.fetch().await;
            let pause = if fetched.is_ok() { every } else { again };
            signers.take_in(fetched.map(|json| vec![json.into()]));
            let unknown = async {
                tokio::time::sleep(apart).await;
                self.unknown.notified().await;
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = unknown => {}
            }
        }
    }
}

/// What a token says that is good.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    caller: Caller,
    scopes: BTreeSet<Scope>,
    expires: SystemTime,
}

#[derive(Deserialize)]
struct Claims {
    exp: f64,
    nbf: Option<f64>,
    sub: Option<String>,
    #[serde(default)]
    tenant: Tenant,
    #[serde(default)]
    scope: Scopes,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Scopes {
    Text(String),
    List(Vec<String>),
}

impl Default for Scopes {
    fn default() -> Self {
        Self::List(Vec::new())
    }
}

impl Scopes {
    /// Those that we know.
    fn known(&self) -> BTreeSet<Scope> {
        let named = |name: &str| Scope::ALL.into_iter().find(|scope| scope.as_str() == name);
        match self {
            Self::Text(text) => text.split_ascii_whitespace().filter_map(named).collect(),
            Self::List(list) => list.iter().filter_map(|name| named(name)).collect(),
        }
    }
}

impl Tokens {
    /// Reads the keys of those who sign.
    ///
    /// Those that are published are fetched beside; until they are there nobody is believed.
    ///
    /// # Errors
    /// Why the set cannot be used.
    pub(crate) fn open(set: &KeySet, audience: String, issuer: Option<String>) -> Result<Self, String> {
        signatures::install();
        let path = match set {
            KeySet::File(path) => path.clone(),
            KeySet::Address(address) => {
                let published =
                    Published { source: Source::new(address)?, unknown: Notify::new(), pace: PACE };
                tracing::info!(audience, "clients show a token that a key of {address} has signed");
                return Ok(Self::publishing(published, audience, issuer));
            }
        };
        let json = fs::read(&path).map_err(|error| error.to_string())?;
        let signers = Signers::parse(&json)?;
        tracing::info!(audience, "clients show a token that a key of {} has signed", path.display());
        Ok(Self {
            signers: Followed::new(vec![path], vec![json], signers, |files| Signers::parse(&files[0])),
            published: None,
            audience,
            issuer,
        })
    }

    fn publishing(published: Published, audience: String, issuer: Option<String>) -> Self {
        let name = vec![format!("{:?}", published.source).into()];
        let signers = Followed::new(name, Vec::new(), Signers::none(), |files| Signers::parse(&files[0]));
        Self { signers, published: Some(published), audience, issuer }
    }

    /// Whether this looks like a token at all.
    pub(crate) fn is_one(text: &str) -> bool {
        text.bytes().filter(|&byte| byte == b'.').count() == 2
    }

    /// Lets in who shows a token for `need`.
    pub(crate) fn admit(&self, token: &str, need: Need, now: SystemTime) -> Result<Pass, Denied> {
        let Said { caller, scopes, .. } = self.check(&self.signers.current(), token, now)?;
        need_met(&scopes, need)?;
        Ok(Pass { caller, proof: Proof::Token(token.into()) })
    }

    /// Waits until a token that let somebody in would let him in no more, and says why.
    pub(crate) async fn ended(&self, token: &str) -> Denied {
        let mut signers = self.signers.subscribe();
        loop {
            let now = SystemTime::now();
            let current = Arc::clone(&signers.borrow_and_update());
            let left = match self.check(&current, token, now) {
                Err(denied) => return denied,
                Ok(said) => said.expires.duration_since(now).unwrap_or_default(),
            };
            tokio::select! {
                // We hold the sender, so it cannot fail.
                _ = signers.changed() => {}
                () = tokio::time::sleep(left.min(ASK_AGAIN)) => {}
            }
        }
    }

    /// Keeps up with the set.
    pub(crate) async fn follow(&self) -> Infallible {
        match &self.published {
            None => self.signers.follow().await,
            Some(published) => published.follow(&self.signers).await,
        }
    }

    fn check(&self, signers: &Signers, token: &str, now: SystemTime) -> Result<Said, Denied> {
        let header = decode_header(token).map_err(|_| Denied::Token("it is none that can be read"))?;
        if header.crit.is_some() {
            return Err(Denied::Token("it demands what this server does not know (`crit`)"));
        }
        if let Some(published) = &self.published
            && signers.of(header.kid.as_deref(), header.alg).next().is_none()
        {
            published.unknown.notify_one();
        }
        let mut denied = Denied::Token("no key that this server believes has signed it");
        for signer in signers.of(header.kid.as_deref(), header.alg) {
            let mut wanted = Validation::new(signer.algorithm);
            wanted.set_required_spec_claims(&["exp", "aud"]);
            wanted.set_audience(&[&self.audience]);
            if let Some(issuer) = &self.issuer {
                wanted.required_spec_claims.insert("iss".to_owned());
                wanted.set_issuer(&[issuer]);
            }
            // By our own `now`.
            (wanted.validate_exp, wanted.validate_nbf) = (false, false);
            match decode::<Claims>(token, &signer.key, &wanted) {
                Ok(token) => return said(token.claims, now),
                // Another key may have the same name, or none.
                Err(error) if matches!(error.kind(), ErrorKind::InvalidSignature) => {}
                Err(error) => denied = Denied::Token(flaw(error.kind())),
            }
        }
        Err(denied)
    }
}

fn flaw(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::InvalidAudience => "it is for another audience (`aud`)",
        ErrorKind::InvalidIssuer => "another issuer has made it (`iss`)",
        ErrorKind::MissingRequiredClaim(_) => "it lacks `exp`, `aud` or `iss`",
        _ => "its claims cannot be understood",
    }
}

fn said(claims: Claims, now: SystemTime) -> Result<Said, Denied> {
    let time = |seconds: f64| {
        let since = Duration::try_from_secs_f64(seconds).ok();
        since.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since))
    };
    let expires = time(claims.exp).ok_or(Denied::Token("its end (`exp`) is no time"))?;
    if expires <= now {
        return Err(Denied::Expired);
    }
    if let Some(begin) = claims.nbf
        && time(begin).is_none_or(|begin| begin > now + AHEAD)
    {
        return Err(Denied::Token("it is not good yet (`nbf`)"));
    }
    let scopes = claims.scope.known();
    let caller = Caller {
        tenant: claims.tenant,
        key: claims.sub.map_or_else(KeyName::default, |sub| name_of(&sub)),
        scopes: scopes.iter().map(|&scope| scope.into()).collect(),
    };
    Ok(Said { caller, scopes, expires })
}

/// The subject as a name, or what stands for it where it holds what a name may not.
fn name_of(subject: &str) -> KeyName {
    KeyName::new(subject).unwrap_or_else(|_| {
        let digest = Digest::of(subject).to_string();
        format!("sub-{}", &digest[..16]).parse().expect("letters, digits and '-' make a name")
    })
}

#[cfg(test)]
mod tests;
