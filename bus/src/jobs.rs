//! Results of jobs: kept until they are acknowledged, whoever asks for them and when.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cloudpose_wire::FrameResult;
use tokio::sync::Notify;

use crate::{Bound, PublishError, Queue, nats};

/// A job's result, handed to whoever asked. It must end in [`ack`](Self::ack); dropped without, it is handed out
/// again.
#[derive(Debug)]
pub struct JobResult {
    /// The result. The same one may come twice: its job and `seq` say which it is.
    pub result: FrameResult,
    origin: Origin,
}

#[derive(Debug)]
enum Origin {
    Local(InHand),
    Nats(nats::Kept),
}

impl JobResult {
    pub(crate) fn on_nats(result: FrameResult, kept: nats::Kept) -> Self {
        Self { result, origin: Origin::Nats(kept) }
    }

    /// The result is safe elsewhere: it will not come again.
    pub async fn ack(mut self) {
        match &mut self.origin {
            Origin::Local(in_hand) => drop(in_hand.settle()),
            Origin::Nats(kept) => kept.ack().await,
        }
    }
}

impl Drop for JobResult {
    fn drop(&mut self) {
        match &mut self.origin {
            Origin::Local(in_hand) => in_hand.put_back(&self.result),
            Origin::Nats(kept) => kept.put_back(),
        }
    }
}

/// The results that one process keeps. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct LocalResults(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<FrameResult>,
    in_hand: usize,
}

impl State {
    fn kept(&self) -> usize {
        self.waiting.len() + self.in_hand
    }
}

impl LocalResults {
    pub(crate) fn new(limit: usize) -> Self {
        Self(Arc::new(Shared { limit, state: Mutex::default(), arrived: Notify::new() }))
    }

    pub(crate) fn put(&self, result: FrameResult) -> Result<(), PublishError> {
        let mut state = self.state();
        if state.kept() >= self.0.limit {
            return Err(PublishError::Full { queue: Queue::Jobs, bound: Bound::Results(self.0.limit) });
        }
        state.waiting.push_back(result);
        drop(state);
        self.0.arrived.notify_one();
        Ok(())
    }

    pub(crate) async fn take(&self, max: usize) -> Vec<JobResult> {
        loop {
            // Registered before looking, so that a result put down in between wakes us.
            let arrived = self.0.arrived.notified();
            let taken = self.take_now(max);
            if !taken.is_empty() {
                return taken;
            }
            arrived.await;
        }
    }

    fn take_now(&self, max: usize) -> Vec<JobResult> {
        let mut state = self.state();
        let count = max.min(state.waiting.len());
        state.in_hand += count;
        let in_hand = || Origin::Local(InHand(Some(self.clone())));
        let taken =
            state.waiting.drain(..count).map(|result| JobResult { result, origin: in_hand() }).collect();
        // One permit may stand for many results: pass it on if something is left.
        if !state.waiting.is_empty() {
            self.0.arrived.notify_one();
        }
        taken
    }

    pub(crate) fn kept(&self) -> usize {
        self.state().kept()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere does not spoil it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a local result came from; empty once it is settled.
#[derive(Debug)]
struct InHand(Option<LocalResults>);

impl InHand {
    fn settle(&mut self) -> Option<LocalResults> {
        let results = self.0.take()?;
        results.state().in_hand -= 1;
        Some(results)
    }

    fn put_back(&mut self, result: &FrameResult) {
        if let Some(results) = self.settle() {
            results.state().waiting.push_front(result.clone());
            results.0.arrived.notify_one();
        }
    }
}
