//! What works on a device's memory: programs, carried out on a GPU or, in its place, on the host.

use std::{fmt, time::Duration};

use super::memory::{Number, Result, Slot, Values};
use super::ops::Op;

/// An operation on memory. `output` is none of `inputs`.
#[derive(Debug)]
pub struct Step {
    pub op: Box<dyn Op>,
    pub inputs: Vec<Slot>,
    pub output: Slot,
}

/// Steps, one after the other.
#[derive(Debug)]
pub struct Program {
    pub steps: Vec<Step>,
    /// What is filled before it runs.
    pub input: Slot,
    /// What is read after it, and how many bytes of it.
    pub output: (Slot, usize),
    /// The same, as a GPU keeps it; from its first run on.
    pub graph: Option<Box<dyn Captured>>,
}

impl Program {
    /// A program that never ran.
    pub fn new(steps: Vec<Step>, input: Slot, output: (Slot, usize)) -> Self {
        Self { steps, input, output, graph: None }
    }
}

/// What a device has made of a program, to start it at once.
pub trait Captured: fmt::Debug + Send {
    fn launch(&self) -> Result<()>;
}

/// Where the time of a batch went.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spent {
    /// Gathering in pinned memory, and copying to the device.
    pub upload: Duration,
    /// The network and the decoding of its heads.
    pub compute: Duration,
    /// Copying the poses back.
    pub download: Duration,
}

/// What carries programs out, with its memory. Belongs to one thread.
pub trait Device: fmt::Debug + Send {
    /// New memory with these numbers.
    fn put(&mut self, values: &Values) -> Result<Slot>;

    /// New memory for `len` numbers, with whatever is there.
    fn take(&mut self, number: Number, len: usize) -> Result<Slot>;

    /// Gives `slot` memory for `len` numbers instead, of whatever is there. Programs that use it must not be run again.
    fn replace(&mut self, slot: Slot, len: usize) -> Result<()>;

    /// Numbers that fit into `slot`.
    fn len(&self, slot: Slot) -> usize;

    /// Fills the first `len` bytes of `slot` with what `write` leaves in the bytes that it is given.
    fn upload(&mut self, slot: Slot, len: usize, write: &mut dyn FnMut(&mut [u8])) -> Result<()>;

    fn run(&mut self, program: &mut Program) -> Result<()>;

    /// Copies the first bytes of `slot` (numbers are little-endian) once everything before is done. Says where the time
    /// went since the last upload began.
    fn download(&mut self, slot: Slot, to: &mut [u8]) -> Result<Spent>;
}
