//! Connections to other servers, which somebody has named: cameras, those who publish keys, those who want to be called.
//!
//! | module | what |
//! |---|---|
//! | `reach` | which addresses may be reached |
//! | `connect` | connections to those that may |
//! | `trusted` | with whom TLS is spoken |
//! | `http` | requests on a connection |

mod connect;
pub(crate) mod http;
mod reach;
mod trusted;

use std::time::Duration;

pub(crate) use self::{
    connect::{addresses, check_literal, connect},
    reach::{Net, Reach},
    trusted::by_the_system,
};

/// A connection must stand after so long. Shorter than what a camera may be late when it comes back.
const CONNECT: Duration = Duration::from_secs(2);
/// An answer must have begun after so long.
pub(crate) const ANSWER: Duration = Duration::from_secs(5);

/// Why nothing more comes of a connection. In words for people, without passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The other side cannot be reached, or has gone: it may be back any moment.
    Gone(String),
    /// It will not be better before somebody has done something.
    Wrong(String),
}

impl Trouble {
    /// In words.
    pub(crate) fn why(self) -> String {
        let (Self::Gone(why) | Self::Wrong(why)) = self;
        why
    }
}

/// Something that took too long.
pub(crate) fn too_long(what: &str, time: Duration) -> Trouble {
    Trouble::Gone(format!("{what} within {}", humantime::format_duration(time)))
}
