//! What can be set about the infer role.

use std::{num::NonZeroUsize, path::PathBuf, time::Duration};

use cloudpose_policy::batch;

use crate::gpu::{DeviceChoice, Precision};
use crate::models::{self, ModelStore};

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
    /// Persons of a live frame at whom balanced and accurate look closer, the large and unsure ones first; the others
    /// stay as they were found, and are marked
    #[arg(long, env = "CLOUDPOSE_REFINE_PERSONS", value_name = "N", default_value = "8")]
    pub refine_persons: usize,
    /// Where to run the models: auto (a GPU if one answers), cpu, cuda or cuda:N (GPU number N)
    #[arg(long, env = "CLOUDPOSE_DEVICE", value_name = "DEVICE", default_value_t)]
    pub device: DeviceChoice,
    /// What happens on a GPU.
    #[command(flatten)]
    pub gpu: GpuConfig,
    /// Where the models are.
    #[command(flatten)]
    pub store: StoreConfig,
}

/// What happens on a GPU.
#[derive(Debug, Clone, clap::Args)]
pub struct GpuConfig {
    /// Frames in a batch on a GPU, at most
    #[arg(long, env = "CLOUDPOSE_MAX_BATCH", value_name = "1-64", default_value = "32", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub max_batch: u8,
    /// How long a frame waits for others while the GPU is busy
    #[arg(long, env = "CLOUDPOSE_MAX_WAIT", value_name = "TIME", default_value = "4ms", value_parser = humantime::parse_duration)]
    pub max_wait: Duration,
    /// What networks are computed in
    #[command(flatten)]
    pub numbers: PrecisionConfig,
}

/// What networks are computed in.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct PrecisionConfig {
    /// What networks are computed in: f32; f16, on a GPU; bf16, on the processor; auto, which is f16 on a GPU, and
    /// on the processor bf16 where that is faster and the model was measured to bear it, else f32
    #[arg(
        long,
        env = "CLOUDPOSE_PRECISION",
        value_name = "F",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub precision: Precision,
}

impl GpuConfig {
    /// The bounds of a batch.
    pub(crate) fn batch_rule(&self) -> batch::BatchRule {
        batch::BatchRule { max_batch: self.max_batch.into(), max_wait: self.max_wait }
    }
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
    /// [`models::Error`] if the folder has no usable manifest.
    pub fn open(&self) -> Result<ModelStore, models::Error> {
        self.model_dir.as_deref().map_or_else(|| Ok(ModelStore::embedded()), ModelStore::open)
    }
}
