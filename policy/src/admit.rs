//! Which frame of a session goes on the bus, and when: pure policy.
//!
//! At most `window` frames are in flight; while they are, frames wait here.
//! - **live**: one frame waits, the newest. A newer one supersedes it, and one that waited until it was
//!   older than `max_age` expires. So latency cannot build up, however fast the client sends.
//! - **complete**: nothing is superseded and nothing expires. [`Admit::accepts`] says whether the caller
//!   may read another frame: not while one waits. That is the backpressure.
//!
//! After every call that changes something, call [`Admit::poll`] until it returns `None`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use cloudpose_wire::Mode;

/// The rules of one session.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Live or complete.
    pub mode: Mode,
    /// Frames in flight at once, at least 1.
    pub window: usize,
    /// How old a waiting frame may get in live mode.
    pub max_age: Duration,
}

/// A frame that waits for a credit, or has just got one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting<T> {
    /// Its number within the session.
    pub seq: u64,
    /// When it came in.
    pub received: Instant,
    /// The frame.
    pub frame: T,
}

/// What to do with a frame that waited.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Put it on the bus. It holds a credit until [`Admit::release`].
    Publish(Waiting<T>),
    /// It is too old.
    Expire(u64),
}

/// The window and the waiting frame of one session.
#[derive(Debug)]
pub struct Admit<T> {
    rules: Rules,
    in_flight: usize,
    waiting: VecDeque<Waiting<T>>,
}

impl<T> Admit<T> {
    /// Nothing is in flight, nothing waits.
    pub fn new(rules: Rules) -> Self {
        Self { rules, in_flight: 0, waiting: VecDeque::new() }
    }

    /// True if another frame may be offered.
    pub fn accepts(&self) -> bool {
        match self.rules.mode {
            Mode::Live => true,
            Mode::Complete => self.waiting.is_empty(),
        }
    }

    /// Takes a frame that has just come in. Returns the `seq` of the frame that it supersedes.
    pub fn offer(&mut self, now: Instant, seq: u64, frame: T) -> Option<u64> {
        let superseded = match self.rules.mode {
            Mode::Live => self.waiting.pop_front().map(|old| old.seq),
            Mode::Complete => None,
        };
        self.waiting.push_back(Waiting { seq, received: now, frame });
        superseded
    }

    /// A frame is no longer in flight: its credit is free.
    pub fn release(&mut self) {
        debug_assert!(self.in_flight > 0, "a credit was given back twice");
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The next thing to do, if there is one.
    pub fn poll(&mut self, now: Instant) -> Option<Next<T>> {
        if self.next_deadline().is_some_and(|deadline| now >= deadline) {
            return self.waiting.pop_front().map(|old| Next::Expire(old.seq));
        }
        if self.in_flight >= self.rules.window {
            return None;
        }
        let first = self.waiting.pop_front()?;
        self.in_flight += 1;
        Some(Next::Publish(first))
    }

    /// When [`poll`](Self::poll) has something to do though nothing else happens.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.rules.mode {
            Mode::Live => self.waiting.front().map(|first| first.received + self.rules.max_age),
            Mode::Complete => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX_AGE: Duration = Duration::from_millis(1000);

    fn admit(mode: Mode, window: usize) -> Admit<()> {
        Admit::new(Rules { mode, window, max_age: MAX_AGE })
    }

    fn published(next: Option<Next<()>>) -> Option<u64> {
        match next {
            Some(Next::Publish(frame)) => Some(frame.seq),
            _ => None,
        }
    }

    #[test]
    fn live_fills_the_window_then_keeps_only_the_newest() {
        let now = Instant::now();
        let mut admit = admit(Mode::Live, 2);
        for seq in 1..=2 {
            assert_eq!(admit.offer(now, seq, ()), None);
            assert_eq!(published(admit.poll(now)), Some(seq));
        }
        assert_eq!(admit.offer(now, 3, ()), None);
        assert_eq!(admit.poll(now), None);
        assert_eq!(admit.offer(now, 4, ()), Some(3));
        assert_eq!(admit.offer(now, 5, ()), Some(4));
        assert_eq!(admit.poll(now), None);
        admit.release();
        assert_eq!(published(admit.poll(now)), Some(5));
        assert_eq!(admit.poll(now), None);
    }

    #[test]
    fn live_frame_that_waits_too_long_expires_even_if_a_credit_comes_at_the_same_moment() {
        let start = Instant::now();
        let mut admit = admit(Mode::Live, 1);
        admit.offer(start, 1, ());
        assert_eq!(published(admit.poll(start)), Some(1));
        admit.offer(start, 2, ());
        assert_eq!(admit.next_deadline(), Some(start + MAX_AGE));
        assert_eq!(admit.poll(start + MAX_AGE - Duration::from_millis(1)), None);
        admit.release();
        assert_eq!(admit.poll(start + MAX_AGE), Some(Next::Expire(2)));
        assert_eq!(admit.poll(start + MAX_AGE), None);
        assert_eq!(admit.next_deadline(), None);
    }

    #[test]
    fn complete_stops_reading_instead_of_dropping() {
        let now = Instant::now();
        let mut admit = admit(Mode::Complete, 1);
        assert!(admit.accepts());
        admit.offer(now, 1, ());
        assert_eq!(published(admit.poll(now)), Some(1));
        assert!(admit.accepts());
        admit.offer(now, 2, ());
        assert!(!admit.accepts());
        assert_eq!(admit.poll(now + MAX_AGE * 100), None, "nothing expires");
        admit.release();
        assert_eq!(published(admit.poll(now)), Some(2));
        assert!(admit.accepts());
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Offer,
        Release,
        Wait(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![4 => Just(Step::Offer), 3 => Just(Step::Release), 1 => (1u64..1500).prop_map(Step::Wait)];
        prop::collection::vec(step, 0..200)
    }

    proptest! {
        /// In both modes every frame offered is published, superseded or expired, or still waits; the
        /// window is never exceeded; frames are published in order; at most one waits; and in complete
        /// mode none is lost.
        #[test]
        fn every_frame_has_one_fate(live: bool, window in 1usize..5, steps in steps()) {
            let mode = if live { Mode::Live } else { Mode::Complete };
            let mut admit = admit(mode, window);
            let mut now = Instant::now();
            let (mut offered, mut released) = (0u64, 0u64);
            let (mut published, mut superseded, mut expired) = (vec![], vec![], vec![]);
            for step in steps {
                match step {
                    Step::Offer if admit.accepts() => {
                        offered += 1;
                        superseded.extend(admit.offer(now, offered, ()));
                    }
                    Step::Release if released < published.len() as u64 => {
                        released += 1;
                        admit.release();
                    }
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    _ => {}
                }
                while let Some(next) = admit.poll(now) {
                    match next {
                        Next::Publish(frame) => {
                            prop_assert!(now - frame.received < MAX_AGE || !live);
                            published.push(frame.seq);
                        }
                        Next::Expire(seq) => expired.push(seq),
                    }
                }
                prop_assert!(published.len() as u64 - released <= window as u64);
                prop_assert!(admit.waiting.len() <= 1);
                prop_assert!(
                    admit.waiting.is_empty() || published.len() as u64 - released == window as u64,
                    "a frame waits though a credit is free"
                );
            }
            prop_assert!(published.is_sorted());
            let mut fates = [published, superseded.clone(), expired.clone()].concat();
            fates.extend(admit.waiting.iter().map(|w| w.seq));
            fates.sort_unstable();
            prop_assert_eq!(fates, (1..=offered).collect::<Vec<_>>());
            if !live {
                prop_assert!(superseded.is_empty() && expired.is_empty());
            }
        }
    }
}
