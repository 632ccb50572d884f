//! The ledger: every accepted frame ends in exactly one outcome.
//!
//! `accepted = delivered + Σ dropped by reason + in flight` holds at any moment a reader can see:
//! [`Ledger`] is the plain count, [`Books`] the gateway's shared one (with the metrics, which change
//! under the same lock), and an [`Account`] the part of one session. An account that is dropped, by
//! whatever way the session ended, closes what it still has open as `client_gone`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cloudpose_wire::{DropReason, Kind, Outcome, Tenant};

use crate::metrics;

/// Frames counted by their end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Frames taken from clients.
    pub accepted: u64,
    /// Frames whose result the client was sent.
    pub delivered: u64,
    /// Frames that ended otherwise.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl Ledger {
    /// Frames that have not ended.
    pub fn in_flight(&self) -> u64 {
        self.accepted - self.delivered - self.dropped.values().sum::<u64>()
    }

    fn end(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Delivered => self.delivered += 1,
            Outcome::Dropped(reason) => *self.dropped.entry(reason).or_default() += 1,
        }
    }
}

/// The ledger of all sessions of a gateway. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Books(Arc<Mutex<Ledger>>);

impl Books {
    /// The counts at this moment.
    pub fn total(&self) -> Ledger {
        self.lock().clone()
    }

    /// Runs `read` while nothing is booked, so that the metrics it reads add up.
    pub fn at_rest<R>(&self, read: impl FnOnce() -> R) -> R {
        let _books = self.lock();
        read()
    }

    /// The account of a new session.
    pub(crate) fn open(&self, kind: Kind, tenant: Tenant) -> Account {
        Account { books: self.clone(), kind, tenant, own: Ledger::default(), open: BTreeSet::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        // Each entry is one addition, so a panic elsewhere cannot leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One session's frames.
#[derive(Debug)]
pub(crate) struct Account {
    books: Books,
    kind: Kind,
    tenant: Tenant,
    own: Ledger,
    open: BTreeSet<u64>,
}

impl Account {
    /// A frame came in. `seq` must be new.
    pub(crate) fn accept(&mut self, seq: u64) {
        if !self.open.insert(seq) {
            debug_assert!(false, "frame {seq} was accepted twice");
            return;
        }
        self.own.accepted += 1;
        let mut books = self.books.lock();
        books.accepted += 1;
        metrics::frame_accepted(self.kind, &self.tenant);
    }

    /// A frame has ended. Only the first end counts; false if this is not it.
    pub(crate) fn end(&mut self, seq: u64, outcome: Outcome) -> bool {
        if !self.open.remove(&seq) {
            return false;
        }
        self.own.end(outcome);
        let mut books = self.books.lock();
        books.end(outcome);
        metrics::frame_ended(self.kind, &self.tenant, outcome);
        true
    }

    /// All frames that are still open have ended for the same reason.
    pub(crate) fn end_all(&mut self, reason: DropReason) {
        while let Some(&seq) = self.open.first() {
            self.end(seq, Outcome::Dropped(reason));
        }
    }

    /// The session's own counts.
    pub(crate) fn own(&self) -> &Ledger {
        &self.own
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.end_all(DropReason::ClientGone);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_first_end_counts() {
        let books = Books::default();
        let mut account = books.open(Kind::Live, Tenant::default());
        account.accept(1);
        assert_eq!(books.total().in_flight(), 1);
        assert!(account.end(1, Outcome::Delivered));
        assert!(!account.end(1, Outcome::Dropped(DropReason::Late)));
        assert!(!account.end(2, Outcome::Delivered), "never accepted");
        assert_eq!(books.total(), Ledger { accepted: 1, delivered: 1, dropped: BTreeMap::new() });
    }

    #[test]
    fn session_that_panics_leaves_no_frame_open() {
        let books = Books::default();
        let mut account = books.open(Kind::Live, Tenant::default());
        account.accept(1);
        account.accept(2);
        let session = std::thread::spawn(move || {
            account.end(1, Outcome::Delivered);
            panic!("the session dies");
        });
        assert!(session.join().is_err());
        let total = books.total();
        assert_eq!((total.accepted, total.delivered, total.in_flight()), (2, 1, 0));
        assert_eq!(total.dropped, BTreeMap::from([(DropReason::ClientGone, 1)]));
    }

    /// The sum of all samples of `name` in Prometheus' text format.
    fn sum(text: &str, name: &str) -> f64 {
        let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    #[test]
    fn metrics_add_up_as_the_ledger_does() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        ::metrics::with_local_recorder(&recorder, || {
            let books = Books::default();
            let mut accounts = [Kind::Live, Kind::Still].map(|kind| books.open(kind, Tenant::default()));
            for account in &mut accounts {
                (1..=5).for_each(|seq| account.accept(seq));
                account.end(1, Outcome::Delivered);
                account.end(2, Outcome::Dropped(DropReason::Late));
                account.end(2, Outcome::Delivered);
            }
            let text = books.at_rest(|| handle.render());
            assert_eq!(sum(&text, "cloudpose_frames_accepted_total"), 10.0, "{text}");
            assert_eq!(sum(&text, "cloudpose_frames_total"), 4.0, "{text}");
            assert_eq!(sum(&text, "cloudpose_frames_in_flight"), 6.0, "{text}");
            assert!(text.contains(r#"cloudpose_frames_total{kind="still",outcome="late"} 1"#), "{text}");
            drop(accounts);
            let text = handle.render();
            assert_eq!(sum(&text, "cloudpose_frames_total"), 10.0, "{text}");
            assert_eq!(sum(&text, "cloudpose_frames_in_flight"), 0.0, "{text}");
        });
    }

    proptest! {
        /// The law, after every step, for the sessions and for their sum.
        #[test]
        fn accepted_is_ended_plus_open(steps in prop::collection::vec((0usize..3, 1u64..20, 0usize..12), 0..200)) {
            let books = Books::default();
            let mut accounts = [Kind::Live, Kind::Still, Kind::Live].map(|kind| books.open(kind, Tenant::default()));
            for (session, seq, what) in steps {
                let account = &mut accounts[session];
                match what {
                    0..=9 => {
                        account.end(seq, Outcome::Dropped(DropReason::ALL[what]));
                    }
                    10 => {
                        account.end(seq, Outcome::Delivered);
                    }
                    _ if account.open.contains(&seq) => {}
                    _ => account.accept(seq),
                }
                prop_assert_eq!(account.own().in_flight(), account.open.len() as u64);
                let open: usize = accounts.iter().map(|a| a.open.len()).sum();
                prop_assert_eq!(books.total().in_flight(), open as u64);
            }
            drop(accounts);
            prop_assert_eq!(books.total().in_flight(), 0);
        }
    }
}
