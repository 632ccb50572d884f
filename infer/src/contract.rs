//! What an engine is, and what it asks of a model: the seam between pipelines, engines and model families.

use std::fmt;

use cloudpose_wire::{ModelId, Prior, Task};

use crate::gpu::{DeviceError, Picture, Place};
use crate::models;
use crate::preprocess::{Fit, ModelInput, Square};

/// Runs models on one device, a batch at a time. Belongs to one thread.
pub trait Engine: Send {
    /// Where it runs.
    fn place(&self) -> Place;

    /// In which form it takes pictures.
    fn form(&self) -> Form;

    /// Makes a model ready. Whoever does not call it pays with the first batch.
    ///
    /// # Errors
    /// Those of [`run`](Self::run) but [`Fault::Input`].
    fn load(&mut self, model: &ModelId) -> Result<(), Fault>;

    /// Runs `model` on inputs in this engine's form, all of one size, and says what it finds in each.
    ///
    /// # Errors
    /// [`Fault`], by which the caller decides about the frames.
    fn run(&mut self, model: &ModelId, batch: &[Input]) -> Result<Vec<Found>, Fault>;
}

/// Forms in which engines take pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Resized on the processor.
    Rgb,
    /// Resized on the device.
    Planes,
}

/// A picture, or a part of one, for a model.
#[derive(Debug)]
pub enum Input {
    /// As [`Form::Rgb`].
    Rgb(ModelInput),
    /// As [`Form::Planes`].
    Planes(Picture),
}

/// What a model finds in one input.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Persons, in coordinates of the input.
    Poses(Vec<models::ModelPose>),
    /// A score from 0 to 1 for each of the model's labels.
    Classes(Vec<f32>),
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

/// What a model's weights are made to find. The manifest has a name for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finds {
    /// Persons of so many keypoints.
    Keypoints(usize),
    /// So many classes.
    Classes(usize),
}

impl From<&Task> for Finds {
    fn from(task: &Task) -> Self {
        match task {
            Task::Pose { skeleton } => Self::Keypoints(skeleton.keypoints().len()),
            Task::Classify { labels } => Self::Classes(labels.len()),
        }
    }
}

impl fmt::Display for Finds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keypoints(count) => write!(f, "{count} keypoints"),
            Self::Classes(count) => write!(f, "{count} classes"),
        }
    }
}

/// A model that was read and checked. Shared by all engines that run it.
pub trait Model: fmt::Debug + Send + Sync {
    /// What it finds, as its weights say.
    fn finds(&self) -> Finds;

    /// How a picture is fitted into its input.
    fn fit(&self) -> Fit;

    /// Whether it finds the same in a picture that was decoded to no more than it reads.
    fn takes_reduced(&self) -> bool;

    /// Where in a picture of that width and height to look, after what came before; everywhere if nowhere else.
    fn region(&self, prior: &Prior, size: [usize; 2]) -> Option<Square>;

    /// The model for one thread of `processor`.
    fn on_cpu(&self, processor: &models::Processor) -> Box<dyn models::Execution>;

    /// The model on a candle device, computed as plainly as possible: the reference for the others.
    ///
    /// # Errors
    /// [`Fault::Device`] if the device cannot hold it.
    fn reference(&self, device: &candle_core::Device) -> Result<Box<dyn models::Execution>, Fault>;

    /// What the batched engine for GPUs needs of it; none if it cannot run there.
    fn on_gpu(&self) -> Option<&models::movenet::Weights>;
}
