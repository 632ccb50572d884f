//! Lanes: the work queues between the roles.

use serde::{Deserialize, Serialize};

/// What has to be done with a frame next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Find the poses.
    Infer,
    /// Draw the poses and encode the picture.
    Annotate,
}

impl Stage {
    /// The word used in subjects, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Infer => "infer",
            Self::Annotate => "annotate",
        }
    }
}

/// What happens when frames come faster than they can be worked on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// The newest frame wins: older waiting frames are dropped and counted. Latency stays low.
    #[default]
    Live,
    /// Every frame is processed; the server reads no faster than it works.
    Complete,
}

/// How much a frame's loss matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A frame of live video. It may be lost, and is worthless after a second.
    Live,
    /// A single image, or a frame of a stream in which every frame counts. Never lost silently.
    Still,
}

impl Kind {
    /// The word used in subjects, metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Still => "still",
        }
    }
}

/// One work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lane {
    /// What workers of this lane do.
    pub stage: Stage,
    /// How its frames are kept.
    pub kind: Kind,
}

impl Lane {
    /// All four lanes.
    pub const ALL: [Lane; 4] = [
        Lane { stage: Stage::Infer, kind: Kind::Live },
        Lane { stage: Stage::Infer, kind: Kind::Still },
        Lane { stage: Stage::Annotate, kind: Kind::Live },
        Lane { stage: Stage::Annotate, kind: Kind::Still },
    ];
}

impl std::fmt::Display for Lane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.stage.as_str(), self.kind.as_str())
    }
}
