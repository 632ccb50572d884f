//! Whose turn it is among those who have something waiting.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;

/// Turns that are owed are forgotten beyond so many: they are a courtesy, and whoever makes up names makes up many.
const MOST_OWED: usize = 1024;

/// Those who have something waiting, in the order of their turns: whoever has had one goes to the end, and so does
/// whoever comes.
///
/// Whose turn comes when all that he has is too old keeps it for what he has next. So those whose frames age fast get
/// as many turns as those whose frames never do.
#[derive(Debug, Clone)]
pub struct Rota<K> {
    order: VecDeque<K>,
    owed: HashSet<K>,
}

impl<K> Default for Rota<K> {
    fn default() -> Self {
        Self { order: VecDeque::new(), owed: HashSet::new() }
    }
}

impl<K: Clone + Eq + Hash> Rota<K> {
    /// `key` has something waiting, and had nothing before.
    pub fn join(&mut self, key: K) {
        match self.owed.remove(&key) {
            true => self.order.push_front(key),
            false => self.order.push_back(key),
        }
    }

    /// `key` is next, whether it had something waiting or not: its last turn came to nothing.
    pub fn put_first(&mut self, key: K) {
        self.leave(&key);
        self.order.push_front(key);
    }

    /// `key` has had a turn, though it was not next, and has more waiting.
    pub fn put_last(&mut self, key: K) {
        self.leave(&key);
        self.order.push_back(key);
    }

    /// Whose turn it is.
    pub fn next(&self) -> Option<&K> {
        self.order.front()
    }

    /// All, in the order of their turns.
    pub fn order(&self) -> impl Iterator<Item = &K> {
        self.order.iter()
    }

    /// Whoever's turn it was has had it, and has `more` waiting or not.
    pub fn took(&mut self, more: bool) {
        if let Some(key) = self.order.pop_front()
            && more
        {
            self.order.push_back(key);
        }
    }

    /// Whoever's turn it was had nothing that was worth it, and has nothing else.
    pub fn missed(&mut self) {
        if let Some(key) = self.order.pop_front() {
            if self.owed.len() >= MOST_OWED {
                self.owed.clear();
            }
            self.owed.insert(key);
        }
    }

    /// `key` has nothing waiting any more.
    pub fn leave(&mut self, key: &K) {
        self.order.retain(|other| other != key);
    }

    /// How many have something waiting.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether nobody has.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_have_turns_and_whoever_missed_one_is_next() {
        let mut rota = Rota::default();
        ["a", "b", "c"].into_iter().for_each(|key| rota.join(key));
        rota.took(true);
        assert_eq!(rota.order().copied().collect::<Vec<_>>(), ["b", "c", "a"]);
        rota.missed();
        rota.took(false);
        assert_eq!(rota.next(), Some(&"a"));
        ["c", "b"].into_iter().for_each(|key| rota.join(key));
        assert_eq!(rota.order().copied().collect::<Vec<_>>(), ["b", "a", "c"], "b missed its turn, c had it");
        rota.took(false);
        rota.join("b");
        assert_eq!(rota.order().copied().collect::<Vec<_>>(), ["a", "c", "b"], "once");
        rota.put_first("c");
        rota.leave(&"a");
        assert_eq!((rota.next(), rota.len(), rota.is_empty()), (Some(&"c"), 2, false));
        rota.put_last("c");
        assert_eq!(rota.order().copied().collect::<Vec<_>>(), ["b", "c"]);
    }

    #[test]
    fn turns_that_are_owed_take_no_more_room_than_they_may() {
        let mut rota = Rota::default();
        for key in 0..10 * MOST_OWED {
            rota.join(key);
            rota.missed();
            assert!(rota.owed.len() <= MOST_OWED);
        }
    }
}
