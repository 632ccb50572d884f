//! Where the workers of a stage meet the frames that come for them.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cloudpose_wire::Tenant;
use tokio::sync::Notify;

use crate::Delivery;

/// What is missing on a desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missing {
    Nothing,
    /// So many frames of anybody.
    Anybodys(usize),
    /// One of any tenant but this.
    Others(Tenant),
}

impl Missing {
    /// How many frames.
    pub(super) fn frames(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Anybodys(frames) => *frames,
            Self::Others(_) => 1,
        }
    }

    /// Whether frames of `tenant` are.
    pub(super) fn takes(&self, tenant: &Tenant) -> bool {
        match self {
            Self::Nothing => false,
            Self::Anybodys(_) => true,
            Self::Others(but) => tenant != but,
        }
    }
}

/// What the workers at one stage want, and what there is for them.
#[derive(Debug, Default)]
pub(super) struct Desk {
    state: Mutex<State>,
    /// Something was put on the desk: for one of those who take anybody's frames, and for all who take some tenants' only.
    arrived: Notify,
    arrived_for_some: Notify,
    /// The want has changed.
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    wanted: usize,
    /// One frame each of any tenant but these.
    wanted_of_others: Vec<Tenant>,
    ready: VecDeque<Delivery>,
}

impl State {
    fn nobody_waits(&self) -> bool {
        self.wanted == 0 && self.wanted_of_others.is_empty()
    }

    fn wants(&self, tenant: &Tenant) -> bool {
        self.wanted > 0 || self.wanted_of_others.iter().any(|but| but != tenant)
    }

    fn of_others(&self, but: &Tenant) -> Option<usize> {
        self.ready.iter().position(|delivery| delivery.frame.header.caller.tenant != *but)
    }
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

    /// Waits for a frame of any tenant but one.
    pub(super) async fn take_others(&self, but: &Tenant) -> Delivery {
        let want = WantOfOthers::new(self, but);
        loop {
            let arrived = self.arrived_for_some.notified();
            if let Some(taken) = want.take() {
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
            self.arrived_for_some.notify_waiters();
        }
    }

    /// Waits until the want changes.
    pub(super) async fn changed(&self) {
        self.asked.notified().await;
    }

    /// Whether anybody waits for frames of `tenant`.
    pub(super) fn wants(&self, tenant: &Tenant) -> bool {
        self.state().wants(tenant)
    }

    /// Whether there are frames for which nobody waits.
    pub(super) fn has_unwanted(&self) -> bool {
        let state = self.state();
        state.ready.iter().any(|delivery| !state.wants(&delivery.frame.header.caller.tenant))
    }

    pub(super) fn nobody_waits(&self) -> bool {
        self.state().nobody_waits()
    }

    /// Frames that are waited for and not there.
    pub(super) fn missing(&self) -> Missing {
        let state = self.state();
        match state.wanted.saturating_sub(state.ready.len()) {
            0 => {
                let unmet = state.wanted_of_others.iter().find(|but| state.of_others(but).is_none());
                unmet.map_or(Missing::Nothing, |but| Missing::Others(but.clone()))
            }
            missing => Missing::Anybodys(missing),
        }
    }

    /// Takes those away for which nobody waits.
    pub(super) fn clear(&self) -> Vec<Delivery> {
        let mut state = self.state();
        let ready = std::mem::take(&mut state.ready);
        let is_wanted = |delivery: &Delivery| state.wants(&delivery.frame.header.caller.tenant);
        let (wanted, unwanted): (Vec<_>, Vec<_>) = ready.into_iter().partition(is_wanted);
        state.ready = wanted.into();
        unwanted
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

/// A worker's want of a frame of any tenant but one, for as long as it waits.
struct WantOfOthers<'a> {
    desk: &'a Desk,
    but: &'a Tenant,
}

impl<'a> WantOfOthers<'a> {
    fn new(desk: &'a Desk, but: &'a Tenant) -> Self {
        desk.state().wanted_of_others.push(but.clone());
        desk.asked.notify_one();
        Self { desk, but }
    }

    fn take(&self) -> Option<Delivery> {
        let mut state = self.desk.state();
        let at = state.of_others(self.but)?;
        state.ready.remove(at)
    }
}

impl Drop for WantOfOthers<'_> {
    fn drop(&mut self) {
        let mut state = self.desk.state();
        if let Some(at) = state.wanted_of_others.iter().position(|but| but == self.but) {
            state.wanted_of_others.swap_remove(at);
        }
        drop(state);
        self.desk.asked.notify_one();
    }
}
