//! Bytes that come piece by piece: too many to be held in memory.

use crate::{Error, folder, objects};

/// Writes bytes piece by piece. Who reads sees nothing of them before they are [finished](Self::finish); dropped before, it
/// leaves nothing.
#[derive(Debug)]
pub struct Writer(Place);

#[derive(Debug)]
enum Place {
    Folder { writing: folder::Writing, key: String },
    Objects(objects::Writing),
}

impl Writer {
    pub(crate) fn in_folder(writing: folder::Writing, key: &str) -> Self {
        Self(Place::Folder { writing, key: key.to_owned() })
    }

    pub(crate) fn in_bucket(writing: objects::Writing) -> Self {
        Self(Place::Objects(writing))
    }

    /// Takes the next piece, of any size. A few megabytes may be in memory.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written: then nothing of it is there.
    pub async fn write(&mut self, piece: &[u8]) -> Result<(), Error> {
        match &mut self.0 {
            Place::Folder { writing, .. } => writing.write(piece).await,
            Place::Objects(writing) => writing.write(piece).await,
        }
    }

    /// Puts what has come where it belongs.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written.
    pub async fn finish(self) -> Result<(), Error> {
        match self.0 {
            Place::Folder { writing, key } => writing.finish(&key).await,
            Place::Objects(writing) => writing.finish().await,
        }
    }
}
