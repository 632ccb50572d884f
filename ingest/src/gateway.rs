//! The gateway as a whole: its socket, what its handlers share, and how it stops.

use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{http::HeaderMap, serve::ListenerExt};
use cloudpose_bus::Bus;
use cloudpose_wire::{GatewayId, Reply, SessionId, TraceParent, trace::TRACEPARENT};
use tokio::{
    net::TcpListener,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config, Error, Ledger,
    dispatch::{Dispatch, Inbox},
    ledger::Books,
    metrics, router,
};

/// How long sessions may take to finish their frames once the gateway is told to stop.
pub const DRAIN: Duration = Duration::from_secs(12);
/// After the drain: time for the farewells.
const FAREWELLS: Duration = Duration::from_secs(3);

/// What the gateway tells about the whole process, and cannot know itself.
#[derive(Clone)]
pub struct Probes {
    /// True while every role is ready: `GET /ready`. Once the gateway is told to stop it is not, whatever
    /// this says.
    pub ready: watch::Receiver<bool>,
    /// The metrics in Prometheus' text format: `GET /metrics`.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Probes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probes").field("ready", &*self.ready.borrow()).finish_non_exhaustive()
    }
}

/// A gateway that has its socket and does not serve yet.
#[derive(Debug)]
pub struct Gateway {
    listener: TcpListener,
    config: Config,
    bus: Bus,
    probes: Probes,
    books: Books,
}

impl Gateway {
    /// Opens `config.listen`.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is taken or not ours.
    pub async fn bind(config: Config, bus: Bus, probes: Probes) -> Result<Self, Error> {
        let address = config.listen;
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        Ok(Self { listener, config, bus, probes, books: Books::default() })
    }

    /// Where it listens; the port is known even if `config.listen` left it open.
    ///
    /// # Errors
    /// [`Error::Socket`] if the system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.listener.local_addr().map_err(Error::Socket)
    }

    /// The counts of all sessions, which go on while the gateway runs.
    pub fn ledger(&self) -> impl Fn() -> Ledger + Send + Sync + 'static {
        let books = self.books.clone();
        move || books.total()
    }

    /// Serves until `token` is cancelled, then takes no more connections and frames, finishes what is in
    /// flight (at most [`DRAIN`]), says goodbye to its clients and returns. Workers must go on until then.
    ///
    /// # Errors
    /// [`Error::Socket`] if the listening socket fails, [`Error::ResultsLost`] if the bus does.
    pub async fn run(self, token: CancellationToken) -> Result<(), Error> {
        let id = token_of("gw");
        let results = self.bus.results(&id).await;
        let dispatch = Dispatch::default();
        let app = Arc::new(App {
            seats: Arc::new(Semaphore::new(self.config.max_sessions.min(Semaphore::MAX_PERMITS))),
            config: self.config,
            bus: self.bus,
            probes: self.probes,
            books: self.books,
            id,
            dispatch: dispatch.clone(),
            sessions: TaskTracker::new(),
            stopping: token.clone(),
        });
        let listener = self.listener.tap_io(|io| {
            // Results are small and wait for nothing.
            if let Err(error) = io.set_nodelay(true) {
                tracing::debug!(%error, "cannot set TCP_NODELAY");
            }
        });
        let serve = axum::serve(listener, router::new(Arc::clone(&app)))
            .with_graceful_shutdown(token.clone().cancelled_owned());
        let work = async {
            serve.await.map_err(Error::Socket)?;
            app.sessions.close();
            app.sessions.wait().await;
            Ok(())
        };
        let patience = async {
            token.cancelled().await;
            tokio::time::sleep(DRAIN + FAREWELLS).await;
        };
        tokio::select! {
            worked = work => worked,
            () = dispatch.run(results) => Err(Error::ResultsLost),
            () = patience => {
                tracing::warn!("clients are still connected after the drain: leaving them");
                Ok(())
            }
        }
    }
}

/// Opens the socket and serves until `token` is cancelled: see [`Gateway::bind`] and [`Gateway::run`].
///
/// # Errors
/// Those of [`Gateway::bind`] and [`Gateway::run`].
pub async fn run(config: Config, bus: Bus, probes: Probes, token: CancellationToken) -> Result<(), Error> {
    let gateway = Gateway::bind(config, bus, probes).await?;
    tracing::info!(address = %gateway.local_addr()?, "gateway listens");
    gateway.run(token).await
}

/// What the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) config: Config,
    pub(crate) bus: Bus,
    pub(crate) probes: Probes,
    pub(crate) books: Books,
    /// Open streaming sessions.
    pub(crate) sessions: TaskTracker,
    pub(crate) stopping: CancellationToken,
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
