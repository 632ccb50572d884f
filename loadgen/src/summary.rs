//! What a run found out: the data in `results.json`.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    verdict::{Flaw, Objective, Verdict},
};

/// Layout of `results.json`. A reader refuses others.
const SCHEMA: u32 = 1;

/// The percentiles that are kept: those of Locust's table.
pub const PERCENTILES: [f64; 11] = [50.0, 66.0, 75.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.9, 99.99, 100.0];

/// The whole file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct File {
    schema: u32,
    /// One for each place and service.
    pub results: Vec<Results>,
}

/// What one command found out about one service, seen from one place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// What was tested.
    pub name: String,
    /// Where the generator stood, seen from the service: `local`, `remote`.
    pub location: String,
    /// The service's address.
    pub url: String,
    /// What the users did, in words.
    pub workload: String,
    /// When it began, RFC 3339.
    pub began: String,
    /// What a load must meet to count as held.
    pub objective: Option<Objective>,
    /// Runs at a given load.
    pub runs: Vec<Run>,
    /// Searches for the largest load.
    pub searches: Vec<SearchRecord>,
}

/// A search for the largest load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SearchRecord {
    /// Replicas of the service, if it was said.
    pub replicas: Option<u32>,
    /// The largest load that holds; None if the search could not tell.
    pub found: Option<u32>,
    /// Every run, in the order of the search.
    pub steps: Vec<Step>,
}

impl SearchRecord {
    /// The run that confirmed the answer.
    pub fn confirmed(&self) -> Option<&Run> {
        let step = self.steps.iter().rfind(|step| step.long && step.verdict == Verdict::Held)?;
        Some(&step.run)
    }

    /// The smallest load that did not hold, if one was tried.
    pub fn first_missed(&self) -> Option<&Step> {
        let missed = self.steps.iter().filter(|step| step.verdict == Verdict::Missed);
        missed.min_by(|a, b| a.run.load.amount().total_cmp(&b.run.load.amount()))
    }
}

/// One run of a search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// The confirming kind.
    pub long: bool,
    /// Whether the objective was met.
    pub verdict: Verdict,
    /// Why not.
    pub reasons: Vec<String>,
    /// What was measured.
    pub run: Run,
}

/// One run at one load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// How much.
    pub load: Load,
    /// How long it was measured, without ramp and settling.
    pub seconds: f64,
    /// All calls together.
    pub all: Call,
    /// Each call by itself.
    pub calls: Vec<Call>,
    /// Of streams only.
    pub streams: Option<Streams>,
    /// How the generator itself did.
    pub generator: Generator,
    /// Second by second, ramp and settling included.
    pub series: Vec<Point>,
    /// Why these numbers must not be believed. Empty if they may.
    pub flaws: Vec<Flaw>,
}

impl Run {
    /// Answers (of streams: frames delivered) a second.
    pub fn rate(&self) -> f64 {
        match &self.streams {
            Some(streams) => streams.delivered as f64 / self.seconds,
            None => (self.all.count - self.all.failed()) as f64 / self.seconds,
        }
    }
}

/// How much load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// Users, each waiting for its answers.
    Users(u32),
    /// Requests a second, whatever becomes of them.
    Rate(f64),
}

impl Load {
    /// The number alone.
    pub fn amount(self) -> f64 {
        match self {
            Self::Users(users) => f64::from(users),
            Self::Rate(rate) => rate,
        }
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Users(users) => write!(f, "{users} users"),
            Self::Rate(rate) => write!(f, "{rate} requests/s"),
        }
    }
}

/// One kind of call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// `POST`, or `WS` for frames.
    pub method: String,
    /// The path.
    pub name: String,
    /// Requests (frames) that came to an end, well or not.
    pub count: u64,
    /// Those that did not end well, by kind.
    pub failures: BTreeMap<String, u64>,
    /// Mean size of an answer, in bytes.
    pub mean_bytes: f64,
    /// Of all that were answered or timed out; None if there were none.
    pub latency: Option<Latency>,
}

impl Call {
    /// How many did not end well.
    pub fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Share of those that ended well, 0 to 1.
    pub fn success(&self) -> f64 {
        if self.count == 0 { 0.0 } else { (self.count - self.failed()) as f64 / self.count as f64 }
    }
}

/// Milliseconds from when a request should have gone out to its whole answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// Arithmetic mean.
    pub mean_ms: f64,
    /// Shortest.
    pub min_ms: f64,
    /// In the order of [`PERCENTILES`].
    pub percentiles_ms: [f64; PERCENTILES.len()],
}

impl Latency {
    /// One of [`PERCENTILES`]; None for others.
    pub fn percentile(&self, percent: f64) -> Option<f64> {
        let index = PERCENTILES.iter().position(|p| *p == percent)?;
        Some(self.percentiles_ms[index])
    }
}

/// What only streams have.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Streams {
    /// Frames that the users' cameras took.
    pub due: u64,
    /// Frames whose result came, and was right.
    pub delivered: u64,
    /// Delivered frames a second, mean over users.
    pub fps: f64,
    /// Frames without a result, by reason. `not_taken`: the service did not read it in time.
    pub drops: BTreeMap<String, u64>,
    /// Jain's index over the shares of their frames that users got delivered.
    pub jain: Option<f64>,
    /// Ids of answers that were looked up.
    pub ids_checked: u64,
    /// Results after that of a later frame.
    pub order_violations: u64,
    /// Slow readers that the service cut off, as it may.
    pub slow_readers_cut_off: u64,
}

impl Streams {
    /// Share of the frames that were delivered, 0 to 1.
    pub fn share(&self) -> f64 {
        if self.due == 0 { 0.0 } else { self.delivered as f64 / self.due as f64 }
    }
}

/// How the generator itself did.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Generator {
    /// How late requests went out although nothing but the generator held them up: 99 % were less, in ms.
    pub lag_p99_ms: f64,
    /// The latest.
    pub lag_max_ms: f64,
}

/// One interval of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Its end, in seconds from the run's begin.
    pub at: f64,
    /// Users at its end.
    pub users: u32,
    /// Answers a second.
    pub rate: f64,
    /// Failures a second.
    pub failures: f64,
    /// p50, p95 and p99 of the answers in it; None without any.
    pub latency_ms: Option<[f64; 3]>,
    /// Frames dropped in it, by reason.
    pub drops: BTreeMap<String, u64>,
}

impl File {
    /// A file of these results.
    pub fn new(results: Vec<Results>) -> Self {
        Self { schema: SCHEMA, results }
    }

    /// Reads one that was written.
    ///
    /// # Errors
    /// If it is not there, or is none of ours.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let named = || -> PathBuf { path.into() };
        let bytes = std::fs::read(path).map_err(|source| Error::Read { path: named(), source })?;
        let file: Self =
            serde_json::from_slice(&bytes).map_err(|source| Error::NotResults { path: named(), source })?;
        if file.schema == SCHEMA {
            Ok(file)
        } else {
            Err(Error::OtherSchema { path: named(), schema: file.schema })
        }
    }
}
