//! Logs of the process: the only place that installs a subscriber.

use std::io::IsTerminal as _;

use anyhow::{Context as _, Result};
use tracing_subscriber::EnvFilter;

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

/// Starts logging to standard error.
///
/// # Errors
/// If the filter does not parse.
pub(crate) fn start_logging(config: &Config) -> Result<()> {
    // The NATS client tells at `info` what the bus tells as well.
    let filter = EnvFilter::try_new(format!("async_nats=warn,{}", config.log))
        .with_context(|| format!("--log {:?} is not a filter; try info or debug", config.log))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match config.log_format {
        LogFormat::Text => builder.with_target(false).with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
