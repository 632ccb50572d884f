//! When a frame that the bus refused is offered again.
//!
//! The oldest refused frame probes: it is offered after a pause, and after a longer one each time that it is refused
//! again, while all others wait behind it. Once the bus takes it, they follow at once. So a lane that stays full costs
//! a session about one offer a second, however many frames it holds.
//!
//! Pauses double from [`FIRST`] to [`LONGEST`], as [`Backoff`] has them: sessions that a lane refused at the same moment do
//! not come back together.
//!
//! A frame that the bus has not taken for `patience` since it was first refused is given up.

use std::{
    collections::BTreeMap,
    hash::Hash,
    time::{Duration, Instant},
};

use cloudpose_wire::DropReason;

use crate::backoff::Backoff;

/// The longest that the first pause can be.
pub const FIRST: Duration = Duration::from_millis(20);
/// The longest that any can be.
pub const LONGEST: Duration = Duration::from_secs(1);

/// What to do with a frame that was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Offer it again, then tell with [`Retry::done`] or [`Retry::refused`].
    Offer(T),
    /// The bus did not take it in time, lately for this reason.
    GiveUp(u64, DropReason),
}

/// The frames of a session that the bus refused, by `seq`.
#[derive(Debug)]
pub struct Retry<T> {
    patience: Duration,
    frames: BTreeMap<u64, Refused<T>>,
    gate: Gate,
    /// Of probes that were refused.
    backoff: Backoff,
    /// Why the bus refused lately.
    reason: DropReason,
}

#[derive(Debug)]
struct Refused<T> {
    give_up_at: Instant,
    /// `None` while it is being offered.
    frame: Option<T>,
}

/// Whether frames may be offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Open,
    /// The oldest may be, then.
    ClosedUntil(Instant),
    /// This one is being offered.
    Probing(u64),
}

impl<T> Retry<T> {
    /// Nothing was refused yet. `seed` tells sessions apart: its id.
    pub fn new(seed: &impl Hash, patience: Duration) -> Self {
        Self {
            patience,
            frames: BTreeMap::new(),
            gate: Gate::Open,
            backoff: Backoff::new(seed, FIRST, LONGEST),
            reason: DropReason::QueueFull,
        }
    }

    /// Asks for a frame that was not refused before. Returns it if it may be offered; otherwise it waits here behind
    /// those that were.
    pub fn offer(&mut self, now: Instant, seq: u64, frame: T) -> Option<T> {
        if self.gate == Gate::Open {
            return Some(frame);
        }
        self.keep(now, seq, frame);
        None
    }

    /// The bus did not take the frame.
    pub fn refused(&mut self, now: Instant, seq: u64, frame: T, reason: DropReason) {
        self.reason = reason;
        self.keep(now, seq, frame);
        if self.gate == Gate::Open || self.gate == Gate::Probing(seq) {
            self.gate = Gate::ClosedUntil(now + self.backoff.failed());
        }
    }

    /// The bus has the frame, or it has ended: it is not offered again.
    pub fn done(&mut self, seq: u64) {
        self.frames.remove(&seq);
        if self.frames.is_empty() || self.gate == Gate::Probing(seq) {
            self.reset();
        }
    }

    /// The bus may take frames again, for it is another now: all that wait are offered.
    pub fn reset(&mut self) {
        self.gate = Gate::Open;
        self.backoff.succeeded();
    }

    /// The frames that wait to be offered.
    pub fn waiting_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.frames.values_mut().filter_map(|refused| refused.frame.as_mut())
    }

    /// The next thing to do, if there is one.
    pub fn poll(&mut self, now: Instant) -> Option<Next<T>> {
        let waiting = self.frames.iter().filter(|(_, refused)| refused.frame.is_some());
        if let Some(seq) = waiting.clone().find(|(_, refused)| now >= refused.give_up_at).map(|(seq, _)| *seq)
        {
            let reason = self.reason;
            self.done(seq);
            return Some(Next::GiveUp(seq, reason));
        }
        let oldest = waiting.map(|(seq, _)| *seq).next()?;
        match self.gate {
            Gate::Open => {}
            Gate::ClosedUntil(at) if now >= at => self.gate = Gate::Probing(oldest),
            Gate::ClosedUntil(_) | Gate::Probing(_) => return None,
        }
        self.frames.get_mut(&oldest)?.frame.take().map(Next::Offer)
    }

    /// When [`poll`](Self::poll) has something to do though nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        let waiting = self.frames.values().filter(|refused| refused.frame.is_some());
        let give_up = waiting.map(|refused| refused.give_up_at).min();
        let probe = match self.gate {
            Gate::ClosedUntil(at) => Some(at),
            Gate::Open | Gate::Probing(_) => None,
        };
        [give_up, probe].into_iter().flatten().min()
    }

    fn keep(&mut self, now: Instant, seq: u64, frame: T) {
        let give_up_at = now + self.patience;
        let refused = self.frames.entry(seq).or_insert(Refused { give_up_at, frame: None });
        refused.frame = Some(frame);
    }
}

#[cfg(test)]
mod tests;
