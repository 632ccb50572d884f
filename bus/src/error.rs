//! Why the bus did not take something.

use std::fmt;

use cloudpose_wire::{DropReason, Lane};

/// A frame could not be put on its lane, or a job's result not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// There is no room: tell the client to come again later.
    #[error("{queue} holds {bound} and takes no more")]
    Full {
        /// What is full.
        queue: Queue,
        /// Its bound, of those it has the one that is reached.
        bound: Bound,
    },
    /// Larger than the NATS server carries.
    #[error(
        "the frame is {size} bytes with its headers and NATS carries {limit}: send smaller images, or raise \
         max_payload in the configuration of nats-server"
    )]
    TooLarge {
        /// The frame with its headers, in bytes.
        size: usize,
        /// The server's `max_payload`, in bytes.
        limit: usize,
    },
    /// Decoded pixels cannot be encoded for another process.
    #[error("the image cannot be encoded: {0}")]
    Encoding(String),
    /// The NATS server is not there, or did not confirm in time that it has the frame.
    #[error("NATS cannot take the frame now: {0}")]
    Unreachable(String),
}

impl PublishError {
    /// How a frame ends that was not taken.
    pub fn reason(&self) -> DropReason {
        match self {
            Self::Full { .. } => DropReason::QueueFull,
            Self::TooLarge { .. } => DropReason::TooLarge,
            Self::Encoding(_) => DropReason::Undecodable,
            Self::Unreachable(_) => DropReason::BusDown,
        }
    }
}

/// What can be full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Queue {
    /// A still lane.
    Lane(Lane),
    /// The results of jobs.
    Jobs,
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(lane) => write!(f, "the {lane} lane"),
            Self::Jobs => f.write_str("the queue for results of jobs"),
        }
    }
}

/// What a queue holds when it is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// So many frames.
    Frames(usize),
    /// So many results.
    Results(usize),
    /// As many bytes as the NATS server lets it.
    Bytes,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Frames(n) => write!(f, "{n} frames"),
            Self::Results(n) => write!(f, "{n} results"),
            Self::Bytes => f.write_str("as many bytes as it may (max_bytes of its stream)"),
        }
    }
}
