//! `/health`, `/ready` and `/metrics` of a worker: what the gateway has besides its other pages.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use axum::{Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use cloudpose_ingest::Probes;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Serves until it is dropped; once `stop` is cancelled the worker is not ready.
///
/// # Errors
/// If the address is taken or not ours.
pub(crate) async fn serve(address: SocketAddr, probes: Probes, stop: CancellationToken) -> Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; is something else running there? choose with --metrics-listen")
    })?;
    tracing::info!("metrics on http://{}/metrics", listener.local_addr()?);
    let router = Router::new()
        .route("/health", get(async || "ok\n"))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state((probes, stop));
    axum::serve(listener, router).await.context("the socket for metrics failed")
}

async fn ready(State((probes, stop)): State<(Probes, CancellationToken)>) -> (StatusCode, &'static str) {
    if *probes.ready.borrow() && !stop.is_cancelled() {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

async fn metrics(State((probes, _)): State<(Probes, CancellationToken)>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], (probes.metrics)())
}
