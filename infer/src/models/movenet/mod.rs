//! The MoveNet family: SinglePose Lightning and Thunder, MultiPose Lightning, and others of their architecture.
//!
//! | module | what |
//! |---|---|
//! | [`arch`] | every layer by name, shape and stride: what all executions build from |
//! | [`import`] | TensorFlow.js graph models → our float16 safetensors |
//! | [`weights`] | one checked weight file |
//! | [`mod@reference`] | the network in candle, the reference for every other execution |
//! | [`decoder`] | heads → poses |
//! | `crop` | where SinglePose looks, from where the person was |
//! | `gpu` | the network on a GPU, by the operations of [`crate::gpu`] |
//!
//! The CPU engine's plan of it is in [`crate::cpu`].

pub mod arch;
mod blocks;
mod crop;
pub mod decoder;
pub(crate) mod gpu;
pub mod import;
pub mod reference;
mod tfjs;
pub mod weights;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use candle_core::Tensor;
use cloudpose_wire::{ModelId, Prior, Skeleton, Task};

use decoder::CROWD;
pub use decoder::Decoder;
pub use reference::MoveNet;
pub use weights::Weights;

use super::{Entry, Error, Execution, Family, Finds, Model, Processor};
use crate::contract::{Fault, Found};
use crate::cpu::{Half, PackedModel, Plans};
use crate::gpu::{DeviceError, OnGpu, Place};
use crate::preprocess::{Fit, ModelInput, Square};
use arch::{Architecture, Config, InputSize};

/// MoveNet in the table of families.
#[derive(Debug)]
pub struct MoveNetFamily;

impl Family for MoveNetFamily {
    fn name(&self) -> &'static str {
        "movenet"
    }

    fn open(&self, entry: &Entry, file: Cow<'static, [u8]>) -> Result<Arc<dyn Model>, Error> {
        Ok(Arc::new(MoveNetModel::open(entry, file)?))
    }
}

/// One model of the family.
#[derive(Debug)]
pub struct MoveNetModel {
    read: Arc<Read>,
    fit: Fit,
    decoder: Decoder,
}

/// A weight file that was read, which a model and its detectors share.
#[derive(Debug)]
struct Read {
    weights: Weights,
    skeleton: Arc<Skeleton>,
    /// Whether its accuracy was measured to hold in bfloat16.
    bears_half: bool,
    /// For the processor, once somebody runs it there.
    packed: OnceLock<Arc<PackedModel>>,
    /// The same in bfloat16.
    packed_half: OnceLock<Arc<PackedModel>>,
}

impl MoveNetModel {
    /// Reads the weight file that `entry` describes.
    ///
    /// # Errors
    /// [`Error::Entry`] if its `config` is none of this family's, [`Error::Weights`] if the file does not fit.
    pub fn open(entry: &Entry, file: Cow<'static, [u8]>) -> Result<Self, Error> {
        let invalid = |problem: String| Error::Entry { model: entry.name.clone(), problem };
        let config: Config = serde_json::from_value(entry.config.clone())
            .map_err(|error| invalid(format!("its config is not MoveNet's: {error}")))?;
        config.check().map_err(invalid)?;
        let Task::Pose { skeleton } = entry.info()?.task else {
            return Err(invalid("MoveNet finds persons: write a `skeleton`".into()));
        };
        // A file for another number of keypoints has heads of another shape.
        let architecture = Architecture::new(config, skeleton.keypoints().len());
        let weights = Weights::parse(entry.name.clone(), architecture, file)?;
        let fit = match config.input {
            InputSize::Square(side) => Fit::Letterbox { side },
            InputSize::Multiple { longer } => Fit::Aspect { longer_side: longer },
        };
        let decoder = Decoder::new(&weights);
        Ok(Self {
            read: Arc::new(Read {
                weights,
                skeleton,
                bears_half: config.bfloat16,
                packed: OnceLock::new(),
                packed_half: OnceLock::new(),
            }),
            fit,
            decoder,
        })
    }

    /// The weights as they were read.
    pub fn weights(&self) -> &Weights {
        &self.read.weights
    }

    /// The weights as the processor reads them.
    pub fn packed(&self, processor: &Processor) -> &Arc<PackedModel> {
        let Read { weights, packed, packed_half, .. } = &*self.read;
        let half = processor.half.and_then(|half| half.kernels(self.read.bears_half));
        let packed = if half.is_some() { packed_half } else { packed };
        packed.get_or_init(|| Arc::new(PackedModel::pack(weights, processor.kernels, half)))
    }
}

impl Model for MoveNetModel {
    fn finds(&self) -> Finds {
        Finds::Keypoints(self.weights().architecture().keypoints)
    }

    fn fit(&self) -> Fit {
        self.fit
    }

    /// MultiPose takes pictures of any size: a larger one shows it smaller people.
    fn detector(&self, longer_side: usize) -> Result<Arc<dyn Model>, String> {
        if !matches!(self.fit, Fit::Aspect { .. }) {
            return Err("MoveNet SinglePose takes pictures of one size and finds one person".into());
        }
        let (read, fit) = (self.read.clone(), Fit::Aspect { longer_side });
        let decoder = Decoder::of(self.weights(), CROWD);
        Ok(Arc::new(Self { read, fit, decoder }))
    }

    /// MultiPose does. SinglePose needs every pixel: on a picture with several people the least change makes it take
    /// to another one.
    fn takes_reduced(&self) -> bool {
        matches!(self.fit, Fit::Aspect { .. })
    }

    /// Around the person that SinglePose saw last.
    fn region(&self, prior: &Prior, size: [usize; 2]) -> Option<Square> {
        let is_single = matches!(self.fit, Fit::Letterbox { .. });
        is_single.then(|| crop::square(&self.read.skeleton, prior, size)).flatten()
    }

    fn on_cpu(&self, processor: &Processor) -> Box<dyn Execution> {
        let plans = Plans::new(self.packed(processor).clone(), processor.pool.clone());
        Box::new(Planned { plans, decoder: self.decoder.clone() })
    }

    fn in_half(&self, half: Half) -> bool {
        half.kernels(self.read.bears_half).is_some()
    }

    fn reference(&self, device: &candle_core::Device) -> Result<Box<dyn Execution>, Fault> {
        let network = MoveNet::load(self.weights(), device).map_err(on_host)?;
        let (decoder, model) = (self.decoder.clone(), self.weights().model().clone());
        Ok(Box::new(Reference { network, decoder, model }))
    }

    fn on_gpu(&self) -> Option<&dyn OnGpu> {
        Some(self)
    }
}

/// On the CPU engine.
struct Planned {
    plans: Plans,
    decoder: Decoder,
}

impl Execution for Planned {
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault> {
        self.run_batch(std::slice::from_ref(input)).map(|mut found| found.remove(0))
    }

    fn run_batch(&mut self, batch: &[ModelInput]) -> Result<Vec<Found>, Fault> {
        let mut found = Vec::with_capacity(batch.len());
        for inputs in batch.chunks(self.plans.most_pictures()) {
            let pictures: Vec<&[u8]> = inputs.iter().map(|input| &*input.pixels).collect();
            let heads = self.plans.run(inputs[0].height, inputs[0].width, &pictures)?;
            found.extend(heads.into_iter().map(|mut heads| Found::Poses(self.decoder.decode(&mut heads))));
        }
        Ok(found)
    }
}

/// As candle computes it.
struct Reference {
    network: MoveNet,
    decoder: Decoder,
    model: ModelId,
}

impl Execution for Reference {
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault> {
        let ModelInput { pixels, width, height, .. } = input;
        let tensor = Tensor::from_slice(pixels, (1, *height, *width, 3), self.network.device());
        let heads = tensor.and_then(|tensor| self.network.forward(&tensor));
        let heads =
            heads.map_err(|error| Fault::Input { model: self.model.clone(), what: error.to_string() })?;
        let mut poses = heads.into_iter().map(|mut heads| self.decoder.decode(&mut heads));
        Ok(Found::Poses(poses.next().unwrap_or_default()))
    }
}

fn on_host(error: candle_core::Error) -> DeviceError {
    DeviceError::says(Place::Host, &error.to_string())
}

/// The weights of a model that is built in.
///
/// # Panics
/// If there is none of that name.
#[cfg(test)]
pub(crate) fn embedded(name: &str) -> Weights {
    use super::ModelStore;

    let store = ModelStore::embedded();
    let (entry, file) = store.read(&name.parse().expect("a name")).expect("it is built in");
    let model = MoveNetModel::open(entry, file).expect("a test opens all that is built in");
    model.weights().clone()
}
