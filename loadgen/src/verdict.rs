//! The words that are said about a run: the objective, the flaws, the verdict. Part of `results.json`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a load must meet to count as held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Objective {
    /// Least share of requests or frames that end well, 0 to 1.
    pub success: f64,
    /// p95 must lie under this, in ms.
    pub p95_ms: f64,
    /// p99 must lie under this, in ms.
    pub p99_ms: f64,
    /// Of streams: least share of their frames that must be delivered, 0 to 1.
    pub fps_share: f64,
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { success, p95_ms, p99_ms, fps_share } = self;
        write!(f, "success ≥ {} %, p95 < {p95_ms} ms, p99 < {p99_ms} ms", 100.0 * success)?;
        write!(f, ", of streams ≥ {} % of the frames delivered", 100.0 * fps_share)
    }
}

/// Why a run must not be believed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "flaw", rename_all = "snake_case")]
pub enum Flaw {
    /// Nothing was due in the measured time.
    Empty,
    /// Requests or users of which it is not known what became of them.
    Unfinished {
        /// How many.
        count: u64,
    },
    /// Requests that should have gone out and could not.
    Unsent {
        /// How many.
        count: u64,
    },
    /// The generator itself was late.
    SendLag {
        /// 99 % of the sends were less late than this.
        p99_ms: f64,
        /// And should have been less than this.
        limit_ms: f64,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "nothing was measured: the run is too short, or nothing was sent"),
            Self::Unfinished { count } => {
                write!(f, "the record is incomplete: {count} requests or users without an end")
            }
            Self::Unsent { count } => write!(
                f,
                "the record is incomplete: {count} requests could not be sent because too many were unanswered"
            ),
            Self::SendLag { p99_ms, limit_ms } => write!(
                f,
                "the generator was saturated: sends were up to {p99_ms:.1} ms late (p99; limit {limit_ms} ms)"
            ),
        }
    }
}

/// What a run says about its load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The objective was met.
    Held,
    /// It was not.
    Missed,
    /// The run cannot be believed.
    Unsound,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::Unsound => "unsound",
        })
    }
}
