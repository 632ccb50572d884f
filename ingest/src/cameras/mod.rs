//! Cameras that the gateway fetches. Each is a caller of a session, as the clients of a door are.
//!
//! The operator names cameras on the command line, and clients who may name them at a door. A camera's runner holds its
//! session for as long as the camera is wanted, and fetches it again and again; who else asks (the door, the page) sees
//! how it is doing. Nothing that is shown, logged or said of a camera has its password in it.
//!
//! | module | what |
//! |---|---|
//! | `address` | where a camera is, and what of that may be shown |
//! | `reach` | which addresses may be fetched |
//! | `config` | what can be set |
//! | `status` | how a camera is doing |
//! | `source` | the ways to fetch one |
//! | `captured` | when a frame was captured, by its camera's clock |
//! | `feed` | what it sends, on its way to its session |
//! | `runner` | the loop between source, session and bus |

mod address;
mod captured;
mod config;
mod feed;
mod reach;
mod runner;
mod source;
mod status;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use cloudpose_wire::{Caller, ModelId, StreamName, Tenant, Want};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::config::{Camera as NamedCamera, Config};
pub(crate) use self::{
    address::Address,
    status::{CameraState, Report},
};
use self::{address::Place, reach::Reach, status::Status};
use crate::shared::Shared;

/// What is wanted of a camera.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Wishes {
    /// The model; the server's if absent.
    pub(crate) model: Option<ModelId>,
    /// So many frames a second at most, more than 0; all if absent.
    pub(crate) fps: Option<f32>,
    pub(crate) want: Want,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { model: None, fps: None, want: Want::Pose }
    }
}

/// What is to be changed about a camera; what is absent stays as it is.
#[derive(Debug, Default)]
pub(crate) struct Change {
    pub(crate) address: Option<Address>,
    pub(crate) model: Option<ModelId>,
    pub(crate) fps: Option<Option<f32>>,
    pub(crate) want: Option<Want>,
}

/// A camera, and how it is doing.
#[derive(Debug)]
pub(crate) struct Camera {
    pub(crate) stream: StreamName,
    caller: Caller,
    /// The operator has named it, on the command line.
    is_operators: bool,
    address: Address,
    wishes: Mutex<Wishes>,
    status: Mutex<Status>,
    /// The wishes have changed.
    changed: Notify,
    /// It is not wanted any more.
    stop: CancellationToken,
}

impl Camera {
    fn new(stream: StreamName, caller: Caller, address: Address, wishes: Wishes) -> Self {
        Self {
            stream,
            caller,
            is_operators: false,
            address,
            wishes: Mutex::new(wishes),
            status: Mutex::new(Status::new()),
            changed: Notify::new(),
            stop: CancellationToken::new(),
        }
    }

    fn wishes(&self) -> Wishes {
        lock(&self.wishes).clone()
    }

    /// The camera as it is shown.
    pub(crate) fn report(&self, now: Instant, shared: &Shared) -> Report {
        let Wishes { model, fps, want } = self.wishes();
        let model = model.unwrap_or_else(|| shared.default_model(crate::config::STREAM_MODEL));
        let of = status::Of { stream: &self.stream, url: self.address.shown(), model, fps, want };
        lock(&self.status).report(now, of, self.is_operators)
    }
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
}

type Key = (Tenant, StreamName);

/// The cameras of a gateway.
#[derive(Debug)]
pub(crate) struct Cameras {
    bounds: Config,
    cameras: Mutex<BTreeMap<Key, Arc<Camera>>>,
}

impl Cameras {
    pub(crate) fn new(bounds: Config) -> Self {
        Self { bounds, cameras: Mutex::default() }
    }

    /// Begins to fetch the cameras of the command line.
    pub(crate) fn start(&self, shared: &Arc<Shared>) {
        for NamedCamera { stream, address } in self.bounds.camera.clone() {
            let camera = Camera::new(stream.clone(), Caller::default(), address, Wishes::default());
            let camera = Arc::new(Camera { is_operators: true, ..camera });
            let key = (Tenant::default(), stream);
            if lock(&self.cameras).insert(key, Arc::clone(&camera)).is_some() {
                tracing::warn!(stream = %camera.stream, "two cameras have this name: the last one counts");
            }
            self.run(shared, camera);
        }
    }

    /// Begins to fetch a camera that a client names.
    pub(crate) fn add(
        &self,
        shared: &Arc<Shared>,
        caller: Caller,
        stream: StreamName,
        (address, wishes): (Address, Wishes),
    ) -> Result<Arc<Camera>, Refused> {
        self.check(&address)?;
        let key = (caller.tenant.clone(), stream.clone());
        let mut cameras = self.cameras();
        if cameras.contains_key(&key) {
            return Err(Refused::Exists(stream));
        }
        let clients = || cameras.iter().filter(|(_, camera)| !camera.is_operators);
        let of_tenant = clients().filter(|((tenant, _), _)| *tenant == caller.tenant).count();
        if of_tenant >= self.bounds.max_cameras_per_tenant {
            return Err(Refused::TooMany(of_tenant));
        }
        if clients().count() >= self.bounds.max_cameras {
            return Err(Refused::TooMany(self.bounds.max_cameras));
        }
        let camera = Arc::new(Camera::new(stream, caller, address, wishes));
        cameras.insert(key, Arc::clone(&camera));
        drop(cameras);
        self.run(shared, Arc::clone(&camera));
        Ok(camera)
    }

    /// A tenant's cameras, by name.
    pub(crate) fn list(&self, tenant: &Tenant) -> Vec<Arc<Camera>> {
        self.cameras()
            .iter()
            .filter(|((of, _), _)| of == tenant)
            .map(|(_, camera)| Arc::clone(camera))
            .collect()
    }

    pub(crate) fn get(&self, tenant: &Tenant, stream: &StreamName) -> Result<Arc<Camera>, Refused> {
        let camera = self.cameras().get(&(tenant.clone(), stream.clone())).cloned();
        camera.ok_or_else(|| Refused::Unknown(stream.clone()))
    }

    /// Changes a camera of a client. With another address it begins anew.
    pub(crate) fn change(
        &self,
        shared: &Arc<Shared>,
        (tenant, stream): (&Tenant, &StreamName),
        change: Change,
    ) -> Result<Arc<Camera>, Refused> {
        let Change { address, model, fps, want } = change;
        if let Some(address) = &address {
            self.check(address)?;
        }
        let mut cameras = self.cameras();
        let known = cameras.get_mut(&(tenant.clone(), stream.clone()));
        let known = known.ok_or_else(|| Refused::Unknown(stream.clone()))?;
        if known.is_operators {
            return Err(Refused::Operators(stream.clone()));
        }
        let old = known.wishes();
        let wishes = Wishes {
            model: model.or(old.model),
            fps: fps.unwrap_or(old.fps),
            want: want.unwrap_or(old.want),
        };
        let Some(address) = address else {
            *lock(&known.wishes) = wishes;
            known.changed.notify_one();
            return Ok(Arc::clone(known));
        };
        known.stop.cancel();
        *known = Arc::new(Camera::new(stream.clone(), known.caller.clone(), address, wishes));
        let camera = Arc::clone(known);
        drop(cameras);
        self.run(shared, Arc::clone(&camera));
        Ok(camera)
    }

    /// Fetches a client's camera no more.
    pub(crate) fn remove(&self, tenant: &Tenant, stream: &StreamName) -> Result<(), Refused> {
        let key = (tenant.clone(), stream.clone());
        let mut cameras = self.cameras();
        match cameras.get(&key) {
            None => Err(Refused::Unknown(stream.clone())),
            Some(camera) if camera.is_operators => Err(Refused::Operators(stream.clone())),
            Some(camera) => {
                camera.stop.cancel();
                cameras.remove(&key);
                Ok(())
            }
        }
    }

    /// Whether a client may name this address, as far as can be told before its name is looked up.
    fn check(&self, address: &Address) -> Result<(), Refused> {
        match &address.place {
            Place::File(_) => {
                let why = "files are for the gateway's command line: --camera NAME=file:PATH";
                Err(Refused::Address(why.into()))
            }
            Place::Http(url) | Place::Rtsp(url) => {
                source::check_literal(url, &self.for_clients()).map_err(Refused::Address)
            }
        }
    }

    fn for_clients(&self) -> Reach {
        Reach::Public(self.bounds.camera_allow.clone())
    }

    fn run(&self, shared: &Arc<Shared>, camera: Arc<Camera>) {
        let reach = if camera.is_operators { Reach::Anywhere } else { self.for_clients() };
        let shared = Arc::clone(shared);
        shared.sessions.clone().spawn(runner::run(shared, camera, reach));
    }

    fn cameras(&self) -> MutexGuard<'_, BTreeMap<Key, Arc<Camera>>> {
        lock(&self.cameras)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each change under these locks is one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
