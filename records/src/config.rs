//! Settings of the record role.

use std::time::Duration;

use crate::{place::Target, streams::Streams};

/// Settings of the record role.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "record")]
pub struct Config {
    /// Where events are recorded: postgres://user:password@host/database, or Parquet files in a folder or under
    /// s3://bucket/prefix, gs://… or az://… with the keys that the environment has
    #[arg(
        id = "record_to",
        long = "to",
        env = "CLOUDPOSE_RECORD_TO",
        value_name = "URL|DIR",
        hide_env_values = true
    )]
    pub to: Target,
    /// Streams to record, comma separated; `*` stands for any characters: `door-*`, `acme/door-*` of the tenant acme
    /// [default: all]
    #[arg(
        id = "record_streams",
        long = "streams",
        env = "CLOUDPOSE_RECORD_STREAMS",
        value_name = "NAMES",
        default_value = "*/*",
        hide_default_value = true
    )]
    pub streams: Streams,
    /// How long records are kept, in whole days: older days are dropped [default: for ever]
    #[arg(
        id = "record_keep",
        long = "keep",
        env = "CLOUDPOSE_RECORD_KEEP",
        value_name = "TIME",
        value_parser = at_least_a_day
    )]
    pub keep: Option<Duration>,
    /// How long events are gathered for a Parquet file, 1s to 1h; they wait at NATS too meanwhile. A database takes them at once
    #[arg(
        id = "record_every",
        long = "every",
        env = "CLOUDPOSE_RECORD_EVERY",
        value_name = "TIME",
        default_value = "5m",
        value_parser = some_time
    )]
    pub every: Duration,
    /// Bytes of events that NATS keeps in files while they cannot be recorded; the oldest give way
    #[arg(
        id = "record_spool",
        long = "max-spool-bytes",
        env = "CLOUDPOSE_MAX_SPOOL_BYTES",
        value_name = "BYTES",
        default_value = "268435456",
        value_parser = clap::value_parser!(u64).range(1 << 20..)
    )]
    pub max_spool_bytes: u64,
}

fn some_time(text: &str) -> Result<Duration, String> {
    let every = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if !(Duration::from_secs(1)..=Duration::from_secs(3600)).contains(&every) {
        return Err("use 1s to 1h".into());
    }
    Ok(every)
}

fn at_least_a_day(text: &str) -> Result<Duration, String> {
    let keep = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if keep < Duration::from_secs(24 * 3600) {
        return Err("records are dropped by the day: use 1d or more".into());
    }
    Ok(keep)
}
