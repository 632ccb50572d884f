//! Whether a client takes what is sent to it, and sends what it has begun.

use std::time::{Duration, Instant};

/// Least that must be taken for the wait to begin anew: who takes a byte now and then would hold what waits for ever.
const LEAST: usize = 16 << 10;

/// How what is written to a client goes on: progress counts, not the whole.
#[derive(Debug, Clone, Copy)]
pub struct Progress {
    since: Instant,
    taken: usize,
}

impl Progress {
    /// Nothing is written yet.
    pub fn new(now: Instant) -> Self {
        Self { since: now, taken: 0 }
    }

    /// The client took `bytes`.
    pub fn took(&mut self, now: Instant, bytes: usize) {
        self.taken += bytes;
        if self.taken >= LEAST {
            *self = Self::new(now);
        }
    }

    /// Everything is written: what comes next begins anew.
    pub fn done(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// Since when it has taken too little to count.
    pub fn since(&self) -> Instant {
        self.since
    }
}

/// A message that a client sends over a WebSocket, from its first byte to its last. Bytes of it are what was read of
/// the connection and belongs to no message that is complete.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unfinished {
    read: u64,
    complete: u64,
    since: Option<Instant>,
}

impl Unfinished {
    /// `read` bytes have been read of the connection in all.
    pub fn read(&mut self, now: Instant, read: u64) {
        self.read = read;
        if self.bytes() == 0 {
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(now);
        }
    }

    /// A ping, pong or close of so many bytes came, which may stand within a message.
    pub fn control(&mut self, payload: usize) {
        // A client's control frames have a head of two bytes and a mask of four.
        self.complete = (self.complete + payload as u64 + 6).min(self.read);
        if self.bytes() == 0 {
            self.since = None;
        }
    }

    /// A message is complete. What has been read of the next one counts for nothing: it fits in one buffer.
    pub fn complete(&mut self) {
        (self.complete, self.since) = (self.read, None);
    }

    /// Nothing is read for now, so that nothing can be completed: the time begins anew.
    pub fn pause(&mut self) {
        self.since = None;
    }

    /// Bytes that wait for the rest of their message.
    pub fn bytes(&self) -> u64 {
        self.read - self.complete
    }

    /// When the rest must be there, if it may take `patience`.
    pub fn deadline(&self, patience: Duration) -> Option<Instant> {
        self.since.map(|since| since + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn steady_reading_counts_and_a_byte_now_and_then_does_not() {
        let begin = Instant::now();
        let mut progress = Progress::new(begin);
        for second in 1..100 {
            progress.took(begin + second * SECOND, LEAST);
            assert_eq!(progress.since(), begin + second * SECOND);
        }
        let mut progress = Progress::new(begin);
        (1..100).for_each(|second| progress.took(begin + second * SECOND, 1));
        assert_eq!(progress.since(), begin);
        progress.done(begin + SECOND);
        assert_eq!(progress.since(), begin + SECOND);
    }

    #[test]
    fn pongs_between_finish_no_message() {
        let begin = Instant::now();
        let mut message = Unfinished::default();
        assert_eq!(message.deadline(SECOND), None);
        message.read(begin, 100);
        for second in 1..10u32 {
            message.read(begin + second * SECOND, 100 + u64::from(second) * 16);
            message.control(10);
            assert_eq!((message.bytes(), message.deadline(SECOND)), (100, Some(begin + SECOND)));
        }
        message.complete();
        assert_eq!((message.bytes(), message.deadline(SECOND)), (0, None));
    }

    #[test]
    fn control_frames_alone_are_no_message() {
        let begin = Instant::now();
        let mut message = Unfinished::default();
        message.read(begin, 6);
        message.control(0);
        message.read(begin + SECOND, 6);
        assert_eq!((message.bytes(), message.deadline(SECOND)), (0, None));
        // What is said to be larger than it was hides nothing that comes later.
        message.control(125);
        message.read(begin + 2 * SECOND, 16);
        assert_eq!((message.bytes(), message.deadline(SECOND)), (10, Some(begin + 3 * SECOND)));
    }
}
