//! What waits for its next picture.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Of so many that come back one is put at the far end.
const ROTATION: usize = 64;

/// A bounded number of things with buffers that are used again: whoever has a picture takes one, and puts it back.
///
/// The one that came back last goes first: its memory is the likeliest to be in a cache. But every so often one is put
/// at the far end, so that each has its turn, and with it the occasion to give memory back ([`Recent`](crate::Recent)).
#[derive(Debug)]
pub struct Idle<T> {
    waiting: Mutex<Waiting<T>>,
    most: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    things: Vec<T>,
    returns: usize,
}

impl<T> Idle<T> {
    /// Room for `most`, of which none is there yet.
    pub fn new(most: usize) -> Self {
        Self { waiting: Mutex::new(Waiting { things: Vec::new(), returns: 0 }), most }
    }

    /// Takes one, if one is there.
    pub fn take(&self) -> Option<T> {
        self.lock().things.pop()
    }

    /// Puts one back, or drops it where there are enough.
    pub fn put(&self, thing: T) {
        let mut waiting = self.lock();
        if waiting.things.len() >= self.most {
            return;
        }
        waiting.returns += 1;
        if waiting.returns.is_multiple_of(ROTATION) {
            waiting.things.insert(0, thing);
        } else {
            waiting.things.push(thing);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<T>> {
        // The list is only put into and taken from: it is whole whatever happened.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_goes_first_and_each_has_its_turn() {
        let idle = Idle::new(4);
        (0..4).for_each(|thing| idle.put(thing));
        let mut turns = [0; 4];
        let mut same = 0;
        let mut last = None;
        for _ in 0..8 * ROTATION {
            let thing = idle.take().unwrap();
            turns[thing] += 1;
            same += usize::from(last.replace(thing) == Some(thing));
            idle.put(thing);
        }
        assert!(turns.iter().all(|turns| *turns > ROTATION), "{turns:?}");
        assert!(same > 6 * ROTATION, "{same} of {} took the one that came back last", 8 * ROTATION);
    }

    #[test]
    fn no_more_are_kept_than_there_is_room_for() {
        let idle = Idle::new(1);
        assert_eq!(idle.take(), None);
        idle.put(1);
        idle.put(2);
        assert_eq!((idle.take(), idle.take()), (Some(1), None));
    }
}
