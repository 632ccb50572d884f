//! When callbacks are sent, and how many at once.
//!
//! One that is not taken is sent again after pauses that double, for a day at most, and for no more than half of the time
//! for which its job is still kept: in the other half somebody may look why, and have it sent again.
//!
//! A receiver that never answers keeps its place for as long as an answer is waited for. Bounds by tenant and by host
//! leave places to others, and whose callbacks have the fewest of them is next.

use std::{collections::BTreeMap, time::Duration};

use cloudpose_wire::Tenant;

use crate::backoff::Backoff;

/// The longest pause after the first try, and after any.
const FIRST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(2 * 3600);
/// For how long it is tried, in milliseconds.
const LASTS_MS: u64 = 24 * 3600 * 1000;

/// Callbacks of one process that are on their way at once: in all, of a tenant, to a host.
pub const AT_ONCE: usize = 32;
/// Of one tenant.
pub const OF_TENANT: usize = 8;
/// To one host.
pub const TO_HOST: usize = 4;

/// When the callback `id` is tried again whose `tries` have failed, the last of them `now`; `None`: it is given up. It is
/// tried since `since`, and its job is removed at `removed_at`; all in milliseconds of one clock.
pub fn next_try(id: &str, tries: u32, since: u64, now: u64, removed_at: u64) -> Option<u64> {
    let pause = Backoff::new(&id, FIRST, LONGEST).pause(tries.saturating_sub(1));
    let next = now.saturating_add(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX));
    let last = since.saturating_add(LASTS_MS.min(removed_at.saturating_sub(since) / 2));
    (next <= last).then_some(next)
}

/// Who is called, on whose account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct To {
    /// Whose job it is.
    pub tenant: Tenant,
    /// Where the receiver is: its name, and its port.
    pub host: String,
}

/// The callbacks that one process knows of, by name.
#[derive(Debug, Default)]
pub struct Outbox {
    waiting: BTreeMap<String, (u64, To)>,
    /// With when they are to be looked at again, should that have been heard meanwhile.
    under_way: BTreeMap<String, (To, Option<u64>)>,
}

impl Outbox {
    /// One is to be sent `at`, in milliseconds of one clock as all times here; one that is under way not before it is done.
    pub fn expect(&mut self, name: &str, to: To, at: u64) {
        match self.under_way.get_mut(name) {
            Some((_, again)) => *again = Some(at),
            None => drop(self.waiting.insert(name.to_owned(), (at, to))),
        }
    }

    /// One that may be sent now. It is under way until it is [`done`](Self::done).
    pub fn next(&mut self, now: u64) -> Option<String> {
        if self.under_way.len() >= AT_ONCE {
            return None;
        }
        let due = self.waiting.iter().filter_map(|(name, (at, to))| {
            let of_tenant = self.count(|other| other.tenant == to.tenant);
            let may =
                *at <= now && of_tenant < OF_TENANT && self.count(|other| other.host == to.host) < TO_HOST;
            may.then_some((of_tenant, *at, name))
        });
        let (_, _, name) = due.min()?;
        let name = name.clone();
        let (_, to) = self.waiting.remove(&name)?;
        self.under_way.insert(name.clone(), (to, None));
        Some(name)
    }

    /// One has been tried. It is to be tried again at `again`, if ever.
    pub fn done(&mut self, name: &str, again: Option<u64>) {
        let Some((to, expected)) = self.under_way.remove(name) else { return };
        if let Some(at) = again.into_iter().chain(expected).min() {
            self.waiting.insert(name.to_owned(), (at, to));
        }
    }

    /// When the first becomes due of those that are not.
    pub fn next_deadline(&self, now: u64) -> Option<u64> {
        self.waiting.values().map(|(at, _)| *at).filter(|at| *at > now).min()
    }

    fn count(&self, of: impl Fn(&To) -> bool) -> usize {
        self.under_way.values().filter(|(to, _)| of(to)).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: u64 = 3600 * 1000;

    /// When all tries of a callback are that is never taken.
    fn tries(removed_at: u64) -> Vec<u64> {
        let (mut at, mut all) = (0, Vec::new());
        loop {
            all.push(at);
            let tries = u32::try_from(all.len()).unwrap();
            match next_try("up-1", tries, 0, at, removed_at) {
                Some(next) => at = next,
                None => return all,
            }
        }
    }

    #[test]
    fn tries_are_seconds_apart_at_first_and_hours_at_last_and_end_after_a_day() {
        let all = tries(1000 * HOUR);
        let pauses: Vec<u64> = all.windows(2).map(|two| two[1] - two[0]).collect();
        assert!((2_500..=5_000).contains(&pauses[0]), "{pauses:?}");
        assert!(pauses.iter().all(|pause| *pause <= 2 * HOUR), "{pauses:?}");
        assert!((20..40).contains(&all.len()), "{}", all.len());
        let last = *all.last().unwrap();
        assert!((22 * HOUR..=24 * HOUR).contains(&last), "{last}");
    }

    #[test]
    fn half_of_the_time_that_a_job_is_kept_is_for_who_looks_why() {
        let last = *tries(24 * HOUR).last().unwrap();
        assert!((10 * HOUR..=12 * HOUR).contains(&last), "{last}");
        assert_eq!(tries(4000), [0], "there is no time for a second");
        assert_eq!(next_try("up-1", 1, 10, 10, 5), None, "the job is gone already");
    }

    fn to(tenant: &str, host: &str) -> To {
        To { tenant: tenant.parse().unwrap(), host: host.to_owned() }
    }

    #[test]
    fn one_that_never_answers_leaves_places_to_others() {
        let mut outbox = Outbox::default();
        for number in 0..100 {
            outbox.expect(&format!("a.{number}"), to("a", "silent"), 0);
        }
        let under_way = |outbox: &mut Outbox| std::iter::from_fn(|| outbox.next(0)).collect::<Vec<_>>();
        assert_eq!(under_way(&mut outbox).len(), TO_HOST);
        for number in 0..100 {
            outbox.expect(&format!("a.other{number}"), to("a", &number.to_string()), 0);
        }
        assert_eq!(
            under_way(&mut outbox).len(),
            OF_TENANT - TO_HOST,
            "hosts without end are still one tenant's"
        );
        outbox.expect("b.1", to("b", "well"), 0);
        assert_eq!(under_way(&mut outbox), ["b.1"]);
        outbox.done("a.0", None);
        outbox.expect("b.2", to("b", "well"), 0);
        assert_eq!(under_way(&mut outbox), ["b.2", "a.12"], "who has fewer is first");
    }

    #[test]
    fn one_is_sent_when_it_is_due_and_by_nobody_twice_at_once() {
        let mut outbox = Outbox::default();
        outbox.expect("a.1", to("a", "well"), 10);
        assert_eq!((outbox.next(9), outbox.next_deadline(9)), (None, Some(10)));
        outbox.expect("a.1", to("a", "well"), 5);
        assert_eq!((outbox.next(9).as_deref(), outbox.next(9)), (Some("a.1"), None));
        assert_eq!((outbox.next(9), outbox.next_deadline(0)), (None, None), "it is under way");
        outbox.done("a.1", Some(20));
        outbox.done("a.1", Some(30));
        assert_eq!((outbox.next(19), outbox.next_deadline(19)), (None, Some(20)));
        assert_eq!(outbox.next(20).as_deref(), Some("a.1"));
        outbox.done("a.1", None);
        assert_eq!((outbox.next(u64::MAX), outbox.next_deadline(0)), (None, None));
    }

    #[test]
    fn what_is_asked_for_while_it_is_under_way_is_looked_at_then() {
        let mut outbox = Outbox::default();
        outbox.expect("a.1", to("a", "well"), 0);
        assert_eq!(outbox.next(0).as_deref(), Some("a.1"));
        outbox.expect("a.1", to("a", "well"), 5);
        assert_eq!(outbox.next(9), None, "never twice at once");
        outbox.done("a.1", None);
        assert_eq!(outbox.next(9).as_deref(), Some("a.1"));
    }

    proptest! {
        /// Whatever becomes of them, the bounds hold, and what is due and has room is sent.
        #[test]
        fn bounds_hold(steps in prop::collection::vec((0u8..3, 0u8..12, 0u8..6, 0u64..20), 0..200)) {
            let mut outbox = Outbox::default();
            for (what, tenant, host, at) in steps {
                let name = format!("{tenant}.{host}.{at}");
                match what {
                    0 => outbox.expect(&name, to(&tenant.to_string(), &host.to_string()), at),
                    1 => drop(outbox.next(at)),
                    _ => outbox.done(&name, (at > 5).then_some(at)),
                }
                prop_assert!(outbox.under_way.len() <= AT_ONCE);
                for (to, _) in outbox.under_way.values() {
                    prop_assert!(outbox.count(|other| other.tenant == to.tenant) <= OF_TENANT);
                    prop_assert!(outbox.count(|other| other.host == to.host) <= TO_HOST);
                }
                prop_assert!(outbox.waiting.keys().all(|name| !outbox.under_way.contains_key(name)));
            }
        }
    }
}
