//! A pool that is served before the one that is scaled, and goes: GPUs, with processors behind them.

use std::{ops::Range, time::Duration};

/// Workers that are served first, as many as there are.
#[derive(Debug, Clone, PartialEq)]
pub struct First {
    /// Frames that they all together work on at once.
    pub slots: u32,
    /// How long they have a frame.
    pub service: Duration,
    /// From when until when they are gone; frames in their hands are lost with them.
    pub gone: Range<Duration>,
    /// How many of the frames the autoscaler takes to be theirs.
    pub reckoned: Reckoned,
}

/// What of all frames is not the scaled pool's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reckoned {
    /// What the workers take that are there, as they say themselves.
    There,
    /// So many, whether anybody is there or not: what the pool would take at its largest.
    Largest(u32),
}

impl First {
    /// Whether they are there.
    pub(crate) fn is_there(&self, now: Duration) -> bool {
        !self.gone.contains(&now)
    }

    /// Frames that the autoscaler leaves to them.
    pub(crate) fn takes(&self, now: Duration) -> u32 {
        match self.reckoned {
            Reckoned::There if self.is_there(now) => self.slots,
            Reckoned::There => 0,
            Reckoned::Largest(frames) => frames,
        }
    }
}
