//! How long to wait before something that failed is tried again.
//!
//! Pauses double from the first to the longest. Each is cut by up to half, by chance, but the same chance each time for
//! the same seed: those who failed at the same moment do not come back together.

use std::{
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash},
    time::Duration,
};

/// The pauses between attempts.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    seed: u64,
    /// Attempts that failed since the last that did not.
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet. `seed` tells those apart who wait for the same; no pause is longer than `first` at first, and
    /// than `longest` ever.
    pub fn new(seed: &impl Hash, first: Duration, longest: Duration) -> Self {
        Self { first, longest, seed: hash(seed), failures: 0 }
    }

    /// An attempt failed: how long to wait before the next.
    pub fn failed(&mut self) -> Duration {
        let pause = self.pause(self.failures);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// How long to wait after an attempt that failed after so many others.
    pub fn pause(&self, failures: u32) -> Duration {
        let longest = self.first.saturating_mul(2u32.saturating_pow(failures)).min(self.longest);
        let chance = hash(&(self.seed, failures)) as f64 / u64::MAX as f64;
        longest.mul_f64(0.5 + 0.5 * chance)
    }

    /// An attempt did not fail: pauses begin anew.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// The same number for the same value, in every process.
fn hash(value: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_lose_at_most_half_and_begin_anew() {
        let mut backoff = Backoff::new(&"door", FIRST, LONGEST);
        for failures in 0..40 {
            let longest = (FIRST * 2u32.pow(failures.min(6))).min(LONGEST);
            let pause = backoff.failed();
            assert!((longest / 2..=longest).contains(&pause), "{failures}: {pause:?}");
        }
        backoff.succeeded();
        assert!(backoff.failed() <= FIRST);
    }

    #[test]
    fn those_who_failed_together_do_not_come_back_together() {
        let pause = |seed: u32| Backoff::new(&seed, FIRST, LONGEST).failed();
        assert_eq!(pause(1), pause(1));
        let mut pauses: Vec<Duration> = (0..20).map(pause).collect();
        pauses.sort();
        pauses.dedup();
        assert!(pauses.len() > 15, "{pauses:?}");
    }
}
