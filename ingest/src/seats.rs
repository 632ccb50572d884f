//! How many sessions there may be at once.

use std::sync::Arc;

use cloudpose_wire::{Caller, Tenant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics;

/// The places for sessions.
#[derive(Debug)]
pub(crate) struct Seats(Arc<Semaphore>);

impl Seats {
    pub(crate) fn new(places: usize) -> Self {
        Self(Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))))
    }

    /// A place for one more session of `caller`, or `None` if all are taken.
    pub(crate) fn take(&self, caller: &Caller) -> Option<Seat> {
        let tenant = caller.tenant.clone();
        match Arc::clone(&self.0).try_acquire_owned() {
            Ok(permit) => {
                metrics::session_opened(&tenant);
                Some(Seat { tenant, _permit: permit })
            }
            Err(_) => {
                metrics::session_refused(&tenant);
                None
            }
        }
    }
}

/// One of the places, until it is dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    tenant: Tenant,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Seat {
    fn drop(&mut self) {
        metrics::session_closed(&self.tenant);
    }
}
