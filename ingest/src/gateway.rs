//! The gateway as a whole: its socket, how it serves, and how it stops.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::Router;
use cloudpose_bus::Bus;
use cloudpose_wire::GatewayId;
use futures_util::future::OptionFuture;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use utoipa::openapi::OpenApi;

use crate::{
    Config, Error,
    auth::{Auth, Tickets, Way},
    cameras::Cameras,
    decoders::Decoders,
    dispatch::Dispatch,
    gate::Gate,
    jobs::{Jobs, StoreCheck},
    ledger::Books,
    leftovers::Leftovers,
    listener::{self, Tls},
    openapi, router,
    seats::Seats,
    shared::{Shared, token_of},
    unfinished::Budget,
    watch::{Bounds, Hub},
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
    pub(crate) auth: Auth,
    tls: Option<Tls>,
    bus: Bus,
    books: Books,
    jobs: Option<Jobs>,
    ops: Ops,
}

impl Gateway {
    /// Opens `config.listen`. The gateway books its frames in `books`.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is taken or not ours, [`Error::Keys`] or [`Error::Signers`] if the keys cannot be used,
    /// [`Error::Tls`] if there is to be TLS and its files cannot be used, [`Error::Store`] if jobs cannot be kept,
    /// [`Error::Unguarded`] if it lets in other machines and asks for no keys, unless that is meant.
    pub async fn bind(config: Config, bus: Bus, books: Books, ops: Ops) -> Result<Self, Error> {
        let auth = Auth::open(&config.auth)?;
        let tls = Tls::open(&config.tls)?;
        let jobs = Jobs::open(&config.jobs, &bus).await?;
        let address = config.listen;
        let is_here = address.ip().to_canonical().is_loopback();
        match config.auth.way {
            _ if is_here || auth.asks() || config.tls.tls_client_ca.is_some() => {}
            None => return Err(Error::Unguarded { address }),
            Some(Way::None) => {
                tracing::info!("whoever reaches {address} may use this server: no key is asked for")
            }
        }
        let listener =
            TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        Ok(Self { listener, config, auth, tls, bus, books, jobs, ops })
    }

    /// Says whether the store of jobs is there, if it has one.
    pub fn store_check(&self) -> Option<StoreCheck> {
        self.jobs.as_ref().map(Jobs::check)
    }

    /// Whether it speaks TLS.
    pub fn speaks_tls(&self) -> bool {
        self.tls.is_some()
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
    /// [`Error::ResultsLost`] if the bus fails.
    pub async fn run(self, token: CancellationToken, patience: Patience) -> Result<(), Error> {
        let dispatch = Dispatch::default();
        let id: GatewayId = token_of("gw");
        let bounds = Bounds {
            watchers: self.config.max_watchers,
            patience: self.config.write_timeout,
            draw_only: self.config.draw_only,
        };
        let (watch, exchange) = Hub::new(id.clone(), bounds);
        let cameras = Cameras::new(self.config.cameras.clone(), &self.bus, id.clone());
        let shared = Arc::new(Shared {
            seats: Seats::new(self.config.max_sessions),
            quotas: Arc::default(),
            leftovers: Leftovers::default(),
            unfinished: Budget::new(self.config.max_unfinished_bytes),
            decoders: Decoders::new(self.config.max_decoder_bytes),
            config: self.config,
            api: openapi::json(self.ops.api, self.auth.asks()).into(),
            auth: self.auth,
            tickets: Tickets::new(id.clone()),
            cameras,
            models: self.bus.models(),
            gate: Gate::new(self.bus.clone()),
            bus: self.bus,
            books: self.books,
            jobs: self.jobs,
            id,
            dispatch: dispatch.clone(),
            watch,
            sessions: TaskTracker::new(),
            stopping: token.clone(),
            drain: patience.frames,
            leaving: Mutex::default(),
        });
        shared.sessions.spawn(Cameras::keep(Arc::clone(&shared)));
        let router = router::new(Arc::clone(&shared), self.ops.routes);
        let work = async {
            listener::serve(self.listener, router, &shared.config, self.tls.as_ref(), token.clone()).await;
            shared.sessions.close();
            shared.sessions.wait().await;
            Ok(())
        };
        // Beside serving: a broker that does not answer now keeps nobody from being told so. A task of its own: a result
        // wakes nothing else of what goes on here.
        let mut handing_out = JoinSet::new();
        let shared_too = Arc::clone(&shared);
        handing_out.spawn(async move {
            let results = shared_too.bus.results(&shared_too.id).await;
            dispatch.run(results, &shared_too.watch).await;
        });
        let work_on_jobs = OptionFuture::from(shared.jobs.as_ref().map(|jobs| jobs.run(&shared, &token)));
        let out_of_time = async {
            token.cancelled().await;
            tokio::time::sleep(patience.frames + patience.farewells).await;
        };
        tokio::select! {
            worked = work => worked,
            Some(_) = handing_out.join_next() => Err(Error::ResultsLost),
            never = shared.auth.follow() => match never {},
            Some(never) = OptionFuture::from(self.tls.as_ref().map(Tls::follow)) => match never {},
            never = shared.tickets.answer(&shared.bus) => match never {},
            never = exchange.run(&shared.bus) => match never {},
            never = shared.leftovers.run() => match never {},
            Some(never) = work_on_jobs => match never {},
            () = out_of_time => {
                tracing::warn!("clients are still connected after the drain: leaving them");
                Ok(())
            }
        }
    }
}
