//! Which of several processes works on something.
//!
//! A lease stands in a document that only one of them can change at a time. Who holds it renews it long before it
//! ends; who finds one that has ended takes it.
//!
//! A [`Lease`] says when it ends. Clocks of machines differ: what two holders do at the same time must be harmless, a lease
//! only makes it rare. Where two at the same time would do harm nothing is said of times: the holder counts from when it
//! began to renew ([`Term`]), the others from when they saw that it had ([`Sighting`]), which is later, and none needs
//! another's clock.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long a lease lasts, in milliseconds: so long nobody goes on with what a dead process held.
pub const LASTS_MS: u64 = 10_000;

/// Who works on something, until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// A process.
    pub holder: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub until: u64,
}

impl Lease {
    /// A lease that begins now.
    pub fn new(holder: &str, now: u64) -> Self {
        Self { holder: holder.to_owned(), until: now.saturating_add(LASTS_MS) }
    }

    /// Whether `who` may work on it: it is theirs, or nobody's any more.
    pub fn is_free_for(lease: Option<&Self>, who: &str, now: u64) -> bool {
        lease.is_none_or(|lease| lease.holder == who || now >= lease.until)
    }

    /// Whether `who` holds it still.
    pub fn is_held_by(lease: Option<&Self>, who: &str) -> bool {
        lease.is_some_and(|lease| lease.holder == who)
    }

    /// Whether its holder should renew it: a third of it is over.
    pub fn should_be_renewed(&self, now: u64) -> bool {
        self.until.saturating_sub(now) < LASTS_MS - LASTS_MS / 3
    }
}

/// How often who holds a lease of a [`Term`] renews it.
pub const RENEWED_EVERY: Duration = Duration::from_millis(500);
/// How long others wait for it to be renewed.
pub const TERM: Duration = Duration::from_millis(2500);
/// So long before others may begin its holder has stopped: stopping takes a moment, and clocks do not run alike.
pub const AHEAD: Duration = Duration::from_millis(500);

/// A lease as its holder sees it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Term {
    renewed: Option<Instant>,
}

impl Term {
    /// It was renewed, which was begun at `begun`.
    pub fn renewed(&mut self, begun: Instant) {
        self.renewed = self.renewed.max(Some(begun));
    }

    /// When it ends, unless it is renewed; `None` if it never was.
    pub fn ends(&self) -> Option<Instant> {
        self.renewed.map(|renewed| renewed + (TERM - AHEAD))
    }

    /// Whether it is held.
    pub fn is_held(&self, now: Instant) -> bool {
        self.ends().is_some_and(|ends| now < ends)
    }
}

/// A lease as others see it.
#[derive(Debug, Clone, Copy)]
pub struct Sighting {
    revision: u64,
    since: Instant,
}

impl Sighting {
    /// It was seen for the first time, as it was renewed by `revision`.
    pub fn new(now: Instant, revision: u64) -> Self {
        Self { revision, since: now }
    }

    /// It is seen again.
    pub fn again(&mut self, now: Instant, revision: u64) {
        if revision != self.revision {
            *self = Self::new(now, revision);
        }
    }

    /// Whether its holder has not renewed it for too long.
    pub fn has_ended(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= TERM
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// However late the others look, and however long renewing takes, the holder stops before they begin.
        #[test]
        fn nobody_begins_before_the_holder_has_stopped(
            renewals in prop::collection::vec((0_u64..3000, 0_u64..2000), 1..20),
            looks in prop::collection::vec(1_u64..1500, 1..100),
        ) {
            let start = Instant::now();
            let at = |ms: u64| start + Duration::from_millis(ms);
            // When each renewal is begun, when it stands, and when its holder knows that.
            let mut begun = 0;
            let renewals: Vec<[u64; 3]> = renewals.into_iter().map(|(pause, takes)| {
                begun += pause;
                let times = [begun, begun + takes / 2, begun + takes];
                begun += takes;
                times
            }).collect();
            let is_held = |now: u64| {
                let mut term = Term::default();
                for [begun, _, known] in &renewals {
                    if *known <= now {
                        term.renewed(at(*begun));
                    }
                }
                term.is_held(at(now))
            };
            let (mut now, mut sighting) = (0, None::<Sighting>);
            for pause in looks {
                now += pause;
                let stands = renewals.iter().filter(|[_, stands, _]| *stands <= now).count() as u64;
                match &mut sighting {
                    Some(sighting) => sighting.again(at(now), stands),
                    None => sighting = Some(Sighting::new(at(now), stands)),
                }
                if sighting.is_some_and(|sighting| sighting.has_ended(at(now))) {
                    prop_assert!(!is_held(now), "at {now}");
                }
            }
        }
    }

    #[test]
    fn a_term_that_is_not_renewed_ends_ahead_of_its_time() {
        let (mut term, now) = (Term::default(), Instant::now());
        assert!(!term.is_held(now) && term.ends().is_none());
        term.renewed(now);
        term.renewed(now - RENEWED_EVERY);
        let last = now + TERM - AHEAD;
        assert!(term.is_held(last - Duration::from_millis(1)) && !term.is_held(last));
        let mut seen = Sighting::new(now, 7);
        seen.again(now + TERM / 2, 7);
        assert!(seen.has_ended(now + TERM) && !seen.has_ended(now + TERM - Duration::from_millis(1)));
        seen.again(now + TERM, 8);
        assert!(!seen.has_ended(now + TERM));
    }

    #[test]
    fn it_is_its_holders_until_it_ends() {
        assert!(Lease::is_free_for(None, "a", 0) && !Lease::is_held_by(None, "a"));
        let lease = Lease::new("a", 1000);
        assert_eq!(lease.until, 1000 + LASTS_MS);
        let lease = Some(&lease);
        assert!(Lease::is_held_by(lease, "a") && !Lease::is_held_by(lease, "b"));
        for now in [0, 1000, 1000 + LASTS_MS - 1] {
            assert!(Lease::is_free_for(lease, "a", now));
            assert!(!Lease::is_free_for(lease, "b", now), "{now}");
        }
        assert!(Lease::is_free_for(lease, "b", 1000 + LASTS_MS));
    }

    #[test]
    fn it_is_renewed_when_a_third_is_over() {
        let lease = Lease::new("a", 1000);
        assert!(!lease.should_be_renewed(1000 + LASTS_MS / 3));
        assert!(lease.should_be_renewed(1001 + LASTS_MS / 3));
        assert!(lease.should_be_renewed(1000 + 2 * LASTS_MS));
    }
}
