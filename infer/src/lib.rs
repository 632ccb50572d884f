//! The infer role: frames in, pose events out.
//!
//! | module | what |
//! |---|---|
//! | `worker` | [`Worker`], the loop: lane → pipeline → pose event → next lane or gateway |
//! | `pipeline` | [`Pipeline`], one frame's whole way on the CPU: image → pixels → model input → heads → persons |
//! | `feed` | the way to a GPU's batches: image → pixels → what is uploaded; poses → persons |
//! | [`crop`] | where SinglePose looks, from where the person was |
//! | [`preprocess`] | planes → model input |
//! | [`model`] | MoveNet: weights, architecture, reference graph in candle |
//! | [`cpu`] | the CPU engine: a static plan over our own kernels |
//! | [`gpu`] | the batched engine, for GPUs |
//! | [`postprocess`] | heads → poses → persons in pixels of the image |
//! | [`batch`] | which waiting frames go to the device together |
//!
//! It knows nothing of HTTP and of sessions.

mod config;
pub mod cpu;
pub mod crop;
mod feed;
pub mod gpu;
pub mod metrics;
pub mod model;
mod pipeline;
pub mod postprocess;
pub mod preprocess;
mod worker;

pub use config::{Config, GpuConfig, StoreConfig};
pub use pipeline::{Detail, Job, Models, Past, Pipeline, Poses, fit};
pub use worker::Worker;

/// Why a frame has no poses, or the role cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image cannot be decoded.
    #[error(transparent)]
    Pixels(#[from] cloudpose_pixels::Error),
    /// The model cannot be loaded or run.
    #[error(transparent)]
    Engine(#[from] cpu::Error),
    /// The GPU cannot be used, or failed.
    #[error(transparent)]
    Gpu(#[from] gpu::Error),
    /// The threads that keep a GPU busy cannot be started.
    #[error("cannot start a thread for the GPU")]
    Thread(#[source] std::io::Error),
    /// There are no usable models.
    #[error(transparent)]
    Model(#[from] model::Error),
}
