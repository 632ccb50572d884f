//! When a frame was captured, by the camera's clock and the time of its arrival.
//!
//! Cameras stamp their frames with a clock of their own, which begins anywhere and runs a little too fast or too slow.
//! Networks deliver them in bursts. The quickest frame tells how the two clocks stand to each other; one that took longer
//! was captured by so much before it arrived.

use std::time::{Duration, Instant};

/// How much the clocks may drift apart in a second, seconds: crystals are ten times better.
const DRIFT: f64 = 1e-3;
/// A frame that took so much longer than the quickest tells that the camera's clock has jumped, seconds.
const JUMP: f64 = 1.0;

/// The clock of one camera, against ours.
#[derive(Debug, Default)]
pub struct Clock {
    first: Option<First>,
    /// The smallest lag of late, seconds.
    least: f64,
    last_arrival: Option<Instant>,
    last: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct First {
    arrived: Instant,
    media: f64,
}

impl Clock {
    /// A frame arrived that the camera stamped `media`, in seconds by its own clock. When it was captured: not after it
    /// arrived, and not before the one before it.
    pub fn captured(&mut self, arrived: Instant, media: f64) -> Instant {
        let first = *self.first.get_or_insert(First { arrived, media });
        let since = arrived.saturating_duration_since(first.arrived).as_secs_f64();
        let lag = since - (media - first.media);
        if let Some(last) = self.last_arrival {
            self.least += DRIFT * arrived.saturating_duration_since(last).as_secs_f64();
        }
        self.last_arrival = Some(arrived);
        let late = if lag.is_finite() { lag - self.least } else { JUMP };
        let captured = if late >= JUMP || late <= -JUMP {
            (self.first, self.least) = (Some(First { arrived, media }), 0.0);
            arrived
        } else {
            self.least = self.least.min(lag);
            arrived.checked_sub(Duration::from_secs_f64(late.max(0.0))).unwrap_or(arrived)
        };
        let captured = self.last.map_or(captured, |last| captured.max(last));
        self.last = Some(captured);
        captured
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_of_a_burst_lie_as_far_apart_as_the_camera_says() {
        let (mut clock, start) = (Clock::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        // The network holds back the third to the fifth.
        let arrivals = [0, 100, 420, 421, 422, 500];
        let captured: Vec<Instant> = arrivals
            .iter()
            .zip(0..)
            .map(|(ms, n)| clock.captured(at(*ms), 77.0 + 0.1 * f64::from(n)))
            .collect();
        for (n, captured) in captured.iter().enumerate() {
            let off = captured.saturating_duration_since(at(100 * n as u64)).as_secs_f64();
            assert!(off < 0.002, "{n}: {off}");
        }
    }

    #[test]
    fn a_clock_that_jumps_is_read_anew() {
        let (mut clock, start) = (Clock::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        for (ms, media) in [(0, 5.0), (100, 5.1), (200, 9000.0), (300, 9000.1), (400, 3.0), (500, f64::NAN)] {
            assert_eq!(clock.captured(at(ms), media), at(ms), "{media}");
        }
    }

    proptest! {
        #[test]
        fn never_after_the_arrival_never_back(
            frames in prop::collection::vec((0_u64..300, -0.5_f64..2.0), 1..200),
        ) {
            let (mut clock, mut now, mut media) = (Clock::default(), Instant::now(), 0.0);
            let mut last = None;
            for (pause, step) in frames {
                now += Duration::from_millis(pause);
                media += step;
                let captured = clock.captured(now, media);
                prop_assert!(captured <= now);
                prop_assert!(Some(captured) >= last);
                prop_assert!(now - captured <= Duration::from_secs(1));
                last = Some(captured);
            }
        }
    }
}
