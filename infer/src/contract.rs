//! What an engine is, what it can fail of, and who tries again: the seam between pipelines and engines.

use cloudpose_wire::ModelId;

use crate::gpu::{DeviceError, Place};
use crate::models;
use crate::preprocess::ModelInput;
pub use crate::task::Found;

/// Runs models on one device, a batch at a time. Belongs to one thread.
pub trait Engine: Send {
    /// Where it runs.
    fn place(&self) -> Place;

    /// Makes a model ready. Whoever does not call it pays with the first batch.
    ///
    /// # Errors
    /// Those of [`run`](Self::run) but [`Fault::Input`].
    fn load(&mut self, model: &ModelId) -> Result<(), Fault>;

    /// Runs `model` on inputs that are all of one size, and says what it finds in each.
    ///
    /// # Errors
    /// [`Fault`], by which the caller decides about the frames.
    fn run(&mut self, model: &ModelId, batch: &[ModelInput]) -> Result<Vec<Found>, Fault>;
}

/// Why a batch was not run, and who tries again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The model cannot be had here. Nobody tries again: another worker has the same files.
    #[error(transparent)]
    Model(#[from] models::Error),
    /// The model does not take such inputs. Nobody tries again.
    #[error("{model} does not take {what}")]
    Input {
        /// Which model.
        model: ModelId,
        /// What it was given.
        what: String,
    },
    /// The device failed with the batch in its hands. This process can do no more; another worker tries again, and
    /// that counts, for the batch may be why.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The device had failed before. Another worker tries again, as if for the first time.
    #[error("the device failed before")]
    Lost,
}
