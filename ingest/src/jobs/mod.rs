//! Jobs: images that are handed in, worked on while nobody waits, and whose results are fetched later.
//!
//! | module | what |
//! |---|---|
//! | `config` | what can be set |
//! | `document` | what is written down of a job, and where |
//! | `active` | the items of a job that this gateway works on |
//! | `runner` | takes jobs by lease, and offers their items to the workers |
//! | `collector` | writes results down |
//! | `callbacks` | calls who asked for it when a job is done |
//! | `video` | the frames of a video: decoded, worked on in their order, written down |
//! | `ready` | says whether the store is there |
//! | `room` | how much of it a tenant's jobs take |
//! | `thumbnail` | small pictures of the images |
//! | `sweeper` | removes what has had its time |
//!
//! Every gateway runs all of it. A job is there once its state is written, which is the last thing that handing it in
//! does; an item is done once its result is written, which happens once. Whatever else a process knows, it may forget.

mod active;
mod callbacks;
mod collector;
mod config;
pub(crate) mod document;
mod ready;
mod room;
mod runner;
mod sweeper;
mod thumbnail;
mod video;

use std::{
    cmp::Reverse,
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use cloudpose_bus::Bus;
use cloudpose_store::{Address, Error, Store};
use cloudpose_wire::{JobId, Tenant};
use futures_util::{StreamExt as _, TryStreamExt as _, future::OptionFuture, stream};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{callbacks::CallbackSecret, config::Config, ready::StoreCheck};
use self::{
    callbacks::Callbacks,
    collector::Collector,
    document::{About, Line, Seen, State, about_key, folder, of_tenant, result_key, state_name},
    room::Coming,
    runner::Runner,
};
pub(crate) use self::{
    callbacks::{Callback, CallbackMessage, CallbackState},
    room::Room,
    sweeper::Upload,
    thumbnail::Thumbnail,
};
use crate::{metrics, shared::Shared as Gateway};

/// The bucket on NATS for the states of jobs whose bytes lie in a bucket elsewhere.
const STATES: &str = "jobs";
/// Jobs that are listed.
const LISTED: usize = 100;
/// What is read of the store at once to list them.
const READ_AT_ONCE: usize = 16;
/// How many abouts are kept at hand.
const ABOUTS: usize = 256;
/// Uploads at once: each may take a job's bytes of the disk before it is one.
const UPLOADS: usize = 16;
/// Thumbnails that are made at once: each may take as long as decoding 16 megapixels.
const THUMBNAILS: usize = 2;
/// Results that may wait until the runner is told of them; it finds them by itself too.
const TOLD: usize = 1024;
/// Pause before the store is asked again when it could not be used.
const PAUSE: Duration = Duration::from_secs(1);

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(crate) fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The jobs of a deployment, as one gateway sees them. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Jobs(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    config: Config,
    /// Something was handed in.
    handed_in: Notify,
    abouts: Mutex<HashMap<JobId, Arc<About>>>,
    uploads: Arc<Semaphore>,
    coming: Coming,
    /// What is written or removed whether its client waits or not.
    tasks: TaskTracker,
    /// Thumbnails that may be made at the same time.
    thumbnails: Semaphore,
    /// If it sends any.
    callbacks: Option<Callbacks>,
}

/// A job that was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) state: State,
    pub(crate) about: Arc<About>,
}

/// What became of handing a job in.
#[derive(Debug)]
pub(crate) enum HandedIn {
    /// It is a job now.
    New(Found),
    /// There is one of this name.
    Known(State),
}

impl Jobs {
    /// Opens the store, if there is to be one.
    pub(crate) async fn open(config: &Config, bus: &Bus) -> Result<Option<Self>, crate::Error> {
        let Some(address) = &config.store else { return Ok(None) };
        // A folder has locks by which several gateways can change states; a bucket has none, but NATS does as well.
        let states = match address {
            Address::Folder(_) => None,
            Address::Bucket(_) => bus.lasting_bucket(STATES),
        };
        let store = Store::open(address, states).await?;
        tracing::info!("jobs lie in {address}");
        let callbacks = Callbacks::open(config)?;
        let config = config.clone();
        let shared = Shared {
            store,
            config,
            handed_in: Notify::new(),
            abouts: Mutex::default(),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            coming: Coming::default(),
            tasks: TaskTracker::new(),
            thumbnails: Semaphore::new(THUMBNAILS),
            callbacks,
        };
        Ok(Some(Self(Arc::new(shared))))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    /// Those that it sends, if any.
    pub(crate) fn callbacks(&self) -> Option<&Callbacks> {
        self.0.callbacks.as_ref()
    }

    pub(crate) fn check(&self) -> StoreCheck {
        StoreCheck::new(self.0.store.clone())
    }

    /// How many jobs a tenant has.
    pub(crate) async fn count(&self, tenant: &Tenant) -> Result<usize, Error> {
        let of = of_tenant(tenant);
        Ok(self.store().documents().await?.iter().filter(|name| name.starts_with(&of)).count())
    }

    /// The states of a tenant's jobs whose time is not over.
    async fn states(&self, tenant: &Tenant) -> Result<Vec<State>, Error> {
        let of = of_tenant(tenant);
        let names = self.store().documents().await?.into_iter().filter(|name| name.starts_with(&of));
        let read_one = async |name: String| {
            let document = self.store().document(&name).await?;
            Ok(document.and_then(|document| read::<State>(&document.body)))
        };
        let states: Vec<Option<State>> =
            stream::iter(names).map(read_one).buffered(READ_AT_ONCE).try_collect().await?;
        let now = wall_clock();
        Ok(states.into_iter().flatten().filter(|state| state.expires_at > now).collect())
    }

    /// A tenant's jobs whose state is as it should be: the newest, at most [`LISTED`].
    pub(crate) async fn list(
        &self,
        tenant: &Tenant,
        is_wanted: impl Fn(&State) -> bool,
    ) -> Result<Vec<Found>, Error> {
        let mut states = self.states(tenant).await?;
        states.retain(is_wanted);
        states.sort_by_key(|state| Reverse(state.created_at));
        states.truncate(LISTED);
        let find = async |state: State| {
            let about = self.about(&state.upload).await?;
            Ok(about.map(|about| Found { state, about }))
        };
        let found: Vec<Option<Found>> =
            stream::iter(states).map(find).buffered(READ_AT_ONCE).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Begins an upload; `None` if there are as many as there may be.
    pub(crate) fn begin(&self) -> Option<Upload> {
        let place = Arc::clone(&self.0.uploads).try_acquire_owned().ok()?;
        Some(Upload::new(self, place))
    }

    /// Makes a job of what was uploaded, unless there is one of its name; then the upload is removed. Dropping the
    /// future does not end it half way.
    pub(crate) async fn hand_in(
        &self,
        about: Arc<About>,
        mut upload: Upload,
        digest: Option<String>,
        callback: Option<Callback>,
    ) -> Result<HandedIn, Error> {
        let jobs = self.clone();
        let handing_in = self.0.tasks.spawn(async move {
            jobs.store().put(&about_key(upload.name()), document::written(&*about)).await?;
            let handed_in = jobs.write(&about, upload.name(), digest, callback).await;
            match &handed_in {
                Ok(HandedIn::Known(_)) => {}
                Err(error) if error.is_full() => {}
                // Where nobody says whether it is one, what was uploaded stays until the sweeper knows.
                Ok(HandedIn::New(_)) | Err(_) => upload.is_job(),
            }
            handed_in
        });
        handing_in.await.unwrap_or_else(|error| Err(Error::unusable(self.store().place(), error)))
    }

    async fn write(
        &self,
        about: &Arc<About>,
        upload: &JobId,
        digest: Option<String>,
        callback: Option<Callback>,
    ) -> Result<HandedIn, Error> {
        let name = state_name(&about.caller.tenant, &about.job);
        let created_at = wall_clock();
        let ttl = u64::try_from(self.config().store_ttl.as_millis()).unwrap_or(u64::MAX);
        let state = State {
            upload: upload.clone(),
            created_at,
            expires_at: created_at.saturating_add(ttl),
            digest,
            items: u32::try_from(about.items.len()).unwrap_or(u32::MAX),
            bytes: about.bytes(),
            ended: 0,
            failed: 0,
            failures: Vec::new(),
            began_at: None,
            finished_at: None,
            lease: None,
            callback,
            seen: about.video.map(|_| Seen::default()),
        };
        loop {
            if self.store().create(&name, document::written(&state)).await?.is_some() {
                return Ok(self.accepted(about, state));
            }
            match self.state(&about.caller.tenant, &about.job).await? {
                // The answer to a first try was lost.
                Some(known) if known.upload == *upload => return Ok(self.accepted(about, known)),
                Some(known) if known.expires_at > wall_clock() => return Ok(HandedIn::Known(known)),
                // Its time is over.
                Some(_) => {
                    self.delete(&about.caller.tenant, &about.job).await?;
                }
                // It went in this moment.
                None => {}
            }
        }
    }

    fn accepted(&self, about: &Arc<About>, state: State) -> HandedIn {
        metrics::job_accepted(&about.caller.tenant);
        self.0.handed_in.notify_one();
        HandedIn::New(Found { state, about: Arc::clone(about) })
    }

    async fn state(&self, tenant: &Tenant, job: &JobId) -> Result<Option<State>, Error> {
        let document = self.store().document(&state_name(tenant, job)).await?;
        Ok(document.and_then(|document| read(&document.body)))
    }

    /// A tenant's job, unless its time is over.
    pub(crate) async fn find(&self, tenant: &Tenant, job: &JobId) -> Result<Option<Found>, Error> {
        let state = self.state(tenant, job).await?.filter(|state| state.expires_at > wall_clock());
        let Some(state) = state else { return Ok(None) };
        let about = self.about(&state.upload).await?;
        Ok(about.map(|about| Found { state, about }))
    }

    /// What was handed in with an upload, if it is there.
    async fn about(&self, upload: &JobId) -> Result<Option<Arc<About>>, Error> {
        if let Some(about) = self.abouts().get(upload) {
            return Ok(Some(Arc::clone(about)));
        }
        let Some(about) = self.store().get(&about_key(upload)).await?.and_then(|body| read(&body)) else {
            return Ok(None);
        };
        let about = Arc::new(about);
        let mut abouts = self.abouts();
        if abouts.len() >= ABOUTS {
            abouts.clear();
        }
        abouts.insert(upload.clone(), Arc::clone(&about));
        Ok(Some(about))
    }

    /// What became of an item, if it is done.
    pub(crate) async fn result(&self, upload: &JobId, item: u32) -> Result<Option<Bytes>, Error> {
        self.store().get(&result_key(upload, item)).await
    }

    /// Makes a thumbnail of an image file.
    pub(crate) async fn thumbnail(&self, image: Bytes) -> Result<Thumbnail, cloudpose_pixels::Error> {
        let _turn = self.0.thumbnails.acquire().await.expect("the semaphore is never closed");
        let made = tokio::task::spawn_blocking(move || Thumbnail::of(&image)).await;
        made.expect("no image panics the decoder")
    }

    /// Removes a tenant's job with all that belongs to it. `false`: there is none.
    pub(crate) async fn delete(&self, tenant: &Tenant, job: &JobId) -> Result<bool, Error> {
        let name = state_name(tenant, job);
        while let Some(document) = self.store().document(&name).await? {
            if self.store().remove(&name, &document).await? {
                if let Some(State { upload, .. }) = read(&document.body) {
                    self.abouts().remove(&upload);
                    self.store().remove_all(&folder(&upload)).await?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Works on jobs as a part of `gateway`, takes none and finishes what is under way once it is `stopping`.
    pub(crate) async fn run(&self, gateway: &Arc<Gateway>, stopping: &CancellationToken) -> Infallible {
        let (tell, told) = mpsc::channel(TOLD);
        let collector = Collector::new(self.clone(), gateway.bus.clone(), tell.clone());
        let calling = self.callbacks().map(|callbacks| callbacks.run(self, gateway.id.as_str(), stopping));
        let runner = Runner::new(self.clone(), Arc::clone(gateway), tell);
        tokio::select! {
            never = collector.run() => match never {},
            never = runner.run(told, stopping) => match never {},
            never = sweeper::run(self) => match never {},
            Some(never) = OptionFuture::from(calling) => match never {},
        }
    }

    /// Has a job's callback sent when it is due, if its state says so.
    fn expect_callback(&self, name: &str, state: &State) {
        if let Some(callbacks) = self.callbacks() {
            callbacks.expect(name, state);
        }
    }

    fn abouts(&self) -> MutexGuard<'_, HashMap<JobId, Arc<About>>> {
        // Each change is one call, so a panic elsewhere does not spoil it.
        self.0.abouts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was written down, if it is what this version writes.
fn read<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    let read = serde_json::from_slice(body);
    read.inspect_err(
        |error| tracing::warn!(%error, "left alone what stands in the store: it is none of ours"),
    )
    .ok()
}

/// The store failed where no client waits for it.
fn failed(what: &str, error: &Error) {
    metrics::store_failed();
    tracing::warn!(%error, "{what} failed");
}

/// Writes what became of an item, unless that stands already. Whether it was written now.
async fn write_result(store: &Store, upload: &JobId, line: &Line, tenant: &Tenant) -> Result<bool, Error> {
    let is_new = store.put_new(&result_key(upload, line.item), document::written(line)).await?;
    if is_new {
        let outcome = line.error.as_ref().map_or("done", |failure| failure.reason.as_str());
        metrics::job_item_ended(tenant, outcome);
    }
    Ok(is_new)
}
