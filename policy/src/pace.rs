//! Tells a live client that sends too fast how fast it should send, and how fast it is listened to.

use std::time::{Duration, Instant};

/// Over how long frames are counted.
const SPAN: Duration = Duration::from_secs(2);
/// The share of frames that may be superseded before the client is told.
const TOLERATED: f32 = 0.2;

/// How long a client is not listened to after a frame was superseded: 64 frames a second are read then, as many as cameras send.
const BREATH: Duration = Duration::from_micros(15_625);

/// What became of a session's frames of late.
#[derive(Debug, Default)]
pub struct Pace {
    since: Option<Instant>,
    received: u32,
    superseded: u32,
    delivered: u32,
    /// When the client is listened to again.
    rests_until: Option<Instant>,
}

impl Pace {
    /// A frame came. Returns the rate that the session sustains, in frames a second, if for a span of two
    /// seconds more were superseded than is good.
    pub fn received(&mut self, now: Instant) -> Option<f32> {
        let since = *self.since.get_or_insert(now);
        let span = now.duration_since(since);
        self.received += 1;
        if span < SPAN {
            return None;
        }
        let Self { received, superseded, delivered, .. } = *self;
        *self = Self { since: Some(now), rests_until: self.rests_until, ..Self::default() };
        let is_too_fast = superseded as f32 > TOLERATED * received as f32 && delivered > 0;
        is_too_fast.then(|| delivered as f32 / span.as_secs_f32())
    }

    /// A frame gave way to one that came `now`, or to nothing.
    pub fn superseded(&mut self, now: Instant) {
        self.superseded += 1;
        self.rests_until = Some(now + BREATH);
    }

    /// Until when the client need not be listened to, if that is later than `now`.
    pub fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.rests_until.filter(|until| now < *until)
    }

    /// The client has a frame's result.
    pub fn delivered(&mut self) {
        self.delivered += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thirty frames a second for `seconds`, of which one in `nth` is delivered and the others superseded.
    fn hints(seconds: u64, nth: u64) -> Vec<f32> {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut hints = Vec::new();
        for frame in 0..30 * seconds {
            let now = start + Duration::from_millis(frame * 1000 / 30);
            hints.extend(pace.received(now));
            if frame % nth == 0 {
                pace.delivered();
            } else {
                pace.superseded(now);
            }
        }
        hints
    }

    #[test]
    fn who_sends_three_times_too_fast_is_told_the_rate_every_two_seconds() {
        let hints = hints(9, 3);
        assert_eq!(hints.len(), 4);
        assert!(hints.iter().all(|fps| (9.5..10.5).contains(fps)), "{hints:?}");
    }

    /// What is told after a hundred frames over two seconds, so many of them superseded and most others delivered.
    fn told(superseded: u64) -> Option<f32> {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.received(start), None);
        for frame in 1..99 {
            let now = start + Duration::from_millis(frame * 20);
            assert_eq!(pace.received(now), None, "before the span is over");
            if frame <= superseded { pace.superseded(now) } else { pace.delivered() }
        }
        pace.received(start + SPAN)
    }

    #[test]
    fn a_tenth_superseded_is_silent_and_a_quarter_is_told() {
        assert_eq!(told(10), None);
        assert_eq!(told(20), None, "a fifth is good enough");
        assert_eq!(told(25), Some(73.0 / 2.0));
    }

    #[test]
    fn who_keeps_pace_and_who_gets_nothing_are_not_told() {
        assert!(hints(9, 1).is_empty());
        assert!(hints(9, 1_000).len() <= 1, "only the span with the one delivery");
    }

    #[test]
    fn a_camera_of_sixty_is_always_listened_to_and_a_flood_is_not() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert_eq!(pace.rests_until(start), None);
        let mut read = 0;
        for millisecond in 0..1000 {
            let now = start + Duration::from_millis(millisecond);
            if pace.rests_until(now).is_none() {
                pace.received(now);
                pace.superseded(now);
                read += 1;
            }
        }
        assert!((60..=64).contains(&read), "{read}");
        pace.superseded(start);
        assert_eq!(pace.rests_until(start + Duration::from_secs(1) / 60), None);
    }
}
