//! When frames came in, for those who compare.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The wall time of one moment, and from there on as much more as has passed. A wall clock that is set back or
/// ahead changes nothing: trackers ask how much later than the last frame this one came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stamps {
    wall: Duration,
    since: Instant,
}

impl Stamps {
    /// At `since` it was `wall`, counted from 1970-01-01T00:00:00Z.
    pub(crate) fn new(wall: Duration, since: Instant) -> Self {
        Self { wall, since }
    }

    /// Now it is what the wall clock says.
    pub(crate) fn from_now() -> Self {
        Self::new(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), Instant::now())
    }

    /// Milliseconds since 1970-01-01T00:00:00Z. Never falls while `now` does not.
    pub(crate) fn at(&self, now: Instant) -> u64 {
        let wall = self.wall.saturating_add(now.saturating_duration_since(self.since));
        u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_by_the_time_that_passed_and_by_nothing_else() {
        let begun = Instant::now();
        let stamps = Stamps::new(Duration::from_millis(1_700_000_000_000), begun);
        assert_eq!(stamps.at(begun), 1_700_000_000_000);
        assert_eq!(stamps.at(begun + Duration::from_millis(33)), 1_700_000_000_033);
        assert_eq!(stamps.at(begun + Duration::from_secs(86_400)), 1_700_086_400_000);
    }

    #[test]
    fn first_stamp_is_of_the_wall_clock() {
        assert!(Stamps::from_now().at(Instant::now()) > 1_700_000_000_000);
    }
}
