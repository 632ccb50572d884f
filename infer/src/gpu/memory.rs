//! What a device keeps in its memory: numbers.

use std::fmt;

use half::f16;

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
