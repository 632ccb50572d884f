//! Who is worked on beside whom at a worker.
//!
//! A worker has as many seats as frames that keep it busy. A tenant that sends much holds them all, and a frame that has begun
//! cannot be sent away: whoever comes seldom would wait until one is done, each time. So there is a side seat beside them. While
//! one tenant holds all seats, a frame of another takes it at once, and one of those frames rests meanwhile: no more are at
//! work than there are seats. A frame rests once, no longer than that other one is worked on.

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
    /// Those worked on, in the order in which they began.
    held: Vec<Held<I>>,
    side: Side<I>,
}

#[derive(Debug)]
struct Held<I> {
    id: I,
    tenant: Tenant,
    has_rested: bool,
}

#[derive(Debug)]
enum Side<I> {
    /// There is none.
    Missing,
    Free,
    Taken {
        by: I,
        /// Unless it is done already.
        resting: Option<I>,
    },
}

impl<I: Copy + Eq> Seats<I> {
    /// So many seats, and one at their side or not.
    pub fn new(seats: usize, with_side: bool) -> Self {
        Self { seats, held: Vec::new(), side: if with_side { Side::Free } else { Side::Missing } }
    }

    /// For whom there is room.
    pub fn room(&self) -> Room {
        match self.seats.saturating_sub(self.held.len()) {
            0 => self.side_room(),
            free => Room::Anybody(free),
        }
    }

    /// A frame is begun, for which there was [`room`](Self::room). Answers the one that rests from now on.
    pub fn begin(&mut self, id: I, tenant: Tenant) -> Option<I> {
        if self.held.len() < self.seats {
            self.held.push(Held { id, tenant, has_rested: false });
            return None;
        }
        // The one that has least behind it: the others are done, and their seats free, sooner.
        let rests = self.held.iter_mut().rfind(|held| !held.has_rested);
        let resting = rests.map(|held| {
            held.has_rested = true;
            held.id
        });
        self.side = Side::Taken { by: id, resting };
        resting
    }

    /// A frame is done. Answers the one that goes on now.
    pub fn end(&mut self, id: I) -> Option<I> {
        match &mut self.side {
            Side::Taken { by, resting } if *by == id => {
                let resting = resting.take();
                self.side = Side::Free;
                return resting;
            }
            Side::Taken { resting, .. } => {
                resting.take_if(|resting| *resting == id);
            }
            Side::Missing | Side::Free => {}
        }
        self.held.retain(|held| held.id != id);
        None
    }

    /// How many are worked on and do not rest.
    pub fn busy(&self) -> usize {
        let at_side = match &self.side {
            Side::Taken { resting, .. } => usize::from(resting.is_none()),
            Side::Missing | Side::Free => 0,
        };
        self.held.len() + at_side
    }

    /// Whether nothing is worked on.
    pub fn are_empty(&self) -> bool {
        self.held.is_empty() && !matches!(self.side, Side::Taken { .. })
    }

    fn side_room(&self) -> Room {
        let (Side::Free, Some(first)) = (&self.side, self.held.first()) else { return Room::None };
        let is_one_tenants = self.held.iter().all(|held| held.tenant == first.tenant);
        let may_rest = self.held.iter().any(|held| !held.has_rested);
        if is_one_tenants && may_rest { Room::Others(first.tenant.clone()) } else { Room::None }
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
    fn who_holds_nothing_begins_at_once_and_one_of_who_holds_all_rests_meanwhile() {
        let mut seats = Seats::new(2, true);
        assert_eq!(seats.room(), Room::Anybody(2));
        assert_eq!((seats.begin(1, tenant("flood")), seats.begin(2, tenant("flood"))), (None, None));
        assert_eq!(seats.room(), Room::Others(tenant("flood")));
        assert_eq!(seats.begin(3, tenant("door")), Some(2));
        assert_eq!((seats.room(), seats.busy()), (Room::None, 2));
        assert_eq!(seats.end(3), Some(2));
        assert_eq!(seats.begin(4, tenant("door")), Some(1), "the other has rested");
        assert_eq!(seats.end(4), Some(1));
        assert_eq!(seats.room(), Room::None, "both have");
        assert_eq!(seats.end(1), None);
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

    #[test]
    fn a_seat_that_is_free_again_is_anybodys_while_the_side_seat_is_taken() {
        let mut seats = Seats::new(2, true);
        seats.begin(1, tenant("flood"));
        seats.begin(2, tenant("flood"));
        seats.begin(3, tenant("door"));
        assert_eq!(seats.end(1), None, "the other rests on");
        assert_eq!((seats.room(), seats.busy()), (Room::Anybody(1), 1));
        assert_eq!(seats.begin(4, tenant("flood")), None);
        assert_eq!((seats.room(), seats.busy()), (Room::None, 2));
        assert_eq!(seats.end(2), None, "it was given up");
        assert_eq!(seats.end(3), None);
        assert_eq!(seats.room(), Room::Anybody(1));
    }

    proptest! {
        /// Nobody rests twice, for ever, or for nobody; and there are never more at work than seats, but for the one at their side
        /// when the one that rested for it is gone.
        #[test]
        fn whoever_rests_goes_on(seats in 1usize..4, steps in prop::collection::vec((0usize..3, 0usize..5), 0..200)) {
            let names = ["a", "b", "c"].map(tenant);
            let mut table = Seats::new(seats, true);
            let (mut begun, mut at_work, mut resting, mut rested) = (0, Vec::new(), None, Vec::new());
            for (who, n) in steps {
                let wanted = match table.room() {
                    Room::Anybody(_) => Some(&names[who]),
                    Room::Others(but) => names.iter().find(|name| **name != but && n % 2 == 0),
                    Room::None => None,
                };
                if let Some(name) = wanted.filter(|_| n > 0) {
                    begun += 1;
                    at_work.push(begun);
                    if let Some(rests) = table.begin(begun, name.clone()) {
                        prop_assert!(resting.is_none() && at_work.contains(&rests) && !rested.contains(&rests));
                        resting = Some(rests);
                        rested.push(rests);
                    }
                } else if !at_work.is_empty() {
                    // What rests does not end, unless it is given up.
                    let ended = at_work.remove(n % at_work.len());
                    let goes_on = table.end(ended);
                    if resting == Some(ended) {
                        resting = None;
                    }
                    if let Some(goes_on) = goes_on {
                        prop_assert_eq!(resting.take(), Some(goes_on));
                    }
                }
                prop_assert!(table.busy() <= seats + 1);
                prop_assert_eq!(table.busy(), at_work.len() - usize::from(resting.is_some()));
            }
            for id in at_work {
                if table.end(id) == resting {
                    resting = None;
                }
                resting.take_if(|resting| *resting == id);
            }
            prop_assert!(table.are_empty() && resting.is_none());
        }
    }
}
