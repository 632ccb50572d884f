//! Where the workers of a stage meet the frames that come for them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use crate::Delivery;

/// What the workers at one stage want, and what there is for them.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Something was put on the desk.
    arrived: Notify,
    /// The want has changed.
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: usize,
    ready: VecDeque<Delivery>,
}

impl Desk {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for up to `max` frames.
    pub(super) async fn take(&self, max: usize) -> Vec<Delivery> {
        let mut want = Want::new(self, max);
        loop {
            // Registered before looking, so that what is put down in between wakes us.
            let arrived = self.arrived.notified();
            let taken = want.take();
            if !taken.is_empty() {
                return taken;
            }
            arrived.await;
        }
    }

    /// Puts frames down, and wakes who waits for them.
    pub(super) fn put(&self, frames: Vec<Delivery>) {
        if !frames.is_empty() {
            self.state().ready.extend(frames);
            self.arrived.notify_one();
        }
    }

    /// Waits until the want changes.
    pub(super) async fn changed(&self) {
        self.asked.notified().await;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state().ready.is_empty()
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.state().wanted == 0
    }

    /// Frames that are waited for and not there.
    pub(super) fn missing(&self) -> usize {
        let state = self.state();
        state.wanted.saturating_sub(state.ready.len())
    }

    /// What is left on the desk, if nobody waits for it.
    pub(super) fn clear(&self) -> Vec<Delivery> {
        let mut state = self.state();
        if state.wanted == 0 { state.ready.drain(..).collect() } else { Vec::new() }
    }
}

/// A worker's want, for as long as it waits.
struct Want<'a> {
    desk: &'a Desk,
    frames: usize,
}

impl<'a> Want<'a> {
    fn new(desk: &'a Desk, frames: usize) -> Self {
        desk.state().wanted += frames;
        desk.asked.notify_one();
        Self { desk, frames }
    }

    fn take(&mut self) -> Vec<Delivery> {
        let mut state = self.desk.state();
        let count = self.frames.min(state.ready.len());
        let taken: Vec<Delivery> = state.ready.drain(..count).collect();
        if !taken.is_empty() {
            state.wanted -= std::mem::take(&mut self.frames);
            // One permit may stand for many frames: pass it on if something is left.
            if !state.ready.is_empty() {
                self.desk.arrived.notify_one();
            }
        }
        taken
    }
}

impl Drop for Want<'_> {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        state.wanted -= self.frames;
        // The permit that we may have been woken with is for whoever waits now.
        if !state.ready.is_empty() {
            self.desk.arrived.notify_one();
        }
        drop(state);
        self.desk.asked.notify_one();
    }
}
