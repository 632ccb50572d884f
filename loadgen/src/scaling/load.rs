//! How many streams there are when.

use std::time::Duration;

/// A load over time.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// From one number to another at once, for good.
    Step {
        /// Streams before.
        from: u32,
        /// Streams after.
        to: u32,
        /// When it changes.
        at: Duration,
        /// How long it all lasts.
        lasts: Duration,
    },
    /// Evenly from one number to another, over all the time.
    Ramp {
        /// Streams at the beginning.
        from: u32,
        /// Streams at the end.
        to: u32,
        /// How long it lasts.
        lasts: Duration,
    },
    /// High for a while, then low again.
    Burst {
        /// Streams before and after.
        low: u32,
        /// Streams meanwhile.
        high: u32,
        /// When it begins.
        from: Duration,
        /// When it ends.
        until: Duration,
        /// How long it all lasts.
        lasts: Duration,
    },
    /// Up and down again as a day does, from the lowest to the highest and back.
    Diurnal {
        /// Streams at night.
        low: u32,
        /// Streams at noon.
        high: u32,
        /// The length of the day.
        lasts: Duration,
    },
}

impl Shape {
    /// Streams at `now`.
    pub fn streams(&self, now: Duration) -> u32 {
        let between = |low: u32, high: u32, share: f64| {
            (f64::from(low) + (f64::from(high) - f64::from(low)) * share).round() as u32
        };
        match *self {
            Self::Step { from, to, at, .. } => {
                if now < at {
                    from
                } else {
                    to
                }
            }
            Self::Ramp { from, to, lasts } => between(from, to, now.div_duration_f64(lasts).min(1.0)),
            Self::Burst { low, high, from, until, .. } => {
                if (from..until).contains(&now) {
                    high
                } else {
                    low
                }
            }
            Self::Diurnal { low, high, lasts } => {
                let turn = now.div_duration_f64(lasts) * std::f64::consts::TAU;
                between(low, high, f64::midpoint(1.0, -turn.cos()))
            }
        }
    }

    /// The most streams at any time.
    pub fn most(&self) -> u32 {
        match *self {
            Self::Step { from, to, .. } | Self::Ramp { from, to, .. } => from.max(to),
            Self::Burst { low, high, .. } | Self::Diurnal { low, high, .. } => low.max(high),
        }
    }

    /// When it ends.
    pub fn lasts(&self) -> Duration {
        match *self {
            Self::Step { lasts, .. }
            | Self::Ramp { lasts, .. }
            | Self::Burst { lasts, .. }
            | Self::Diurnal { lasts, .. } => lasts,
        }
    }

    /// What tables call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Step { .. } => "step",
            Self::Ramp { .. } => "ramp",
            Self::Burst { .. } => "burst",
            Self::Diurnal { .. } => "diurnal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_what_their_names_say() {
        let s = Duration::from_secs;
        let at = |shape: &Shape, seconds: [u64; 3]| seconds.map(|second| shape.streams(s(second)));
        assert_eq!(at(&Shape::Step { from: 1, to: 10, at: s(5), lasts: s(9) }, [0, 4, 5]), [1, 1, 10]);
        assert_eq!(at(&Shape::Ramp { from: 0, to: 10, lasts: s(10) }, [0, 5, 20]), [0, 5, 10]);
        let burst = Shape::Burst { low: 1, high: 9, from: s(2), until: s(4), lasts: s(6) };
        assert_eq!(at(&burst, [1, 3, 4]), [1, 9, 1]);
        assert_eq!(at(&Shape::Diurnal { low: 2, high: 10, lasts: s(8) }, [0, 4, 8]), [2, 10, 2]);
        assert_eq!((burst.most(), burst.lasts()), (9, s(6)));
    }
}
