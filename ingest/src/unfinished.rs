//! What clients have begun to send and not finished: bodies and messages share one budget.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudpose_policy::room::Room;

/// The budget. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Mutex<Room>>);

impl Budget {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Room::new(bytes as u64))))
    }

    /// Another body or message begins.
    pub(crate) fn share(&self) -> Share {
        Share { budget: self.clone(), held: 0 }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        // Two numbers, which no panic leaves half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client's part of it, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    budget: Budget,
    held: u64,
}

impl Share {
    /// So many bytes are unfinished now. Whether there is room for them.
    pub(crate) fn hold(&mut self, bytes: u64) -> bool {
        if bytes == self.held {
            return true;
        }
        let held = self.budget.room().change(self.held, bytes);
        if held {
            self.held = bytes;
        }
        held
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}
