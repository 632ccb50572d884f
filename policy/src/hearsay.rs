//! For how long an answer counts, so that who is asked often asks seldom.

use std::time::{Duration, Instant};

/// How long an answer counts.
pub const COUNTS: Duration = Duration::from_secs(5);

/// What was last heard of something far away.
///
/// ```
/// use std::time::Instant;
/// use cloudpose_policy::hearsay::{COUNTS, Hearsay};
/// let (mut hearsay, now) = (Hearsay::default(), Instant::now());
/// assert_eq!(hearsay.still(now), None);
/// hearsay.heard(now, "well");
/// assert_eq!(hearsay.still(now + COUNTS / 2), Some(&"well"));
/// assert_eq!(hearsay.still(now + COUNTS), None);
/// ```
#[derive(Debug, Clone)]
pub struct Hearsay<T>(Option<(Instant, T)>);

impl<T> Default for Hearsay<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Hearsay<T> {
    /// What was heard, if it still counts; otherwise it is time to ask.
    pub fn still(&self, now: Instant) -> Option<&T> {
        let (at, told) = self.0.as_ref()?;
        (now.saturating_duration_since(*at) < COUNTS).then_some(told)
    }

    /// It was asked at `now`, and this is the answer. It counts from when it was asked.
    pub fn heard(&mut self, now: Instant, told: T) {
        self.0 = Some((now, told));
    }
}
