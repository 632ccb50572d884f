//! The roles as processes: all in one (`serve`), or each by itself on NATS.

use std::pin::pin;

use anyhow::{Result, bail};
use cloudpose_bus::{Bus, nats::Turn};
use cloudpose_infer::Worker;
use cloudpose_ingest::Gateway;
use cloudpose_wire::ModelId;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{Annotate, Infer, Ingest, Serve, WorkerProcess},
    probes,
    process::Process,
    vitals::Role,
};

/// Every role in this process, until a signal; then drains.
///
/// # Errors
/// If a role cannot start, a role fails, or draining takes longer than the grace.
pub(crate) async fn all(command: &Serve) -> Result<()> {
    let process = Process::start(Role::Serve, &command.process, Turn::First).await?;
    let (bus, stop) = (process.bus.clone(), process.stop.clone());
    let gateway = bind(command.ingest.clone(), &process).await?;
    let worker = load(command.infer.clone(), command.ingest.model.clone()).await?;
    tracing::info!("listening on http://{}", gateway.local_addr()?);

    // The workers go on while the gateway drains: what it waits for is in their hands.
    let workers_stop = CancellationToken::new();
    let mut workers: JoinSet<Result<()>> = JoinSet::new();
    workers.spawn({
        let (bus, stop) = (bus.clone(), workers_stop.clone());
        async move { Ok(worker.run(bus, stop).await?) }
    });
    workers.spawn({
        let (config, bus, stop) = (command.annotate.clone(), bus.clone(), workers_stop.clone());
        async move { Ok(cloudpose_annotate::run(config, bus, stop).await?) }
    });
    let work = async {
        tokio::select! {
            drained = gateway.run(stop) => drained?,
            never = bus.watch_lanes() => match never {},
            Some(ended) = workers.join_next() => {
                ended??;
                bail!("a worker ended by itself");
            }
        }
        workers_stop.cancel();
        while let Some(ended) = workers.join_next().await {
            ended??;
        }
        Ok(())
    };
    process.run(work).await
}

/// The gateway alone.
///
/// # Errors
/// If it cannot start, it fails, or draining takes longer than the grace.
pub(crate) async fn ingest(command: &Ingest) -> Result<()> {
    let process = Process::start(Role::Ingest, &command.process, Turn::First).await?;
    let gateway = bind(command.ingest.clone(), &process).await?;
    tracing::info!("listening on http://{}", gateway.local_addr()?);
    let (bus, stop) = (process.bus.clone(), process.stop.clone());
    process
        .run(async {
            tokio::select! {
                drained = gateway.run(stop) => Ok(drained?),
                never = bus.watch_lanes() => match never {},
            }
        })
        .await
}

/// A worker that finds poses.
///
/// # Errors
/// If it cannot start, or what is in hand takes longer than the grace.
pub(crate) async fn infer(command: &Infer) -> Result<()> {
    let process = start(Role::Infer, &command.worker).await?;
    // The worker ends by itself if its device fails; then it is not ready either.
    let (bus, stop) = (process.bus.clone(), process.stop.child_token());
    let mut probes = pin!(probes::serve(command.worker.metrics_listen, process.probes(), stop.clone()));
    // Who asks while the model loads is told that it is not ready.
    let worker = tokio::select! {
        loaded = load(command.infer.clone(), command.model.clone()) => loaded?,
        failed = &mut probes => return failed,
    };
    process
        .run(async {
            tokio::select! {
                ended = worker.run(bus, stop) => Ok(ended?),
                failed = probes => failed,
            }
        })
        .await
}

/// A worker that draws.
///
/// # Errors
/// If it cannot start, or what is in hand takes longer than the grace.
pub(crate) async fn annotate(command: &Annotate) -> Result<()> {
    let process = start(Role::Annotate, &command.worker).await?;
    let (bus, stop) = (process.bus.clone(), process.stop.clone());
    let probes = probes::serve(command.worker.metrics_listen, process.probes(), stop.clone());
    process
        .run(async {
            tokio::select! {
                ended = cloudpose_annotate::run(command.annotate.clone(), bus, stop) => Ok(ended?),
                failed = probes => failed,
            }
        })
        .await
}

async fn start(role: Role, worker: &WorkerProcess) -> Result<Process> {
    let turn = if worker.overflow { Turn::Overflow } else { Turn::First };
    Process::start(role, &worker.process, turn).await
}

async fn load(config: cloudpose_infer::Config, model: ModelId) -> Result<Worker> {
    Ok(tokio::task::spawn_blocking(move || Worker::load(&config, &model)).await??)
}

async fn bind(mut config: cloudpose_ingest::Config, process: &Process) -> Result<Gateway> {
    cloudpose_ingest::metrics::describe();
    config.max_image_bytes = fitting(config.max_image_bytes, &process.bus);
    Ok(Gateway::bind(config, process.bus.clone(), process.probes()).await?)
}

/// No image is taken that the bus does not carry.
fn fitting(max_image_bytes: usize, bus: &Bus) -> usize {
    match bus.max_image_bytes() {
        Some(limit) if limit < max_image_bytes => {
            tracing::info!(
                limit,
                "images are limited by the NATS server's max_payload: raise it there to take up to {max_image_bytes} bytes"
            );
            limit
        }
        _ => max_image_bytes,
    }
}
