//! What travels with a frame inside a process only.

use std::{any::Any, fmt};

/// A value of any type beside a frame: the bus carries it and does not look at it.
pub struct Attachment(Box<dyn Any + Send + Sync>);

impl Attachment {
    /// Attaches a value.
    pub fn new<T: Any + Send + Sync>(value: T) -> Self {
        Self(Box::new(value))
    }

    /// Takes the value out, or drops it and returns `None` if it is of another type.
    pub fn take<T: Any>(self) -> Option<T> {
        self.0.downcast().ok().map(|value| *value)
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attachment").finish_non_exhaustive()
    }
}
