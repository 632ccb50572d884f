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
//! | `config` | what can be set |

mod config;
mod denied;
mod guard;
pub mod keys;
mod origin;
mod scope;
mod shown;

use std::{convert::Infallible, time::SystemTime};

use axum::http::{Extensions, HeaderMap};
use cloudpose_wire::Caller;

pub use self::{
    config::{Config, Way},
    origin::Origin,
};
pub(crate) use self::{
    denied::Denied,
    guard::guard,
    scope::{Need, Scope},
    shown::PROTOCOL,
};
use self::{
    keys::{Digest, Keyring},
    shown::{Shown, shown},
};

/// How clients say who they are.
#[derive(Debug)]
pub(crate) enum Auth {
    /// Not at all: all are one caller.
    None,
    /// By a key.
    Keys(Keyring),
    /// All are this one.
    #[cfg(test)]
    Fixed(Caller),
}

/// Who has been let in.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    pub(crate) caller: Caller,
    /// The key that let him in.
    key: Option<Digest>,
}

impl Pass {
    /// What the guard left in a request.
    pub(crate) fn of(extensions: &Extensions) -> Self {
        extensions.get().cloned().expect("the guard stands before every address")
    }
}

impl Auth {
    /// The way that `config` says.
    ///
    /// # Errors
    /// If the keys cannot be read.
    pub(crate) fn open(config: &Config) -> Result<Self, keys::Error> {
        match &config.keys {
            Some(path) => Keyring::open(path.clone()).map(Self::Keys),
            None => Ok(Self::None),
        }
    }

    /// Whether anybody is asked.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Self::Keys(_))
    }

    /// Lets in who sends a request with these headers, if he may.
    pub(crate) fn admit(&self, headers: &HeaderMap, need: Need, now: SystemTime) -> Result<Pass, Denied> {
        let keys = match self {
            Self::None => return Ok(Pass { caller: Caller::default(), key: None }),
            #[cfg(test)]
            Self::Fixed(caller) => return Ok(Pass { caller: caller.clone(), key: None }),
            Self::Keys(keys) => keys,
        };
        match (need, shown(headers)) {
            // Whatever he shows: nobody is asked here.
            (Need::Nothing, _) => Ok(Pass { caller: Caller::default(), key: None }),
            (_, Shown::Key(key)) => keys.admit(&key, need, now),
            (_, Shown::Nothing) => Err(Denied::NoKey),
            (_, Shown::Nonsense) => Err(Denied::NotAKey),
        }
    }

    /// Waits until `pass` is good for `need` no more, and says why.
    pub(crate) async fn ended(&self, pass: &Pass, need: Need) -> Denied {
        match self {
            Self::Keys(keys) => keys.ended(pass, need).await,
            _ => std::future::pending().await,
        }
    }

    /// Keeps up with what can change while it is in use.
    pub(crate) async fn follow(&self) -> Infallible {
        match self {
            Self::Keys(keys) => keys.follow().await,
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests;
