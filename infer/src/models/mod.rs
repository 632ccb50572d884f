//! Models: which there are, where their files come from, and one folder a family.
//!
//! | module | what |
//! |---|---|
//! | [`manifest`], [`store`] | which models there are; embedded or from a folder, checksums |
//! | `family` | what a family brings: [`Family`], [`Model`], [`Execution`] |
//! | `registry` | [`Models`]: what this process can run, renewed when its folder changes |
//! | `catalogue` | the models of a store at one time: each loaded once, when it is first asked for |
//! | `served` | what clients can ask for, of what a manifest lists |
//! | [`folder`] | a folder that models are added to |
//! | `tensors` | [`Tensors`]: a checked safetensors file |
//! | [`movenet`] | the MoveNet family, which finds persons |
//! | [`efficientnet`] | the EfficientNet-Lite family, which tells classes |
//! | [`onnx`] | graphs that somebody brings as ONNX files |
//!
//! Nothing here knows frames or the bus.

pub(crate) mod catalogue;
pub mod efficientnet;
mod family;
pub mod folder;
pub mod manifest;
pub mod movenet;
pub mod onnx;
mod registry;
mod served;
pub mod store;
mod tensors;

use std::path::PathBuf;

use cloudpose_wire::ModelId;

pub use crate::task::Finds;
pub use family::{Execution, Family, Model, Processor};
pub use manifest::{Entry, Manifest};
pub use registry::Models;
pub use served::{Served, Stage};
pub use store::ModelStore;
pub use tensors::Tensors;

/// All families: the only place that lists them.
pub static FAMILIES: &[&dyn Family] =
    &[&movenet::MoveNetFamily, &efficientnet::EfficientNetFamily, &onnx::OnnxFamily];

/// A keypoint in coordinates of the model input: 0..1 from the left and top edge to the right and bottom
/// edge, outside of that where the model sees it beyond the edge.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ModelKeypoint {
    /// From the left edge.
    pub x: f32,
    /// From the top edge.
    pub y: f32,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// A box in coordinates of the model input, 0..1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ModelBox {
    /// Left edge.
    pub x_min: f32,
    /// Top edge.
    pub y_min: f32,
    /// Right edge.
    pub x_max: f32,
    /// Bottom edge.
    pub y_max: f32,
}

/// What a model reports about one person, in coordinates of the model input.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelPose {
    /// Confidence, 0 to 1, as the model has it.
    pub score: f32,
    /// Those of the model's skeleton, in its order.
    pub keypoints: Vec<ModelKeypoint>,
    /// The box, if the model tells one.
    pub bounds: Option<ModelBox>,
}

/// Why a model could not be imported, found or loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A TensorFlow.js graph model is damaged or is not one of the published MoveNet graphs.
    #[error("{} is not a usable graph model: {problem}", path.display())]
    GraphModel {
        /// The graph's JSON file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A PyTorch checkpoint is damaged or is not the published one.
    #[error("{} is not a usable checkpoint: {problem}", path.display())]
    Checkpoint {
        /// The checkpoint.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that is no graph that can be run here.
    #[error("{} cannot be added: {problem}", path.display())]
    Graph {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// There is no published model to import.
    #[error("{} holds neither MoveNet's graph models (movenet-multipose.json, …) nor a checkpoint of EfficientNet-Lite0", path.display())]
    Nothing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A manifest is not what [`Manifest`] describes.
    #[error("{} is not a model manifest as models/README.md describes it", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where the JSON goes wrong.
        source: serde_json::Error,
    },
    /// A manifest says of a model what cannot be.
    #[error("the manifest's entry of {model} cannot be used: {problem}")]
    Entry {
        /// The model.
        model: ModelId,
        /// What is wrong, and what to write.
        problem: String,
    },
    /// The manifest does not list the model.
    #[error("there is no model {model}; {manifest} lists {listed}")]
    NotListed {
        /// The model asked for.
        model: ModelId,
        /// Whose list it is.
        manifest: String,
        /// What it lists.
        listed: String,
    },
    /// A weight file does not have the size or SHA-256 its manifest states.
    #[error("{file} of {model} has {got}, its manifest says {expected}")]
    Checksum {
        /// The model.
        model: ModelId,
        /// The weight file.
        file: String,
        /// The size in bytes and SHA-256 found.
        got: String,
        /// The size in bytes and SHA-256 stated.
        expected: String,
    },
    /// A weight file is not one of this model.
    #[error("the weights of {model} are unusable: {problem}")]
    Weights {
        /// The model.
        model: ModelId,
        /// What is wrong with them.
        problem: String,
    },
}
