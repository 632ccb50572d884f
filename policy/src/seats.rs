//! Who is worked on beside whom at a worker.
//!
//! A worker has as many seats as frames that keep it busy. A tenant that sends much holds them all, and a frame that has begun
//! cannot be sent away: whoever comes seldom would wait until one is done, each time. So there is a side seat beside them: while
//! one tenant holds all seats, a frame of another takes it at once. That one frame more is worked on than keeps the worker busy costs
//! those that used much, not the one that comes ([`usage`](crate::usage)).

use cloudpose_wire::Tenant;

/// For whom there is room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Room {
    /// For so many frames of anybody, at least one.
    Anybody(usize),
    /// On the side seat: for one frame of any tenant but this.
    Others(Tenant),
    /// For nobody.
    None,
}

/// The seats of one worker. `I` tells frames apart.
#[derive(Debug)]
pub struct Seats<I> {
    seats: usize,
    has_side: bool,
    held: Vec<(I, Tenant)>,
}

impl<I: Copy + Eq> Seats<I> {
    /// So many seats, and one at their side or not.
    pub fn new(seats: usize, has_side: bool) -> Self {
        Self { seats, has_side, held: Vec::new() }
    }

    /// For whom there is room.
    pub fn room(&self) -> Room {
        match self.seats.checked_sub(self.held.len()) {
            Some(free @ 1..) => Room::Anybody(free),
            Some(0) if self.has_side => self.side_room(),
            Some(0) | None => Room::None,
        }
    }

    /// A frame is begun, for which there was [`room`](Self::room).
    pub fn begin(&mut self, id: I, tenant: Tenant) {
        self.held.push((id, tenant));
    }

    /// A frame is done. Answers whose it was.
    pub fn end(&mut self, id: I) -> Option<Tenant> {
        let place = self.held.iter().position(|(held, _)| *held == id)?;
        Some(self.held.swap_remove(place).1)
    }

    /// How many are worked on.
    pub fn busy(&self) -> usize {
        self.held.len()
    }

    fn side_room(&self) -> Room {
        let [(_, first), others @ ..] = &self.held[..] else { return Room::None };
        let is_one_tenants = others.iter().all(|(_, tenant)| tenant == first);
        if is_one_tenants { Room::Others(first.clone()) } else { Room::None }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    #[test]
    fn who_holds_nothing_begins_at_once_beside_who_holds_all() {
        let mut seats = Seats::new(2, true);
        assert_eq!(seats.room(), Room::Anybody(2));
        seats.begin(1, tenant("flood"));
        seats.begin(2, tenant("flood"));
        assert_eq!(seats.room(), Room::Others(tenant("flood")));
        seats.begin(3, tenant("door"));
        assert_eq!((seats.room(), seats.busy()), (Room::None, 3));
        assert_eq!(seats.end(1), Some(tenant("flood")));
        assert_eq!(seats.room(), Room::None, "those in hand keep the worker busy");
        assert_eq!(seats.end(2), Some(tenant("flood")));
        assert_eq!(seats.room(), Room::Anybody(1));
    }

    #[test]
    fn there_is_no_side_seat_where_two_share_the_seats_or_nobody_asked_for_one() {
        let mut shared = Seats::new(2, true);
        shared.begin(1, tenant("a"));
        shared.begin(2, tenant("b"));
        let mut plain = Seats::new(1, false);
        plain.begin(1, tenant("a"));
        assert_eq!((shared.room(), plain.room()), (Room::None, Room::None));
    }

    proptest! {
        /// There is never more than one beside the seats, of another tenant than one that has them all; and who has all never
        /// keeps another out.
        #[test]
        fn one_at_most_is_beside_the_seats(seats in 1usize..4, steps in prop::collection::vec((0usize..3, 0usize..5), 0..200)) {
            let names = ["a", "b", "c"].map(tenant);
            let mut table = Seats::new(seats, true);
            let (mut begun, mut at_work) = (0, Vec::<(i32, usize)>::new());
            for (who, n) in steps {
                let one_has_all = at_work.len() == seats && at_work.iter().all(|(_, whose)| *whose == at_work[0].1);
                let may = match table.room() {
                    Room::Anybody(free) => {
                        prop_assert_eq!(free, seats - at_work.len());
                        true
                    }
                    Room::Others(but) => {
                        prop_assert!(one_has_all && but == names[at_work[0].1]);
                        but != names[who]
                    }
                    Room::None => {
                        prop_assert!(at_work.len() >= seats && !one_has_all);
                        false
                    }
                };
                if may && n > 0 {
                    begun += 1;
                    at_work.push((begun, who));
                    table.begin(begun, names[who].clone());
                } else if !at_work.is_empty() {
                    let (ended, whose) = at_work.remove(n % at_work.len());
                    prop_assert_eq!(table.end(ended), Some(names[whose].clone()));
                }
                prop_assert!(table.busy() <= seats + 1);
                prop_assert_eq!(table.busy(), at_work.len());
            }
        }
    }
}
