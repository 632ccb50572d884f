//! Tickets: what is good once, for a short time.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    time::{Duration, Instant},
};

/// There is no room for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// The tickets that are out: each has an `Id`, an `Owner`, and stands for a `T`.
#[derive(Debug)]
pub struct Tickets<Id, Owner, T> {
    good_for: Duration,
    most: usize,
    most_of_one: usize,
    out: HashMap<Id, (Owner, T)>,
    /// When each ends, the next one first.
    ends: VecDeque<(Instant, Id)>,
    of_one: HashMap<Owner, usize>,
}

impl<Id: Clone + Eq + Hash, Owner: Clone + Eq + Hash, T> Tickets<Id, Owner, T> {
    /// Each is good for `good_for`. At most `most` are out at once, of one owner `most_of_one`.
    pub fn new(good_for: Duration, most: usize, most_of_one: usize) -> Self {
        Self {
            good_for,
            most,
            most_of_one,
            out: HashMap::new(),
            ends: VecDeque::new(),
            of_one: HashMap::new(),
        }
    }

    /// Gives one out.
    ///
    /// # Errors
    /// [`Full`].
    pub fn issue(&mut self, now: Instant, id: Id, owner: Owner, what: T) -> Result<(), Full> {
        self.forget(now);
        let of_one = self.of_one.entry(owner.clone()).or_default();
        if self.out.len() >= self.most || *of_one >= self.most_of_one {
            if *of_one == 0 {
                self.of_one.remove(&owner);
            }
            return Err(Full);
        }
        *of_one += 1;
        self.ends.push_back((now + self.good_for, id.clone()));
        self.out.insert(id, (owner, what));
        Ok(())
    }

    /// Takes one back: what it stands for, if it is good and was not taken before.
    pub fn take(&mut self, now: Instant, id: &Id) -> Option<T> {
        self.forget(now);
        let (owner, what) = self.out.remove(id)?;
        self.ends.retain(|(_, other)| other != id);
        self.leave(&owner);
        Some(what)
    }

    fn forget(&mut self, now: Instant) {
        while let Some((_, id)) = self.ends.pop_front_if(|(end, _)| *end <= now) {
            if let Some((owner, _)) = self.out.remove(&id) {
                self.leave(&owner);
            }
        }
    }

    fn leave(&mut self, owner: &Owner) {
        if let Some(count) = self.of_one.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD_FOR: Duration = Duration::from_secs(30);

    #[test]
    fn one_is_good_once_and_until_its_end() {
        let now = Instant::now();
        let mut tickets = Tickets::new(GOOD_FOR, 10, 10);
        for id in [1, 2] {
            tickets.issue(now, id, "a", id * 10).unwrap();
        }
        assert_eq!(tickets.take(now, &3), None);
        assert_eq!(tickets.take(now + GOOD_FOR - Duration::from_nanos(1), &1), Some(10));
        assert_eq!(tickets.take(now, &1), None);
        assert_eq!(tickets.take(now + GOOD_FOR, &2), None);
    }

    #[test]
    fn so_many_are_out_in_all_and_of_one() {
        let now = Instant::now();
        let mut tickets = Tickets::new(GOOD_FOR, 3, 2);
        for id in [1, 2] {
            tickets.issue(now, id, "a", ()).unwrap();
        }
        assert_eq!(tickets.issue(now, 3, "a", ()), Err(Full));
        tickets.issue(now, 4, "b", ()).unwrap();
        assert_eq!(tickets.issue(now, 5, "c", ()), Err(Full));
        // Room comes back by use and by time, and nothing is kept of either.
        assert_eq!(tickets.take(now, &1), Some(()));
        tickets.issue(now, 6, "c", ()).unwrap();
        assert_eq!(tickets.take(now + GOOD_FOR, &0), None);
        assert!(tickets.out.is_empty() && tickets.ends.is_empty() && tickets.of_one.is_empty());
    }

    #[test]
    fn who_uses_them_at_once_makes_nothing_grow() {
        let now = Instant::now();
        let mut tickets = Tickets::new(GOOD_FOR, 3, 2);
        for id in 0..1000 {
            tickets.issue(now, id, "a", ()).unwrap();
            tickets.take(now, &id).unwrap();
        }
        assert!(tickets.ends.is_empty());
    }
}
