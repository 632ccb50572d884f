//! The steps of the network, each as a plain reference for the CPU and as a launch for the GPU.
//!
//! | module | what |
//! |---|---|
//! | [`layers`] | stem, depthwise convolution, upsampling |
//! | [`pointwise`] | 1×1 convolutions with what follows them |
//!
//! An [`Op`] writes into memory that is there already, so that a running engine allocates nothing. What is
//! launched is said in data ([`Launch`]): the code that carries it out on a GPU knows no operation, and the tests
//! carry the same launches out on the host.

pub(super) mod layers;
pub(super) mod pointwise;

use std::fmt;

use half::f16;

use super::memory::{Number, Problem, Result, Values};
use crate::models::movenet::arch::Activation;

/// A step of the network.
pub trait Op: fmt::Debug + Send {
    /// Computes it on the CPU, in a plain loop.
    fn compute(&self, inputs: &[&Values], output: &mut Values) -> Result<()>;

    /// What computes it on a GPU, one after the other. `number`: what the output consists of.
    fn launches(&self, number: Number) -> Result<Vec<Launch>>;
}

/// A kernel and how it is started.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    pub kernel: String,
    pub blocks: u32,
    /// Threads of a block.
    pub threads: u32,
    pub args: Vec<Arg>,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// The address of an input, by its position.
    Input(usize),
    /// The address of the output.
    Output,
    U32(u32),
    F32(f32),
}

/// Threads of a block where threads have nothing to do with one another.
const THREADS: u32 = 128;

impl Launch {
    /// `blocks` of `threads` each. `args` say where things are, then `sizes` how large, then come `numbers`.
    pub fn new(
        kernel: impl ToString,
        (blocks, threads): (u32, u32),
        args: &[Arg],
        sizes: &[usize],
        numbers: &[f32],
    ) -> Result<Self> {
        let mut args = args.to_vec();
        for size in sizes {
            args.push(Arg::U32(narrow(*size)?));
        }
        args.extend(numbers.iter().map(|number| Arg::F32(*number)));
        Ok(Self { kernel: kernel.to_string(), blocks, threads, args })
    }
}

/// Blocks and threads for `count` items that have nothing to do with one another.
pub(crate) fn each(count: usize) -> Result<(u32, u32)> {
    Ok((narrow(count)?.div_ceil(THREADS), THREADS))
}

/// The kernel for maps of `number`.
fn of_type(kernel: &str, number: Number) -> String {
    format!("{kernel}_{number}")
}

/// Channels that a thread of a kernel works on: as many as 16 bytes have, of which `channels` is a multiple.
fn lanes(channels: usize, number: Number) -> Result<usize> {
    let lanes = 16 / number.bytes();
    if channels.is_multiple_of(lanes) { Ok(lanes) } else { Err(says(format!("{channels} channels"))) }
}

pub(crate) fn says(what: impl Into<String>) -> Problem {
    Problem::Says(what.into())
}

/// Kernels count in 32 bits.
pub(crate) fn narrow(count: usize) -> Result<u32> {
    match u32::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => {
            Err(says(format!("a batch of this size and number of pictures is too large: {count} items")))
        }
    }
}

/// What follows a sum: the bounds that it is clamped to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Clamp {
    low: f32,
    high: f32,
}

impl Clamp {
    pub(crate) const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    fn apply(self, x: f32) -> f32 {
        x.max(self.low).min(self.high)
    }

    fn bounds(self) -> [f32; 2] {
        [self.low, self.high]
    }
}

impl From<Activation> for Clamp {
    fn from(activation: Activation) -> Self {
        match activation {
            Activation::Linear => Self::NONE,
            Activation::Relu => Self { low: 0.0, ..Self::NONE },
            Activation::Relu6 => Self { low: 0.0, high: 6.0 },
        }
    }
}

/// The size of a batch's maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Maps {
    pub images: usize,
    pub height: usize,
    pub width: usize,
}

impl Maps {
    pub fn pixels(self) -> usize {
        self.images * self.height * self.width
    }

    /// Maps half as high and wide.
    pub fn halved(self) -> Self {
        Self { height: self.height / 2, width: self.width / 2, ..self }
    }

    pub fn sizes(self) -> [usize; 3] {
        [self.images, self.height, self.width]
    }
}

/// What maps consist of: computed in float32, whatever they are kept in.
trait Real: Copy {
    fn widen(self) -> f32;
    fn narrow(value: f32) -> Self;
    fn of(values: &Values) -> Result<&[Self]>;
}

impl Real for f32 {
    fn widen(self) -> f32 {
        self
    }

    fn narrow(value: f32) -> Self {
        value
    }

    fn of(values: &Values) -> Result<&[Self]> {
        match values {
            Values::F32(values) => Ok(values),
            other => Err(says(format!("float32 was expected, not {}", other.number()))),
        }
    }
}

impl Real for f16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }

    fn of(values: &Values) -> Result<&[Self]> {
        match values {
            Values::F16(values) => Ok(values),
            other => Err(says(format!("float16 was expected, not {}", other.number()))),
        }
    }
}

/// Weights, biases and what heads work on.
pub(crate) fn floats(values: &Values) -> Result<&[f32]> {
    Real::of(values)
}

/// Calls `$body` with `$values`, a slice of whichever type `$output` keeps.
macro_rules! in_either {
    ($output:expr, $values:ident => $body:expr) => {
        match $output {
            $crate::gpu::memory::Values::F32($values) => $body,
            $crate::gpu::memory::Values::F16($values) => $body,
            $crate::gpu::memory::Values::U8(_) => Err($crate::gpu::ops::says("maps are float32 or float16")),
        }
    };
}
use in_either;
