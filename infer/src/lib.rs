//! The infer role: frames in, pose events out.
//!
//! | module | what |
//! |---|---|
//! | `worker` | [`Worker`], the loop: lane → pipeline → pose event → next lane or gateway |
//! | `pipeline` | [`Pipeline`], one frame's whole way: image → pixels → model input → heads → persons |
//! | [`crop`] | where SinglePose looks, from where the person was |
//! | [`preprocess`] | planes → model input |
//! | [`model`] | MoveNet: weights, architecture, reference graph in candle |
//! | [`cpu`] | the CPU engine: a static plan over our own kernels |
//! | [`postprocess`] | heads → poses → persons in pixels of the image |
//! | [`batch`] | which waiting frames go to the device together |
//!
//! It knows nothing of HTTP and of sessions.

pub mod batch;
mod config;
pub mod cpu;
pub mod crop;
pub mod metrics;
pub mod model;
mod pipeline;
pub mod postprocess;
pub mod preprocess;
mod worker;

pub use config::{Config, StoreConfig};
pub use pipeline::{Detail, Job, Models, Past, Pipeline, Poses};
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
    /// There are no usable models.
    #[error(transparent)]
    Model(#[from] model::Error),
}
