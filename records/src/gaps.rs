//! How many events were lost before anybody took them.

/// Counts the numbers that are missing among those of the messages that were handed out.
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

    /// How many were left out before `number`.
    pub(crate) fn before(&mut self, number: u64) -> u64 {
        let lost = number.saturating_sub(self.newest.saturating_add(1));
        self.newest = self.newest.max(number);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_counted_once() {
        let mut gaps = Gaps::after(0);
        let lost: Vec<u64> = [1, 2, 5, 3, 5, 6, 10].map(|number| gaps.before(number)).into();
        assert_eq!(lost, [0, 0, 2, 0, 0, 0, 3]);
        assert_eq!(Gaps::after(7).before(9), 1, "it goes on where an earlier process ended");
        assert_eq!(Gaps::after(u64::MAX).before(u64::MAX), 0);
    }
}
