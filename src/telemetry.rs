//! Logs and metrics of the process: the only place that installs a recorder or a subscriber.

use std::{convert::Infallible, io::IsTerminal as _, time::Duration};

use anyhow::{Context as _, Result};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::{EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::{
    plain::OneLine,
    traces::{self, Exporter},
};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

/// Settings of logs.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Config {
    /// What is logged: error, warn, info, debug, trace, or per module (`cloudpose_infer=debug`)
    #[arg(long, env = "CLOUDPOSE_LOG", default_value = "info", global = true, value_name = "FILTER")]
    log: String,
    /// How log lines look
    #[arg(long, env = "CLOUDPOSE_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
}

/// Seconds: from a kernel's millisecond to the longest deadline.
const SECONDS_BUCKETS: [f64; 12] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 5.0];

/// Buckets of the histograms that count frames.
const FRAMES_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

/// Starts logging to standard error, and sending traces if a serving process is told where to.
///
/// # Errors
/// If the filter does not parse, or the collector's address is none.
pub(crate) fn start(config: &Config, traces: Option<(&str, &traces::Config)>) -> Result<Option<Exporter>> {
    // The NATS client tells at `info` what the bus tells as well.
    let filter = EnvFilter::try_new(format!("async_nats=warn,{}", config.log))
        .with_context(|| format!("--log {:?} is not a filter; try info or debug", config.log))?;
    let coloured = config.log_format == LogFormat::Text && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(OneLine { coloured });
    let lines = match config.log_format {
        LogFormat::Text => lines.with_target(false).with_ansi(coloured).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let exported = traces.map(|(name, config)| traces::start(name, config)).transpose()?.flatten();
    let (layer, exporter) = exported.unzip();
    // One filter for both: those of single layers lose spans now and then when several threads create them.
    tracing_subscriber::registry().with(filter).with(lines).with(layer).init();
    Ok(exporter)
}

/// Installs the Prometheus recorder. The handle renders `/metrics`.
///
/// # Errors
/// If a recorder is installed already.
pub(crate) fn start_metrics() -> Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets(&SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_frames".into()), &FRAMES_BUCKETS)?
        .install_recorder()
        .context("cannot install the metrics recorder")
}

/// Keeps the recorder's histograms bounded: they grow between scrapes otherwise.
pub(crate) async fn upkeep(metrics: PrometheusHandle) -> Infallible {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        metrics.run_upkeep();
    }
}
