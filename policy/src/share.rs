//! When work that nobody waits for goes on the lanes: that of jobs.
//!
//! Who waits comes first. While anything waits on the lanes, jobs stay back, so that a client finds at most the one
//! item before it that was offered when nothing waited. They do not stand still though where clients keep the lanes
//! full for ever: one item at a time goes there after each [`CRUMB`].

use std::time::{Duration, Instant};

/// The most items that a process has on the lanes or at the workers.
pub const MOST: usize = 256;
/// While the lanes are not empty, an item is offered so long after the last, if that is done.
pub const CRUMB: Duration = Duration::from_secs(1);

/// When the items of one process were offered.
#[derive(Debug, Default)]
pub struct Share {
    offered: Option<Instant>,
}

impl Share {
    /// Whether an item may be offered now: `waiting` frames wait on the lanes, and `in_flight` items were offered and
    /// are not done.
    pub fn may_offer(&self, now: Instant, waiting: usize, in_flight: usize) -> bool {
        if waiting == 0 {
            return in_flight < MOST;
        }
        in_flight == 0 && self.offered.is_none_or(|offered| now.saturating_duration_since(offered) >= CRUMB)
    }

    /// An item was offered.
    pub fn offered(&mut self, now: Instant) {
        self.offered = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lanes_are_filled_and_others_left_to_those_who_wait() {
        let (mut share, now) = (Share::default(), Instant::now());
        assert!(share.may_offer(now, 0, 0) && share.may_offer(now, 0, MOST - 1));
        assert!(!share.may_offer(now, 0, MOST));
        assert!(share.may_offer(now, 1, 0), "it was never offered anything");
        share.offered(now);
        assert!(share.may_offer(now, 0, 1));
        assert!(!share.may_offer(now, 1, 0), "somebody waits");
        assert!(!share.may_offer(now + CRUMB / 2, 100, 0));
        assert!(share.may_offer(now + CRUMB, 100, 0), "it goes on all the same");
        assert!(!share.may_offer(now + CRUMB, 100, 1), "one at a time");
    }
}
