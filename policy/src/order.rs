//! Results back in `seq` order: pure policy.
//!
//! Workers compete for a session's frames, so results come in any order. What is delivered always
//! rises in `seq`; the modes differ in what they do with a gap:
//! - **live**: latency comes first. A result is delivered as it comes; one that an overtaker has left
//!   behind is `late` and dropped. With the default window of 2 at most one frame can be overtaken.
//! - **complete**: every result is delivered, so one waits until all earlier frames have ended. A frame
//!   that ends without a result must be told with [`Order::forget`], or it would block the others until
//!   its own deadline.

use std::collections::BTreeMap;

use cloudpose_wire::Mode;

/// What became of a result that came in.
#[derive(Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Kept: [`Order::poll`] returns it when it is its turn.
    Kept,
    /// A newer one has been delivered. The frame has ended.
    Late,
    /// The frame is not in flight: it ended before, or never was.
    Unknown,
}

/// The results of one session.
#[derive(Debug)]
pub struct Order<R> {
    mode: Mode,
    /// Frames in flight; with a result once it has come.
    frames: BTreeMap<u64, Option<R>>,
    /// The newest that was delivered.
    delivered: u64,
}

impl<R> Order<R> {
    /// Nothing is in flight.
    pub fn new(mode: Mode) -> Self {
        Self { mode, frames: BTreeMap::new(), delivered: 0 }
    }

    /// The frame went on the bus: a result may come.
    pub fn expect(&mut self, seq: u64) {
        self.frames.insert(seq, None);
    }

    /// The frame ended without a result. False if it was not in flight, or has a result already.
    pub fn forget(&mut self, seq: u64) -> bool {
        match self.frames.get(&seq) {
            Some(None) => self.frames.remove(&seq).is_some(),
            _ => false,
        }
    }

    /// A result came.
    pub fn arrive(&mut self, seq: u64, result: R) -> Arrival {
        match self.frames.get_mut(&seq) {
            Some(place @ None) if seq > self.delivered => {
                *place = Some(result);
                Arrival::Kept
            }
            Some(None) => {
                self.frames.remove(&seq);
                Arrival::Late
            }
            Some(Some(_)) | None => Arrival::Unknown,
        }
    }

    /// The next result to deliver, if it is one's turn.
    pub fn poll(&mut self) -> Option<(u64, R)> {
        let seq = match self.mode {
            Mode::Live => self.frames.iter().find(|(_, result)| result.is_some()).map(|(seq, _)| *seq),
            Mode::Complete => self.frames.first_key_value().map(|(seq, _)| *seq),
        }?;
        let result = self.frames.get_mut(&seq).and_then(Option::take)?;
        self.frames.remove(&seq);
        self.delivered = seq;
        Some((seq, result))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn order(mode: Mode, frames: u64) -> Order<u64> {
        let mut order = Order::new(mode);
        (1..=frames).for_each(|seq| order.expect(seq));
        order
    }

    fn drain(order: &mut Order<u64>) -> Vec<u64> {
        std::iter::from_fn(|| order.poll()).map(|(seq, result)| seq * u64::from(seq == result)).collect()
    }

    #[test]
    fn live_delivers_at_once_and_drops_the_overtaken() {
        let mut order = order(Mode::Live, 3);
        assert_eq!(order.arrive(2, 2), Arrival::Kept);
        assert_eq!(drain(&mut order), [2]);
        assert_eq!(order.arrive(1, 1), Arrival::Late);
        assert_eq!(order.arrive(1, 1), Arrival::Unknown, "it has ended");
        assert_eq!(order.arrive(3, 3), Arrival::Kept);
        assert_eq!(drain(&mut order), [3]);
    }

    #[test]
    fn complete_waits_for_the_straggler() {
        let mut order = order(Mode::Complete, 3);
        assert_eq!(order.arrive(3, 3), Arrival::Kept);
        assert_eq!(order.arrive(2, 2), Arrival::Kept);
        assert!(drain(&mut order).is_empty());
        assert_eq!(order.arrive(1, 1), Arrival::Kept);
        assert_eq!(drain(&mut order), [1, 2, 3]);
    }

    #[test]
    fn frame_that_ends_otherwise_blocks_nobody() {
        let mut order = order(Mode::Complete, 3);
        order.arrive(2, 2);
        assert!(order.forget(1));
        assert!(!order.forget(1));
        assert_eq!(drain(&mut order), [2]);
        assert!(order.forget(3));
        assert!(drain(&mut order).is_empty());
    }

    #[test]
    fn strangers_and_second_results_change_nothing() {
        let mut order = order(Mode::Complete, 2);
        assert_eq!(order.arrive(9, 9), Arrival::Unknown);
        assert_eq!(order.arrive(2, 2), Arrival::Kept);
        assert_eq!(order.arrive(2, 99), Arrival::Unknown);
        assert!(!order.forget(2), "its result stands");
        order.arrive(1, 1);
        assert_eq!(drain(&mut order), [1, 2]);
    }

    proptest! {
        /// Whatever order results and ends come in: deliveries rise in seq, every frame ends exactly
        /// once, and in complete mode all that got a result are delivered.
        #[test]
        fn deliveries_rise_and_every_frame_ends_once(
            live: bool,
            arrivals in Just((1u64..=12).collect::<Vec<_>>()).prop_shuffle(),
            lost in prop::collection::btree_set(1u64..=12, 0..6),
        ) {
            let mut order = order(if live { Mode::Live } else { Mode::Complete }, 12);
            let (mut delivered, mut late, mut forgotten) = (vec![], vec![], vec![]);
            for seq in arrivals {
                if lost.contains(&seq) {
                    prop_assert!(order.forget(seq));
                    forgotten.push(seq);
                } else if order.arrive(seq, seq) == Arrival::Late {
                    late.push(seq);
                }
                delivered.extend(drain(&mut order));
            }
            prop_assert!(delivered.is_sorted());
            prop_assert!(live || late.is_empty());
            let mut all = [delivered, late, forgotten].concat();
            all.sort_unstable();
            prop_assert_eq!(all, (1..=12).collect::<Vec<_>>());
        }
    }
}
