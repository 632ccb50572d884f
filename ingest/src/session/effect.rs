//! What follows from what came in.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use cloudpose_policy::quota::Resource;
use cloudpose_wire::{DropReason, Frame, SharedEvent};

/// What its door has to do for a session, or can tell the client.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Put it on the infer lane, then tell with [`Session::published`](super::Session::published) or
    /// [`Session::refused`](super::Session::refused).
    Publish(Box<Frame>),
    /// A frame is done.
    Deliver(Delivered),
    /// A frame has ended without a result.
    Dropped {
        seq: u64,
        reason: DropReason,
        /// In words; may be empty.
        detail: String,
    },
    /// Frames come faster than they can be worked on: at most so many a second waste none.
    Hint { fps: f32, quota: Option<Resource> },
}

/// What the client gets of a frame. When it has taken it, tell with [`Session::sent`](super::Session::sent).
#[derive(Debug)]
pub(crate) struct Delivered {
    pub(crate) seq: u64,
    /// What was found. Absent if only the overlay was wanted.
    pub(crate) event: Option<SharedEvent>,
    /// The annotated JPEG, if one was wanted.
    pub(crate) overlay: Option<Bytes>,
    /// From the frame's arrival until now.
    pub(crate) latency: Duration,
    /// Frames of this session dropped so far, by reason.
    pub(crate) dropped: BTreeMap<DropReason, u64>,
}
