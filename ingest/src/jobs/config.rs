//! What can be set about jobs.

use std::{path::PathBuf, time::Duration};

use cloudpose_store::Address;

use crate::outbound::Net;

/// Longest time that jobs can be kept.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// Settings of jobs.
#[derive(Debug, Clone, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "Jobs")]
#[group(id = "jobs_config")]
pub struct Config {
    /// Where jobs lie, with their images and results: a folder, or a bucket as s3://bucket/prefix, gs://bucket/prefix or
    /// az://container/prefix, with keys from the environment (AWS_…, GOOGLE_…, AZURE_…); gateways on one NATS server share
    /// it [default: no jobs are taken]
    #[arg(long, env = "CLOUDPOSE_STORE", value_name = "DIR|URL")]
    pub store: Option<Address>,

    /// How long a job is kept after it was handed in, with all that belongs to it.
    #[arg(long, env = "CLOUDPOSE_STORE_TTL", value_name = "TIME", default_value = "24h", value_parser = ttl)]
    pub store_ttl: Duration,

    /// Images of a job.
    #[arg(long, env = "CLOUDPOSE_MAX_JOB_ITEMS", value_name = "N", default_value = "1000",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub max_job_items: u32,

    /// Bytes of all images of a job.
    #[arg(long, env = "CLOUDPOSE_MAX_JOB_BYTES", value_name = "BYTES", default_value = "268435456",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub max_job_bytes: u64,

    /// Bytes of a video.
    #[arg(long, env = "CLOUDPOSE_MAX_VIDEO_BYTES", value_name = "BYTES", default_value = "1073741824",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub max_video_bytes: u64,

    /// Frames of a video that are looked at; a longer one ends there with an error.
    #[arg(long, env = "CLOUDPOSE_MAX_VIDEO_FRAMES", value_name = "N", default_value = "36000",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub max_video_frames: u32,

    /// Jobs of a tenant that are kept at once.
    #[arg(long, env = "CLOUDPOSE_MAX_JOBS", value_name = "N", default_value = "100",
        value_parser = clap::value_parser!(u32).range(1..))]
    pub max_jobs: u32,

    /// The secret by which callbacks of jobs are signed, 32 characters at least, the same for all gateways
    /// [default: none are sent]
    #[arg(long, env = "CLOUDPOSE_CALLBACK_SECRET_FILE", value_name = "FILE")]
    pub callback_secret_file: Option<PathBuf>,

    /// Callbacks may go to these addresses too, besides public ones. Can be given several times.
    #[arg(long, env = "CLOUDPOSE_CALLBACK_ALLOW", value_name = "CIDR", value_delimiter = ',')]
    pub callback_allow: Vec<Net>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            store: None,
            store_ttl: Duration::from_secs(24 * 3600),
            max_job_items: 1000,
            max_job_bytes: 256 << 20,
            max_video_bytes: 1 << 30,
            max_video_frames: 36_000,
            max_jobs: 100,
            callback_secret_file: None,
            callback_allow: Vec::new(),
        }
    }
}

fn ttl(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".into()),
        Ok(time) if time > LONGEST => Err("must be at most 30d".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it like 30m, 24h or 7d")),
    }
}
