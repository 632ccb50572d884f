//! How many frames come a second.

use std::time::{Duration, Instant};

/// Over how long frames are counted, and after which a stream without frames is silent.
const SPAN: Duration = Duration::from_secs(2);

/// Counts frames.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// When the newest came.
    last: Option<Instant>,
    /// Those that are being counted, and from when on.
    counted: Option<(Instant, u32)>,
    fps: f32,
}

impl Meter {
    pub(crate) fn count(&mut self, now: Instant, more: u32) {
        self.last = Some(now);
        let (since, frames) = self.counted.get_or_insert((now, 0));
        let span = now.saturating_duration_since(*since);
        if span >= SPAN {
            self.fps = *frames as f32 / span.as_secs_f32();
            self.counted = Some((now, more));
        } else {
            *frames += more;
        }
    }

    /// When the newest came.
    pub(crate) fn last(&self) -> Option<Instant> {
        self.last
    }

    pub(crate) fn is_silent(&self, now: Instant) -> bool {
        self.last.is_none_or(|last| now.saturating_duration_since(last) > SPAN)
    }

    /// Frames a second, of late.
    pub(crate) fn fps(&self, now: Instant) -> f32 {
        match self.counted {
            _ if self.is_silent(now) => 0.0,
            // The first span is not over.
            Some((since, frames)) if self.fps == 0.0 => {
                let span = now.saturating_duration_since(since).as_secs_f32();
                if span > 0.0 { frames as f32 / span.max(0.5) } else { 0.0 }
            }
            _ => self.fps,
        }
    }
}
