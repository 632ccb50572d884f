//! What a simulation shows.

use std::time::Duration;

/// What happened.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Record {
    /// Share of the time in which the objective was missed while there was load.
    pub out_of_objective: f64,
    /// Replicas ordered, on average.
    pub mean_replicas: f64,
    /// How often the direction of scaling turned around.
    pub flaps: u32,
    /// The longest time without meeting the objective.
    pub longest_outage: Duration,
    /// At the end of each slice: seconds, streams, replicas ordered, frames on the lane, whether it was met.
    pub slices: Vec<Slice>,
}

/// Five seconds of a record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Slice {
    /// Seconds from the start.
    pub at: f64,
    /// Streams then.
    pub streams: u32,
    /// Replicas ordered then.
    pub replicas: u32,
    /// Frames on the lane and in hand then.
    pub depth: u32,
    /// Whether the objective was met in it.
    pub met: bool,
}
