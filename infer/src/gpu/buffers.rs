//! The memory of a running engine: one buffer for each part that a map can play, used again by every batch.

use super::memory::{Number, Result, Slot};
use super::program::Device;

/// What a buffer is for, by a name and a number. Two that are alive at the same time are different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part(pub &'static str, pub usize);

/// Buffers that grow to the largest batch they have met.
#[derive(Debug, Default)]
pub struct Buffers {
    buffers: Vec<(Part, Number, Slot)>,
    /// How often memory was taken from the device.
    allocations: usize,
}

impl Buffers {
    /// The buffer for `part`, of at least `len` numbers.
    pub fn get(&mut self, device: &mut dyn Device, part: Part, number: Number, len: usize) -> Result<Slot> {
        let found = self.buffers.iter().find(|(p, n, _)| (*p, *n) == (part, number));
        if let Some((.., slot)) = found {
            if device.len(*slot) < len {
                self.allocations += 1;
                device.replace(*slot, len)?;
            }
            return Ok(*slot);
        }
        self.allocations += 1;
        let slot = device.take(number, len)?;
        self.buffers.push((part, number, slot));
        Ok(slot)
    }

    /// How often memory was taken from the device. Programs that were made before the last time may use what is no
    /// longer there.
    pub(super) fn allocations(&self) -> usize {
        self.allocations
    }
}
