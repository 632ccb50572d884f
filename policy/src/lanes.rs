//! The two lanes of a stage: which frame is handed out next, and what gives way when a lane is full.
//!
//! - **live**: bounded; when full the oldest frame gives way to the newest, of the tenant that has most of them.
//! - **still**: bounded; the last eighth of it is for streams that have nothing else there, as who waits for one answer
//!   before he sends the next image. When full the frame is refused, unless its tenant has less than an equal share of the lane. In all
//!   there are never more than twice as many as may be.
//!
//! Tenants have turns, within a tenant live and still frames ([`Turns`]), and of a kind its streams ([`Rota`]). Frames of a
//! stream go in the order in which they came. What has waited too long to be worth beginning ([`deadline`]) is not
//! handed out, and takes nobody's turn.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use cloudpose_wire::{Kind, StreamName, Tenant};

use crate::{deadline, rota::Rota, turns::Turns};

/// What is known of a tenant that has nothing waiting is forgotten when there are so many.
const TENANTS_REMEMBERED: usize = 1024;

/// This part of a still lane is for streams that have nothing else there.
const ONE_BY_ONE: usize = 8;

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

/// Whose a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// On whose account.
    pub tenant: Tenant,
    /// Of which of the tenant's streams. A single image is one of its own.
    pub stream: StreamName,
}

/// A frame on a lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued<T> {
    /// On which.
    pub kind: Kind,
    /// Whose it is.
    pub owner: Owner,
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
    tenants: HashMap<Tenant, Account<T>>,
    /// The tenants that have something waiting.
    rota: Rota<Tenant>,
}

/// What a tenant has waiting.
#[derive(Debug)]
struct Account<T> {
    live: Lane<T>,
    still: Lane<T>,
    turns: Turns,
}

/// What of a kind a tenant has waiting.
#[derive(Debug)]
struct Lane<T> {
    streams: HashMap<StreamName, VecDeque<Queued<T>>>,
    rota: Rota<StreamName>,
    frames: usize,
}

impl<T> Lane<T> {
    fn new() -> Self {
        Self { streams: HashMap::new(), rota: Rota::default(), frames: 0 }
    }

    fn push(&mut self, frame: Queued<T>) {
        let stream = frame.owner.stream.clone();
        let waiting = self.streams.entry(stream.clone()).or_default();
        if waiting.is_empty() {
            self.rota.join(stream);
        }
        waiting.push_back(frame);
        self.frames += 1;
    }

    fn put_back(&mut self, frame: Queued<T>) {
        let stream = frame.owner.stream.clone();
        self.streams.entry(stream.clone()).or_default().push_front(frame);
        self.rota.put_first(stream);
        self.frames += 1;
    }

    /// The first frame of a stream, and whether it has more.
    fn pop(&mut self, stream: &StreamName) -> Option<(Queued<T>, bool)> {
        let waiting = self.streams.get_mut(stream)?;
        let frame = waiting.pop_front()?;
        let more = !waiting.is_empty();
        if !more {
            self.streams.remove(stream);
        }
        self.frames -= 1;
        Some((frame, more))
    }

    fn oldest(&self) -> Option<&Queued<T>> {
        self.streams.values().filter_map(VecDeque::front).min_by_key(|frame| frame.since)
    }

    /// The oldest gives way. Of several that are as old it is one whose turn comes sooner.
    fn drop_oldest(&mut self) -> Option<Queued<T>> {
        let heads =
            self.rota.order().filter_map(|stream| Some((self.streams.get(stream)?.front()?.since, stream)));
        let stream = heads.min_by_key(|(since, _)| *since)?.1.clone();
        let (frame, more) = self.pop(&stream)?;
        if !more {
            self.rota.leave(&stream);
        }
        Some(frame)
    }
}

impl<T> Account<T> {
    fn new() -> Self {
        Self { live: Lane::new(), still: Lane::new(), turns: Turns::default() }
    }

    fn lane(&self, kind: Kind) -> &Lane<T> {
        match kind {
            Kind::Live => &self.live,
            Kind::Still => &self.still,
        }
    }

    fn lane_mut(&mut self, kind: Kind) -> &mut Lane<T> {
        match kind {
            Kind::Live => &mut self.live,
            Kind::Still => &mut self.still,
        }
    }

    fn frames(&self) -> usize {
        self.live.frames + self.still.frames
    }
}

impl<T> Lanes<T> {
    /// No frames yet.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, tenants: HashMap::new(), rota: Rota::default() }
    }

    /// Puts a frame on the lane of its kind. Returns the live frame that gives way to it.
    ///
    /// # Errors
    /// [`Full`] if the still lane is at its bound: the frame is not taken.
    pub fn push(&mut self, frame: Queued<T>) -> Result<Option<Queued<T>>, Full> {
        let (kind, depth) = (frame.kind, self.depth(frame.kind));
        let gives_way = match kind {
            Kind::Still
                if depth >= self.room(&frame.owner) && !self.has_less_than_a_share(&frame.owner.tenant) =>
            {
                return Err(Full);
            }
            Kind::Live if depth >= self.bounds.live => self.drop_oldest_live(),
            Kind::Still | Kind::Live => None,
        };
        let tenant = frame.owner.tenant.clone();
        let account = self.account(&tenant);
        let joins = account.frames() == 0;
        account.lane_mut(kind).push(frame);
        if joins {
            self.rota.join(tenant);
        }
        Ok(gives_way)
    }

    /// Puts a frame that was handed out back to where it was, whatever the bounds.
    pub fn put_back(&mut self, frame: Queued<T>) {
        let tenant = frame.owner.tenant.clone();
        self.account(&tenant).lane_mut(frame.kind).put_back(frame);
        self.rota.put_first(tenant);
    }

    /// Takes the next frame.
    pub fn poll(&mut self, now: Instant) -> Option<Next<T>> {
        let account = self.tenants.get_mut(self.rota.next()?)?;
        let kind = account.turns.order().into_iter().find(|kind| account.lane(*kind).frames > 0)?;
        let lane = account.lane_mut(kind);
        let stream = lane.rota.next()?.clone();
        let (frame, more) = lane.pop(&stream)?;
        if deadline::worth_beginning(kind, frame.budget, now.duration_since(frame.since)) {
            lane.rota.took(more);
            account.turns.took(kind);
            self.rota.took(account.frames() > 0);
            return Some(Next::Begin(frame));
        }
        // The next of the same stream may be young enough, or else of the same tenant.
        if !more {
            lane.rota.missed();
        }
        if account.frames() == 0 {
            self.rota.missed();
        }
        Some(Next::Expire(frame))
    }

    /// Takes the next frame of any tenant but one.
    pub fn poll_others(&mut self, but: &Tenant, now: Instant) -> Option<Next<T>> {
        let other = self.rota.order().find(|tenant| *tenant != but)?.clone();
        self.rota.put_first(other);
        self.poll(now)
    }

    /// Frames that wait on the lane of `kind`.
    pub fn depth(&self, kind: Kind) -> usize {
        self.tenants.values().map(|account| account.lane(kind).frames).sum()
    }

    /// Since when the oldest frame on the lane of `kind` has waited.
    pub fn oldest(&self, kind: Kind) -> Option<Instant> {
        self.tenants.values().filter_map(|account| account.lane(kind).oldest()).map(|frame| frame.since).min()
    }

    /// Whether nothing waits on either lane.
    pub fn is_empty(&self) -> bool {
        self.rota.is_empty()
    }

    fn account(&mut self, tenant: &Tenant) -> &mut Account<T> {
        if self.tenants.len() >= TENANTS_REMEMBERED && !self.tenants.contains_key(tenant) {
            self.tenants.retain(|_, account| account.frames() > 0);
        }
        self.tenants.entry(tenant.clone()).or_insert_with(Account::new)
    }

    /// How many stills there may be for one more of the same owner to be taken.
    fn room(&self, owner: &Owner) -> usize {
        let account = self.tenants.get(&owner.tenant);
        match account.is_some_and(|account| account.still.streams.contains_key(&owner.stream)) {
            true => self.bounds.still - self.bounds.still / ONE_BY_ONE,
            false => self.bounds.still,
        }
    }

    /// Whether a tenant has fewer stills than each would have if all who have some shared the lane.
    fn has_less_than_a_share(&self, tenant: &Tenant) -> bool {
        let own = self.tenants.get(tenant).map_or(0, |account| account.still.frames);
        let others = self
            .tenants
            .iter()
            .filter(|(other, account)| *other != tenant && account.still.frames > 0)
            .count();
        others > 0 && own < self.bounds.still / (others + 1)
    }

    fn drop_oldest_live(&mut self) -> Option<Queued<T>> {
        let most = self.tenants.iter().max_by_key(|(_, account)| account.live.frames)?.0.clone();
        let account = self.tenants.get_mut(&most)?;
        let oldest = account.live.drop_oldest();
        if account.frames() == 0 {
            self.rota.leave(&most);
        }
        oldest
    }
}

#[cfg(test)]
mod tests;
