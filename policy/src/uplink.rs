//! What a sender of video is told: when a key frame is due, and how many bits are enough. And when its frames were captured.

use std::time::{Duration, Instant};

/// A key frame is asked for so often, at most: one that is on its way takes as long as a slow network takes for it.
const PATIENCE: Duration = Duration::from_secs(1);
/// Over how long bits are counted.
const SPAN: Duration = Duration::from_secs(2);
/// Bits of a pixel of a frame that are taken for enough.
const ENOUGH: f32 = 0.2;
/// So many times what is enough is told.
const TOLERATED: f32 = 2.0;
/// Frames are taken for captured so long before they came, at most.
const MOST_DELAY: Duration = Duration::from_millis(500);

/// When a key frame is asked for.
#[derive(Debug, Default)]
pub struct Keyframes {
    asked: Option<Instant>,
}

impl Keyframes {
    /// A frame came that only a key frame makes good for. Whether to ask for one now.
    pub fn missing(&mut self, now: Instant) -> bool {
        let asks = self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= PATIENCE);
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    /// A frame was decoded: the next loss is told at once.
    pub fn decoded(&mut self) {
        self.asked = None;
    }
}

/// What a session sends, in bits.
#[derive(Debug, Default)]
pub struct Uplink {
    since: Option<Instant>,
    bytes: usize,
    frames: u32,
    pixels: usize,
}

impl Uplink {
    /// A frame came that has `pixels` and took `bytes`. Returns frames and bits a second that would be enough, if over two
    /// seconds it were far more.
    pub fn received(&mut self, now: Instant, bytes: usize, pixels: usize) -> Option<(f32, u32)> {
        let since = *self.since.get_or_insert(now);
        let span = now.saturating_duration_since(since).as_secs_f32();
        if span >= SPAN.as_secs_f32() {
            let (fps, bits) = (self.frames as f32 / span, 8.0 * self.bytes as f32 / span);
            *self = Self { since: Some(now), bytes, frames: 1, pixels };
            let enough = self.enough(fps);
            return (bits > TOLERATED * enough as f32).then_some((fps, enough));
        }
        self.bytes = self.bytes.saturating_add(bytes);
        (self.frames, self.pixels) = (self.frames + 1, pixels);
        None
    }

    /// Bits a second that are enough for so many frames a second, at least 1.
    pub fn enough(&self, fps: f32) -> u32 {
        (ENOUGH * self.pixels as f32 * fps).max(1.0) as u32
    }
}

/// When frames were captured, by the sender's clock, which counts from anywhere.
#[derive(Debug, Default)]
pub struct Captured {
    /// A moment here and the time there that is taken for the same.
    both: Option<(Instant, i64)>,
    last: Option<Instant>,
}

impl Captured {
    /// When the frame was captured that came `now` and has `time`, in microseconds. As the frame that took the least time on
    /// its way came when it was captured, the others did before they came. Never falls.
    pub fn at(&mut self, now: Instant, time: i64) -> Instant {
        let (here, there) = *self.both.get_or_insert((now, time));
        let after = Duration::from_micros(time.saturating_sub(there).unsigned_abs());
        let at = if time >= there { here.checked_add(after) } else { here.checked_sub(after) };
        let at = at.filter(|at| *at <= now && now.duration_since(*at) <= MOST_DELAY);
        let at = at.unwrap_or_else(|| {
            self.both = Some((now, time));
            now
        });
        let at = self.last.map_or(at, |last| at.max(last));
        self.last = Some(at);
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_key_frame_is_asked_for_at_once_then_once_a_second_until_one_came() {
        let (mut keyframes, start) = (Keyframes::default(), Instant::now());
        let asked: Vec<u32> = (0..100).filter(|n| keyframes.missing(start + *n * 33 * MS)).collect();
        assert_eq!(asked, [0, 31, 62, 93]);
        keyframes.decoded();
        assert!(keyframes.missing(start + 3300 * MS));
    }

    /// What is told of `count` frames at 30 a second that have so many bytes each.
    fn told(count: u32, bytes: usize) -> Vec<(f32, u32)> {
        let (mut uplink, start) = (Uplink::default(), Instant::now());
        (0..count).filter_map(|n| uplink.received(start + n * 100 * MS / 3, bytes, 1280 * 720)).collect()
    }

    #[test]
    fn who_sends_far_more_bits_than_enough_is_told_every_two_seconds() {
        assert!(told(200, 1280 * 720 / 40).is_empty(), "just enough");
        let told = told(200, 1280 * 720 / 10);
        assert_eq!(told.len(), 3);
        for (fps, bits) in told {
            assert!((29.9..30.1).contains(&fps), "{fps}");
            assert!((5_500_000..5_560_000).contains(&bits), "{bits}");
        }
        assert_eq!(Uplink::default().enough(30.0), 1);
    }

    #[test]
    fn frames_that_come_unevenly_were_captured_evenly() {
        let (mut captured, start) = (Captured::default(), Instant::now());
        // The first took longer than the second.
        for (n, delay, expected) in [(0, 20, 20), (1, 0, 33), (2, 15, 66), (3, 5, 99), (4, 60, 132)] {
            let at = captured.at(start + (n * 33 + delay) * MS, i64::from(n) * 33_000 - 1_000_000);
            assert_eq!((at - start).as_millis(), expected, "{n}");
        }
    }

    #[test]
    fn times_that_make_no_sense_count_for_nothing() {
        let (mut captured, start) = (Captured::default(), Instant::now());
        let mut last = start;
        for (n, time) in [0, i64::MAX, i64::MIN, 5, 5, -5, 1 << 40, 0].into_iter().enumerate() {
            let now = start + n as u32 * 33 * MS;
            let at = captured.at(now, time);
            assert!(at >= last && at <= now && now - at <= MOST_DELAY, "{n}");
            last = at;
        }
    }
}
