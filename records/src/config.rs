//! Settings of the record role.

use std::time::Duration;

use crate::{postgres::Address, streams::Streams};

/// Settings of the record role.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "record")]
pub struct Config {
    /// Where events are recorded: postgres://user:password@host/database
    #[arg(
        id = "record_to",
        long = "to",
        env = "CLOUDPOSE_RECORD_TO",
        value_name = "URL",
        hide_env_values = true
    )]
    pub to: Address,
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

fn at_least_a_day(text: &str) -> Result<Duration, String> {
    let keep = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if keep < Duration::from_secs(24 * 3600) {
        return Err("records are dropped by the day: use 1d or more".into());
    }
    Ok(keep)
}
