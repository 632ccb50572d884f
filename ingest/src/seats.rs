//! How many sessions there may be at once.

use std::sync::Arc;

use cloudpose_wire::{Caller, Tenant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{listener::Line, metrics, quotas::Begun};

/// The places for sessions.
#[derive(Debug)]
pub(crate) struct Seats(Arc<Semaphore>);

impl Seats {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }

    /// Whether there is a place now.
    pub(crate) fn any(&self) -> bool {
        self.0.available_permits() > 0
    }

    /// A place for one more session of `caller`, or `None` if all are taken.
    pub(crate) fn take(&self, caller: &Caller) -> Option<Seat> {
        let tenant = caller.tenant.clone();
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => {
                metrics::session_opened(&tenant);
                Some(Seat { tenant, _permit: permit, counted: None })
            }
            Err(_) => {
                metrics::session_refused(&tenant);
                None
            }
        }
    }
}

/// A seat that is kept until the answer is out, or its connection is gone.
#[derive(Debug)]
pub(crate) struct Occupied {
    seat: Option<Seat>,
    line: Option<Line>,
}

impl Occupied {
    pub(crate) fn new(seat: Seat, line: Option<Line>) -> Self {
        Self { seat: Some(seat), line }
    }
}

impl Drop for Occupied {
    fn drop(&mut self) {
        if let (Some(line), Some(seat)) = (&self.line, self.seat.take()) {
            line.keep(seat);
        }
    }
}

/// One of the places, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    tenant: Tenant,
    _permit: OwnedSemaphorePermit,
    /// Counts for its tenant and its address.
    counted: Option<Begun>,
}

impl Seat {
    /// It counts as `counted` for as long as it is taken.
    pub(crate) fn counting(mut self, counted: Begun) -> Self {
        self.counted = Some(counted);
        self
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        drop(self.counted.take());
        metrics::session_closed(&self.tenant);
    }
}
