//! Why the store did not do what it should.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// The store could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no room left.
    #[error("the store {} has no room left: {source}", .place.display())]
    Full {
        /// Where it is.
        place: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Anything else.
    #[error("the store cannot use {}: {source}", .place.display())]
    Unusable {
        /// What it could not use.
        place: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn at(place: &Path, source: io::Error) -> Self {
        let place = place.to_owned();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                Self::Full { place, source }
            }
            _ => Self::Unusable { place, source },
        }
    }

    /// Whether there is no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}
