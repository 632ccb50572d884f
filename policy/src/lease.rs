//! Which of several processes works on something.
//!
//! A lease stands in a document that only one of them can change at a time. Who holds it renews it long before it
//! ends; who finds one that has ended takes it. Clocks of machines differ: what two holders do at the same time must
//! be harmless, a lease only makes it rare.

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

#[cfg(test)]
mod tests {
    use super::*;

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
