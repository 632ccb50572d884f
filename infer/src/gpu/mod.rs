//! The batched engine, for GPUs: from model inputs to poses on the device.
//!
//! | module | what |
//! |---|---|
//! | `device` | which device was asked for, and which is there |
//! | `batches` | who waits for which batch, and the threads that keep engines busy |
//! | `engine` | one device's batches |
//! | `ops` | the operations: plain references, and launches as data |
//! | `memory` | what a device is: memory, and programs that work on it; what a model brings to run there |
//! | `buffers` | the memory of a running engine |
//! | `cuda` | a device: an NVIDIA GPU |
//! | `host` | a device: the CPU in a GPU's place, with plain loops |
//! | `kernels/*.cu` | the kernels |
//!
//! Everything but `cuda` runs and is tested on the CPU ([`Place::Host`]). The tests compile the kernels as C++ for the
//! host and hold them to the references.

mod batches;
mod buffers;
mod cuda;
mod device;
mod engine;
mod host;
mod memory;
mod model;
mod ops;
mod program;
#[cfg(test)]
mod tests;

pub(crate) use batches::{Answer, Batches};
pub(crate) use buffers::{Buffers, Part};
pub use device::{DeviceChoice, Place};
pub(crate) use engine::open;
pub use engine::{Done, GpuEngine};
use memory::Problem;
pub(crate) use memory::{Number, Result, Slot, Values};
pub(crate) use model::Loaded;
pub use model::OnGpu;
pub(crate) use ops::layers::{Depthwise, Merge, Stem, Widen};
pub(crate) use ops::pointwise::{Pointwise, Then};
pub(crate) use ops::{Arg, Clamp, Launch, Maps, Op, each, floats, narrow, says};
pub use program::Spent;
pub(crate) use program::{Device, Program, Step};

/// What numbers the network is computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// float16 on a GPU; on the processor bfloat16 where it is faster and the model bears it, else float32.
    Auto,
    /// float32.
    F32,
    /// float16 maps and matrices, float32 sums and heads; on the processor as `auto`.
    F16,
    /// bfloat16 maps and matrices, float32 sums and heads; on the processor only.
    Bf16,
}

impl Precision {
    /// None if no GPU computes in it.
    fn number(self) -> Option<Number> {
        match self {
            Self::F32 => Some(Number::F32),
            Self::Auto | Self::F16 => Some(Number::F16),
            Self::Bf16 => None,
        }
    }
}

/// A device that is not there, or failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{place}: {problem}{advice}")]
pub struct DeviceError {
    place: Place,
    problem: String,
    advice: &'static str,
}

impl DeviceError {
    fn new(place: Place, problem: &Problem) -> Self {
        Self::says(place, &problem.to_string())
    }

    /// What `message`, as the driver has it, means on `place`.
    pub fn says(place: Place, message: &str) -> Self {
        // A backtrace may follow.
        let problem = message.lines().next().unwrap_or_default().trim().to_owned();
        Self { place, advice: advice(&problem), problem }
    }
}

/// What to do about a problem, by the names that CUDA has for it.
fn advice(problem: &str) -> &'static str {
    let known = [
        (
            "OUT_OF_MEMORY",
            ": the GPU's memory is full; lower --max-batch, or see with nvidia-smi who else uses it",
        ),
        (
            "ALLOC_FAILED",
            ": the GPU's memory is full; lower --max-batch, or see with nvidia-smi who else uses it",
        ),
        ("libcuda.so.1", "; install it (nvidia-smi then lists the GPUs), or use --device cpu"),
        ("compute capability", "; see with nvidia-smi which other GPUs there are, or use --device cpu"),
        ("NO_DEVICE", ": there is no NVIDIA GPU here, or the container was started without one"),
        ("INVALID_DEVICE", ": there is no GPU of that number; nvidia-smi lists them"),
        ("STUB_LIBRARY", ": there is no NVIDIA driver here"),
        ("INSUFFICIENT_DRIVER", ": the NVIDIA driver is too old; docs/gpu.md says which one is needed"),
        ("SYSTEM_DRIVER_MISMATCH", ": the NVIDIA driver was updated; restart the machine"),
        ("UNSUPPORTED_PTX_VERSION", ": the NVIDIA driver is too old; docs/gpu.md says which one is needed"),
    ];
    known.iter().find(|(name, _)| problem.contains(name)).map_or("", |(_, advice)| advice)
}
