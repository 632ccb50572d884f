//! The requests of one connection that carries many at once (HTTP/2), and when its client has to go: each answer may
//! wait for its client, one connection's bytes go on all the while, and a request costs its client next to nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Requests that a client may give up before they are answered, beyond those that it lets be answered.
const GIVEN_UP: u64 = 100;

/// Why a client has to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It takes nothing of an answer.
    Slow,
    /// It asks for nothing.
    Idle,
    /// It gives up most of what it asks for.
    GivesUp,
}

/// The requests of a connection.
#[derive(Debug)]
pub struct Requests {
    /// Since when something of its answer waits for the client, if anything does.
    open: BTreeMap<u64, Option<Instant>>,
    next: u64,
    answered: u64,
    given_up: u64,
    /// Since when none is open.
    idle_since: Instant,
}

impl Requests {
    /// None yet.
    pub fn new(now: Instant) -> Self {
        Self { open: BTreeMap::new(), next: 0, answered: 0, given_up: 0, idle_since: now }
    }

    /// One came; it must [`end`](Self::end) by this number.
    pub fn begin(&mut self) -> u64 {
        self.next += 1;
        self.open.insert(self.next, None);
        self.next
    }

    /// It is answered.
    pub fn answered(&mut self, request: u64) {
        self.answered += 1;
        self.took(request);
    }

    /// Something of its answer waits for the client from now on.
    pub fn waits(&mut self, now: Instant, request: u64) {
        self.set(request, Some(now));
    }

    /// What waited is taken.
    pub fn took(&mut self, request: u64) {
        self.set(request, None);
    }

    fn set(&mut self, request: u64, since: Option<Instant>) {
        if let Some(waits) = self.open.get_mut(&request) {
            *waits = since;
        }
    }

    /// Its client gives it up, and it has no answer. True if that is why it [has to go](Cut::GivesUp) now.
    pub fn given_up(&mut self, now: Instant, request: u64) -> bool {
        self.given_up += 1;
        self.end(now, request);
        self.gives_up()
    }

    fn gives_up(&self) -> bool {
        self.given_up > GIVEN_UP + self.answered
    }

    /// It is over.
    pub fn end(&mut self, now: Instant, request: u64) {
        self.open.remove(&request);
        if self.open.is_empty() {
            self.idle_since = now;
        }
    }

    /// Whether one ever came.
    pub fn has_begun(&self) -> bool {
        self.next > 0
    }

    /// Whether none is open.
    pub fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Why the client has to go now, if it has to: an answer may wait for `patience`, the connection may be idle for
    /// `kept`.
    pub fn cut(&self, now: Instant, patience: Duration, kept: Duration) -> Option<Cut> {
        if self.gives_up() {
            Some(Cut::GivesUp)
        } else if self.waits_since().is_some_and(|since| now >= since + patience) {
            Some(Cut::Slow)
        } else if self.is_idle() && now >= self.idle_since + kept {
            Some(Cut::Idle)
        } else {
            None
        }
    }

    /// When to ask [`cut`](Self::cut) again, if nothing happens before: not later than `patience` from now, since
    /// answers begin to wait without anybody being told.
    pub fn next_deadline(&self, now: Instant, patience: Duration, kept: Duration) -> Instant {
        let slow = self.waits_since().map(|since| since + patience);
        let idle = self.is_idle().then_some(self.idle_since + kept);
        [slow, idle].into_iter().flatten().fold(now + patience, Instant::min).max(now)
    }

    fn waits_since(&self) -> Option<Instant> {
        self.open.values().flatten().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);
    const KEPT: Duration = Duration::from_secs(75);

    #[test]
    fn one_answer_that_is_not_taken_is_seen_among_others_that_are() {
        let begin = Instant::now();
        let mut requests = Requests::new(begin);
        let (stuck, read) = (requests.begin(), requests.begin());
        requests.answered(stuck);
        requests.answered(read);
        requests.waits(begin, stuck);
        for second in 0..5 {
            let now = begin + Duration::from_secs(second);
            assert_eq!(requests.cut(now, PATIENCE, KEPT), None);
            requests.took(read);
            requests.waits(now, read);
        }
        assert_eq!(requests.next_deadline(begin, PATIENCE, KEPT), begin + PATIENCE);
        assert_eq!(requests.cut(begin + PATIENCE, PATIENCE, KEPT), Some(Cut::Slow));
        requests.end(begin, stuck);
        assert_eq!(requests.cut(begin + PATIENCE, PATIENCE, KEPT), None);
    }

    #[test]
    fn who_asks_for_nothing_goes_when_the_last_answer_is_out_for_so_long() {
        let begin = Instant::now();
        let mut requests = Requests::new(begin);
        let only = requests.begin();
        let later = begin + 2 * KEPT;
        // It waits for us.
        assert_eq!(requests.cut(later, PATIENCE, KEPT), None);
        requests.answered(only);
        requests.end(later, only);
        assert_eq!(requests.cut(later, PATIENCE, KEPT), None);
        assert_eq!(requests.cut(later + KEPT, PATIENCE, KEPT), Some(Cut::Idle));
    }

    #[test]
    fn who_gives_up_what_he_asks_for_goes_unless_he_takes_as_much() {
        let now = Instant::now();
        let mut requests = Requests::new(now);
        for _ in 0..GIVEN_UP {
            let request = requests.begin();
            assert!(!requests.given_up(now, request));
        }
        assert_eq!(requests.cut(now, PATIENCE, KEPT), None);
        let answered = requests.begin();
        requests.answered(answered);
        for expected in [None, Some(Cut::GivesUp)] {
            let request = requests.begin();
            assert_eq!(requests.given_up(now, request), expected.is_some());
            assert_eq!(requests.cut(now, PATIENCE, KEPT), expected);
        }
    }
}
