//! What every serving process has: signals, metrics, a bus, readiness, and a bounded end.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result};
use cloudpose_bus::{
    Bus, Limits,
    nats::{self, Turn},
};
use cloudpose_ingest::Probes;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    shutdown, telemetry, traces,
    vitals::{self, Role},
};

/// Settings of every serving process.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "process")]
pub(crate) struct Config {
    /// How long to finish what is in flight after SIGTERM
    #[arg(long, env = "CLOUDPOSE_GRACE", default_value = "20s", value_parser = humantime::parse_duration, value_name = "TIME")]
    grace: Duration,
    #[command(flatten)]
    nats: nats::Config,
    #[command(flatten)]
    pub(crate) traces: traces::Config,
}

/// A process that has its bus and does not work yet.
pub(crate) struct Process {
    /// Cancelled by the first signal.
    pub(crate) stop: CancellationToken,
    pub(crate) bus: Bus,
    role: Role,
    grace: Duration,
    metrics: PrometheusHandle,
    ready: watch::Sender<bool>,
    _signals: JoinHandle<()>,
}

/// Runs `main` on a runtime of its own.
///
/// # Errors
/// What `main` fails with, or that there is no runtime.
pub(crate) fn run(main: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let ended = runtime.block_on(main);
    // What is still on a blocking thread after the grace must not hold the process.
    runtime.shutdown_background();
    ended
}

impl Process {
    /// Listens for signals, starts metrics, and opens the bus: on NATS if a server is named, in this process
    /// otherwise. `turn`: in which turn this process's workers get frames there.
    ///
    /// # Errors
    /// If one of these fails.
    pub(crate) async fn start(role: Role, config: &Config, turn: Turn) -> Result<Self> {
        let stop = CancellationToken::new();
        let signals = shutdown::on_signal(stop.clone())?;
        let metrics = telemetry::start_metrics()?;
        vitals::describe(role);
        let limits = Limits::default();
        let Config { grace, nats, .. } = config.clone();
        let bus = if nats.servers.is_empty() {
            Bus::local(limits)
        } else {
            Bus::nats(&nats::Config { turn, ..nats }, limits).await?
        };
        let (ready, _) = watch::channel(false);
        Ok(Self { role, stop, bus, grace, metrics, ready, _signals: signals })
    }

    /// What monitors ask this process.
    pub(crate) fn probes(&self) -> Probes {
        Probes { ready: self.ready.subscribe(), metrics: vitals::page(self.metrics.clone()) }
    }

    fn tell(&self, ready: bool) {
        self.ready.send_replace(ready);
        vitals::ready(self.role, ready);
    }

    /// Is ready while the bus is there, does `work` until it ends, and closes the bus. After the signal
    /// `work` has the grace left.
    ///
    /// # Errors
    /// What `work` fails with, or that it did not end in time.
    pub(crate) async fn run(self, work: impl Future<Output = Result<()>>) -> Result<()> {
        let readiness = async {
            loop {
                self.bus.wait_until(true).await;
                self.tell(true);
                tokio::select! {
                    () = self.bus.wait_until(false) => self.tell(false),
                    () = self.stop.cancelled() => break,
                }
            }
            self.tell(false);
            std::future::pending().await
        };
        let work = async {
            let worked = tokio::select! {
                worked = work => worked,
                never = telemetry::upkeep(self.metrics.clone()) => match never {},
                never = readiness => never,
            };
            self.bus.close().await;
            worked
        };
        shutdown::within_grace(self.stop.clone(), self.grace, work).await
    }
}
