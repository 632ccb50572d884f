//! What can be set about the gateway.

use std::{net::SocketAddr, time::Duration};

use clap::{
    ValueHint,
    builder::{PossibleValuesParser, TypedValueParser as _},
};
use cloudpose_policy::quota::{BadLimits, Limits, Resource};
use cloudpose_wire::{Draw, ModelId, event::parse_score};

use crate::{TlsConfig, auth, cameras, jobs};

/// The model for streams whose clients name none: its joints are the steadiest for what they cost, and it costs the same
/// however many people there are (`docs/accuracy.md`).
pub const STREAM_MODEL: &str = "fast";
/// The model for photos of clients that name none: whoever waits for one answer wants it right.
pub const PHOTO_MODEL: &str = "accurate";
/// The model behind the existing API, whose clients count on its answers.
pub(crate) const LEGACY_MODEL: &str = "multipose";

/// Settings of the gateway.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[command(next_help_heading = "Gateway")]
pub struct Config {
    /// Address and port to serve on. 0.0.0.0 lets other machines in, which needs --keys or --auth none; port 0 picks a
    /// free port.
    #[arg(long, env = "CLOUDPOSE_LISTEN", value_name = "ADDR:PORT", default_value = "127.0.0.1:60000")]
    pub listen: SocketAddr,

    /// Largest encoded image, in bytes.
    #[arg(long, env = "CLOUDPOSE_MAX_IMAGE_BYTES", value_name = "BYTES", default_value = "8388608",
        value_parser = at_least_1)]
    pub max_image_bytes: usize,

    /// Sessions (WebSockets and single images being worked on) at once; beyond it 503.
    #[arg(long, env = "CLOUDPOSE_MAX_SESSIONS", value_name = "N", default_value = "1000",
        value_parser = at_least_1)]
    pub max_sessions: usize,

    /// Clients that watch streams at once; beyond it 503.
    #[arg(long, env = "CLOUDPOSE_MAX_WATCHERS", value_name = "N", default_value = "1000",
        value_parser = at_least_1)]
    pub max_watchers: usize,

    /// No picture leaves this gateway that is not drawn so: skeleton leaves no pixel of the scene, redacted covers
    /// heads [default: as clients ask]
    #[arg(long, env = "CLOUDPOSE_DRAW_ONLY", value_name = "HOW",
        value_parser = PossibleValuesParser::new(["overlay", "skeleton", "redacted"]).try_map(|how| how.parse::<Draw>()))]
    pub draw_only: Option<Draw>,
    /// Connections at once; beyond it 503.
    #[arg(long, env = "CLOUDPOSE_MAX_CONNECTIONS", value_name = "N", default_value = "4096",
        value_parser = at_least_1)]
    pub max_connections: usize,

    /// Connections at once of one address (of IPv6, of one /64); beyond it 429. A proxy is one address.
    #[arg(long, env = "CLOUDPOSE_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N", default_value = "1024",
        value_parser = at_least_1)]
    pub max_connections_per_address: usize,

    /// What one tenant may use, unless the file of --keys says otherwise, like sessions=50,photos=8,frames=200,
    /// bytes=20000000,megapixels=100,cpu=2,stored=50000000000: sessions and photos at once, bytes of jobs that are stored, the
    /// others a second. Beyond it 429, and frames of streams are dropped. [default: no limits]
    #[arg(
        long,
        env = "CLOUDPOSE_TENANT_QUOTA",
        value_name = "LIMITS",
        default_value = "",
        hide_default_value = true
    )]
    pub tenant_quota: Limits,

    /// The same for one address (of IPv6, one /64), but for what is stored. A proxy is one address. [default: no limits]
    #[arg(
        long,
        env = "CLOUDPOSE_ADDRESS_QUOTA",
        value_name = "LIMITS",
        value_parser = of_address,
        default_value = "",
        hide_default_value = true
    )]
    pub address_quota: Limits,

    /// Bytes that all clients together have sent of bodies and messages that are not complete. When it is full, those
    /// that have sent more than an equal share are refused.
    #[arg(long, env = "CLOUDPOSE_MAX_UNFINISHED_BYTES", value_name = "BYTES", default_value = "134217728",
        value_parser = at_least_1)]
    pub max_unfinished_bytes: usize,

    /// Bytes that pictures of all streams take which come as H.264 and are kept to decode the next ones: about 23 MiB for
    /// one of 1920×1080, 10 MiB of 1280×720. Beyond it they are refused.
    #[arg(long, env = "CLOUDPOSE_MAX_DECODER_BYTES", value_name = "BYTES", default_value = "1073741824",
        value_parser = at_least_1)]
    pub max_decoder_bytes: usize,

    /// Frames of a stream in flight at once. More uses more workers for one stream, at more latency.
    #[arg(long, env = "CLOUDPOSE_WINDOW", value_name = "N", default_value = "2", value_parser = at_least_1)]
    pub window: usize,

    /// A live frame older than this is dropped, unless its client asks otherwise.
    #[arg(long, env = "CLOUDPOSE_MAX_AGE", value_name = "TIME", default_value = "1s", value_parser = live_age)]
    pub max_age: Duration,

    /// A single image is answered with 504 if it takes longer.
    #[arg(long, env = "CLOUDPOSE_STILL_DEADLINE", value_name = "TIME", default_value = "5s",
        value_parser = some_time)]
    pub still_deadline: Duration,

    /// A client that connects must have asked for something after this long.
    #[arg(long, env = "CLOUDPOSE_HEAD_TIMEOUT", value_name = "TIME", default_value = "10s",
        value_parser = some_time)]
    pub head_timeout: Duration,

    /// A body or message must be complete after this long.
    #[arg(long, env = "CLOUDPOSE_RECEIVE_TIMEOUT", value_name = "TIME", default_value = "1m",
        value_parser = some_time)]
    pub receive_timeout: Duration,

    /// A client that takes nothing for this long of what is sent to it is cut off.
    #[arg(long, env = "CLOUDPOSE_WRITE_TIMEOUT", value_name = "TIME", default_value = "5s",
        value_parser = some_time)]
    pub write_timeout: Duration,

    /// A client that sends nothing and answers no ping for this long is cut off; so is everyone when NATS is gone
    /// for this long.
    #[arg(long, env = "CLOUDPOSE_IDLE_TIMEOUT", value_name = "TIME", default_value = "1m",
        value_parser = some_time)]
    pub idle_timeout: Duration,

    /// The model for clients that name none [default: fast for streams, accurate for photos]
    #[arg(long, env = "CLOUDPOSE_MODEL", value_name = "NAME", value_hint = ValueHint::Other)]
    pub model: Option<ModelId>,

    /// Persons below this score are not reported, 0 to 1, unless the client asks otherwise.
    #[arg(long, env = "CLOUDPOSE_MIN_SCORE", value_name = "SCORE", default_value = "0.2",
        value_parser = parse_score)]
    pub min_score: f32,

    /// Cameras that it fetches.
    #[command(flatten)]
    pub cameras: cameras::Config,
    /// What is kept of jobs.
    #[command(flatten)]
    pub jobs: jobs::Config,

    /// How clients say who they are.
    #[command(flatten)]
    pub auth: auth::Config,

    /// TLS.
    #[command(flatten)]
    pub tls: TlsConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 60000)),
            max_image_bytes: 8 << 20,
            max_sessions: 1000,
            max_watchers: 1000,
            draw_only: None,
            max_connections: 4096,
            max_connections_per_address: 1024,
            tenant_quota: Limits::default(),
            address_quota: Limits::default(),
            max_unfinished_bytes: 128 << 20,
            max_decoder_bytes: 1 << 30,
            window: 2,
            max_age: Duration::from_secs(1),
            still_deadline: Duration::from_secs(5),
            head_timeout: Duration::from_secs(10),
            receive_timeout: Duration::from_secs(60),
            write_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(60),
            model: None,
            min_score: 0.2,
            cameras: cameras::Config::default(),
            jobs: jobs::Config::default(),
            auth: auth::Config::default(),
            tls: TlsConfig::default(),
        }
    }
}

fn at_least_1(s: &str) -> Result<usize, String> {
    match s.parse() {
        Ok(0) => Err("must be at least 1".into()),
        Ok(n) => Ok(n),
        Err(error) => Err(format!("{error}")),
    }
}

/// Longest age of a live frame that can be asked for: no live lane keeps one longer.
pub(crate) const LONGEST_AGE: Duration = Duration::from_secs(10);

fn live_age(s: &str) -> Result<Duration, String> {
    match some_time(s)? {
        time if time > LONGEST_AGE => Err("must be at most 10s: live lanes keep no frame longer".into()),
        time => Ok(time),
    }
}

fn some_time(s: &str) -> Result<Duration, String> {
    match humantime::parse_duration(s) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".into()),
        Ok(time) if time > Duration::from_secs(3600) => Err("must be at most 1h".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it like 500ms, 5s or 1m")),
    }
}

/// Jobs belong to tenants.
fn of_address(text: &str) -> Result<Limits, String> {
    let limits: Limits = text.parse().map_err(|bad: BadLimits| bad.to_string())?;
    match limits.get(Resource::Stored) {
        None => Ok(limits),
        Some(_) => Err("what is stored belongs to a tenant; say stored=… with --tenant-quota".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        config: Config,
    }

    #[test]
    fn command_line_defaults_are_the_defaults() {
        assert_eq!(Cli::parse_from(["x"]).config, Config::default());
    }

    #[test]
    fn no_age_is_allowed_that_lanes_do_not_keep() {
        assert_eq!(LONGEST_AGE, cloudpose_bus::Capacity::default().live_max_age);
        let refused = Cli::try_parse_from(["x", "--max-age", "11s"]).err().map(|error| error.to_string());
        assert!(refused.is_some_and(|message| message.contains("at most 10s")));
        assert!(Cli::try_parse_from(["x", "--max-age", "10s"]).is_ok());
    }

    #[test]
    fn values_are_checked_with_their_units() {
        let parsed = Cli::try_parse_from(["x", "--max-age", "250ms", "--model", "thunder"]).ok();
        let expected = Config {
            max_age: Duration::from_millis(250),
            model: Some(ModelId::new("thunder").unwrap()),
            ..Config::default()
        };
        assert_eq!(parsed.map(|cli| cli.config), Some(expected));
        for bad in [
            ["--window", "0"],
            ["--max-age", "0s"],
            ["--max-age", "5"],
            ["--tenant-quota", "frames"],
            ["--address-quota", "luck=1"],
            ["--address-quota", "stored=1"],
            ["--max-age", "11s"],
            ["--idle-timeout", "2h"],
            ["--min-score", "1.5"],
            ["--min-score", "NaN"],
            ["--model", "no.name"],
            ["--draw-only", "blurred"],
            ["--listen", "localhost"],
        ] {
            assert!(Cli::try_parse_from(["x", bad[0], bad[1]]).is_err(), "{bad:?}");
        }
    }
}
