//! Signals to one cancellation, and a bound on how long the draining takes.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or SIGINT. A second one exits at once.
///
/// # Errors
/// If the system refuses the signal handlers.
pub(crate) fn on_signal(stop: CancellationToken) -> Result<tokio::task::JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process; nobody waits for it")]
    Ok(tokio::spawn(async move {
        tracing::info!("{}: finishing what is in flight", next().await);
        stop.cancel();
        tracing::warn!("{}: leaving at once", next().await);
        std::process::exit(130);
    }))
}

/// Runs `work` to its end; once `stop` is cancelled it has `grace` left.
///
/// # Errors
/// What `work` fails with, or that it took longer than `grace`.
pub(crate) async fn within_grace(
    stop: CancellationToken,
    grace: Duration,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        done = work => done,
        () = out_of_time => bail!("not everything was finished within {grace:?} after the signal"),
    }
}
