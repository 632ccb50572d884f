//! What a stream remembers of its persons from frame to frame.
//!
//! The memory travels: the gateway puts the stream's [`Prior`] into each frame's header, the worker
//! brings it up to date, and it comes back with the result. So any worker can take any frame.

use serde::{Deserialize, Serialize};

use crate::SkeletonName;

/// A stream's tracks as of one of its frames.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Prior {
    /// When the newest frame that went into it was received: milliseconds since 1970-01-01T00:00:00Z.
    pub at: u64,
    /// Size of the pictures, upright, in pixels. Tracks mean nothing in pictures of another size.
    pub width: u32,
    /// See `width`.
    pub height: u32,
    /// Whose keypoints the joints are. Tracks mean nothing to another skeleton.
    #[serde(default, skip_serializing_if = "SkeletonName::is_default")]
    pub skeleton: SkeletonName,
    /// When the newest of the frames was received in which somebody was looked for everywhere, as in
    /// [`Prior::at`]; 0 if there is none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub looked_at: u64,
    /// Frames since then that were looked at where the tracks are.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub frames_since_look: u32,
    /// One for each person seen of late.
    pub tracks: Vec<Track>,
}

fn is_zero<T: Default + PartialEq>(number: &T) -> bool {
    *number == T::default()
}

/// One person over time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Track {
    /// Tells the tracks of a session apart. 0 if a worker has just begun it; the gateway numbers it.
    pub key: u32,
    /// The `track_id` of the person, once the track is confirmed.
    pub id: Option<u32>,
    /// When the newest frame that shows the person was received, as in [`Prior::at`].
    pub seen_at: u64,
    /// Square root of the area of the person's box, in pixels.
    pub size: f32,
    /// Where the keypoints were then, in the skeleton's order.
    pub joints: Vec<Joint>,
}

/// A keypoint of a track.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Joint {
    /// Pixels from the left edge, smoothed if smoothing is on.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
    /// Pixels a second to the right, smoothed.
    pub vx: f32,
    /// Pixels a second down.
    pub vy: f32,
    /// Confidence, 0 to 1.
    pub score: f32,
}
