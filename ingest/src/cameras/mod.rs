//! Cameras that the gateway fetches. Each is a caller of a session, as the clients of a door are.
//!
//! The operator names cameras on the command line, and clients who may name them at a door. Gateways write down what they
//! know of them in a bucket of the bus; each camera is fetched by one of them (`keeper`), and every one can tell of all and
//! change them. In one process the bucket is the process's own.
//!
//! A camera's runner holds its session for as long as the gateway is to fetch it, and fetches it again and again; who else
//! asks (the door, the page) sees how it is doing. Nothing that is shown, logged or said of a camera has its password in it.
//!
//! | module | what |
//! |---|---|
//! | `address` | where a camera is, and what of that may be shown |
//! | `config` | what can be set |
//! | `document` | what gateways write down for each other |
//! | `known` | what is known of all cameras, and which are fetched here |
//! | `keeper` | the loop that holds the gateway's lease, takes cameras and gives them away |
//! | `camera` | one that is fetched here; `status`: how it is doing |
//! | `source` | the ways to fetch one |
//! | `feed` | what it sends, on its way to its session |
//! | `runner` | the loop between source, session and bus |

mod address;
mod camera;
mod config;
mod document;
mod feed;
mod keeper;
mod known;
mod runner;
mod source;
mod status;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloudpose_bus::{Bucket, BucketError, Bus, Over};
use cloudpose_policy::fleet::Key;
use cloudpose_wire::{Caller, GatewayId, ModelId, StreamName, Tenant, Want};
use tokio::time::{Instant, timeout};

pub use self::config::{Camera as NamedCamera, Config};
pub(crate) use self::{
    address::Address,
    camera::Wishes,
    status::{CameraState, Report},
};
use self::{
    address::Place,
    document::{All, Document, Named},
    known::Known,
    status::wall_ms,
};
use crate::{
    outbound::{Reach, check_literal},
    shared::Shared,
};

/// How often it is tried to change a camera that others change meanwhile.
const TRIES: u32 = 8;
/// How long who wants to see cameras waits for what other gateways have written of late.
const NEWS: Duration = Duration::from_millis(500);

/// What is to be changed about a camera; what is absent stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) address: Option<Address>,
    pub(crate) model: Option<ModelId>,
    pub(crate) fps: Option<Option<f32>>,
    pub(crate) want: Option<Want>,
}

/// Why a camera is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is a camera for {0} already; change it with PATCH, or remove it with DELETE")]
    Exists(StreamName),
    #[error("{0}")]
    Address(String),
    #[error("{0} cameras are as many as there may be; remove one first")]
    TooMany(usize),
    #[error("there is no camera for {0}; GET /v1/cameras lists those that there are")]
    Unknown(StreamName),
    #[error("{0} is from the gateway's command line, where --camera names it")]
    Operators(StreamName),
    #[error("what is wanted of cameras cannot be kept now ({0}); try again in a moment")]
    NotKept(String),
}

impl From<BucketError> for Refused {
    fn from(error: BucketError) -> Self {
        Self::NotKept(error.to_string())
    }
}

/// The cameras of all gateways on the bus, as one of them sees them.
#[derive(Debug)]
pub(crate) struct Cameras {
    bounds: Config,
    id: GatewayId,
    bucket: Bucket,
    known: Mutex<Known>,
    /// Whoever reads the bucket and draws conclusions does it alone.
    turn: tokio::sync::Mutex<()>,
}

impl Cameras {
    /// Nothing is fetched until [`keep`](Self::keep) runs.
    pub(crate) fn new(bounds: Config, bus: &Bus, id: GatewayId) -> Self {
        let mut own = BTreeMap::new();
        for NamedCamera { stream, address } in bounds.camera.clone() {
            if let Some(_earlier) = own.insert((Tenant::default(), stream.clone()), address) {
                tracing::warn!(%stream, "two cameras have this name: the last one counts");
            }
        }
        let known = Known::new(Instant::now().into_std(), id.clone(), own);
        let (known, bucket) = (Mutex::new(known), bus.bucket(document::BUCKET));
        Self { bounds, id, bucket, known, turn: tokio::sync::Mutex::default() }
    }

    /// Has a camera fetched that a client names, by the gateway that has the fewest.
    pub(crate) async fn add(
        &self,
        shared: &Arc<Shared>,
        caller: Caller,
        stream: StreamName,
        (url, wishes): (Address, Wishes),
    ) -> Result<Report, Refused> {
        self.check(&url)?;
        let _turn = self.turn.lock().await;
        self.read(shared).await?;
        let key = (caller.tenant.clone(), stream);
        let named = Named { caller, url, wishes };
        let holder;
        let document = {
            let known = self.known();
            if known.document(&key).is_some() || known.is_own(&key) {
                return Err(Refused::Exists(key.1));
            }
            let [all, of_tenant] = [known.named(None), known.named(Some(&key.0))];
            if of_tenant >= self.bounds.max_cameras_per_tenant {
                return Err(Refused::TooMany(of_tenant));
            }
            if all >= self.bounds.max_cameras {
                return Err(Refused::TooMany(self.bounds.max_cameras));
            }
            holder = known.choose(Instant::now().into_std(), &key);
            Document { named: Some(named), holder: holder.clone(), since: wall_ms() }
        };
        match self.write(&key, document, Over::Nothing).await {
            Err(BucketError::Changed) => return Err(Refused::Exists(key.1)),
            written => written?,
        }
        if holder.as_ref() == Some(&self.id) {
            self.begin(shared, &key);
        }
        self.report(shared, &key)
    }

    /// A tenant's cameras, by name.
    pub(crate) async fn list(&self, shared: &Arc<Shared>, tenant: &Tenant) -> Vec<Report> {
        self.look(shared).await;
        self.known().list(Instant::now().into_std(), tenant, shared)
    }

    pub(crate) async fn get(
        &self,
        shared: &Arc<Shared>,
        tenant: &Tenant,
        stream: &StreamName,
    ) -> Result<Report, Refused> {
        self.look(shared).await;
        self.report(shared, &(tenant.clone(), stream.clone()))
    }

    fn report(&self, shared: &Shared, key: &Key) -> Result<Report, Refused> {
        let report = self.known().report(Instant::now().into_std(), key, shared);
        report.ok_or_else(|| Refused::Unknown(key.1.clone()))
    }

    /// Changes a camera of a client. With another address it begins anew.
    pub(crate) async fn change(
        &self,
        shared: &Arc<Shared>,
        (tenant, stream): (&Tenant, &StreamName),
        change: Change,
    ) -> Result<Report, Refused> {
        if let Some(address) = &change.address {
            self.check(address)?;
        }
        let Change { address, model, fps, want } = change;
        let key = (tenant.clone(), stream.clone());
        self.rewrite(shared, &key, |named| {
            let Wishes { model: old, fps: old_fps, want: old_want } = named.wishes;
            let wishes = Wishes {
                model: model.clone().or(old),
                fps: fps.unwrap_or(old_fps),
                want: want.unwrap_or(old_want),
            };
            Some(Named { url: address.clone().unwrap_or(named.url), wishes, ..named })
        })
        .await?;
        self.report(shared, &key)
    }

    /// Has a client's camera fetched no more.
    pub(crate) async fn remove(
        &self,
        shared: &Arc<Shared>,
        tenant: &Tenant,
        stream: &StreamName,
    ) -> Result<(), Refused> {
        self.rewrite(shared, &(tenant.clone(), stream.clone()), |_| None).await
    }

    /// Writes a client's camera anew, or removes it.
    async fn rewrite(
        &self,
        shared: &Arc<Shared>,
        key: &Key,
        anew: impl Fn(Named) -> Option<Named>,
    ) -> Result<(), Refused> {
        let _turn = self.turn.lock().await;
        for _ in 0..TRIES {
            self.read(shared).await?;
            if self.known().is_own(key) {
                return Err(Refused::Operators(key.1.clone()));
            }
            let found = self.known().document(key);
            let (revision, document) = found.ok_or_else(|| Refused::Unknown(key.1.clone()))?;
            let named = document.named.ok_or_else(|| Refused::Operators(key.1.clone()))?;
            let written = match anew(named) {
                Some(named) => {
                    let document = Document { named: Some(named), ..document };
                    self.write(key, document, Over::Revision(revision)).await
                }
                None => self.erase(key, revision).await,
            };
            match written {
                Err(BucketError::Changed) => {}
                written => {
                    written?;
                    self.settle(shared);
                    return Ok(());
                }
            }
        }
        Err(BucketError::Changed.into())
    }

    /// Whether a client may name this address, as far as can be told before its name is looked up.
    fn check(&self, address: &Address) -> Result<(), Refused> {
        match &address.place {
            Place::File(_) => {
                let why = "files are for the gateway's command line: --camera NAME=file:PATH";
                Err(Refused::Address(why.into()))
            }
            Place::Http(url) | Place::Rtsp(url) => {
                check_literal(url, &self.for_clients()).map_err(Refused::Address)
            }
        }
    }

    fn for_clients(&self) -> Reach {
        Reach::Public(self.bounds.camera_allow.clone(), "--camera-allow")
    }

    /// Takes in what has been written, if it can be read soon.
    async fn look(&self, shared: &Arc<Shared>) {
        let looking = async {
            let _turn = self.turn.lock().await;
            if self.read(shared).await.is_ok() {
                self.settle(shared);
            }
        };
        timeout(NEWS, looking).await.ok();
    }

    async fn write(&self, key: &Key, document: Document, over: Over) -> Result<(), BucketError> {
        let (name, value) = (document::camera_key(key), document::written(&document));
        let revision = self.bucket.write(&name, value, over, None).await?;
        self.known().wrote(key, revision, document);
        Ok(())
    }

    async fn erase(&self, key: &Key, revision: u64) -> Result<(), BucketError> {
        self.bucket.remove(&document::camera_key(key), Over::Revision(revision)).await?;
        self.known().erased(key);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        lock(&self.known)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one assignment, or can be done again.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
