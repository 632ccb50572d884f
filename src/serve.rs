//! `cloudpose serve`: every role in one process, on the in-process bus.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use cloudpose_bus::{Bus, Limits};
use cloudpose_infer::Worker;
use cloudpose_ingest::{Gateway, Probes};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{cli::Serve, shutdown, telemetry};

/// Serves until a signal, then drains.
///
/// # Errors
/// If a role cannot start, a role fails, or draining takes longer than the grace.
pub(crate) fn run(command: &Serve) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let served = runtime.block_on(serve(command));
    // What is still on a blocking thread after the grace must not hold the process.
    runtime.shutdown_background();
    served
}

async fn serve(command: &Serve) -> Result<()> {
    let stop = CancellationToken::new();
    let _signals = shutdown::on_signal(stop.clone())?;
    let metrics = telemetry::start_metrics()?;
    cloudpose_ingest::metrics::describe();
    let bus = Bus::local(Limits::default());
    let (ready, is_ready) = watch::channel(false);
    let render = metrics.clone();
    let probes = Probes { ready: is_ready, metrics: Arc::new(move || render.render()) };
    let gateway = Gateway::bind(command.ingest.clone(), bus.clone(), probes).await?;
    let worker = {
        let (config, model) = (command.infer.clone(), command.ingest.model);
        tokio::task::spawn_blocking(move || Worker::load(&config, model)).await??
    };
    tracing::info!("listening on http://{}", gateway.local_addr()?);
    ready.send_replace(true);

    // The workers go on while the gateway drains: what it waits for is in their hands.
    let workers_stop = CancellationToken::new();
    let mut workers: JoinSet<Result<()>> = JoinSet::new();
    workers.spawn({
        let (bus, stop) = (bus.clone(), workers_stop.clone());
        async move {
            worker.run(bus, stop).await;
            Ok(())
        }
    });
    workers.spawn({
        let (config, stop) = (command.annotate.clone(), workers_stop.clone());
        async move { Ok(cloudpose_annotate::run(config, bus, stop).await?) }
    });
    let work = async {
        tokio::select! {
            drained = gateway.run(stop.clone()) => drained?,
            Some(ended) = workers.join_next() => {
                ended??;
                bail!("a worker ended by itself");
            }
            never = telemetry::upkeep(metrics) => match never {},
        }
        workers_stop.cancel();
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        Ok(())
    };
    shutdown::within_grace(stop.clone(), command.grace, work).await
}
