//! Which frames of a stream those who watch it take.

use std::time::{Duration, Instant};

/// Takes so many frames a second of those that come, evenly, or all.
///
/// Never more than the rate over any time, but for one; all of a source that is slower. A frame may come half a period
/// early: sources that send at just the rate are not even.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Taker {
    every: Duration,
    due: Option<Instant>,
}

impl Taker {
    /// `fps` frames a second, more than 0; all if absent.
    pub fn new(fps: Option<f32>) -> Self {
        let mut taker = Self::default();
        taker.change(fps);
        taker
    }

    /// Another rate from now on.
    pub fn change(&mut self, fps: Option<f32>) {
        self.every = fps.map_or(Duration::ZERO, |fps| Duration::from_secs_f32(1.0 / fps));
        self.due = self.due.filter(|_| !self.every.is_zero());
    }

    /// Whether the frame that comes now is taken.
    pub fn takes(&mut self, now: Instant) -> bool {
        let Some(due) = self.due else {
            self.due = (!self.every.is_zero()).then(|| now + self.every);
            return true;
        };
        let half = self.every / 2;
        if now + half < due {
            return false;
        }
        // A source that comes late now and then keeps its rate; a pause is not made up for.
        let behind = now.saturating_duration_since(due);
        self.due = Some(due + behind.saturating_sub(half) + self.every);
        true
    }
}

/// The rate that is enough for all who ask for `rates`: the largest, or all frames. `None` if nobody asks.
pub fn enough(rates: impl IntoIterator<Item = Option<f32>>) -> Option<Option<f32>> {
    rates.into_iter().reduce(|one, other| Some(one?.max(other?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn taken(taker: &mut Taker, at: impl IntoIterator<Item = Duration>) -> Vec<Duration> {
        let start = Instant::now();
        at.into_iter().filter(|&at| taker.takes(start + at)).collect()
    }

    #[test]
    fn the_largest_rate_is_enough_and_all_is_more_than_any() {
        assert_eq!(enough([]), None);
        assert_eq!(enough([Some(2.0), Some(5.0), Some(1.0)]), Some(Some(5.0)));
        assert_eq!(enough([Some(2.0), None, Some(1.0)]), Some(None));
    }

    #[test]
    fn without_a_rate_all_are_taken() {
        let at = (0..50).map(Duration::from_millis);
        assert_eq!(taken(&mut Taker::new(None), at).len(), 50);
    }

    #[test]
    fn after_a_pause_nothing_is_made_up_for() {
        let mut taker = Taker::new(Some(10.0));
        let at = [0, 5_000, 5_001, 5_002, 5_099].map(Duration::from_millis);
        assert_eq!(
            taken(&mut taker, at).len(),
            3,
            "the first, the one after the pause, and one more at most"
        );
    }

    #[test]
    fn another_rate_counts_at_once() {
        let (mut taker, start) = (Taker::new(Some(1.0)), Instant::now());
        assert!(taker.takes(start));
        assert!(!taker.takes(start + Duration::from_millis(100)));
        taker.change(None);
        assert!(taker.takes(start + Duration::from_millis(101)));
        assert!(taker.takes(start + Duration::from_millis(102)));
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_over_any_time(
            fps in 0.5_f32..60.0,
            gaps in prop::collection::vec(0_u64..200, 1..200),
        ) {
            let times = gaps.iter().scan(0, |at, gap| { *at += gap; Some(Duration::from_millis(*at)) });
            let taken = taken(&mut Taker::new(Some(fps)), times);
            for (from, &begun) in taken.iter().enumerate() {
                for (count, &at) in taken[from..].iter().enumerate() {
                    // Half a period early at one end, one behind at the other.
                    let allowed = (at - begun).as_secs_f32() * fps + 2.01;
                    prop_assert!((count as f32) < allowed, "{} in {:?}", count + 1, at - begun);
                }
            }
        }

        #[test]
        fn a_source_that_is_faster_gives_the_rate_and_one_that_is_not_loses_nothing(
            fps in 1.0_f32..30.0,
            source in 1.0_f32..120.0,
            jitter in prop::collection::vec(0.0_f32..0.4, 300),
        ) {
            let period = 1.0 / source.max(fps);
            let times = jitter.iter().enumerate().map(|(i, early)| {
                Duration::from_secs_f32((i as f32 + 1.0 - early) * period)
            });
            let seconds = 300.0 * period;
            let taken = taken(&mut Taker::new(Some(fps)), times).len() as f32;
            prop_assert!((taken - seconds * fps).abs() <= 2.0 + 0.01 * seconds * fps, "{taken} of {}", seconds * fps);
        }
    }
}
