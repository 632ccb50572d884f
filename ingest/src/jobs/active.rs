//! The items of a job that this gateway works on.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::document::{Failure, ItemFailure, MOST_FAILURES, State};

/// Which items of a job are to be offered, are offered, and have ended. Every item is one of the three.
#[derive(Debug)]
pub(crate) struct Items {
    count: u32,
    todo: BTreeSet<u32>,
    /// When they were offered.
    in_flight: BTreeMap<u32, Instant>,
    ended: BTreeSet<u32>,
    failures: BTreeMap<u32, Failure>,
    /// Failures of which only the number is known.
    unlisted: u32,
    /// How often an item was offered again, of those that were.
    again: BTreeMap<u32, u32>,
}

impl Items {
    /// Items 1 to `count`, none of which was offered.
    pub(crate) fn new(count: u32) -> Self {
        Self {
            count,
            todo: (1..=count).collect(),
            in_flight: BTreeMap::new(),
            ended: BTreeSet::new(),
            failures: BTreeMap::new(),
            unlisted: 0,
            again: BTreeMap::new(),
        }
    }

    /// Items 1 to `done`, which have ended as `state` says. Others come one by one.
    pub(crate) fn going_on(done: u32, state: &State) -> Self {
        let known = |failed: &ItemFailure| (failed.item, failed.failure.clone());
        let failures: BTreeMap<u32, Failure> =
            state.failures.iter().filter(|failed| failed.item <= done).map(known).collect();
        let unlisted = state.failed.saturating_sub(u32::try_from(state.failures.len()).unwrap_or(u32::MAX));
        Self { count: done, ended: (1..=done).collect(), failures, unlisted, ..Self::new(0) }
    }

    /// There is one more, the last of all that there are.
    pub(crate) fn add(&mut self, item: u32) {
        if item > self.count {
            self.count = item;
            self.todo.insert(item);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Takes the next item to offer. It must be [`offered`](Self::offered) or [`returned`](Self::returned).
    pub(crate) fn next(&mut self) -> Option<u32> {
        self.todo.pop_first()
    }

    pub(crate) fn has_more(&self) -> bool {
        !self.todo.is_empty()
    }

    /// How often an item was offered before.
    pub(crate) fn retries(&self, item: u32) -> u32 {
        self.again.get(&item).copied().unwrap_or_default()
    }

    /// The bus has it.
    pub(crate) fn offered(&mut self, item: u32, now: Instant) {
        if !self.ended.contains(&item) {
            self.todo.remove(&item);
            self.in_flight.insert(item, now);
        }
    }

    /// The bus did not take it.
    pub(crate) fn returned(&mut self, item: u32) {
        if !self.ended.contains(&item) {
            self.todo.insert(item);
        }
    }

    /// It has a result. False if that was known.
    pub(crate) fn end(&mut self, item: u32, failure: Option<Failure>) -> bool {
        if !self.ended.insert(item) {
            return false;
        }
        self.todo.remove(&item);
        self.in_flight.remove(&item);
        self.again.remove(&item);
        if let Some(failure) = failure {
            self.failures.insert(item, failure);
        }
        true
    }

    /// What came of an item was no result: it is offered again.
    pub(crate) fn again(&mut self, item: u32) {
        if self.in_flight.remove(&item).is_some() {
            *self.again.entry(item).or_default() += 1;
            self.todo.insert(item);
        }
    }

    /// All that is in flight may be lost.
    pub(crate) fn all_again(&mut self) {
        for item in self.in_flight.keys().copied().collect::<Vec<_>>() {
            self.again(item);
        }
    }

    /// What was offered so long ago is lost.
    pub(crate) fn overdue_again(&mut self, now: Instant, patience: Duration) {
        let overdue = |since: &Instant| now.saturating_duration_since(*since) >= patience;
        let late: Vec<u32> =
            self.in_flight.iter().filter(|(_, since)| overdue(since)).map(|(item, _)| *item).collect();
        for item in late {
            self.again(item);
        }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub(crate) fn is_ended(&self, item: u32) -> bool {
        self.ended.contains(&item)
    }

    /// Whether every item has a result.
    pub(crate) fn is_done(&self) -> bool {
        self.ended.len() >= self.count as usize
    }

    /// Writes how far it is into `state`.
    pub(crate) fn tell(&self, state: &mut State) {
        let count = |of: usize| u32::try_from(of).unwrap_or(u32::MAX);
        state.ended = count(self.ended.len());
        state.failed = count(self.failures.len()).saturating_add(self.unlisted);
        let first = self.failures.iter().take(MOST_FAILURES);
        state.failures =
            first.map(|(item, failure)| ItemFailure { item: *item, failure: failure.clone() }).collect();
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::DropReason;
    use proptest::prelude::*;

    use super::*;

    fn failure() -> Failure {
        Failure { reason: DropReason::Undecodable, detail: "it is no image".into() }
    }

    #[test]
    fn an_item_ends_once_whatever_comes_of_it_then() {
        let (mut items, now) = (Items::new(2), Instant::now());
        let first = items.next().unwrap();
        items.offered(first, now);
        assert_eq!((first, items.in_flight()), (1, 1));
        assert!(items.end(1, Some(failure())));
        assert!(!items.end(1, None), "it has ended");
        items.again(1);
        items.returned(1);
        items.offered(1, now);
        assert_eq!((items.next(), items.in_flight()), (Some(2), 0));
        assert!(!items.is_done(), "one is in the caller's hands");
        items.offered(2, now);
        assert!(!items.is_done());
        assert!(items.end(2, None) && items.is_done());
    }

    #[test]
    fn what_is_lost_is_offered_again_as_another_try() {
        let (mut items, now) = (Items::new(3), Instant::now());
        for _ in 0..3 {
            let item = items.next().unwrap();
            items.offered(item, now + Duration::from_secs(item.into()));
        }
        let patience = Duration::from_secs(10);
        items.overdue_again(now + Duration::from_secs(12), patience);
        assert_eq!(
            (items.in_flight(), items.next(), items.next(), items.next()),
            (1, Some(1), Some(2), None)
        );
        assert_eq!([1, 2, 3].map(|item| items.retries(item)), [1, 1, 0]);
        items.all_again();
        assert_eq!((items.next(), items.retries(3)), (Some(3), 1));
    }

    proptest! {
        /// Every item is to be offered, offered, in the caller's hands, or ended.
        #[test]
        fn no_item_is_lost(steps in prop::collection::vec((0u8..5, 1u32..6), 0..60)) {
            let (mut items, now) = (Items::new(5), Instant::now());
            let mut held = BTreeSet::new();
            for (what, item) in steps {
                match what {
                    0 => held.extend(items.next()),
                    1 if held.remove(&item) => items.offered(item, now),
                    2 if held.remove(&item) => items.returned(item),
                    3 => drop(items.end(item, None)),
                    4 => items.again(item),
                    _ => {}
                }
                for item in 1..=5 {
                    let places = [items.todo.contains(&item), items.in_flight.contains_key(&item), items.is_ended(item)];
                    let places = places.into_iter().filter(|is| *is).count();
                    prop_assert!(places == 1 || places == 0 && held.contains(&item), "{item} of {items:?}");
                }
            }
        }
    }
}
