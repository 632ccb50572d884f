//! The ways to say who one is. A new one is a file here and a variant of [`Auth`].
//!
//! | module | what |
//! |---|---|
//! | `scope` | what a key may be for, and what each address asks for |
//! | `guard` | asks at every address |
//! | `origin` | which sites' pages may use the gateway |
//! | `shown` | where a request shows its key |
//! | `denied` | why somebody is not let in, and how he is told |
//! | `keys` | API keys: their file, and the ones in force |
//! | `tokens` | tokens that somebody else signs |
//! | `tickets` | tickets, which stand for what was shown once |
//! | `config` | what can be set |

mod config;
mod denied;
mod guard;
pub mod keys;
mod origin;
mod scope;
mod shown;
mod tickets;
mod tokens;

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::SystemTime};

use axum::http::{Extensions, HeaderMap};
use cloudpose_policy::quota::Limits;
use cloudpose_wire::{Caller, Tenant};
use futures_util::future::OptionFuture;
use serde::{Deserialize, Serialize};

pub use self::{
    config::{Config, KeySet, Way},
    origin::Origin,
};
pub(crate) use self::{
    denied::Denied,
    guard::guard,
    scope::{Need, Scope},
    shown::PROTOCOL,
    tickets::{Error as TicketError, GOOD_FOR as TICKETS_ARE_GOOD_FOR, Tickets},
};
use self::{
    keys::{Digest, Keyring},
    shown::{Shown, shown},
    tokens::Tokens,
};
use crate::Error;

/// How clients say who they are.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one in a gateway")]
pub(crate) enum Auth {
    /// Not at all: all are one caller.
    None,
    /// By a key or a token, of those that are set.
    Asks { keys: Option<Keyring>, tokens: Option<Tokens> },
    /// All are this one.
    #[cfg(test)]
    Fixed(Caller),
}

/// Who has been let in.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) caller: Caller,
    proof: Proof,
}

/// What has let somebody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Proof {
    /// Nobody has asked.
    None,
    Key(Digest),
    Token(Arc<str>),
}

impl Pass {
    /// What the guard left in a request.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().expect("the guard stands before every address")
    }
}

impl Auth {
    /// The ways that `config` says.
    ///
    /// # Errors
    /// If the keys, or those of who signs tokens, cannot be read.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let keys = config.keys.clone().map(Keyring::open).transpose()?;
        let tokens = config.jwks.as_ref().map(|set| {
            let audience =
                config.jwt_audience.clone().ok_or("say whom tokens are for, with --jwt-audience".into());
            let tokens = audience.and_then(|audience| Tokens::open(set, audience, config.jwt_issuer.clone()));
            tokens.map_err(|why| Error::Signers { set: set.to_string(), why })
        });
        Ok(match (keys, tokens.transpose()?) {
            (None, None) => Self::None,
            (keys, tokens) => Self::Asks { keys, tokens },
        })
    }

    /// Whether anybody is asked.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Self::Asks { .. })
    }

    /// Lets in who sends a request with these headers, if he may.
    pub(crate) fn admit(&self, headers: &HeaderMap, need: Need, now: SystemTime) -> Result<Pass, Denied> {
        let nobody = || Pass { caller: Caller::default(), proof: Proof::None };
        let (keys, tokens) = match self {
            Self::None => return Ok(nobody()),
            #[cfg(test)]
            Self::Fixed(caller) => return Ok(Pass { caller: caller.clone(), proof: Proof::None }),
            Self::Asks { keys, tokens } => (keys, tokens),
        };
        match (need, shown(headers)) {
            // Whatever he shows: nobody is asked here.
            (Need::Nothing, _) => Ok(nobody()),
            (_, Shown::Key(text)) => match (keys, tokens) {
                (_, Some(tokens)) if Tokens::is_one(&text) => tokens.admit(&text, need, now),
                (Some(keys), _) => keys.admit(Digest::of(&text), need, now),
                (None, _) => Err(Denied::UnknownKey),
            },
            (_, Shown::Nothing) => Err(Denied::NoKey),
            (_, Shown::Nonsense) => Err(Denied::NotAKey),
        }
    }

    /// Lets in who had shown this before, if he may for `need`.
    fn again(&self, proof: &Proof, need: Need, now: SystemTime) -> Result<Pass, Denied> {
        match (self, proof) {
            (Self::Asks { keys: Some(keys), .. }, Proof::Key(sha256)) => keys.admit(*sha256, need, now),
            (Self::Asks { tokens: Some(tokens), .. }, Proof::Token(token)) => tokens.admit(token, need, now),
            _ => Err(Denied::Ticket),
        }
    }

    /// What the file of keys says that a tenant may use.
    pub(crate) fn quota(&self, tenant: &Tenant) -> Limits {
        match self {
            Self::Asks { keys: Some(keys), .. } => keys.quota(tenant),
            _ => Limits::default(),
        }
    }

    /// Waits until `pass` is good for `need` no more, and says why.
    pub(crate) async fn ended(&self, pass: &Pass, need: Need) -> Denied {
        match (self, &pass.proof) {
            (Self::Asks { keys: Some(keys), .. }, Proof::Key(sha256)) => keys.ended(pass, sha256, need).await,
            (Self::Asks { tokens: Some(tokens), .. }, Proof::Token(token)) => tokens.ended(token).await,
            _ => std::future::pending().await,
        }
    }

    /// Keeps up with what can change while it is in use.
    pub(crate) async fn follow(&self) -> Infallible {
        let Self::Asks { keys, tokens } = self else { return std::future::pending().await };
        let keys = OptionFuture::from(keys.as_ref().map(Keyring::follow));
        let tokens = OptionFuture::from(tokens.as_ref().map(Tokens::follow));
        tokio::select! {
            Some(never) = keys => never,
            Some(never) = tokens => never,
            else => std::future::pending().await,
        }
    }
}

/// Whether these scopes are enough.
fn need_met(scopes: &BTreeSet<Scope>, need: Need) -> Result<(), Denied> {
    match need {
        Need::Scope(scope) if !scopes.contains(&scope) => Err(Denied::Scope(scope)),
        Need::Nothing | Need::Key | Need::Scope(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests;
