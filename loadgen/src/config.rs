//! The command line of `cloudpose loadgen`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand, ValueEnum, ValueHint};
use cloudpose_wire::{Mode, ModelId, Want};

use crate::{key::Key, range::Range, threshold::Threshold, verdict::Objective};

/// What `cloudpose loadgen` does.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Users who post single images to the existing CloudPose API, three for poses to one for a picture
    #[command(after_help = "Examples:
  cloudpose loadgen http --users 20 --run-time 1m            twenty users, each thinking 1 to 3 s between calls
  cloudpose loadgen http --users 1..100 --spawn-rate 2       from one user to a hundred, two more a second
  cloudpose loadgen http --rate 5..50 --run-time 2m          requests come whether or not others are answered
  cloudpose loadgen http --users 20 --fail-if 'p99>500ms' --fail-if 'errors>0%'")]
    Http(HttpRun),
    /// Users who stream video over WebSocket
    #[command(after_help = "Examples:
  cloudpose loadgen stream --users 4 --fps 15                 the built-in photo, again and again
  cloudpose loadgen stream --users 8 --frames clip.mjpeg --want both --fail-if 'delivered<95%'
  cloudpose loadgen stream --users 4 --idle 500 --slow-readers 1
  cloudpose loadgen stream --users 4 --key cpk_… --key cpk_…  two users of each of two tenants")]
    Stream(StreamRun),
    /// Find the largest number of users that a service holds
    #[command(
        after_help = "Doubles the users until the objective is missed, then bisects, then confirms with a longer run.

Examples:
  cloudpose loadgen find-max --p99 800ms
  cloudpose loadgen find-max --workload stream --fps 15 --p95 200ms --p99 400ms
  cloudpose loadgen find-max --by rate --url http://127.0.0.1:8000 --name existing"
    )]
    FindMax(FindMax),
    /// Find the largest number of users for each of several numbers of replicas
    #[command(after_help = "Examples:
  cloudpose loadgen experiment --scaler local --replicas 1,2
      starts a gateway, an annotate worker and 1, then 2 infer workers of one thread each, on a NATS
      server that it starts too (or on that of --nats; then the gateway, too, is yours: name it with --url).
      The processes read CLOUDPOSE_MODEL and so on as always.
  cloudpose loadgen experiment --scaler kubectl --deployment cloudpose-infer --replicas 1,2,4 \\
      --url http://cluster.example:60000 --location remote")]
    Experiment(Experiment),
    /// Put several results.json into one table and one set of plots
    #[command(after_help = "Example:
  cloudpose loadgen merge here/results.json there/results.json -o both")]
    Merge(Merge),
    /// Simulate autoscaling: which signal keeps the objective, with how many replicas
    #[command(
        after_help = "Nothing is sent anywhere: streams, queue, workers, scrapes and Kubernetes' rule are simulated.

Examples:
  cloudpose loadgen scale-sim
  cloudpose loadgen scale-sim --service 25ms --slots 4 --streams 10..400 --replicas 2..50 -o sim"
    )]
    ScaleSim(ScaleSim),
}

/// `cloudpose loadgen scale-sim`
#[derive(Debug, Clone, Args)]
pub struct ScaleSim {
    /// How long a worker has one frame, as measured (`cloudpose bench worker`)
    #[arg(long, value_name = "TIME", default_value = "40ms", value_parser = some_time)]
    pub service: Duration,
    /// Frames that a replica works on at once
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..))]
    pub slots: u32,
    /// From ordering a replica until it takes frames: scheduling, image, model
    #[arg(long, value_name = "TIME", default_value = "12s", value_parser = some_time)]
    pub start: Duration,
    /// How often metrics are collected
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = some_time)]
    pub scrape: Duration,
    /// Fewest and most streams
    #[arg(long, value_name = "N..N", default_value = "4..40", value_parser = some_users)]
    pub streams: Range<u32>,
    /// Frames a second of each stream
    #[arg(long, value_name = "FPS", default_value = "15", value_parser = positive)]
    pub fps: f64,
    /// Fewest and most replicas
    #[arg(long, value_name = "N..N", default_value = "2..30", value_parser = some_users)]
    pub replicas: Range<u32>,
    /// Target of the queue depth: frames waiting and in hand, for each slot
    #[arg(long, value_name = "FRAMES", default_value = "1", value_parser = positive)]
    pub depth: f64,
    /// Folder for the plots
    #[arg(short, long, value_name = "DIR", default_value = "loadgen-results")]
    pub output: PathBuf,
}

/// What is tested, and what becomes of the results.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// Address of the service
    #[arg(long, env = "CLOUDPOSE_URL", value_name = "URL", default_value = "http://127.0.0.1:60000")]
    pub url: String,
    /// Key or token that users show to the service. Of several, as those of several tenants, each user takes one in turn.
    #[arg(long = "key", env = "CLOUDPOSE_KEY", value_name = "KEY", hide_env_values = true)]
    pub keys: Vec<Key>,
    /// What the tables call it
    #[arg(long, value_name = "NAME", default_value = "cloudpose")]
    pub name: String,
    /// Where this generator stands, seen from the service
    #[arg(long, value_enum, default_value = "local")]
    pub location: Location,
    /// Pictures to send: images, folders of images, Motion JPEG files [default: a built-in photo]
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub frames: Vec<PathBuf>,
    /// An answer that takes longer is an error
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub timeout: Duration,
    /// The run is void if 1 % of the sends were later than this through the generator's own fault
    #[arg(long, value_name = "TIME", default_value = "25ms", value_parser = some_time)]
    pub max_send_lag: Duration,
    /// Fail if this holds, like 'p99>500ms' or 'errors>1%'. Can be given several times.
    #[arg(long, value_name = "CONDITION")]
    pub fail_if: Vec<Threshold>,
    /// Folder for results.json, results.csv, report.html and the plots
    #[arg(short, long, value_name = "DIR", default_value = "loadgen-results")]
    pub output: PathBuf,
}

/// Where the generator stands, seen from the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Location {
    /// On its machine or in its network.
    Local,
    /// Across the internet.
    Remote,
}

/// Of users who post single images.
#[derive(Debug, Clone, Args)]
pub struct HttpOptions {
    /// How long a user thinks between an answer and the next request
    #[arg(long, value_name = "TIME[..TIME]", default_value = "1s..3s")]
    pub think: Range<Duration>,
}

/// Of users who stream.
#[derive(Debug, Clone, Args)]
pub struct StreamOptions {
    /// Frames a second of each camera; of a range each user takes one rate
    #[arg(long, value_name = "FPS[..FPS]", default_value = "15", value_parser = some_rate)]
    pub fps: Range<f64>,
    /// What comes back: pose, overlay or both
    #[arg(long, value_name = "WHAT", default_value = "pose", value_parser = word::<Want>)]
    pub want: Want,
    /// live: the newest frame wins; complete: every frame is worked on
    #[arg(long, default_value = "live", value_parser = word::<Mode>)]
    pub mode: Mode,
    /// The model [default: the service's]
    #[arg(long, value_name = "MODEL", value_hint = ValueHint::Other)]
    pub model: Option<ModelId>,
    /// How old a live frame may get until it is given up [default: the service's]
    #[arg(long, value_name = "TIME", value_parser = some_time)]
    pub max_age: Option<Duration>,
    /// So many more streams that send nothing
    #[arg(long, value_name = "N", default_value = "0")]
    pub idle: u32,
    /// So many more streams that take one message a second. They do not count, and may be cut off.
    #[arg(long, value_name = "N", default_value = "0")]
    pub slow_readers: u32,
}

/// How many users, how soon.
#[derive(Debug, Clone, Copy, Args)]
pub struct UserOptions {
    /// How many users; of a range, from how many to how many
    #[arg(long, value_name = "N[..N]", default_value = "1", value_parser = some_users)]
    pub users: Range<u32>,
    /// Users that join a second
    #[arg(long, value_name = "N", default_value = "10", value_parser = positive)]
    pub spawn_rate: f64,
}

/// `cloudpose loadgen http`
#[derive(Debug, Clone, Args)]
pub struct HttpRun {
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub users: UserOptions,
    /// Requests a second, instead of users; of a range, rising through the run
    #[arg(long, value_name = "N[..N]", conflicts_with_all = ["users", "spawn_rate", "think"], value_parser = some_rate)]
    pub rate: Option<Range<f64>>,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub run_time: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub http: HttpOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub target: Target,
}

/// `cloudpose loadgen stream`
#[derive(Debug, Clone, Args)]
pub struct StreamRun {
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub users: UserOptions,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub run_time: Duration,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub stream: StreamOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub target: Target,
}

/// What users do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WorkloadKind {
    /// Post single images.
    Http,
    /// Stream video.
    Stream,
}

/// What a search raises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum By {
    /// Users.
    Users,
    /// Requests a second (http only).
    Rate,
}

/// How to search.
#[derive(Debug, Clone, Args)]
pub struct SearchOptions {
    /// What users do
    #[arg(long, value_enum, default_value = "http")]
    pub workload: WorkloadKind,
    /// What is raised: users, or requests a second that come whether or not others are answered
    #[arg(long, value_enum, default_value = "users")]
    pub by: By,
    /// Where to begin
    #[arg(long, value_name = "N", default_value = "4")]
    pub start: u32,
    /// Where to end
    #[arg(long, value_name = "N", default_value = "5000")]
    pub limit: u32,
    /// How long a step is measured, once all users are there and settled
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = some_time)]
    pub step_time: Duration,
    /// How long the run is measured that confirms the answer
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = some_time)]
    pub confirm_time: Duration,
    /// Objective: at least this share of requests or frames ends well, in percent
    #[arg(long, value_name = "PERCENT", default_value = "100", value_parser = percent)]
    pub success: f64,
    /// Objective: p95 under this
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = some_time)]
    pub p95: Duration,
    /// Objective: p99 under this
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = some_time)]
    pub p99: Duration,
    /// Objective of streams: at least this share of the frames is delivered, in percent
    #[arg(long, value_name = "PERCENT", default_value = "95", value_parser = percent)]
    pub delivered: f64,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub http: HttpOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub stream: StreamOptions,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub target: Target,
}

impl SearchOptions {
    /// What a load must meet.
    pub fn objective(&self) -> Objective {
        Objective {
            success: self.success / 100.0,
            p95_ms: self.p95.as_secs_f64() * 1e3,
            p99_ms: self.p99.as_secs_f64() * 1e3,
            fps_share: self.delivered / 100.0,
        }
    }
}

/// `cloudpose loadgen find-max`
#[derive(Debug, Clone, Args)]
pub struct FindMax {
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub search: SearchOptions,
}

/// Who changes the number of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ScalerKind {
    /// Nobody: the service is as it is.
    None,
    /// This program starts and stops processes on this machine.
    Local,
    /// kubectl scales a Deployment.
    Kubectl,
}

/// `cloudpose loadgen experiment`
#[derive(Debug, Clone, Args)]
pub struct Experiment {
    /// Numbers of replicas, one search each
    #[arg(long, value_name = "N,…", value_delimiter = ',', required = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub replicas: Vec<u32>,
    /// Who changes the number of replicas
    #[arg(long, value_enum, default_value = "none")]
    pub scaler: ScalerKind,
    /// Deployment that kubectl scales
    #[arg(long, value_name = "NAME", required_if_eq("scaler", "kubectl"))]
    pub deployment: Option<String>,
    /// Namespace of the Deployment
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub namespace: String,
    /// NATS server for the local processes, with a gateway already on it [default: starts its own of both]
    #[arg(long, value_name = "URL")]
    pub nats: Option<String>,
    #[command(flatten)]
    #[expect(missing_docs, reason = "described by its type")]
    pub search: SearchOptions,
}

/// `cloudpose loadgen merge`
#[derive(Debug, Clone, Args)]
pub struct Merge {
    /// results.json files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder for the joined results.json, results.csv, report.html and the plots
    #[arg(short, long, value_name = "DIR", default_value = "loadgen-results")]
    pub output: PathBuf,
}

impl Command {
    /// The pictures that are to be sent; None if the command sends none.
    pub fn frames(&self) -> Option<&[PathBuf]> {
        match self {
            Self::Http(run) => Some(&run.target.frames),
            Self::Stream(run) => Some(&run.target.frames),
            Self::FindMax(FindMax { search }) | Self::Experiment(Experiment { search, .. }) => {
                Some(&search.target.frames)
            }
            Self::Merge(_) | Self::ScaleSim(_) => None,
        }
    }
}

fn some_time(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than nothing".into()),
        Ok(time) => Ok(time),
        Err(error) => Err(format!("{error}; write it like 500ms, 5s or 1m")),
    }
}

fn some_users(text: &str) -> Result<Range<u32>, String> {
    let range: Range<u32> = text.parse()?;
    if range.to == 0 { Err("must be at least 1".into()) } else { Ok(range) }
}

fn some_rate(text: &str) -> Result<Range<f64>, String> {
    let range: Range<f64> = text.parse()?;
    if (0.01..=10_000.0).contains(&range.to) { Ok(range) } else { Err("must be from 0.01 to 10000".into()) }
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.01..=10_000.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0.01 to 10000".into()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse() {
        Ok(number) if (0.0..=100.0).contains(&number) => Ok(number),
        _ => Err("expected a number from 0 to 100".into()),
    }
}

/// Reads a word as the protocol writes it.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}
