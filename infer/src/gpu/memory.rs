//! What a device keeps in its memory, and what works on it: programs, carried out on a GPU or, in its place, on the
//! host.

use std::{fmt, time::Duration};

use half::f16;

use super::cuda::Graph;
use super::ops::Op;

/// What went wrong on a device.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// In the driver's words.
    #[error(transparent)]
    Driver(#[from] cudarc::driver::DriverError),
    #[error("{0}")]
    Says(String),
}

pub(super) type Result<T> = std::result::Result<T, Problem>;

/// Kinds of numbers that memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    U8,
    F16,
    F32,
}

impl Number {
    /// Bytes of one.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::U8 => 1,
            Self::F16 => 2,
            Self::F32 => 4,
        }
    }
}

impl fmt::Display for Number {
    /// As kernels' names end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::U8 => "u8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        })
    }
}

/// Numbers in memory of the host.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Values {
    U8(Vec<u8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Values {
    pub(super) fn zeros(number: Number, len: usize) -> Self {
        match number {
            Number::U8 => Self::U8(vec![0; len]),
            Number::F16 => Self::F16(vec![f16::ZERO; len]),
            Number::F32 => Self::F32(vec![0.0; len]),
        }
    }

    /// `values` as float16 or float32.
    pub(super) fn of(values: Vec<f32>, number: Number) -> Self {
        match number {
            Number::F16 => Self::F16(values.into_iter().map(f16::from_f32).collect()),
            _ => Self::F32(values),
        }
    }

    pub(super) fn number(&self) -> Number {
        match self {
            Self::U8(_) => Number::U8,
            Self::F16(_) => Number::F16,
            Self::F32(_) => Number::F32,
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Little-endian, as GPUs have them.
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::U8(values) => values.clone(),
            Self::F16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// All of them, whatever they are.
    #[cfg(test)]
    pub(super) fn floats(&self) -> Vec<f32> {
        match self {
            Self::U8(values) => values.iter().map(|value| f32::from(*value)).collect(),
            Self::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::F32(values) => values.clone(),
        }
    }
}

/// Memory of a device, by which that device knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) usize);

/// An operation on memory. `output` is none of `inputs`.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) op: Box<dyn Op>,
    pub(super) inputs: Vec<Slot>,
    pub(super) output: Slot,
}

/// Steps, one after the other.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) steps: Vec<Step>,
    /// What is filled before it runs, and what is read after it.
    pub(super) input: Slot,
    pub(super) output: Slot,
    /// The same, as a GPU keeps it; from its first run on.
    pub(super) graph: Option<Graph>,
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
pub(super) trait Device: fmt::Debug + Send {
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
