//! The batched engine, for GPUs: from planes to poses on the device.
//!
//! | module | what |
//! |---|---|
//! | `device` | which device was asked for, and which is there |
//! | `picture` | a decoded picture as it is uploaded |
//! | `batches` | who waits for which batch, and the threads that keep engines busy |
//! | `engine` | one device's batches |
//! | `network` | MoveNet as a sequence of operations |
//! | `ops` | the operations: plain references, and launches as data |
//! | `run` | carries out an operation where its tensors are |
//! | `staging` | memory of the host that pictures are uploaded from |
//! | `buffers` | the memory of a running engine |
//! | `cuda` | carries launches out; with feature `cuda` only |
//! | `kernels/*.cu` | the kernels |
//!
//! Everything but `cuda` runs and is tested on the CPU, where the operations are plain loops
//! ([`Place::Host`]). The kernels are compiled when an engine starts; the tests compile them as C++ for the host
//! and hold them to the references.

mod batches;
mod buffers;
#[cfg(feature = "cuda")]
mod cuda;
mod device;
mod engine;
mod network;
#[cfg_attr(
    not(any(feature = "cuda", test)),
    allow(dead_code, reason = "launches are carried out with feature cuda, and by the tests")
)]
mod ops;
mod picture;
mod run;
mod staging;
#[cfg(test)]
mod tests;

use candle_core::DType;

pub(crate) use batches::{Answer, Batches};
pub use device::{DeviceChoice, Place};
pub(crate) use engine::open;
pub use engine::{Done, GpuEngine, Spent};
pub use picture::Picture;

/// What numbers the network is computed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Precision {
    /// float32.
    F32,
    /// float16 maps and matrices, float32 sums and heads.
    F16,
}

impl Precision {
    fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
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
    pub(crate) fn new(place: Place, error: &candle_core::Error) -> Self {
        Self::says(place, &error.to_string())
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
        ("NO_DEVICE", ": there is no NVIDIA GPU here, or the container was started without one"),
        ("INVALID_DEVICE", ": there is no GPU of that number; nvidia-smi lists them"),
        ("STUB_LIBRARY", ": there is no NVIDIA driver here"),
        ("INSUFFICIENT_DRIVER", ": the NVIDIA driver is older than the CUDA that this was built with"),
        ("SYSTEM_DRIVER_MISMATCH", ": the NVIDIA driver was updated; restart the machine"),
        ("UNSUPPORTED_PTX_VERSION", ": the NVIDIA driver is older than the CUDA that this was built with"),
        ("NO_BINARY_FOR_GPU", ": this was built for other GPUs; see CUDA_COMPUTE_CAP in docs/gpu.md"),
        ("built without CUDA", ": take the binary or image for GPUs"),
    ];
    known.iter().find(|(name, _)| problem.contains(name)).map_or("", |(_, advice)| advice)
}
