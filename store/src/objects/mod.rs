//! A bucket as a store.
//!
//! ```text
//! <prefix>/<key>               bytes
//! <prefix>/documents/<name>    documents, where no bucket of the bus has them
//! <prefix>/new/<number>        what was written to see whether anything can be, and removed
//! ```
//! Nothing is overwritten that must not be: the service compares (`If-None-Match`, `If-Match`, on Google Cloud
//! generations). Whether it does is tried when the store is opened, for some only seem to. A document is removed
//! without such a condition, which [`object_store`] has not: only one process may have documents here.

mod http;

use std::{fmt, ops::Range, str::FromStr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    BackoffConfig, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutMode, PutOptions, RetryConfig,
    UpdateVersion, WriteMultipart, aws::AmazonS3Builder, azure::MicrosoftAzureBuilder,
    gcp::GoogleCloudStorageBuilder, path::Path,
};
use tokio::sync::RwLock;
use url::Url;
use uuid::Uuid;

use self::http::{Connector, NoRoom};
use crate::{DOCUMENTS, Error};

/// How often, and for how long, a request that failed is sent again.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(5);
const BACKOFF: BackoffConfig = BackoffConfig {
    init_backoff: Duration::from_millis(100),
    max_backoff: Duration::from_secs(1),
    base: 2.0,
};

/// Bytes of a part of an object that comes piece by piece, and parts that are on their way at once.
const PART: usize = 8 << 20;
const PARTS_AT_ONCE: usize = 2;

/// The bucket. Clones share it.
#[derive(Clone)]
pub(crate) struct Objects(Arc<Shared>);

struct Shared {
    bucket: Box<dyn ObjectStore>,
    place: String,
    prefix: Path,
    /// Held by who removes a document, which is compared here, and shared by those whom the service compares.
    removing: RwLock<()>,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Objects").field(&self.0.place).finish()
    }
}

impl Objects {
    /// Opens the bucket with what the environment says of keys and endpoints, and tries whether it does what it must.
    pub(crate) async fn open(url: &Url, environment: &[(String, String)]) -> Result<Self, Error> {
        let (bucket, prefix) = bucket(url, environment).map_err(|error| Error::unusable(url, error))?;
        let shared = Shared { bucket, place: url.to_string(), prefix, removing: RwLock::default() };
        let objects = Self(Arc::new(shared));
        objects.try_out().await?;
        Ok(objects)
    }

    pub(crate) fn place(&self) -> &str {
        &self.0.place
    }

    /// Whoever cannot write is told at once, and so is who uses a service that takes no notice of conditions.
    async fn try_out(&self) -> Result<(), Error> {
        let key = format!("new/{}", Uuid::now_v7());
        let overwrites = || Error::Overwrites { place: self.0.place.clone() };
        let first =
            self.write(&key, Bytes::from_static(b"1"), PutMode::Overwrite).await?.ok_or_else(overwrites)?;
        let again = self.write(&key, Bytes::from_static(b"2"), PutMode::Create).await?;
        let second = self
            .write(&key, Bytes::from_static(b"3"), PutMode::Update(first.clone()))
            .await?
            .ok_or_else(overwrites)?;
        let late = self.write(&key, Bytes::from_static(b"4"), PutMode::Update(first)).await?;
        self.delete(&key).await?;
        if again.is_some() || late.is_some() || second.e_tag.is_none() && second.version.is_none() {
            return Err(overwrites());
        }
        Ok(())
    }

    pub(crate) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), Error> {
        self.write(key, bytes, PutMode::Overwrite).await.map(drop)
    }

    pub(crate) async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, Error> {
        Ok(self.write(key, bytes, PutMode::Create).await?.is_some())
    }

    /// Writes an object; `None` if something else is there than what `mode` says.
    async fn write(&self, key: &str, bytes: Bytes, mode: PutMode) -> Result<Option<UpdateVersion>, Error> {
        match self.0.bucket.put_opts(&self.path(key), bytes.into(), PutOptions::from(mode)).await {
            Ok(written) => Ok(Some(written.into())),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Ok(None)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Option<Bytes>, Error> {
        Ok(self.read(key).await?.map(|(bytes, _)| bytes))
    }

    async fn read(&self, key: &str) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        let Some(found) = self.found(self.0.bucket.get(&self.path(key)).await)? else { return Ok(None) };
        let version = UpdateVersion { e_tag: found.meta.e_tag.clone(), version: found.meta.version.clone() };
        let bytes = found.bytes().await.map_err(|error| self.failed(error))?;
        Ok(Some((bytes, version)))
    }

    /// Bytes in a range, which must begin before the end of the object.
    pub(crate) async fn get_part(&self, key: &str, range: Range<u64>) -> Result<Option<Bytes>, Error> {
        self.found(self.0.bucket.get_range(&self.path(key), range).await)
    }

    /// Begins an object that comes piece by piece.
    pub(crate) async fn begin(&self, key: &str) -> Result<Writing, Error> {
        let upload =
            self.0.bucket.put_multipart(&self.path(key)).await.map_err(|error| self.failed(error))?;
        let upload = WriteMultipart::new_with_chunk_size(upload, PART);
        Ok(Writing { objects: self.clone(), upload: Some(upload) })
    }

    pub(crate) async fn has(&self, key: &str) -> Result<bool, Error> {
        Ok(self.found(self.0.bucket.head(&self.path(key)).await)?.is_some())
    }

    pub(crate) async fn names(&self, key: &str) -> Result<Vec<String>, Error> {
        let under = if key.is_empty() { self.0.prefix.clone() } else { self.path(key) };
        let listed = self.0.bucket.list_with_delimiter(Some(&under)).await;
        let Some(listed) = self.found(listed)? else { return Ok(Vec::new()) };
        let objects = listed.objects.iter().filter_map(|object| object.location.filename());
        let folders = listed.common_prefixes.iter().filter_map(Path::filename);
        let mut names: Vec<String> = objects.chain(folders).map(str::to_owned).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(crate) async fn remove_all(&self, key: &str) -> Result<(), Error> {
        let under = self.path(key);
        let locations = self.0.bucket.list(Some(&under)).map_ok(|object| object.location).boxed();
        let mut removed = self.0.bucket.delete_stream(locations);
        while let Some(removed) = removed.next().await {
            self.found(removed)?;
        }
        Ok(())
    }

    async fn delete(&self, key: &str) -> Result<(), Error> {
        self.found(self.0.bucket.delete(&self.path(key)).await).map(drop)
    }

    pub(crate) async fn document(&self, name: &str) -> Result<Option<(Bytes, UpdateVersion)>, Error> {
        self.read(&document(name)).await
    }

    /// Writes a document where there is none, or in the place of `old`; `None` if something else is there.
    pub(crate) async fn replace(
        &self,
        name: &str,
        old: Option<UpdateVersion>,
        body: Bytes,
    ) -> Result<Option<UpdateVersion>, Error> {
        let _shared = self.0.removing.read().await;
        self.write(&document(name), body, old.map_or(PutMode::Create, PutMode::Update)).await
    }

    /// Removes a document if it is still `old`. Whether it did.
    pub(crate) async fn remove(&self, name: &str, old: &UpdateVersion) -> Result<bool, Error> {
        let _alone = self.0.removing.write().await;
        match self.document(name).await? {
            Some((_, stands)) if stands == *old => self.delete(&document(name)).await.map(|()| true),
            _ => Ok(false),
        }
    }

    fn path(&self, key: &str) -> Path {
        crate::check(key);
        self.0.prefix.parts().chain(Path::from(key).parts()).collect()
    }

    fn found<T>(&self, result: object_store::Result<T>) -> Result<Option<T>, Error> {
        match result {
            Ok(found) => Ok(Some(found)),
            Err(error @ object_store::Error::NotFound { .. }) if is_of_bucket(&error) => {
                Err(self.failed(error))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: object_store::Error) -> Error {
        if http::caused_by::<NoRoom>(&error) {
            Error::full(&self.0.place, error)
        } else {
            Error::unusable(&self.0.place, error)
        }
    }
}

/// An object that comes piece by piece. If it is not finished there is none.
#[derive(Debug)]
pub(crate) struct Writing {
    objects: Objects,
    /// There until it is finished.
    upload: Option<WriteMultipart>,
}

impl Writing {
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let Some(upload) = &mut self.upload else { return Ok(()) };
        upload.wait_for_capacity(PARTS_AT_ONCE).await.map_err(|error| self.objects.failed(error))?;
        upload.write(bytes);
        Ok(())
    }

    pub(crate) async fn finish(mut self) -> Result<(), Error> {
        let Some(upload) = self.upload.take() else { return Ok(()) };
        upload.finish().await.map(drop).map_err(|error| self.objects.failed(error))
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        // Outside a runtime the process is ending, and the bucket's own rule removes the parts.
        if let Some(upload) = self.upload.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(error) = upload.abort().await {
                    tracing::debug!(%error, "parts of an object that was not finished stay in the bucket");
                }
            });
        }
    }
}

fn document(name: &str) -> String {
    format!("{DOCUMENTS}/{name}")
}

/// Whether it is the bucket that is not there: the answer says so in words only.
fn is_of_bucket(error: &object_store::Error) -> bool {
    let words = error.to_string();
    ["NoSuchBucket", "ContainerNotFound", "bucket does not exist"].iter().any(|said| words.contains(said))
}

/// The bucket that an address names, and where in it the store is.
fn bucket(url: &Url, environment: &[(String, String)]) -> object_store::Result<(Box<dyn ObjectStore>, Path)> {
    let (scheme, prefix) = ObjectStoreScheme::parse(url)?;
    let retry = RetryConfig { backoff: BACKOFF, max_retries: RETRIES, retry_timeout: RETRY_FOR };
    let bucket: Box<dyn ObjectStore> = match scheme {
        ObjectStoreScheme::GoogleCloudStorage => {
            let builder = GoogleCloudStorageBuilder::new().with_url(url.as_str());
            let said = said(environment, "google_");
            let builder = said.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Box::new(builder.with_retry(retry).with_http_connector(Connector).build()?)
        }
        ObjectStoreScheme::MicrosoftAzure => {
            let builder = MicrosoftAzureBuilder::new().with_url(url.as_str());
            let said = said(environment, "azure_");
            let builder = said.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Box::new(builder.with_retry(retry).with_http_connector(Connector).build()?)
        }
        _ => {
            let builder = AmazonS3Builder::new().with_url(url.as_str());
            let said = said(environment, "aws_");
            let builder = said.fold(builder, |builder, (key, value)| builder.with_config(key, value));
            Box::new(builder.with_retry(retry).with_http_connector(Connector).build()?)
        }
    };
    Ok((bucket, prefix))
}

/// What an environment says of a service, by the names that its own tools know.
fn said<'a, K: FromStr>(
    environment: &'a [(String, String)],
    of: &'a str,
) -> impl Iterator<Item = (K, &'a String)> {
    environment.iter().filter_map(move |(name, value)| {
        let name = name.to_ascii_lowercase();
        name.starts_with(of).then(|| name.parse().ok()).flatten().map(|key| (key, value))
    })
}
