//! Where things lie that outlive a process.
//!
//! - **Bytes** (pictures, results) lie under a key. They are written whole or not at all, and [`put_new`](Store::put_new)
//!   writes them once, whoever else tries at the same time.
//! - **Documents** are small and change: [`replace`](Store::replace) writes one only if nobody else has meanwhile.
//!
//! | place | |
//! |---|---|
//! | `folder` | a folder, which several processes may share |
//!
//! What is written is on the disk when a call returns. Keys are made by the program, never by its clients: names of
//! letters, digits, `-`, `_` and `.` with `/` between them.

mod error;
mod folder;

use std::path::{Path, PathBuf};

use bytes::Bytes;

pub use self::error::Error;
use self::folder::Folder;

/// A store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    folder: Folder,
}

/// A document as it was read or written, to be replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it says.
    pub body: Bytes,
}

impl Store {
    /// Opens the store in a folder, which is made if it is missing, for this user alone.
    ///
    /// # Errors
    /// [`Error`] if the folder cannot be made or written to.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        Ok(Self { folder: Folder::open(folder.into())? })
    }

    /// Where it is.
    pub fn place(&self) -> &Path {
        self.folder.root()
    }

    /// Writes bytes, over those that are there.
    ///
    /// # Errors
    /// [`Error`] if they cannot be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        let key = key.to_owned();
        self.folder.blocking(move |folder| folder.put(&key, &bytes)).await
    }

    /// Writes bytes where there are none. `false`: there were some, and they are as they were.
    ///
    /// # Errors
    /// [`Error`] if they cannot be written.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        let key = key.to_owned();
        self.folder.blocking(move |folder| folder.put_new(&key, &bytes)).await
    }

    /// Reads bytes, if there are some.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        let key = key.to_owned();
        self.folder.blocking(move |folder| folder.get(&key)).await
    }

    /// Whether there are bytes.
    ///
    /// # Errors
    /// [`Error`] if that cannot be seen.
    pub async fn has(&self, key: &str) -> Result<bool, Error> {
        let key = key.to_owned();
        self.folder.blocking(move |folder| folder.has(&key)).await
    }

    /// The names directly under a key, sorted.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub async fn names(&self, key: &str) -> Result<Vec<String>, Error> {
        let key = key.to_owned();
        self.folder.blocking(move |folder| folder.names(&key)).await
    }

    /// Removes all bytes under a key.
    ///
    /// # Errors
    /// [`Error`] if some cannot be removed.
    pub async fn remove_all(&self, key: &str) -> Result<(), Error> {
        let key = key.to_owned();
        self.folder.blocking(move |folder| folder.remove_all(&key)).await
    }

    /// Reads a document, if there is one.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    pub async fn document(&self, name: &str) -> Result<Option<Document>, Error> {
        let key = folder::document(name);
        let body = self.folder.blocking(move |folder| folder.get(&key)).await?;
        Ok(body.map(|body| Document { body }))
    }

    /// The names of all documents, sorted.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub async fn documents(&self) -> Result<Vec<String>, Error> {
        self.names(folder::DOCUMENTS).await
    }

    /// Writes a document where there is none. `None`: there is one.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written.
    pub async fn create(&self, name: &str, body: Bytes) -> Result<Option<Document>, Error> {
        self.exchange(name, None, Some(body.clone()))
            .await
            .map(|written| written.then_some(Document { body }))
    }

    /// Writes a document in the place of `old`. `None`: it has changed since, or is gone.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written.
    pub async fn replace(&self, name: &str, old: &Document, body: Bytes) -> Result<Option<Document>, Error> {
        let written = self.exchange(name, Some(old.body.clone()), Some(body.clone())).await?;
        Ok(written.then_some(Document { body }))
    }

    /// Removes a document. `false`: it has changed since, or is gone.
    ///
    /// # Errors
    /// [`Error`] if it cannot be removed.
    pub async fn remove(&self, name: &str, old: &Document) -> Result<bool, Error> {
        self.exchange(name, Some(old.body.clone()), None).await
    }

    async fn exchange(&self, name: &str, old: Option<Bytes>, new: Option<Bytes>) -> Result<bool, Error> {
        let name = name.to_owned();
        self.folder.blocking(move |folder| folder.exchange(&name, old.as_deref(), new.as_deref())).await
    }
}
