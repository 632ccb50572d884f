//! Files in a bucket, through the [store](cloudpose_store) that jobs have there.
//!
//! A file is one object, written where none of its name is. If the answer is lost, what is found under the name says
//! whether it was written. A bucket has no locks: who records there holds a [lease](super::lease) on NATS.

use std::collections::HashSet;

use bytes::Bytes;
use cloudpose_store::{Address, Store};
use tokio::time::{Instant, timeout_at};

use super::{Error, Key, error::of_file, file, lease::Lease, names};

#[derive(Debug)]
pub(super) struct Bucket {
    address: Address,
    lease: Lease,
    /// Once it was opened.
    store: Option<Store>,
}

impl Bucket {
    pub(super) fn new(address: Address, lease: Lease) -> Self {
        Self { address, lease, store: None }
    }

    /// Tries the bucket out, with the keys that `environment` has, and waits until no other process records there.
    pub(super) async fn open(&mut self, environment: &[(String, String)]) -> Result<(), Error> {
        if self.store.is_none() {
            self.store = Some(Store::open_in(environment, &self.address, None).await?);
        }
        self.lease.hold().await.map(drop)
    }

    /// Waits until no other process records there. True: another may have meanwhile.
    pub(super) async fn hold(&mut self) -> Result<bool, Error> {
        self.lease.hold().await
    }

    /// Lets another process record there at once.
    pub(super) async fn leave(&mut self) {
        self.lease.release().await;
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it was opened")
    }

    /// The keys of what the files of an hour have.
    pub(super) async fn keys(&self, hour: &str) -> Result<HashSet<Key>, Error> {
        let mut keys = HashSet::new();
        for name in self.store().names(hour).await?.iter().filter(|name| name.ends_with(".parquet")) {
            let key = format!("{hour}/{name}");
            // `None`: somebody has removed it since.
            if let Some(bytes) = self.store().get(&key).await? {
                keys.extend(file::keys(bytes).map_err(of_file(&key))?);
            }
        }
        Ok(keys)
    }

    /// Writes a file of an hour, unless another process may record there before it is written.
    pub(super) async fn write(&self, hour: &str, name: &str, bytes: Bytes) -> Result<(), Error> {
        let ends = self.lease.ends().unwrap_or_else(Instant::now);
        for name in names(name) {
            let key = format!("{hour}/{name}");
            let written = timeout_at(ends, self.store().put_new(&key, bytes.clone())).await;
            if written.map_err(|_| Error::Late { name: key.clone() })?? {
                return Ok(());
            }
            // Written by a first try whose answer was lost, if these are the bytes.
            if self.store().get(&key).await?.is_some_and(|there| there == bytes) {
                return Ok(());
            }
        }
        unreachable!("there is no end of names")
    }

    /// Drops the days before `until`, and says which.
    pub(super) async fn forget(&self, until: &str) -> Result<HashSet<String>, Error> {
        let mut dropped = HashSet::new();
        for tenant in self.folders("", "tenant=").await? {
            for stream in self.folders(&tenant, "stream=").await? {
                for day in self.folders(&stream, "date=").await? {
                    let name = day.rsplit('/').next().unwrap_or_default();
                    if name < until {
                        self.store().remove_all(&day).await?;
                        dropped.insert(name.to_owned());
                    }
                }
            }
        }
        Ok(dropped)
    }

    /// The keys directly under a key whose last name begins so.
    async fn folders(&self, under: &str, prefix: &str) -> Result<Vec<String>, Error> {
        let names = self.store().names(under).await?.into_iter().filter(|name| name.starts_with(prefix));
        let key = |name: String| if under.is_empty() { name } else { format!("{under}/{name}") };
        Ok(names.map(key).collect())
    }
}
