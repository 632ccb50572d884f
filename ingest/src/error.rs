use std::{io, net::SocketAddr};

use crate::auth::keys;

/// Why the gateway cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address is taken, or not ours.
    #[error("cannot listen on {address}: {source}; is something else running there? choose with --listen")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The keys that clients should show cannot be used.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// The listening socket failed.
    #[error("the listening socket failed: {0}")]
    Socket(#[source] io::Error),
    /// The bus gave this gateway's results to another subscriber.
    #[error("the bus sends no more results to this gateway")]
    ResultsLost,
}
