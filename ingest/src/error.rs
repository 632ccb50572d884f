use std::{io, net::SocketAddr, path::PathBuf};

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
    /// Other machines would be let in, and nobody has said that they may.
    #[error(
        "whoever reaches {address} could use this server: make a key with `cloudpose keys new NAME --keys keys.json` \
         and start with --keys keys.json (or --jwks), or with --auth none if all who reach it may use it"
    )]
    Unguarded {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The keys of those who sign tokens cannot be used.
    #[error("the key set {set} cannot be used: {why}")]
    Signers {
        /// The file or address.
        set: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is no TLS with these files.
    #[error("TLS cannot be spoken: {why}")]
    Tls {
        /// What is wrong with them.
        why: String,
    },
    /// The place for jobs cannot be used.
    #[error("{0}; choose another place with --store")]
    Store(#[from] cloudpose_store::Error),
    /// Callbacks cannot be signed.
    #[error("the secret of callbacks in {} cannot be used: {why}", .path.display())]
    CallbackSecret {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The listening socket failed.
    #[error("the listening socket failed: {0}")]
    Socket(#[source] io::Error),
    /// The bus gave this gateway's results to another subscriber.
    #[error("the bus sends no more results to this gateway")]
    ResultsLost,
}
