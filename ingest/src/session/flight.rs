//! A frame between its arrival and its end.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cloudpose_wire::{Draw, Frame, Payload, SharedEvent, Want};
use tracing::Span;

use super::Settings;

/// A frame that has come in and waits for a credit.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) settings: Settings,
    pub(super) received_at: u64,
    /// Width and height in pixels; zeros if they are not known.
    pub(super) size: [u32; 2],
    pub(super) image: Payload,
}

/// A frame that holds a credit.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) received: Instant,
    pub(super) want: Want,
    pub(super) draw: Draw,
    /// How long it has, from when the bus takes it.
    pub(super) budget: Duration,
    pub(super) place: Place,
    /// What to tell a broker that has forgotten it: a complete session loses no frame.
    pub(super) again: Option<Box<Frame>>,
    /// From here until its end.
    pub(super) span: Span,
}

/// Where a frame that holds a credit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Here: it waits until it is offered to the bus again.
    Gateway,
    /// The bus was offered it and has not answered: it may have it.
    Offered,
    /// On the bus. It counts as lost when it is `due`.
    Bus { due: Instant },
    /// Its result is here.
    Done,
}

impl Place {
    pub(super) fn due(self) -> Option<Instant> {
        match self {
            Self::Bus { due } => Some(due),
            Self::Gateway | Self::Offered | Self::Done => None,
        }
    }
}

#[derive(Debug)]
pub(super) struct Done {
    pub(super) event: SharedEvent,
    pub(super) overlay: Option<Bytes>,
}
