//! Which waiting frames go to the device together.
//!
//! Pure: `now` and the device's state are arguments. Frames that can share a batch have the same key
//! (model and input shape). The rule:
//!
//! - A device with nothing to do gets whatever waits, at once: waiting for more would only add latency.
//! - A busy device gets a batch when one is full, or when its oldest frame has waited `max_wait`.
//! - Of several keys, the one whose oldest frame has waited longest goes first.
//! - Within a key streams take turns, so that one busy stream cannot fill the batches.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Bounds of a batch.
#[derive(Debug, Clone, Copy)]
pub struct BatchRule {
    /// Frames in a batch, at least 1.
    pub max_batch: usize,
    /// How long a frame waits for company while the device is busy.
    pub max_wait: Duration,
}

/// What the device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// It could start a batch now.
    Idle,
    /// It has one in hand.
    Busy,
}

/// Frames waiting for the device.
#[derive(Debug)]
pub struct Batcher<K, S, T> {
    rule: BatchRule,
    waiting: VecDeque<Waiting<K, S, T>>,
}

#[derive(Debug)]
struct Waiting<K, S, T> {
    since: Instant,
    key: K,
    stream: S,
    frame: T,
}

impl<K: Clone + Eq, S: Eq, T> Batcher<K, S, T> {
    /// No frames yet.
    pub fn new(rule: BatchRule) -> Self {
        debug_assert!(rule.max_batch > 0);
        Self { rule, waiting: VecDeque::new() }
    }

    /// A frame of `stream` waits from `now` on. `now` never goes back.
    pub fn push(&mut self, now: Instant, key: K, stream: S, frame: T) {
        self.waiting.push_back(Waiting { since: now, key, stream, frame });
    }

    /// The next batch, if one is due: 1 to `max_batch` frames with the same key.
    pub fn poll(&mut self, now: Instant, device: Device) -> Option<(K, Vec<T>)> {
        let key = self.due(now, device)?;
        // (turn, position): a stream's n-th waiting frame has turn n.
        let mut candidates: Vec<(usize, usize)> = Vec::new();
        for (position, frame) in self.waiting.iter().enumerate().filter(|(_, w)| w.key == key) {
            let turn = candidates.iter().filter(|(_, earlier)| self.waiting[*earlier].stream == frame.stream);
            candidates.push((turn.count(), position));
        }
        candidates.sort_unstable();
        candidates.truncate(self.rule.max_batch);
        // From the back, so that the positions before stay true.
        candidates.sort_unstable_by_key(|(_, position)| std::cmp::Reverse(*position));
        let mut batch: Vec<T> = candidates
            .iter()
            .filter_map(|(_, position)| self.waiting.remove(*position))
            .map(|w| w.frame)
            .collect();
        batch.reverse();
        Some((key, batch))
    }

    /// How many frames wait.
    pub fn depth(&self) -> usize {
        self.waiting.len()
    }

    /// When [`poll`](Self::poll) will have a batch for a busy device, if nothing else comes.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.waiting.front().map(|oldest| oldest.since + self.rule.max_wait)
    }

    fn due(&self, now: Instant, device: Device) -> Option<K> {
        let oldest = self.waiting.front()?;
        if device == Device::Idle || now >= oldest.since + self.rule.max_wait {
            return Some(oldest.key.clone());
        }
        self.waiting.iter().map(|w| &w.key).find(|key| self.count(key) >= self.rule.max_batch).cloned()
    }

    fn count(&self, key: &K) -> usize {
        self.waiting.iter().filter(|w| w.key == *key).count()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RULE: BatchRule = BatchRule { max_batch: 3, max_wait: Duration::from_millis(4) };

    fn at(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn an_idle_device_never_waits() {
        let (t, mut batcher) = (Instant::now(), Batcher::new(RULE));
        assert_eq!(batcher.poll(t, Device::Idle), None);
        batcher.push(t, 'k', 1, "a");
        assert_eq!(batcher.poll(t, Device::Idle), Some(('k', vec!["a"])));
        assert_eq!(batcher.next_deadline(), None);
    }

    #[test]
    fn a_busy_device_gets_full_batches_or_old_frames() {
        let (t, mut batcher) = (Instant::now(), Batcher::new(RULE));
        batcher.push(t, 'k', 1, 1);
        batcher.push(at(t, 1), 'k', 2, 2);
        assert_eq!(batcher.poll(at(t, 3), Device::Busy), None);
        assert_eq!(batcher.next_deadline(), Some(at(t, 4)));
        assert_eq!(batcher.poll(at(t, 4), Device::Busy), Some(('k', vec![1, 2])));
        for stream in 0..4 {
            batcher.push(at(t, 5), 'k', stream, stream);
        }
        assert_eq!(batcher.poll(at(t, 5), Device::Busy), Some(('k', vec![0, 1, 2])));
        assert_eq!(batcher.poll(at(t, 5), Device::Busy), None);
    }

    #[test]
    fn the_key_that_waited_longest_goes_first() {
        let (t, mut batcher) = (Instant::now(), Batcher::new(RULE));
        batcher.push(t, 'a', 1, 1);
        for frame in 2..6 {
            batcher.push(at(t, 1), 'b', frame, frame);
        }
        assert_eq!(batcher.poll(at(t, 1), Device::Busy), Some(('b', vec![2, 3, 4])), "only b is full");
        assert_eq!(batcher.poll(at(t, 1), Device::Idle), Some(('a', vec![1])));
    }

    #[test]
    fn streams_take_turns() {
        let (t, mut batcher) = (Instant::now(), Batcher::new(RULE));
        for frame in [("greedy", 1), ("greedy", 2), ("greedy", 3), ("modest", 4)] {
            batcher.push(t, 'k', frame.0, frame);
        }
        let batch = batcher.poll(t, Device::Idle).unwrap().1;
        assert_eq!(batch, [("greedy", 1), ("greedy", 2), ("modest", 4)]);
    }

    proptest! {
        #[test]
        fn no_stream_gets_two_places_more_than_one_that_still_waits(
            streams in prop::collection::vec(0_u8..5, 1..40),
        ) {
            let (t, mut batcher) = (Instant::now(), Batcher::new(RULE));
            for stream in &streams {
                batcher.push(t, 'k', *stream, *stream);
            }
            let (_, batch) = batcher.poll(t, Device::Idle).expect("somebody waits");
            let places = |stream: u8| batch.iter().filter(|s| **s == stream).count();
            let waiting = |stream: u8| streams.iter().filter(|s| **s == stream).count() - places(stream);
            for (a, b) in (0..5).flat_map(|a| (0..5).map(move |b| (a, b))) {
                prop_assert!(waiting(b) == 0 || places(a) <= places(b) + 1, "{a} before {b}: {batch:?}");
            }
        }

        #[test]
        fn nothing_is_lost_mixed_or_reordered(
            steps in prop::collection::vec((0_u64..3, 0_u8..2, 0_u8..4, any::<bool>(), any::<bool>()), 1..200),
        ) {
            let (start, mut batcher) = (Instant::now(), Batcher::new(RULE));
            let (mut now, mut pushed, mut popped) = (0, Vec::new(), Vec::new());
            for (i, (wait, key, stream, push, idle)) in steps.into_iter().enumerate() {
                now += wait;
                if push {
                    batcher.push(at(start, now), key, stream, (key, stream, i));
                    pushed.push((key, stream, i));
                }
                let device = if idle { Device::Idle } else { Device::Busy };
                if let Some((key, batch)) = batcher.poll(at(start, now), device) {
                    prop_assert!((1..=RULE.max_batch).contains(&batch.len()));
                    prop_assert!(batch.iter().all(|frame| frame.0 == key));
                    popped.extend(batch);
                } else if idle {
                    prop_assert_eq!(pushed.len(), popped.len(), "an idle device had to wait");
                }
                prop_assert_eq!(batcher.depth(), pushed.len() - popped.len());
            }
            while let Some((_, batch)) = batcher.poll(at(start, now), Device::Idle) {
                popped.extend(batch);
            }
            for key_stream in 0..8 {
                let of = |all: &[(u8, u8, usize)]| -> Vec<usize> {
                    all.iter().filter(|f| (f.0 * 4 + f.1) == key_stream).map(|f| f.2).collect()
                };
                prop_assert_eq!(of(&pushed), of(&popped));
            }
        }
    }
}
