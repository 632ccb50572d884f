//! When each of those who stream is told that the gateway goes: one after the other, so that they do not all come to the
//! next one in the same moment.

use std::time::Duration;

/// Between one and the next, if there is the time for it.
const APART: Duration = Duration::from_millis(20);

/// Those who are told.
#[derive(Debug, Clone, Copy)]
pub struct Leaving {
    apart: Duration,
    told: u32,
}

impl Leaving {
    /// About `streams` are to be told `within` that time.
    pub fn new(streams: usize, within: Duration) -> Self {
        let streams = u32::try_from(streams).unwrap_or(u32::MAX).max(1);
        Self { apart: APART.min(within / streams), told: 0 }
    }

    /// How long the next one goes on, counted from when the gateway was told.
    pub fn goes_on(&mut self) -> Duration {
        let time = self.apart.saturating_mul(self.told);
        self.told = self.told.saturating_add(1);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_and_all_in_time() {
        let second = Duration::from_secs(1);
        let mut few = Leaving::new(3, second);
        assert_eq!([(); 3].map(|()| few.goes_on()), [Duration::ZERO, APART, 2 * APART]);
        let mut many = Leaving::new(1000, second);
        let last = (0..1000).map(|_| many.goes_on()).max().unwrap();
        assert!(last > second / 2 && last < second, "{last:?}");
        assert_eq!(Leaving::new(0, Duration::ZERO).goes_on(), Duration::ZERO);
    }
}
