//! The broker's clock, as seen from here.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Nanoseconds since 1970.
type Nanos = i128;

/// Tells ages by the broker's clock, which stamps the frames: no other clock has to agree with it, and
/// none of ours may be set without harm.
#[derive(Debug)]
pub(super) struct BrokerClock(Mutex<Reading>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    ours: Instant,
    brokers: Nanos,
}

impl BrokerClock {
    /// Until it is set: our own clock.
    pub(super) fn new(now: Instant) -> Self {
        let brokers = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        Self(Mutex::new(Reading { ours: now, brokers: Nanos::try_from(brokers).unwrap_or_default() }))
    }

    /// The broker was asked at `asked`, it was `brokers` there, and the answer came at `answered`. The truth
    /// lies in between, so this is right to half the round trip.
    pub(super) fn set(&self, asked: Instant, brokers: Nanos, answered: Instant) {
        *self.reading() = Reading { ours: asked + (answered - asked) / 2, brokers };
    }

    /// How long before `now` the broker stamped something with `stamp`; zero if that is still to come.
    pub(super) fn age(&self, stamp: Nanos, now: Instant) -> Duration {
        let Reading { ours, brokers } = *self.reading();
        let since = now.checked_duration_since(ours).unwrap_or_default().as_nanos();
        let age = brokers + Nanos::try_from(since).unwrap_or(Nanos::MAX / 2) - stamp;
        Duration::from_nanos(u64::try_from(age.max(0)).unwrap_or(u64::MAX))
    }

    fn reading(&self) -> std::sync::MutexGuard<'_, Reading> {
        // Always replaced whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_follow_the_brokers_clock_whatever_ours_says() {
        let start = Instant::now();
        let clock = BrokerClock::new(start);
        let second = Duration::from_secs(1);
        // The broker is in 1970.
        clock.set(start, 5_000_000_000, start + 2 * second);
        assert_eq!(clock.age(5_000_000_000, start + second), Duration::ZERO);
        assert_eq!(clock.age(5_000_000_000, start + 4 * second), 3 * second);
        assert_eq!(clock.age(3_000_000_000, start + 4 * second), 5 * second);
        assert_eq!(clock.age(9_000_000_000, start + 2 * second), Duration::ZERO, "not stamped yet");
    }
}
