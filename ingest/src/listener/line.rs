//! A connection as its requests see it.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use cloudpose_policy::{progress::Progress, quota::Resource};
use cloudpose_wire::Tenant;

use super::Place;
use crate::{
    quotas::{Begun, Guest, Refused},
    seats::Seat,
};

/// Tenants that use one connection, as a proxy's may be used by many: it counts for each until it ends.
#[derive(Debug, Clone, Default)]
pub(super) struct Users(Arc<Mutex<HashMap<Tenant, Begun>>>);

impl Users {
    fn join(&self, guest: &Guest) -> Result<(), Refused> {
        // Inserting leaves it whole.
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !users.contains_key(guest.tenant()) {
            users.insert(guest.tenant().clone(), guest.begin(Resource::Connections)?);
        }
        Ok(())
    }
}

/// A connection. Its requests find it among their extensions; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Line(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// A WebSocket has it for as long as it knows its line.
    _place: Option<Place>,
    address: IpAddr,
    read: u64,
    progress: Progress,
    /// A request came, ever.
    has_asked: bool,
    /// A request has come whose answer is not made.
    asks: bool,
    /// An answer is made and not written.
    answers: bool,
    /// It is cut off, because it did not ask in time.
    late: bool,
    /// It has become a WebSocket.
    upgraded: bool,
    /// Its last answer was made before all of the request was read.
    unread: bool,
    /// Of the answers that are not written.
    seats: Vec<Seat>,
    users: Users,
}

impl Line {
    pub(super) fn new(now: Instant, place: Place) -> Self {
        Self::with(now, place.address, Some(place), Users::default())
    }

    /// What one of many requests at once sees of its connection.
    pub(super) fn of_request(now: Instant, address: IpAddr, users: Users) -> Self {
        Self::with(now, address, None, users)
    }

    fn with(now: Instant, address: IpAddr, place: Option<Place>, users: Users) -> Self {
        Self(Arc::new(Mutex::new(State {
            _place: place,
            address,
            read: 0,
            progress: Progress::new(now),
            has_asked: false,
            asks: false,
            answers: false,
            late: false,
            upgraded: false,
            unread: false,
            seats: Vec::new(),
            users,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in it is left half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the client is.
    pub(crate) fn address(&self) -> IpAddr {
        self.state().address
    }

    /// A request of `guest` came: from now on the connection is one of its tenant's.
    ///
    /// # Errors
    /// [`Refused`] if that has as many as it may.
    pub(crate) fn used_by(&self, guest: &Guest) -> Result<(), Refused> {
        let users = self.state().users.clone();
        users.join(guest)
    }

    /// Bytes that came from the client, in all.
    pub(crate) fn read(&self) -> u64 {
        self.state().read
    }

    /// Since when the client has taken too little of what is written to it.
    pub(crate) fn progress(&self) -> Instant {
        self.state().progress.since()
    }

    /// Keeps a request's seat until its answer is with the client's kernel.
    pub(crate) fn keep(&self, seat: Seat) {
        self.state().seats.push(seat);
    }

    /// It becomes a WebSocket, which sees for itself whether its client reads.
    pub(crate) fn upgrade(&self) {
        self.state().upgraded = true;
    }

    pub(super) fn has_asked(&self) -> bool {
        self.state().has_asked
    }

    /// It is cut off now, because nothing was asked for in time.
    pub(super) fn is_late(&self) {
        self.state().late = true;
    }

    /// Whether it was cut off with a head that had begun: its client is told.
    pub(super) fn is_to_be_told(&self) -> bool {
        let state = self.state();
        state.late && state.read > 0
    }

    /// Whether nobody waits for anything here.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state();
        !state.asks && !state.answers
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.state().upgraded
    }

    /// The answer that is made is the last one: of what was asked, not all is read.
    pub(super) fn leaves_unread(&self) {
        self.state().unread = true;
    }

    pub(super) fn has_left_unread(&self) -> bool {
        self.state().unread
    }

    pub(super) fn asked(&self) {
        let mut state = self.state();
        (state.has_asked, state.asks) = (true, true);
    }

    pub(super) fn answered(&self) {
        let mut state = self.state();
        (state.asks, state.answers) = (false, true);
    }

    pub(super) fn came(&self, bytes: usize) {
        self.state().read += bytes as u64;
    }

    pub(super) fn took(&self, now: Instant, bytes: usize) {
        self.state().progress.took(now, bytes);
    }

    /// Something waits to be written, from now on.
    pub(super) fn waits(&self, now: Instant) {
        self.state().progress.done(now);
    }

    /// Everything is written.
    pub(super) fn flushed(&self) {
        let mut state = self.state();
        if state.answers && !state.asks {
            state.answers = false;
            let seats = std::mem::take(&mut state.seats);
            drop(state);
            drop(seats);
        }
    }
}
