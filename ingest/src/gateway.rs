//! The gateway as a whole: its socket, what its handlers share, and how it stops.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{Router, http::HeaderMap, serve::ListenerExt};
use bytes::Bytes;
use cloudpose_bus::{Bus, Models};
use cloudpose_wire::{GatewayId, Reply, SessionId, TraceParent, trace::TRACEPARENT};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::openapi::OpenApi;

use crate::{
    Config, Error,
    dispatch::{Dispatch, Inbox},
    ledger::Books,
    metrics, openapi, router,
};

/// What monitors ask of the whole process. The gateway answers it where clients come, and does not know it.
#[derive(Clone)]
pub struct Ops {
    /// The addresses.
    pub routes: Router,
    /// Their description, which becomes part of `GET /openapi.json`.
    pub api: OpenApi,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// How long stopping may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For sessions to finish their frames.
    pub frames: Duration,
    /// After that, for the farewells.
    pub farewells: Duration,
}

/// A gateway that has its socket and does not serve yet.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    config: Config,
    bus: Bus,
    books: Books,
    ops: Ops,
}

impl Gateway {
    /// Opens `config.listen`. The gateway books its frames in `books`.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is taken or not ours.
    pub async fn bind(config: Config, bus: Bus, books: Books, ops: Ops) -> Result<Self, Error> {
        let address = config.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        Ok(Self { listener, config, bus, books, ops })
    }

    /// Where it listens; the port is known even if `config.listen` left it open.
    ///
    /// # Errors
    /// [`Error::Socket`] if the system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr().map_err(Error::Socket)
    }

    /// Serves until `token` is cancelled, then takes no more connections and frames, finishes what is in
    /// flight, says goodbye to its clients and returns, all as long as `patience` lasts. Workers must go on until then.
    ///
    /// # Errors
    /// [`Error::Socket`] if the listening socket fails, [`Error::ResultsLost`] if the bus does.
    pub async fn run(self, token: CancellationToken, patience: Patience) -> Result<(), Error> {
        let id = token_of("gw");
        let results = self.bus.results(&id).await;
        let dispatch = Dispatch::default();
        let app = Arc::new(App {
            seats: Arc::new(Semaphore::new(self.config.max_sessions.min(Semaphore::MAX_PERMITS))),
            config: self.config,
            models: self.bus.models(),
            bus: self.bus,
            books: self.books,
            api: openapi::json(self.ops.api).into(),
            id,
            dispatch: dispatch.clone(),
            sessions: TaskTracker::new(),
            stopping: token.clone(),
            drain: patience.frames,
        });
        let listener = self.listener.tap_io(|io| {
            // Results are small and wait for nothing.
            if let Err(error) = io.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        });
        let serve = axum::serve(listener, router::new(Arc::clone(&app), self.ops.routes))
            .with_graceful_shutdown(token.clone().cancelled_owned());
        let work = async {
            serve.await.map_err(Error::Socket)?;
            app.sessions.close();
            app.sessions.wait().await;
            Ok(())
        };
        let out_of_time = async {
            token.cancelled().await;
            tokio::time::sleep(patience.frames + patience.farewells).await;
        };
        tokio::select! {
            worked = work => worked,
            () = dispatch.run(results) => Err(Error::ResultsLost),
            () = out_of_time => {
                tracing::warn!("clients are still connected after the drain: leaving them");
                Ok(())
            }
        }
    }
}

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) bus: Bus,
    /// What the workers serve.
    pub(crate) models: Models,
    pub(crate) books: Books,
    /// The description of the API.
    pub(crate) api: Bytes,
    /// Open streaming sessions.
    pub(crate) sessions: TaskTracker,
    pub(crate) stopping: CancellationToken,
    /// How long sessions may take to finish their frames once it is stopping.
    pub(crate) drain: Duration,
    id: GatewayId,
    dispatch: Dispatch,
    seats: Arc<Semaphore>,
}

impl App {
    /// A place for one more session, or `None` if all are taken.
    pub(crate) fn seat(&self) -> Option<Seat> {
        match Arc::clone(&self.seats).try_acquire_owned() {
            Ok(permit) => {
                metrics::session_opened();
                Some(Seat { _permit: permit })
            }
            Err(_) => {
                metrics::session_refused();
                None
            }
        }
    }

    /// A new session's address, and where the results sent to it arrive; `room` of them may wait.
    pub(crate) fn open(&self, room: usize) -> (Reply, Inbox) {
        let session: SessionId = token_of("s");
        let inbox = self.dispatch.open(session.clone(), room);
        (Reply::Session { gateway: self.id.clone(), session }, inbox)
    }
}

/// One of the `max_sessions` places, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        metrics::session_closed();
    }
}

/// A name nobody else has, after `prefix`.
pub(crate) fn token_of<T: std::str::FromStr<Err: fmt::Debug>>(prefix: &str) -> T {
    let name = format!("{prefix}-{}", uuid::Uuid::now_v7().simple());
    name.parse().expect("letters, digits and '-' make a token")
}

/// The trace that a request belongs to, if it says so, and says it once.
pub(crate) fn trace_of(headers: &HeaderMap) -> Option<TraceParent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    value.to_str().ok()?.parse().ok()
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
