//! Why files were not written.

use std::{
    io,
    path::{Path, PathBuf},
};

use cloudpose_bus::BucketError;
use parquet::errors::ParquetError;

/// Why a folder or a bucket did not take events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something in the folder cannot be made, written, read or removed.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be made, or is no Parquet.
    #[error("{name}: {source}; if it is damaged, move it away")]
    File {
        /// Which.
        name: String,
        /// What the library says.
        source: ParquetError,
    },
    /// The bucket.
    #[error(transparent)]
    Store(#[from] cloudpose_store::Error),
    /// NATS does not say who may record there.
    #[error("cannot ask who records there: {0}")]
    Lease(#[source] BucketError),
    /// What was being written may be there or not: another process may record by now.
    #[error("{name} was not written in the time in which nobody else records there")]
    Late {
        /// Which file.
        name: String,
    },
}

impl Error {
    /// Whether it helps to wait: for room, or for who is away, not for rights or a file that is whole.
    pub(crate) fn is_passing(&self) -> bool {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};
        let is_passing = |error: &io::Error| {
            !matches!(error.kind(), NotADirectory | PermissionDenied | ReadOnlyFilesystem)
        };
        match self {
            Self::Io { source, .. } => is_passing(source),
            Self::File { source: ParquetError::External(source), .. } => {
                source.downcast_ref::<io::Error>().is_some_and(is_passing)
            }
            Self::File { .. } => false,
            Self::Store(error) => !error.is_refusal(),
            Self::Lease(_) | Self::Late { .. } => true,
        }
    }
}

pub(super) fn at(path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { path: path.to_owned(), source }
}

pub(super) fn of_file(name: impl ToString) -> impl Fn(ParquetError) -> Error {
    move |source| Error::File { name: name.to_string(), source }
}
