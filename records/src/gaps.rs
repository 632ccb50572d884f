//! How many events were lost before anybody took them.

use std::ops::Range;

/// Finds the numbers that are missing among those of the messages that were handed out.
///
/// The broker numbers events without a gap, and hands them out in that order; what it discarded because too many waited
/// never comes. What comes again has a lower number than the newest.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gaps {
    newest: u64,
}

impl Gaps {
    /// Goes on after `newest`.
    pub(crate) fn after(newest: u64) -> Self {
        Self { newest }
    }

    /// Those that were left out before `number`.
    pub(crate) fn before(&mut self, number: u64) -> Range<u64> {
        let missing = self.newest.saturating_add(1)..number;
        self.newest = self.newest.max(number);
        missing
    }
}

/// How many of those that are missing are lost, where `oldest` is what the broker still has, if it tells: what is not older
/// was handed out to who stood still, and comes again.
pub(crate) fn lost(missing: &Range<u64>, oldest: Option<u64>) -> u64 {
    missing.end.min(oldest.unwrap_or(u64::MAX)).saturating_sub(missing.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_counted_once() {
        let mut gaps = Gaps::after(0);
        let count = |missing: Range<u64>| lost(&missing, None);
        let all: Vec<u64> = [1, 2, 5, 3, 5, 6, 10].map(|number| count(gaps.before(number))).into();
        assert_eq!(all, [0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(count(Gaps::after(7).before(9)), 1, "it goes on where an earlier process ended");
        assert_eq!(count(Gaps::after(u64::MAX).before(u64::MAX)), 0);
    }

    #[test]
    fn what_the_broker_still_has_is_not_lost() {
        for (oldest, expected) in [(1, 0), (3, 0), (5, 2), (7, 4), (100, 4)] {
            assert_eq!(lost(&(3..7), Some(oldest)), expected, "{oldest}");
        }
    }
}
