//! When a frame that the bus refused is offered again.
//!
//! The oldest refused frame probes: it is offered after a pause, and after a longer one each time that it is refused
//! again, while all others wait behind it. Once the bus takes it, they follow at once. So a lane that stays full costs
//! a session about one offer a second, however many frames it holds.
//!
//! Pauses double from [`FIRST`] to [`LONGEST`]. Each is cut by up to half, by chance, but the same chance each time
//! for the same seed: sessions that a lane refused at the same moment do not come back together.
//!
//! A frame that the bus has not taken for `patience` since it was first refused is given up.

use std::{
    collections::BTreeMap,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash},
    time::{Duration, Instant},
};

use cloudpose_wire::DropReason;

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
    seed: u64,
    frames: BTreeMap<u64, Refused<T>>,
    gate: Gate,
    /// Probes that were refused since the bus last took one.
    failures: u32,
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
            seed: hash(seed),
            frames: BTreeMap::new(),
            gate: Gate::Open,
            failures: 0,
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
            self.gate = Gate::ClosedUntil(now + self.pause());
            self.failures = self.failures.saturating_add(1);
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
        (self.gate, self.failures) = (Gate::Open, 0);
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

    /// How long to wait before the next probe.
    fn pause(&self) -> Duration {
        let longest = FIRST.saturating_mul(2u32.saturating_pow(self.failures)).min(LONGEST);
        let chance = hash(&(self.seed, self.failures)) as f64 / u64::MAX as f64;
        longest.mul_f64(0.5 + 0.5 * chance)
    }
}

/// The same number for the same value, in every process.
fn hash(value: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[cfg(test)]
mod tests;
