//! Why the store did not do what it should.

use std::{
    error::Error as StdError,
    io::{self, ErrorKind},
    path::Path,
};

/// What lies beneath an error.
type Source = Box<dyn StdError + Send + Sync>;

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no room left.
    #[error("the store {place} has no room left: {source}")]
    Full {
        /// Where it is.
        place: String,
        /// What is said there.
        source: Source,
    },
    /// Two may write in the place of one another there.
    #[error(
        "{place} overwrites objects that it was told not to (If-None-Match, If-Match), so that results could be \
         written twice: use another service"
    )]
    Overwrites {
        /// Where it is.
        place: String,
    },
    /// Anything else.
    #[error("the store cannot use {place}: {source}")]
    Unusable {
        /// What it could not use.
        place: String,
        /// What is said there.
        source: Source,
    },
}

impl Error {
    /// Something went wrong at `place`.
    pub fn unusable(place: impl ToString, source: impl Into<Source>) -> Self {
        Self::Unusable { place: place.to_string(), source: source.into() }
    }

    pub(crate) fn full(place: impl ToString, source: impl Into<Source>) -> Self {
        Self::Full { place: place.to_string(), source: source.into() }
    }

    pub(crate) fn at(path: &Path, source: io::Error) -> Self {
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::full(path.display(), source)
            }
            _ => Self::unusable(path.display(), source),
        }
    }

    /// Whether a bucket says no in a way that waiting does not mend: rights, keys, or that it is not there.
    pub fn is_refusal(&self) -> bool {
        use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
        match self {
            Self::Full { .. } => false,
            Self::Overwrites { .. } => true,
            Self::Unusable { source, .. } => {
                let said = source.downcast_ref::<object_store::Error>();
                matches!(said, Some(NotFound { .. } | PermissionDenied { .. } | Unauthenticated { .. }))
            }
        }
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
