//! What a device keeps in its memory, and what works on it: programs, carried out on a GPU or, in its place, on the
//! host.

use std::{fmt, time::Duration};

use half::f16;

use super::buffers::Buffers;
use super::cuda::Graph;
use super::ops::{Maps, Op};
use crate::contract::Found;

/// What went wrong on a device.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// In the driver's words.
    #[error(transparent)]
    Driver(#[from] cudarc::driver::DriverError),
    #[error("{0}")]
    Says(String),
}

pub(crate) type Result<T> = std::result::Result<T, Problem>;

/// Kinds of numbers that memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Number {
    U8,
    F16,
    F32,
}

impl Number {
    /// Bytes of one.
    pub fn bytes(self) -> usize {
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
pub enum Values {
    U8(Vec<u8>),
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl Values {
    pub fn zeros(number: Number, len: usize) -> Self {
        match number {
            Number::U8 => Self::U8(vec![0; len]),
            Number::F16 => Self::F16(vec![f16::ZERO; len]),
            Number::F32 => Self::F32(vec![0.0; len]),
        }
    }

    /// `values` as float16 or float32.
    pub fn of(values: Vec<f32>, number: Number) -> Self {
        match number {
            Number::F16 => Self::F16(values.into_iter().map(f16::from_f32).collect()),
            _ => Self::F32(values),
        }
    }

    pub fn number(&self) -> Number {
        match self {
            Self::U8(_) => Number::U8,
            Self::F16(_) => Number::F16,
            Self::F32(_) => Number::F32,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::U8(values) => values.len(),
            Self::F16(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    /// Little-endian, as GPUs have them.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::U8(values) => values.clone(),
            Self::F16(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
            Self::F32(values) => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        }
    }

    /// All of them, whatever they are.
    #[cfg(test)]
    pub fn floats(&self) -> Vec<f32> {
        match self {
            Self::U8(values) => values.iter().map(|value| f32::from(*value)).collect(),
            Self::F16(values) => values.iter().map(|value| value.to_f32()).collect(),
            Self::F32(values) => values.clone(),
        }
    }
}

/// Memory of a device, by which that device knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub usize);

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
    pub graph: Option<Graph>,
}

impl Program {
    /// A program that never ran.
    pub fn new(steps: Vec<Step>, input: Slot, output: (Slot, usize)) -> Self {
        Self { steps, input, output, graph: None }
    }
}

/// A model that can run on a GPU.
pub trait OnGpu {
    /// Puts its weights on `device`, with maps and matrices in `number`, float32 or float16.
    ///
    /// # Errors
    /// If the device cannot hold them.
    fn load(&self, device: &mut dyn Device, number: Number) -> Result<Box<dyn Loaded>>;
}

/// A model's weights on a device.
pub trait Loaded: fmt::Debug + Send {
    /// Whether it takes inputs of that size.
    fn takes(&self, height: usize, width: usize) -> bool;

    /// What it does to a batch of RGB images, `maps` their number and size, in `buffers` of `device`.
    ///
    /// # Errors
    /// If there is no memory for it.
    fn program(&self, maps: Maps, device: &mut dyn Device, buffers: &mut Buffers) -> Result<Program>;

    /// What was found in each image of a batch, in the bytes that its program leaves.
    fn read(&self, output: &[u8]) -> Vec<Found>;
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
