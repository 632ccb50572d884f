//! Whose frame goes on its lane next, where a lane is first come, first served, as on NATS.
//!
//! Each gateway lets out so many frames of a tenant as keep the workers busy, and those that wait here have turns by stream.
//! So of a tenant's streams none waits behind what another has piled up on the lane, however long its frames may wait.

use std::collections::{HashMap, VecDeque};

use cloudpose_wire::{StreamName, Tenant};

use crate::{lanes::Owner, rota::Rota};

/// How many frames of a tenant one gateway lets out, where workers work on `slots` at once: those that are worked on, as
/// many that wait for a free hand, and some on their way back.
pub fn most_out(slots: usize) -> usize {
    slots.saturating_mul(3).saturating_add(4)
}

/// The frames that wait at a gateway, each as a waiter `W` that is told when it may go.
#[derive(Debug)]
pub struct Gate<W>(HashMap<Tenant, Queue<W>>);

/// What a tenant has.
#[derive(Debug)]
struct Queue<W> {
    out: usize,
    waiting: HashMap<StreamName, VecDeque<W>>,
    rota: Rota<StreamName>,
}

impl<W> Default for Gate<W> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<W> Gate<W> {
    /// `waiter` waits for its stream's turn.
    pub fn ask(&mut self, owner: &Owner, waiter: W) {
        let queue = self.0.entry(owner.tenant.clone()).or_insert_with(|| Queue {
            out: 0,
            waiting: HashMap::new(),
            rota: Rota::default(),
        });
        let waiting = queue.waiting.entry(owner.stream.clone()).or_default();
        if waiting.is_empty() {
            queue.rota.join(owner.stream.clone());
        }
        waiting.push_back(waiter);
    }

    /// The next of a tenant's that may go while no more than `most` are out. It is out from now on, and must come
    /// [`back`](Self::back).
    pub fn next(&mut self, tenant: &Tenant, most: usize) -> Option<W> {
        let queue = self.0.get_mut(tenant)?;
        while queue.out < most {
            let stream = queue.rota.next()?.clone();
            let Some(waiting) = queue.waiting.get_mut(&stream) else {
                // It is owed a turn, and has nothing to go.
                queue.rota.missed();
                continue;
            };
            let waiter = waiting.pop_front();
            let more = !waiting.is_empty();
            if !more {
                queue.waiting.remove(&stream);
            }
            queue.rota.took(more);
            queue.out += 1;
            return waiter;
        }
        None
    }

    /// One that went has come to its end.
    pub fn back(&mut self, tenant: &Tenant) {
        let Some(queue) = self.0.get_mut(tenant) else { return };
        queue.out = queue.out.saturating_sub(1);
        if queue.out == 0 && queue.waiting.is_empty() {
            self.0.remove(tenant);
        }
    }

    /// One that might go was too old to: its stream is next again.
    pub fn wasted(&mut self, owner: &Owner) {
        if let Some(queue) = self.0.get_mut(&owner.tenant) {
            queue.rota.put_first(owner.stream.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(tenant: &str, stream: &str) -> Owner {
        Owner { tenant: tenant.parse().unwrap(), stream: stream.parse().unwrap() }
    }

    fn goes(gate: &mut Gate<u32>, tenant: &str, most: usize) -> Vec<u32> {
        std::iter::from_fn(|| gate.next(&tenant.parse().unwrap(), most)).collect()
    }

    #[test]
    fn streams_have_turns_however_much_each_has_waiting() {
        let mut gate = Gate::default();
        (0..5).for_each(|frame| gate.ask(&of("acme", "busy"), frame));
        gate.ask(&of("acme", "calm"), 10);
        gate.ask(&of("other", "calm"), 20);
        assert_eq!(goes(&mut gate, "acme", 3), [0, 10, 1]);
        assert_eq!(goes(&mut gate, "other", 3), [20], "each tenant has its own");
        assert!(goes(&mut gate, "acme", 3).is_empty());
        gate.back(&"acme".parse().unwrap());
        gate.ask(&of("acme", "calm"), 11);
        assert_eq!(goes(&mut gate, "acme", 4), [2, 11]);
    }

    #[test]
    fn whose_frame_was_too_old_to_go_is_next() {
        let mut gate = Gate::default();
        let hasty = of("acme", "hasty");
        gate.ask(&hasty, 0);
        (1..4).for_each(|frame| gate.ask(&of("acme", "patient"), frame));
        assert_eq!(goes(&mut gate, "acme", 1), [0]);
        gate.wasted(&hasty);
        gate.back(&hasty.tenant);
        assert_eq!(goes(&mut gate, "acme", 1), [1], "it has nothing to go yet");
        gate.ask(&hasty, 5);
        gate.back(&hasty.tenant);
        assert_eq!(goes(&mut gate, "acme", 1), [5]);
    }

    proptest! {
        /// No more are out than may be, each goes once, those of a stream in order, and nothing is kept when all is over.
        #[test]
        fn every_frame_goes_once_and_in_order(steps in prop::collection::vec((0u8..3, 0usize..6), 0..200)) {
            const MOST: usize = 3;
            let (mut gate, mut out, mut gone) = (Gate::default(), vec![], vec![]);
            let whose = |n: usize| of(["a", "b"][n % 2], ["x", "y", "z"][n / 2]);
            let mut asked = 0;
            for (what, n) in steps {
                let owner = whose(n);
                match what {
                    0 => {
                        gate.ask(&owner, (n, asked));
                        asked += 1;
                    }
                    1 => {
                        if let Some((n, frame)) = gate.next(&owner.tenant, MOST) {
                            out.push(n);
                            gone.push((n, frame));
                        }
                    }
                    _ if !out.is_empty() => {
                        let owner = whose(out.remove(n % out.len()));
                        if n % 2 == 0 {
                            gate.wasted(&owner);
                        }
                        gate.back(&owner.tenant);
                    }
                    _ => {}
                }
                prop_assert!((0..2).all(|tenant| out.iter().filter(|n| **n % 2 == tenant).count() <= MOST));
            }
            for tenant in ["a", "b"] {
                out.iter().filter(|n| whose(**n).tenant.as_str() == tenant).for_each(|_| gate.back(&tenant.parse().unwrap()));
                while let Some(one) = gate.next(&tenant.parse().unwrap(), MOST) {
                    gone.push(one);
                    gate.back(&tenant.parse().unwrap());
                }
            }
            for n in 0..6 {
                let frames = gone.iter().filter(|(of, _)| *of == n).map(|(_, frame)| *frame);
                prop_assert!(frames.is_sorted_by(|a, b| a < b));
            }
            prop_assert_eq!(gone.len(), asked);
            prop_assert!(gate.0.values().all(|queue| queue.out == 0 && queue.waiting.is_empty()));
        }
    }
}
