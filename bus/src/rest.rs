//! Work that rests while other work is done.

use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

/// Tells a frame's work when to rest. Who does the work asks now and then, where it holds nothing that others wait for.
#[derive(Debug, Clone, Default)]
pub struct Rest(Arc<State>);

#[derive(Debug, Default)]
struct State {
    /// As `rests`, to be asked often.
    hint: AtomicBool,
    rests: Mutex<bool>,
    goes_on: Condvar,
}

impl Rest {
    /// Blocks the thread for as long as its work is to rest.
    pub fn here(&self) {
        if !self.0.hint.load(Ordering::Relaxed) {
            return;
        }
        let rests = self.0.goes_on.wait_while(self.state(), |rests| *rests);
        drop(rests.unwrap_or_else(PoisonError::into_inner));
    }

    /// Tells the work to rest, or to go on.
    pub fn set(&self, rests: bool) {
        *self.state() = rests;
        self.0.hint.store(rests, Ordering::Relaxed);
        self.0.goes_on.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, bool> {
        // A flag is whole whoever panicked with it.
        self.0.rests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
