//! Where things lie that outlive a process.
//!
//! - **Bytes** (pictures, results) lie under a key. They are written whole or not at all, and [`put_new`](Store::put_new)
//!   writes them once, whoever else tries at the same time.
//! - **Documents** are small and change: [`replace`](Store::replace) writes one only if nobody else has meanwhile.
//!
//! | place | bytes | documents |
//! |---|---|---|
//! | `folder` | in a folder, which several processes may share | beside them |
//! | `objects` | in a bucket (S3, Google Cloud Storage, Azure) | in a bucket of the bus; without one beside the bytes, for one process alone |
//!
//! What is written is kept when a call returns. Keys are made by the program, never by its clients: names of
//! letters, digits, `-`, `_`, `=` and `.` with `/` between them.

mod address;
mod error;
mod folder;
mod objects;
mod writer;

use std::{env, ffi::OsString, ops::Range, path::PathBuf, time::Duration};

use bytes::Bytes;
use cloudpose_bus::{Bucket, BucketError, Over};
use object_store::UpdateVersion;
use tokio::time::timeout;

pub use self::{address::Address, error::Error, writer::Writer};
use self::{folder::Folder, objects::Objects};

/// Where documents lie beside bytes.
const DOCUMENTS: &str = "documents";

/// What errors call the place of documents on the bus.
const ON_BUS: &str = "the bucket for documents on NATS";

/// A store. Clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    place: Place,
    documents: Option<Bucket>,
}

/// Where bytes are.
#[derive(Debug, Clone)]
enum Place {
    Folder(Folder),
    Objects(Objects),
}

/// A document as it was read or written, to be replaced or removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// What it says.
    pub body: Bytes,
    version: Version,
}

/// What tells a document from what it said before.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Version {
    Body,
    Object(UpdateVersion),
    Revision(u64),
}

/// A part of a store that may be away by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Bytes, and documents that lie beside them.
    Bytes,
    /// Documents that lie on the bus.
    Documents,
}

impl Store {
    /// Opens the store: a folder, which is made if it is missing, for this user alone, or a bucket, which must be there, with
    /// the keys that the environment has. Documents lie in the bucket of the bus, if one is given.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written to, or if a bucket overwrites what it should not.
    pub async fn open(address: &Address, documents: Option<Bucket>) -> Result<Self, Error> {
        Self::open_in(&environment(), address, documents).await
    }

    /// Opens the store as [`open`](Self::open) does, with another environment than that of the process.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn open_in(
        environment: &[(String, String)],
        address: &Address,
        documents: Option<Bucket>,
    ) -> Result<Self, Error> {
        let place = match address {
            Address::Folder(path) => Place::Folder(Folder::open(path.clone())?),
            Address::Bucket(url) => Place::Objects(Objects::open(url, environment).await?),
        };
        let store = Self { place, documents };
        if let Some(bucket) = &store.documents {
            bucket.keys().await.map_err(of_bus)?;
        }
        Ok(store)
    }

    /// Where it is.
    pub fn place(&self) -> String {
        match &self.place {
            Place::Folder(folder) => folder.root().display().to_string(),
            Place::Objects(objects) => objects.place().to_owned(),
        }
    }

    /// Which parts do not answer now, or not within `patience`, and why. It costs one request to each.
    pub async fn away(&self, patience: Duration) -> Vec<(Part, Error)> {
        let late = || Error::unusable(self.place(), format!("no answer in {} ms", patience.as_millis()));
        let bytes = async {
            match timeout(patience, self.is_there()).await {
                Ok(answer) => answer,
                Err(_) => Err(late()),
            }
        };
        let documents = async {
            let Some(bucket) = &self.documents else { return Ok(()) };
            match timeout(patience, bucket.get("ready")).await {
                Ok(answer) => answer.map(drop).map_err(of_bus),
                Err(_) => Err(Error::unusable(ON_BUS, format!("no answer in {} ms", patience.as_millis()))),
            }
        };
        let (bytes, documents) = tokio::join!(bytes, documents);
        let bytes = bytes.err().map(|error| (Part::Bytes, error));
        bytes.into_iter().chain(documents.err().map(|error| (Part::Documents, error))).collect()
    }

    async fn is_there(&self) -> Result<(), Error> {
        match &self.place {
            Place::Folder(folder) => folder.blocking(Folder::is_there).await,
            // What is not in it says as well whether the bucket is.
            Place::Objects(objects) => objects.get("new/ready").await.map(drop),
        }
    }

    /// Writes bytes, over those that are there.
    ///
    /// # Errors
    /// [`Error`] if they cannot be written.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        match &self.place {
            Place::Folder(folder) => {
                let key = key.to_owned();
                folder.blocking(move |folder| folder.put(&key, &bytes)).await
            }
            Place::Objects(objects) => objects.put(key, bytes).await,
        }
    }

    /// Writes bytes where there are none. `false`: there were some, and they are as they were. They may be these, if the
    /// answer to a first try was lost on its way.
    ///
    /// # Errors
    /// [`Error`] if they cannot be written.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        match &self.place {
            Place::Folder(folder) => {
                let key = key.to_owned();
                folder.blocking(move |folder| folder.put_new(&key, &bytes)).await
            }
            Place::Objects(objects) => objects.put_new(key, bytes).await,
        }
    }

    /// Reads bytes, if there are some.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        match &self.place {
            Place::Folder(folder) => {
                let key = key.to_owned();
                folder.blocking(move |folder| folder.get(&key)).await
            }
            Place::Objects(objects) => objects.get(key).await,
        }
    }

    /// Begins to write bytes that come piece by piece, over those that are there once all have come.
    ///
    /// # Errors
    /// [`Error`] if they cannot be written.
    pub async fn writer(&self, key: &str) -> Result<Writer, Error> {
        match &self.place {
            Place::Folder(folder) => Ok(Writer::in_folder(folder.blocking(Folder::begin).await?, key)),
            Place::Objects(objects) => Ok(Writer::in_bucket(objects.begin(key).await?)),
        }
    }

    /// Reads a part of bytes, which must begin before their end, as far as there are some.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub async fn get_part(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        match &self.place {
            Place::Folder(folder) => {
                let key = key.to_owned();
                folder.blocking(move |folder| folder.get_part(&key, &range)).await
            }
            Place::Objects(objects) => objects.get_part(key, range).await,
        }
    }

    /// Where bytes lie as a file of this machine, if the store is a folder. Nothing may be written there.
    pub fn file(&self, key: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Folder(folder) => Some(folder.file(key)),
            Place::Objects(_) => None,
        }
    }

    /// Whether there are bytes.
    ///
    /// # Errors
    /// [`Error`] if that cannot be seen.
    pub async fn has(&self, key: &str) -> Result<bool, Error> {
        match &self.place {
            Place::Folder(folder) => {
                let key = key.to_owned();
                folder.blocking(move |folder| folder.has(&key)).await
            }
            Place::Objects(objects) => objects.has(key).await,
        }
    }

    /// The names directly under a key, or those of the whole store for an empty one, sorted.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub async fn names(&self, key: &str) -> Result<Vec<String>, Error> {
        match &self.place {
            Place::Folder(folder) => {
                let key = key.to_owned();
                folder.blocking(move |folder| folder.names(&key)).await
            }
            Place::Objects(objects) => objects.names(key).await,
        }
    }

    /// Removes all bytes under a key.
    ///
    /// # Errors
    /// [`Error`] if some cannot be removed.
    pub async fn remove_all(&self, key: &str) -> Result<(), Error> {
        match &self.place {
            Place::Folder(folder) => {
                let key = key.to_owned();
                folder.blocking(move |folder| folder.remove_all(&key)).await
            }
            Place::Objects(objects) => objects.remove_all(key).await,
        }
    }

    /// Reads a document, if there is one.
    ///
    /// # Errors
    /// [`Error`] if it cannot be read.
    pub async fn document(&self, name: &str) -> Result<Option<Document>, Error> {
        if let Some(bucket) = &self.documents {
            let found = bucket.get(name).await.map_err(of_bus)?;
            return Ok(
                found.map(|found| Document { body: found.value, version: Version::Revision(found.revision) })
            );
        }
        match &self.place {
            Place::Folder(_) => {
                let body = self.get(&format!("{DOCUMENTS}/{name}")).await?;
                Ok(body.map(|body| Document { body, version: Version::Body }))
            }
            Place::Objects(objects) => {
                let found = objects.document(name).await?;
                Ok(found.map(|(body, version)| Document { body, version: Version::Object(version) }))
            }
        }
    }

    /// The names of all documents, sorted. One that was removed a moment ago may be among them.
    ///
    /// # Errors
    /// [`Error`] if they cannot be read.
    pub async fn documents(&self) -> Result<Vec<String>, Error> {
        match &self.documents {
            Some(bucket) => bucket.keys().await.map_err(of_bus),
            None => self.names(DOCUMENTS).await,
        }
    }

    /// Writes a document where there is none. `None`: there is one. It may be this one, if the answer to a first try was
    /// lost on its way.
    ///
    /// # Errors
    /// [`Error`] if it cannot be written. It may be there all the same, if it is not the folder's error.
    pub async fn create(&self, name: &str, body: Bytes) -> Result<Option<Document>, Error> {
        self.exchange(name, None, body).await
    }

    /// Writes a document in the place of `old`. `None`: it has changed since, or is gone.
    ///
    /// # Errors
    /// As of [`create`](Self::create).
    pub async fn replace(&self, name: &str, old: &Document, body: Bytes) -> Result<Option<Document>, Error> {
        self.exchange(name, Some(old), body).await
    }

    async fn exchange(
        &self,
        name: &str,
        old: Option<&Document>,
        body: Bytes,
    ) -> Result<Option<Document>, Error> {
        if let Some(bucket) = &self.documents {
            let over = old.map_or(Over::Nothing, Document::over);
            return match bucket.write(name, body.clone(), over, None).await {
                Ok(revision) => Ok(Some(Document { body, version: Version::Revision(revision) })),
                Err(BucketError::Changed) => Ok(None),
                Err(error) => Err(of_bus(error)),
            };
        }
        match &self.place {
            Place::Folder(folder) => {
                let (name, old, new) = (name.to_owned(), old.map(|old| old.body.clone()), body.clone());
                let exchanged =
                    folder.blocking(move |folder| folder.exchange(&name, old.as_deref(), Some(&new))).await?;
                Ok(exchanged.then_some(Document { body, version: Version::Body }))
            }
            Place::Objects(objects) => {
                let written = objects.replace(name, old.map(Document::object), body.clone()).await?;
                Ok(written.map(|version| Document { body, version: Version::Object(version) }))
            }
        }
    }

    /// Removes a document. `false`: it has changed since, or is gone.
    ///
    /// # Errors
    /// [`Error`] if it cannot be removed.
    pub async fn remove(&self, name: &str, old: &Document) -> Result<bool, Error> {
        if let Some(bucket) = &self.documents {
            return match bucket.remove(name, old.over()).await {
                Ok(()) => Ok(true),
                Err(BucketError::Changed) => Ok(false),
                Err(error) => Err(of_bus(error)),
            };
        }
        match &self.place {
            Place::Folder(folder) => {
                let (name, old) = (name.to_owned(), old.body.clone());
                folder.blocking(move |folder| folder.exchange(&name, Some(&old), None)).await
            }
            Place::Objects(objects) => objects.remove(name, &old.object()).await,
        }
    }
}

impl Document {
    fn over(&self) -> Over {
        match self.version {
            Version::Revision(revision) => Over::Revision(revision),
            Version::Body | Version::Object(_) => unreachable!("a document is written where it was read"),
        }
    }

    fn object(&self) -> UpdateVersion {
        match &self.version {
            Version::Object(version) => version.clone(),
            Version::Body | Version::Revision(_) => unreachable!("a document is written where it was read"),
        }
    }
}

/// The environment of this process: what [`Store::open_in`] takes keys and endpoints of buckets from.
pub fn environment() -> Vec<(String, String)> {
    let utf8 =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    env::vars_os().filter_map(utf8).collect()
}

fn of_bus(error: BucketError) -> Error {
    match error {
        BucketError::Full(_) => Error::full(ON_BUS, error),
        BucketError::Changed | BucketError::Unreachable(_) => Error::unusable(ON_BUS, error),
    }
}

/// Whether a key is one that this program makes.
///
/// # Panics
/// If it is not: then it is a mistake, or somebody's who must not choose keys.
fn check(key: &str) {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with('.')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '=' | '.'))
    };
    assert!(key.split('/').all(is_name), "{key:?} is no key of ours");
}
