//! Small documents that several processes change together.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::watch, time::Instant};

use crate::{Bus, nats};

impl Bus {
    /// The bucket of this name, a NATS token: the same for all who ask for it.
    pub fn bucket(&self, name: &str) -> Bucket {
        Bucket(match self {
            Self::Local(bus) => Place::Local(bus.bucket(name)),
            Self::Nats(bus) => Place::Nats(bus.bucket(name, Without::Files)),
        })
    }

    /// A bucket that outlives the server, or cannot be used; `None` if this bus ends with its process.
    pub fn lasting_bucket(&self, name: &str) -> Option<Bucket> {
        match self {
            Self::Local(_) => None,
            Self::Nats(bus) => Some(Bucket(Place::Nats(bus.bucket(name, Without::Nothing)))),
        }
    }
}

/// A document as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Which of the bucket's changes it is: a later one has a larger number.
    pub revision: u64,
    /// What it says.
    pub value: Bytes,
}

/// What a document may be written over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Whatever stands there.
    Anything,
    /// Nothing: it must not be there.
    Nothing,
    /// This revision of it.
    Revision(u64),
}

/// What a bucket may do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    Nothing,
    /// On a server that has no room for files it is in memory.
    Files,
}

/// Why a bucket was not read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// Something else stands there than what was to be written over.
    #[error("somebody else has changed it meanwhile")]
    Changed,
    /// The bucket, or its server, has no room left.
    #[error("NATS has no room for it: {0}")]
    Full(String),
    /// The NATS server is not there, or does not let us. What was to be written may have been all the same.
    #[error("NATS cannot keep it now: {0}")]
    Unreachable(String),
}

/// Documents by key. A key is made of tokens with dots between them.
#[derive(Debug, Clone)]
pub struct Bucket(pub(crate) Place);

#[derive(Debug, Clone)]
pub(crate) enum Place {
    Local(LocalBucket),
    Nats(nats::Bucket),
}

impl Bucket {
    /// All documents, as they stood at one moment: at most 1024, or NATS does not answer.
    ///
    /// # Errors
    /// [`BucketError::Unreachable`].
    pub async fn read(&self) -> Result<BTreeMap<String, Document>, BucketError> {
        match &self.0 {
            Place::Local(bucket) => Ok(bucket.read()),
            Place::Nats(bucket) => bucket.read().await,
        }
    }

    /// A document, if there is one, as it stands: also a moment after it was written.
    ///
    /// # Errors
    /// [`BucketError::Unreachable`].
    pub async fn get(&self, key: &str) -> Result<Option<Document>, BucketError> {
        match &self.0 {
            Place::Local(bucket) => Ok(bucket.read().remove(key)),
            Place::Nats(bucket) => bucket.get(key).await,
        }
    }

    /// The keys of all documents, sorted, however many there are. One that was removed a moment ago may be among them.
    ///
    /// # Errors
    /// [`BucketError::Unreachable`].
    pub async fn keys(&self) -> Result<Vec<String>, BucketError> {
        match &self.0 {
            Place::Local(bucket) => Ok(bucket.read().into_keys().collect()),
            Place::Nats(bucket) => bucket.keys().await,
        }
    }

    /// Writes a document, and answers its revision. It is gone after `lasts`, in whole seconds, if that is said.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn write(
        &self,
        key: &str,
        value: Bytes,
        over: Over,
        lasts: Option<Duration>,
    ) -> Result<u64, BucketError> {
        match &self.0 {
            Place::Local(bucket) => bucket.write(key, value, over, lasts),
            Place::Nats(bucket) => bucket.write(key, value, over, lasts).await,
        }
    }

    /// Removes a document.
    ///
    /// # Errors
    /// [`BucketError`].
    pub async fn remove(&self, key: &str, over: Over) -> Result<(), BucketError> {
        match &self.0 {
            Place::Local(bucket) => bucket.remove(key, over),
            Place::Nats(bucket) => bucket.remove(key, over).await,
        }
    }

    /// Says from now on when documents change whose keys begin with the token `first`. A bucket on NATS that is not there yet is
    /// made by who reads it, or writes what nobody wants to be told of.
    pub async fn changes(&self, first: &str) -> Changes {
        Changes(match &self.0 {
            Place::Local(bucket) => Hints::Local(bucket.changes(first)),
            Place::Nats(bucket) => Hints::Nats(bucket.changes(first).await),
        })
    }
}

/// Says when something changes.
#[derive(Debug)]
pub struct Changes(Hints);

#[derive(Debug)]
enum Hints {
    Local(watch::Receiver<u64>),
    Nats(nats::Changes),
}

impl Changes {
    /// Waits until something may have changed. Several changes may be one, and a change may be missed while the server is
    /// away: who must know looks now and then.
    pub async fn next(&mut self) {
        let goes_on = match &mut self.0 {
            Hints::Local(changes) => changes.changed().await.is_ok(),
            Hints::Nats(changes) => changes.next().await,
        };
        if !goes_on {
            // The bus is closed: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }
}

/// The buckets of one process.
#[derive(Debug, Default, Clone)]
pub(crate) struct LocalBuckets(Arc<Mutex<HashMap<String, LocalBucket>>>);

impl LocalBuckets {
    pub(crate) fn named(&self, name: &str) -> LocalBucket {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.entry(name.into()).or_default().clone()
    }
}

/// A bucket in memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct LocalBucket(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last: u64,
    documents: BTreeMap<String, (Document, Option<Instant>)>,
    hints: HashMap<String, watch::Sender<u64>>,
}

impl State {
    /// A change of `key`, if what stands there is what was expected.
    fn change(&mut self, key: &str, over: Over) -> Result<u64, BucketError> {
        let now = Instant::now();
        self.documents.retain(|_, (_, until)| until.is_none_or(|until| now < until));
        let stands = self.documents.get(key).map(|(document, _)| document.revision);
        let is_as_expected = match over {
            Over::Anything => true,
            Over::Nothing => stands.is_none(),
            Over::Revision(revision) => stands == Some(revision),
        };
        if !is_as_expected {
            return Err(BucketError::Changed);
        }
        self.last += 1;
        if let Some(hint) = key.split('.').next().and_then(|first| self.hints.get(first)) {
            hint.send_replace(self.last);
        }
        Ok(self.last)
    }
}

impl LocalBucket {
    fn state(&self) -> MutexGuard<'_, State> {
        // A change is whole or has not begun.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> BTreeMap<String, Document> {
        let now = Instant::now();
        let state = self.state();
        let there = state.documents.iter().filter(|(_, (_, until))| until.is_none_or(|until| now < until));
        there.map(|(key, (document, _))| (key.clone(), document.clone())).collect()
    }

    fn write(
        &self,
        key: &str,
        value: Bytes,
        over: Over,
        lasts: Option<Duration>,
    ) -> Result<u64, BucketError> {
        let mut state = self.state();
        let revision = state.change(key, over)?;
        let until = lasts.map(|lasts| Instant::now() + lasts);
        state.documents.insert(key.into(), (Document { revision, value }, until));
        Ok(revision)
    }

    fn remove(&self, key: &str, over: Over) -> Result<(), BucketError> {
        let mut state = self.state();
        state.change(key, over)?;
        state.documents.remove(key);
        Ok(())
    }

    fn changes(&self, first: &str) -> watch::Receiver<u64> {
        self.state().hints.entry(first.into()).or_insert_with(|| watch::channel(0).0).subscribe()
    }
}
