//! A live session at the gateway in the small: the gateway's own rules, without its pictures.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cloudpose_policy::{
    admit::{Admit, Next, Rules},
    deadline::{self, GRACE},
    order::{Arrival, Order},
};
use cloudpose_wire::Mode;

/// Frames of a session in flight at once, as at the gateway.
pub(super) const WINDOW: usize = 2;

/// A frame that goes on the lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Published {
    pub(super) seq: u64,
    /// What it has from now on.
    pub(super) budget: Duration,
    /// When the gateway closes it if no word of it comes: tell with [`Session::closed`].
    pub(super) due: Instant,
}

/// One camera's session. The client takes a result as soon as it is there.
#[derive(Debug)]
pub(super) struct Session {
    max_age: Duration,
    admit: Admit<()>,
    order: Order<()>,
    /// When those were received that are in flight.
    flights: BTreeMap<u64, Instant>,
    last_seq: u64,
}

impl Session {
    pub(super) fn new(max_age: Duration) -> Self {
        Self {
            max_age,
            admit: Admit::new(Rules { mode: Mode::Live, window: WINDOW, max_age }),
            order: Order::new(Mode::Live),
            flights: BTreeMap::new(),
            last_seq: 0,
        }
    }

    /// The camera sent a frame.
    pub(super) fn frame(&mut self, now: Instant) {
        self.last_seq += 1;
        self.admit.offer(now, self.last_seq, ());
    }

    /// The next frame that may go on the lane.
    pub(super) fn publish(&mut self, now: Instant) -> Option<Published> {
        loop {
            match self.admit.poll(now)? {
                Next::Expire(_) => {}
                Next::Publish(waiting) => {
                    let budget = deadline::budget(Mode::Live, self.max_age, now - waiting.received);
                    self.flights.insert(waiting.seq, waiting.received);
                    self.order.expect(waiting.seq);
                    return Some(Published { seq: waiting.seq, budget, due: now + budget + GRACE });
                }
            }
        }
    }

    /// A worker finished frame `seq`.
    pub(super) fn finished(&mut self, seq: u64) {
        if self.order.arrive(seq, ()) == Arrival::Late {
            self.end(seq);
        }
    }

    /// Frame `seq` waited too long for a worker, or for its word. Nothing happens if it has ended before.
    pub(super) fn closed(&mut self, seq: u64) {
        if self.order.forget(seq) {
            self.end(seq);
        }
    }

    /// The next result for the client: how long it took from the frame's arrival.
    pub(super) fn deliver(&mut self, now: Instant) -> Option<Duration> {
        let (seq, ()) = self.order.poll()?;
        self.end(seq).map(|received| now - received)
    }

    fn end(&mut self, seq: u64) -> Option<Instant> {
        let received = self.flights.remove(&seq)?;
        self.admit.release();
        Some(received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_AGE: Duration = Duration::from_secs(1);

    fn published(session: &mut Session, now: Instant) -> Option<(u64, Duration)> {
        session.publish(now).map(|published| (published.seq, published.budget))
    }

    /// As in `ingest/src/session/tests.rs`.
    #[test]
    fn it_does_what_a_session_at_the_gateway_does() {
        let (start, mut session) = (Instant::now(), Session::new(MAX_AGE));
        for seq in 1..=2 {
            session.frame(start);
            assert_eq!(published(&mut session, start), Some((seq, MAX_AGE)));
        }
        (3..=4).for_each(|_| session.frame(start));
        assert_eq!(published(&mut session, start), None, "the window is full");
        let now = start + Duration::from_millis(300);
        session.finished(1);
        assert_eq!(session.deliver(now), Some(now - start));
        assert_eq!(
            published(&mut session, now),
            Some((4, Duration::from_millis(700))),
            "the newest, and its rest"
        );
        session.finished(4);
        assert_eq!(session.deliver(now), Some(now - start));
        session.finished(2);
        assert_eq!(session.deliver(now), None, "it was overtaken");
        for seq in 5..=6 {
            session.frame(now);
            assert_eq!(published(&mut session, now), Some((seq, MAX_AGE)), "both credits are free");
        }
        session.closed(5);
        session.closed(5);
        session.finished(5);
        assert_eq!(session.deliver(now), None, "it was closed before");
        session.frame(now);
        assert!(published(&mut session, now).is_some());
        session.frame(now);
        assert_eq!(published(&mut session, now), None, "closing it twice freed one credit");
    }
}
