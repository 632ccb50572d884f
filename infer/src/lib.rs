//! The infer role: frames in, events out.
//!
//! | module | what |
//! |---|---|
//! | [`contract`] | what an engine is, and what it asks of a model |
//! | `worker` | [`Worker`], the loop: lane → pipeline → event → next lane or gateway |
//! | `pipeline`, `reader` | [`Pipeline`], one frame's whole way: image → pixels → stages of models → output |
//! | [`preprocess`] | planes → model input |
//! | [`models`] | which models there are; one folder a family: architecture, import, fit, decoder |
//! | [`cpu`] | the CPU engine: a static plan over our own kernels |
//! | [`gpu`] | the batched engine, for GPUs |
//! | `stages`, `regions`, `body` | models of several stages: in what order they look, and where |
//! | [`persons`] | poses → persons in pixels of the image |
//! | [`scores`] | what a score means |
//!
//! It knows nothing of HTTP and of sessions.

mod body;
mod config;
pub mod contract;
pub mod cpu;
pub mod gpu;
mod job;
pub mod metrics;
pub mod models;
pub mod persons;
mod pipeline;
pub mod preprocess;
mod reader;
mod regions;
mod runner;
pub mod scores;
mod stages;
pub mod task;
mod worker;

use std::sync::Arc;

pub use config::{Config, GpuConfig, PrecisionConfig, StoreConfig};
pub use job::{Detail, Detection, Image, Job, Past};
pub use models::Models;
pub use pipeline::Pipeline;
pub use worker::Worker;

/// Why a frame has no output, or the role cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The image cannot be decoded.
    #[error(transparent)]
    Pixels(#[from] cloudpose_pixels::Error),
    /// There is no such model, or none that can be used.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// The models cannot be run.
    #[error(transparent)]
    Fault(#[from] Arc<contract::Fault>),
    /// The CPU engine cannot start.
    #[error(transparent)]
    Cpu(#[from] cpu::Error),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] gpu::DeviceError),
    /// The threads that keep a GPU busy cannot be started.
    #[error("cannot start a thread for the GPU")]
    Thread(#[source] std::io::Error),
}

impl From<contract::Fault> for Error {
    fn from(fault: contract::Fault) -> Self {
        Self::Fault(Arc::new(fault))
    }
}
