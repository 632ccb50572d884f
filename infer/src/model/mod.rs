//! The MoveNet models: weights, architecture, and the candle reference graph.
//!
//! | module | what |
//! |---|---|
//! | [`arch`] | every layer by name, shape and stride: what both executions build from |
//! | [`import`] | TensorFlow.js graph models → our float16 safetensors |
//! | [`manifest`], [`store`] | which weight files there are; embedded or from a folder, checksums |
//! | [`weights`] | one checked weight file |
//! | [`movenet`] | the network in candle, the reference for every other execution |
//!
//! Nothing here knows images, frames or the bus.

pub mod arch;
mod blocks;
pub mod import;
pub mod manifest;
pub mod movenet;
pub mod store;
mod tfjs;
pub mod weights;

use std::path::PathBuf;

use cloudpose_wire::ModelName;

pub use movenet::MoveNet;
pub use store::ModelStore;
pub use weights::Weights;

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
    /// A manifest is not what [`manifest::Manifest`] describes.
    #[error("{} is not a valid model manifest", path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Where the JSON goes wrong.
        source: serde_json::Error,
    },
    /// The folder's manifest does not list the model.
    #[error("{} does not list the model {model}; `cloudpose models import` writes it", manifest.display())]
    NotListed {
        /// The manifest.
        manifest: PathBuf,
        /// The model asked for.
        model: ModelName,
    },
    /// A weight file does not have the size or SHA-256 its manifest states.
    #[error("{file} of {model} has {got}, its manifest says {expected}")]
    Checksum {
        /// The model.
        model: ModelName,
        /// The weight file.
        file: String,
        /// The size in bytes and SHA-256 found.
        got: String,
        /// The size in bytes and SHA-256 stated.
        expected: String,
    },
    /// A weight file is no safetensors file, or not of this model.
    #[error("the weights of {model} are unusable: {problem}")]
    Weights {
        /// The model.
        model: ModelName,
        /// What is wrong with them.
        problem: String,
    },
}
