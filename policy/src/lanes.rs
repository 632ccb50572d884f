//! The two lanes of a stage: which frame is handed out next, and what gives way when a lane is full.
//!
//! - **live**: bounded; when full the oldest frame gives way to the newest.
//! - **still**: bounded; when full the frame is refused.
//!
//! Frames of a lane go in the order in which they came. What has waited too long to be worth beginning
//! ([`deadline`]) is not handed out, and takes nobody's turn ([`Turns`]).

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use cloudpose_wire::Kind;

use crate::{deadline, turns::Turns};

/// How many frames may wait.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// On the live lane.
    pub live: usize,
    /// On the still lane.
    pub still: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { live: 2048, still: 256 }
    }
}

/// A frame on a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued<T> {
    /// On which.
    pub kind: Kind,
    /// Since when.
    pub since: Instant,
    /// How long it has from then on.
    pub budget: Duration,
    /// The frame.
    pub frame: T,
}

/// What to do with a frame whose turn it is.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T> {
    /// Hand it out.
    Begin(Queued<T>),
    /// It has waited too long: tell its gateway.
    Expire(Queued<T>),
}

/// The still lane takes no more frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Frames that wait at one stage.
#[derive(Debug)]
pub struct Lanes<T> {
    bounds: Bounds,
    live: VecDeque<Queued<T>>,
    still: VecDeque<Queued<T>>,
    turns: Turns,
}

impl<T> Lanes<T> {
    /// No frames yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, live: VecDeque::new(), still: VecDeque::new(), turns: Turns::default() }
    }

    /// Puts a frame on the lane of its kind. Returns the live frame that gives way to it.
    ///
    /// # Errors
    /// [`Full`] if the still lane is at its bound: the frame is not taken.
    pub fn push(&mut self, frame: Queued<T>) -> Result<Option<Queued<T>>, Full> {
        let gives_way = match frame.kind {
            Kind::Still if self.still.len() >= self.bounds.still => return Err(Full),
            Kind::Live if self.live.len() >= self.bounds.live => self.live.pop_front(),
            Kind::Still | Kind::Live => None,
        };
        self.lane_mut(frame.kind).push_back(frame);
        Ok(gives_way)
    }

    /// Puts a frame that was handed out back to where it was, whatever the bounds.
    pub fn put_back(&mut self, frame: Queued<T>) {
        self.lane_mut(frame.kind).push_front(frame);
    }

    /// Takes the next frame, live and still in turn.
    pub fn poll(&mut self, now: Instant) -> Option<Next<T>> {
        let frame = self.turns.order().into_iter().find_map(|kind| self.lane_mut(kind).pop_front())?;
        if !deadline::worth_beginning(frame.kind, frame.budget, now.duration_since(frame.since)) {
            return Some(Next::Expire(frame));
        }
        self.turns.took(frame.kind);
        Some(Next::Begin(frame))
    }

    /// Frames that wait on the lane of `kind`.
    pub fn depth(&self, kind: Kind) -> usize {
        self.lane(kind).len()
    }

    /// Since when the oldest frame on the lane of `kind` has waited.
    pub fn oldest(&self, kind: Kind) -> Option<Instant> {
        self.lane(kind).front().map(|frame| frame.since)
    }

    /// Whether nothing waits on either lane.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty() && self.still.is_empty()
    }

    fn lane(&self, kind: Kind) -> &VecDeque<Queued<T>> {
        match kind {
            Kind::Live => &self.live,
            Kind::Still => &self.still,
        }
    }

    fn lane_mut(&mut self, kind: Kind) -> &mut VecDeque<Queued<T>> {
        match kind {
            Kind::Live => &mut self.live,
            Kind::Still => &mut self.still,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { live: 3, still: 2 };
    const BUDGET: Duration = Duration::from_secs(1);

    fn queued(kind: Kind, since: Instant, frame: u32) -> Queued<u32> {
        Queued { kind, since, budget: BUDGET, frame }
    }

    fn begun(lanes: &mut Lanes<u32>, now: Instant) -> Vec<u32> {
        let next = || match lanes.poll(now)? {
            Next::Begin(queued) => Some(queued.frame),
            Next::Expire(queued) => panic!("{queued:?} expired"),
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn full_live_lane_lets_the_oldest_go_and_a_full_still_lane_refuses() {
        let (now, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
        for frame in 1..=3 {
            assert_eq!(lanes.push(queued(Kind::Live, now, frame)), Ok(None));
        }
        assert_eq!(lanes.push(queued(Kind::Live, now, 4)), Ok(Some(queued(Kind::Live, now, 1))));
        assert_eq!(begun(&mut lanes, now), [2, 3, 4]);
        for frame in 5..=6 {
            assert_eq!(lanes.push(queued(Kind::Still, now, frame)), Ok(None));
        }
        assert_eq!(lanes.push(queued(Kind::Still, now, 7)), Err(Full));
        assert_eq!((lanes.depth(Kind::Live), lanes.depth(Kind::Still)), (0, 2));
        assert_eq!(begun(&mut lanes, now), [5, 6]);
    }

    #[test]
    fn live_and_still_take_turns_and_what_is_too_old_takes_none() {
        let (start, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
        let late = start + BUDGET / 2 + Duration::from_millis(1);
        lanes.push(queued(Kind::Live, start, 1)).unwrap();
        for frame in [2, 3] {
            lanes.push(queued(Kind::Live, late, frame)).unwrap();
            lanes.push(queued(Kind::Still, start, 10 * frame)).unwrap();
        }
        assert_eq!(lanes.oldest(Kind::Live), Some(start));
        assert_eq!(lanes.poll(late), Some(Next::Expire(queued(Kind::Live, start, 1))));
        assert_eq!(lanes.oldest(Kind::Live), Some(late));
        assert_eq!(begun(&mut lanes, late), [2, 20, 3, 30]);
    }

    #[test]
    fn what_is_put_back_is_next_even_on_a_full_lane() {
        let (now, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
        for frame in 1..=2 {
            lanes.push(queued(Kind::Still, now, frame)).unwrap();
        }
        let Some(Next::Begin(first)) = lanes.poll(now) else { panic!("somebody waits") };
        lanes.push(queued(Kind::Still, now, 3)).unwrap();
        lanes.put_back(first);
        assert_eq!(begun(&mut lanes, now), [1, 2, 3]);
        assert!(lanes.is_empty());
    }

    proptest! {
        /// Every frame is refused, gives way, is begun or expires, or still waits; neither lane exceeds its bound;
        /// those of a kind go in order.
        #[test]
        fn every_frame_has_one_fate(steps in prop::collection::vec((0u64..400, any::<bool>(), 0u8..3), 0..200)) {
            let (mut now, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
            let (mut fates, mut begun) = (vec![], [vec![], vec![]]);
            for (frame, (wait, live, what)) in (0..).zip(steps) {
                now += Duration::from_millis(wait);
                let kind = if live { Kind::Live } else { Kind::Still };
                if what > 0 {
                    match lanes.push(queued(kind, now, frame)) {
                        Ok(gave_way) => fates.extend(gave_way.map(|queued| queued.frame)),
                        Err(Full) => fates.push(frame),
                    }
                } else {
                    fates.push(frame);
                    match lanes.poll(now) {
                        Some(Next::Begin(queued)) => {
                            begun[usize::from(queued.kind == Kind::Live)].push(queued.frame);
                            fates.push(queued.frame);
                        }
                        Some(Next::Expire(queued)) => fates.push(queued.frame),
                        None => prop_assert!(lanes.is_empty()),
                    }
                }
                let waiting = [Kind::Live, Kind::Still].map(|kind| lanes.depth(kind));
                prop_assert!(waiting[0] <= BOUNDS.live && waiting[1] <= BOUNDS.still);
                prop_assert_eq!(lanes.is_empty(), waiting == [0, 0]);
                prop_assert_eq!(fates.len() + waiting[0] + waiting[1], frame as usize + 1);
            }
            prop_assert!(begun.iter().all(|frames| frames.is_sorted()));
            fates.sort_unstable();
            prop_assert!(fates.is_sorted_by(|a, b| a < b), "twice: {:?}", fates);
        }
    }
}
