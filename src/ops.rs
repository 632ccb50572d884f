//! What monitors ask of the process: is it alive, is it ready, its metrics. The answers are the same wherever they ask:
//! on a port of its own (`--ops-listen`), or where clients come.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};

use anyhow::{Context as _, Result};
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use cloudpose_ingest::{StoreCheck, StorePart};
use serde::Serialize;
use tokio::{net::TcpListener, sync::watch};
use utoipa::OpenApi as _;

/// What the answers are made of.
#[derive(Clone)]
pub(crate) struct Ops {
    /// True while every role is ready.
    pub(crate) ready: watch::Receiver<bool>,
    /// Says whether the store of jobs is there, from when it is opened.
    pub(crate) store: Arc<OnceLock<StoreCheck>>,
    /// The metrics in Prometheus' text format.
    pub(crate) metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

impl fmt::Debug for Ops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ops").field("ready", &*self.ready.borrow()).finish_non_exhaustive()
    }
}

/// A word on how things are.
#[derive(Debug, Serialize, utoipa::ToSchema)]
struct Status {
    /// The word.
    status: &'static str,
    /// What of the store of jobs does not answer: `store` (images and results), `states`. Everything but jobs goes on without it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    away: Vec<&'static str>,
}

impl Status {
    fn word(status: &'static str) -> Json<Self> {
        Json(Self { status, away: Vec::new() })
    }
}

#[derive(utoipa::OpenApi)]
#[openapi(paths(health, ready))]
struct ChecksApi;

#[derive(utoipa::OpenApi)]
#[openapi(paths(metrics))]
struct MetricsApi;

impl Ops {
    /// All that monitors ask.
    fn routes(self) -> Router {
        self.clone().checks().merge(self.metrics())
    }

    fn checks(self) -> Router {
        Router::new().route("/health", get(health)).route("/ready", get(ready)).with_state(self)
    }

    fn metrics(self) -> Router {
        Router::new().route("/metrics", get(metrics)).with_state(self)
    }

    /// What is answered where clients come: load balancers look there. The metrics too, if they have no other place.
    pub(crate) fn beside_clients(self, metrics: bool) -> cloudpose_ingest::Ops {
        let api = ChecksApi::openapi();
        if metrics {
            cloudpose_ingest::Ops { routes: self.routes(), api: api.merge_from(MetricsApi::openapi()) }
        } else {
            cloudpose_ingest::Ops { routes: self.checks(), api }
        }
    }
}

/// Tells that the process is alive.
#[utoipa::path(get, path = "/health", tag = "operation",
    responses((status = 200, body = Status, description = "Alive.")))]
async fn health() -> Json<Status> {
    Status::word("ok")
}

/// Tells whether the server takes work, and whether the store of its jobs is there.
#[utoipa::path(get, path = "/ready", tag = "operation",
    responses(
        (status = 200, body = Status, description = "Ready; without jobs, if their store is `away`."),
        (status = 503, body = Status, description = "Starting, or shutting down."),
    ))]
async fn ready(State(ops): State<Ops>) -> (StatusCode, Json<Status>) {
    if !*ops.ready.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, Status::word("not ready"));
    }
    let away = match ops.store.get() {
        Some(store) => store.away().await,
        None => Vec::new(),
    };
    let part = |part| match part {
        StorePart::Bytes => "store",
        StorePart::Documents => "states",
    };
    // Whoever takes a gateway's clients away for it stops streams and photos for the sake of jobs.
    (StatusCode::OK, Json(Status { status: "ready", away: away.into_iter().map(part).collect() }))
}

/// The metrics, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation",
    responses((status = 200, body = String, content_type = "text/plain", description = "The metrics.")))]
async fn metrics(State(ops): State<Ops>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (ops.metrics)())
}

/// Opens `--ops-listen`.
///
/// # Errors
/// If the address is taken or not ours.
pub(crate) async fn bind(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is something else running there? choose with --ops-listen")
    })
}

/// Answers on `listener` until it is dropped.
///
/// # Errors
/// If the socket fails.
pub(crate) async fn serve(listener: TcpListener, ops: Ops) -> Result<()> {
    axum::serve(listener, ops.routes()).await.context("the socket of --ops-listen failed")
}
