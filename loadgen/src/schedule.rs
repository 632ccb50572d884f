//! When things should happen. Pure: a schedule knows no clock, times count from the run's begin.
//!
//! Latency counts from these times and not from when a request really went out, so that a service that
//! holds the generator up does not hide the wait of those behind it (coordinated omission; Gil Tene, "How
//! NOT to Measure Latency", 2013).

use std::time::Duration;

use crate::range::Range;

/// When each user begins: `users.from` at once, the others one after another up to `users.to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Ramp {
    /// How many, at the begin and in the end.
    pub(crate) users: Range<u32>,
    /// Users that join a second.
    pub(crate) per_second: f64,
}

impl Ramp {
    /// When user `index` (from 0) begins.
    pub(crate) fn begin(&self, index: u32) -> Duration {
        let later = (index + 1).saturating_sub(self.users.from.max(1));
        Duration::from_secs_f64(f64::from(later) / self.per_second)
    }

    /// When the last one has begun.
    pub(crate) fn end(&self) -> Duration {
        self.users.to.checked_sub(1).map_or(Duration::ZERO, |last| self.begin(last))
    }
}

/// Arrivals of an open loop: a Poisson process, as that of many users who know nothing of one another,
/// whose rate goes evenly from `rate.from` to `rate.to` while `over` lasts, and stays there.
#[derive(Debug, Clone)]
pub(crate) struct Arrivals {
    rate: Range<f64>,
    over: f64,
    /// Expected arrivals until the last one.
    expected: f64,
    random: fastrand::Rng,
}

impl Arrivals {
    /// `rate` in arrivals a second. The same `seed` gives the same arrivals.
    pub(crate) fn new(rate: Range<f64>, over: Duration, seed: u64) -> Self {
        Self { rate, over: over.as_secs_f64(), expected: 0.0, random: fastrand::Rng::with_seed(seed) }
    }

    /// When so many arrivals are expected: the inverse of the rate's integral.
    fn when(&self, expected: f64) -> f64 {
        let Range { from, to } = self.rate;
        let ramp = 0.5 * (from + to) * self.over;
        if expected >= ramp {
            return self.over + (expected - ramp) / to;
        }
        let slope = (to - from) / self.over;
        // Of `slope / 2 t² + from t = expected`, in the form that also holds for a slope of 0.
        2.0 * expected / (from + (from * from + 2.0 * slope * expected).sqrt())
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    /// The next arrival. Without end, unless the rate is 0.
    fn next(&mut self) -> Option<Duration> {
        self.expected -= (1.0 - self.random.f64()).ln();
        Duration::try_from_secs_f64(self.when(self.expected)).ok()
    }
}

/// When the frames of a camera are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FrameClock {
    /// When the first one is.
    pub(crate) first: Duration,
    /// Frames a second, above 0.
    pub(crate) fps: f64,
}

impl FrameClock {
    /// When frame `seq` (from 1) is due.
    pub(crate) fn due(&self, seq: u64) -> Duration {
        self.first + Duration::from_secs_f64((seq - 1) as f64 / self.fps)
    }

    /// How many frames are due in `from <= t < until`.
    pub(crate) fn count(&self, from: Duration, until: Duration) -> u64 {
        let before =
            |t: Duration| (t.saturating_sub(self.first).as_secs_f64() * self.fps - 1e-6).ceil().max(0.0);
        (before(until) - before(from)).max(0.0) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(s: f64) -> Duration {
        Duration::from_secs_f64(s)
    }

    #[test]
    fn users_join_one_after_another() {
        let ramp = Ramp { users: Range { from: 3, to: 10 }, per_second: 2.0 };
        let begins: Vec<f64> = (0..10).map(|i| ramp.begin(i).as_secs_f64()).collect();
        assert_eq!(begins, [0.0, 0.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
        assert_eq!(ramp.end(), seconds(3.5));
    }

    #[test]
    fn arrivals_come_at_the_rate() {
        let steady = Range { from: 50.0, to: 50.0 };
        let count = Arrivals::new(steady, seconds(1.0), 7).take_while(|t| *t < seconds(200.0)).count();
        assert!((9_600..10_400).contains(&count), "10 000 give or take 4 standard deviations, got {count}");
        // From 0 to 100 in 100 s: a quarter of them in the first half.
        let rising = Range { from: 0.0, to: 100.0 };
        let times: Vec<_> =
            Arrivals::new(rising, seconds(100.0), 7).take_while(|t| *t < seconds(100.0)).collect();
        let early = times.iter().filter(|t| **t < seconds(50.0)).count();
        assert!((4_700..5_300).contains(&times.len()), "{}", times.len());
        assert!((1_100..1_400).contains(&early), "{early}");
        assert_eq!(Arrivals::new(Range { from: 0.0, to: 0.0 }, seconds(1.0), 7).next(), None);
    }

    #[test]
    fn gaps_of_a_poisson_process_vary_as_much_as_they_last() {
        let times: Vec<f64> = Arrivals::new(Range { from: 10.0, to: 10.0 }, seconds(1.0), 3)
            .take(20_000)
            .map(|t| t.as_secs_f64())
            .collect();
        let gaps: Vec<f64> = times.windows(2).map(|w| w[1] - w[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05);
    }

    proptest! {
        #[test]
        fn arrivals_never_go_back(from in 0.0..100.0_f64, more in 0.1..100.0_f64, over in 0.0..50.0_f64, seed: u64) {
            let arrivals = Arrivals::new(Range { from, to: from + more }, seconds(over), seed);
            let times: Vec<_> = arrivals.take(200).collect();
            prop_assert!(times.windows(2).all(|w| w[0] <= w[1]));
        }

        #[test]
        fn frames_are_counted_as_they_are_due(first in 0.0..2.0_f64, fps in 0.5..60.0_f64, from in 0.0..5.0_f64, length in 0.0..5.0_f64) {
            let clock = FrameClock { first: seconds(first), fps };
            let (from, until) = (seconds(from), seconds(from + length));
            let one_by_one = (1..1_000).map(|seq| clock.due(seq)).filter(|due| (from..until).contains(due)).count();
            prop_assert!(clock.count(from, until).abs_diff(one_by_one as u64) <= 1);
        }
    }
}
