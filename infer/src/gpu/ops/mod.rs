//! The steps of the network, each as a plain reference for the CPU and as a launch for the GPU.
//!
//! | module | what |
//! |---|---|
//! | [`input`] | uploaded pictures → normalised RGB → the stem's windows |
//! | [`layers`] | depthwise convolution, bias and activation, residual, upsampling |
//! | [`matmul`] | 1×1 convolutions |
//! | [`poses`] | heads → poses |
//!
//! An [`Op`] writes into a tensor that is there already, so that a running engine allocates nothing. What is
//! launched is said in data ([`Launch`]): the code that carries it out on a GPU knows no operation, and the tests
//! carry the same launches out on the host.

pub(super) mod input;
pub(super) mod layers;
pub(super) mod matmul;
pub(super) mod poses;

use candle_core::{CpuStorage, DType, Result, Storage, Tensor, WithDType, bail};
use half::f16;

use crate::models::movenet::arch::Activation;

/// A step of the network.
pub(super) trait Op {
    /// What error messages call it.
    fn name(&self) -> &'static str;

    /// Computes it on the CPU, in a plain loop.
    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()>;

    /// What computes it on a GPU, one after the other. `dtype`: of the output.
    fn work(&self, dtype: DType) -> Result<Vec<Work>>;
}

/// Something for the GPU to do.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Work {
    Launch(Launch),
    /// The output `[rows, columns]` is input 0 `[rows, depth]` times input 1 `[depth, columns]`.
    Multiply {
        rows: usize,
        depth: usize,
        columns: usize,
    },
}

/// A kernel and how it is started.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Launch {
    pub(super) kernel: String,
    pub(super) blocks: u32,
    /// Threads of a block.
    pub(super) threads: u32,
    pub(super) args: Vec<Arg>,
}

/// An argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arg {
    /// The address of an input, by its position.
    Input(usize),
    /// The address of the output.
    Output,
    U32(u32),
    F32(f32),
}

/// Threads of a block where threads have nothing to do with one another.
const THREADS: u32 = 256;

impl Launch {
    /// `blocks` of `threads` each. `args` say where things are, then `sizes` how large, then come `numbers`.
    fn work(
        kernel: impl ToString,
        (blocks, threads): (u32, u32),
        args: &[Arg],
        sizes: &[usize],
        numbers: &[f32],
    ) -> Result<Work> {
        let mut args = args.to_vec();
        for size in sizes {
            args.push(Arg::U32(narrow(*size)?));
        }
        args.extend(numbers.iter().map(|number| Arg::F32(*number)));
        Ok(Work::Launch(Self { kernel: kernel.to_string(), blocks, threads, args }))
    }
}

/// Blocks and threads for `count` items that have nothing to do with one another.
fn each(count: usize) -> Result<(u32, u32)> {
    Ok((narrow(count)?.div_ceil(THREADS), THREADS))
}

/// The kernel for maps of `dtype`.
fn of_type(kernel: &str, dtype: DType) -> String {
    format!("{kernel}_{}", dtype.as_str())
}

/// Kernels count in 32 bits.
fn narrow(count: usize) -> Result<u32> {
    match u32::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => bail!("a batch of this size and number of pictures is too large: {count} items"),
    }
}

/// What follows a sum: the bounds that it is clamped to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Clamp {
    low: f32,
    high: f32,
}

impl Clamp {
    pub(super) const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maps {
    pub(super) images: usize,
    pub(super) height: usize,
    pub(super) width: usize,
}

impl Maps {
    pub(super) fn pixels(self) -> usize {
        self.images * self.height * self.width
    }

    /// Maps half as high and wide.
    pub(super) fn halved(self) -> Self {
        Self { height: self.height / 2, width: self.width / 2, ..self }
    }

    fn sizes(self) -> [usize; 3] {
        [self.images, self.height, self.width]
    }
}

/// What maps consist of: computed in float32, whatever they are kept in.
trait Real: WithDType {
    fn widen(self) -> f32;
    fn narrow(value: f32) -> Self;
}

impl Real for f32 {
    fn widen(self) -> f32 {
        self
    }

    fn narrow(value: f32) -> Self {
        value
    }
}

impl Real for f16 {
    fn widen(self) -> f32 {
        self.to_f32()
    }

    fn narrow(value: f32) -> Self {
        Self::from_f32(value)
    }
}

/// Calls `body` with the values of a contiguous tensor on the CPU.
fn with_values<T: WithDType, R>(tensor: &Tensor, body: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        bail!("a contiguous tensor on the CPU was expected");
    };
    body(&storage.as_slice::<T>()?[start..end])
}

/// The values of a tensor on the CPU, as float32.
fn floats(tensor: &Tensor) -> Result<Vec<f32>> {
    with_values(tensor, |values: &[f32]| Ok(values.to_vec()))
}

/// Calls `$body` with `$values`, a slice of whichever type `$storage` keeps.
macro_rules! in_either {
    ($storage:expr, $values:ident => $body:expr) => {
        match $storage {
            candle_core::CpuStorage::F32($values) => $body,
            candle_core::CpuStorage::F16($values) => $body,
            _ => candle_core::bail!("maps are float32 or float16"),
        }
    };
}
use in_either;
