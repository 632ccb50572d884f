//! Room for what clients have begun to send and not finished, shared by all of them.

/// How much there is, and how much of it is taken by how many.
#[derive(Debug)]
pub struct Room {
    most: u64,
    taken: u64,
    holders: u64,
}

impl Room {
    /// `most` bytes in all.
    pub fn new(most: u64) -> Self {
        Self { most, taken: 0, holders: 0 }
    }

    /// One who holds `before` bytes wants to hold `after`. Whether it may: when there is no room, those may grow who
    /// have no more than an equal share, so that many small ones get on beside a few that fill it. In all there are
    /// never more than twice `most` bytes.
    pub fn change(&mut self, before: u64, after: u64) -> bool {
        let taken = self.taken - before + after;
        let holders = self.holders - u64::from(before > 0) + u64::from(after > 0);
        if after > before && taken > self.most && after > self.most / holders {
            return false;
        }
        (self.taken, self.holders) = (taken, holders);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn small_ones_get_on_beside_those_that_fill_it() {
        let mut room = Room::new(100);
        assert!(room.change(0, 60) && room.change(0, 40));
        assert!(!room.change(60, 61));
        assert!(room.change(0, 20), "a fifth of it");
        assert!(!room.change(20, 40), "more than a third");
        assert!(room.change(60, 0));
        assert!(room.change(20, 60), "there is room again");
    }

    proptest! {
        #[test]
        fn it_is_bounded_and_given_back(changes in prop::collection::vec((0usize..12, 0u64..80), 0..300)) {
            let mut room = Room::new(100);
            let mut held = [0; 12];
            for (who, after) in changes {
                if room.change(held[who], after) {
                    held[who] = after;
                }
                prop_assert_eq!(room.taken, held.iter().sum::<u64>());
                prop_assert!(room.taken <= 200, "{:?}", held);
            }
            held.into_iter().for_each(|bytes| assert!(room.change(bytes, 0)));
            prop_assert_eq!((room.taken, room.holders), (0, 0));
        }
    }
}
