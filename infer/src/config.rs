//! What can be set about the infer role.

use std::{num::NonZeroUsize, path::PathBuf};

use crate::model::{self, ModelStore};

/// Settings of the infer role.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "infer")]
#[command(next_help_heading = "Inference")]
pub struct Config {
    /// Frames worked on at once [default: as many as keep every processor core busy]
    #[arg(id = "infer_threads", long = "infer-threads", env = "CLOUDPOSE_INFER_THREADS", value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Threads that share one frame: shortens the wait for a frame where there are more processor cores
    /// than frames at a time, and costs throughput where there are not
    #[arg(long, env = "CLOUDPOSE_THREADS_PER_FRAME", value_name = "N", default_value = "1")]
    pub threads_per_frame: NonZeroUsize,
    /// Where the models are.
    #[command(flatten)]
    pub store: StoreConfig,
}

/// Where the models are.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct StoreConfig {
    /// Folder with model files and their manifest, instead of those built in
    #[arg(long, env = "CLOUDPOSE_MODEL_DIR", value_name = "DIR")]
    pub model_dir: Option<PathBuf>,
}

impl StoreConfig {
    /// The models built in, or those of the folder.
    ///
    /// # Errors
    /// [`model::Error`] if the folder has no usable manifest.
    pub fn open(&self) -> Result<ModelStore, model::Error> {
        self.model_dir.as_deref().map_or_else(|| Ok(ModelStore::embedded()), ModelStore::open)
    }
}
