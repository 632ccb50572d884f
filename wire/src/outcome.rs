//! How a frame ends. The set is closed: a frame that ends otherwise is a bug in the ledger.

use serde::{Deserialize, Serialize};

/// Why an accepted frame was not delivered.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// A newer frame of the same stream arrived before this one could start.
    Superseded,
    /// Older than the maximum age before it was done.
    Expired,
    /// Not an image that we can read.
    Undecodable,
    /// The infer stage failed.
    InferFailed,
    /// The annotate stage failed.
    AnnotateFailed,
    /// Done, but after a newer frame had been delivered.
    Late,
    /// The client left before its result came.
    ClientGone,
    /// Handed to the bus, and no word of it came back in time.
    BusLost,
    /// The work queue had no room.
    QueueFull,
    /// Larger than the bus carries.
    TooLarge,
    /// The bus could not be reached.
    BusDown,
    /// The gateway was shutting down.
    ShuttingDown,
    /// Its tenant or its address has used up what it may.
    OverQuota,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [DropReason; 13] = [
        Self::Superseded,
        Self::Expired,
        Self::Undecodable,
        Self::InferFailed,
        Self::AnnotateFailed,
        Self::Late,
        Self::ClientGone,
        Self::BusLost,
        Self::QueueFull,
        Self::TooLarge,
        Self::BusDown,
        Self::ShuttingDown,
        Self::OverQuota,
    ];

    /// The word used in messages and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Superseded => "superseded",
            Self::Expired => "expired",
            Self::Undecodable => "undecodable",
            Self::InferFailed => "infer_failed",
            Self::AnnotateFailed => "annotate_failed",
            Self::Late => "late",
            Self::ClientGone => "client_gone",
            Self::BusLost => "bus_lost",
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::BusDown => "bus_down",
            Self::ShuttingDown => "shutting_down",
            Self::OverQuota => "over_quota",
        }
    }
}

/// The end of an accepted frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The client was sent the result.
    Delivered,
    /// It was not, for this reason.
    Dropped(DropReason),
}

impl Outcome {
    /// The word used in metrics and traces.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Dropped(reason) => reason.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_and_metrics_use_the_same_word() {
        for reason in DropReason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.as_str()));
            assert_eq!(Outcome::Dropped(reason).as_str(), reason.as_str());
        }
        assert_eq!(Outcome::Delivered.as_str(), "delivered");
    }
}
