//! Why something is not recorded.

use crate::{parquet, postgres};

/// Why a place does not take events.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database.
    #[error(transparent)]
    Postgres(#[from] postgres::Error),
    /// The files, in a folder or a bucket.
    #[error(transparent)]
    Parquet(#[from] parquet::Error),
}

impl Error {
    /// Whether it helps to wait: not where a person has to do something.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Postgres(error) => error.is_passing(),
            Self::Parquet(error) => error.is_passing(),
        }
    }
}
