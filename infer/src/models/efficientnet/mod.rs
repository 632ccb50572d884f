//! The EfficientNet-Lite family, which tells what a picture shows.
//!
//! | module | what |
//! |---|---|
//! | [`arch`] | every layer by name, shape and stride: what all executions build from |
//! | [`import`] | PyTorch checkpoint → our float16 safetensors |
//! | `pth` | reads such checkpoints |
//! | `plan` | the network on the CPU engine |
//! | `reference` | the network in candle, the reference for it |

pub mod arch;
pub mod import;
mod plan;
mod pth;
mod reference;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use cloudpose_wire::{ModelId, Task};

use super::{Entry, Error, Execution, Family, Finds, Model, Processor, Tensors};
use crate::contract::{Fault, Found};
use crate::gpu::{DeviceError, Place};
use crate::preprocess::{Fit, ModelInput};
use crate::task::softmax;
use arch::{CROP_PADDING, Config};
use plan::{Packed, Plan};
use reference::Network;

/// EfficientNet-Lite in the table of families.
#[derive(Debug)]
pub struct EfficientNetFamily;

impl Family for EfficientNetFamily {
    fn name(&self) -> &'static str {
        "efficientnet-lite"
    }

    fn open(&self, entry: &Entry, file: Cow<'static, [u8]>) -> Result<Arc<dyn Model>, Error> {
        Ok(Arc::new(EfficientNet::open(entry, file)?))
    }
}

/// One model of the family.
#[derive(Debug)]
pub struct EfficientNet {
    tensors: Tensors,
    classes: usize,
    /// Of the input, in pixels.
    side: usize,
    /// For the processor, once somebody runs it there.
    packed: OnceLock<Arc<Packed>>,
}

impl EfficientNet {
    /// Reads the weight file that `entry` describes.
    ///
    /// # Errors
    /// [`Error::Entry`] if its `config` is none of this family's, [`Error::Weights`] if the file does not fit.
    pub fn open(entry: &Entry, file: Cow<'static, [u8]>) -> Result<Self, Error> {
        let invalid = |problem: String| Error::Entry { model: entry.name.clone(), problem };
        let config: Config = serde_json::from_value(entry.config.clone())
            .map_err(|error| invalid(format!("its config is not EfficientNet-Lite's: {error}")))?;
        config.check().map_err(invalid)?;
        let Task::Classify { labels } = entry.info()?.task else {
            return Err(invalid("EfficientNet-Lite tells classes: write `labels`".into()));
        };
        let tensors = Tensors::parse(entry.name.clone(), arch::tensors(labels.len()), file)?;
        Ok(Self { tensors, classes: labels.len(), side: config.input, packed: OnceLock::new() })
    }
}

fn takes(model: &ModelId, side: usize, input: &ModelInput) -> Result<(), Fault> {
    if input.size() == [side; 2] && input.pixels.len() == 3 * side * side {
        return Ok(());
    }
    let what = format!("an input of {}×{} pixels in {} bytes", input.width, input.height, input.pixels.len());
    Err(Fault::Input { model: model.clone(), what })
}

impl Model for EfficientNet {
    fn finds(&self) -> Finds {
        Finds::Classes(self.classes)
    }

    fn fit(&self) -> Fit {
        Fit::Middle { side: self.side, shorter: self.side + CROP_PADDING }
    }

    fn takes_reduced(&self) -> bool {
        true
    }

    fn on_cpu(&self, processor: &Processor) -> Box<dyn Execution> {
        let packed = self.packed.get_or_init(|| Arc::new(Packed::pack(&self.tensors, processor.kernels)));
        let threads = processor.pool.as_ref().map_or(1, |pool| pool.current_num_threads());
        let plan = Plan::new(packed.clone(), self.side, threads);
        let (model, side) = (self.tensors.model().clone(), self.side);
        Box::new(Planned { model, side, plan, pool: processor.pool.clone() })
    }

    fn reference(&self, device: &candle_core::Device) -> Result<Box<dyn Execution>, Fault> {
        let network = Network::load(&self.tensors, self.classes, device)
            .map_err(|error| DeviceError::says(Place::Host, &error.to_string()))?;
        let (model, side) = (self.tensors.model().clone(), self.side);
        Ok(Box::new(Reference { model, side, network }))
    }
}

/// On the CPU engine.
struct Planned {
    model: ModelId,
    side: usize,
    plan: Plan,
    pool: Option<Arc<rayon::ThreadPool>>,
}

impl Execution for Planned {
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault> {
        takes(&self.model, self.side, input)?;
        let logits = match &self.pool {
            Some(pool) => pool.install(|| self.plan.run(&input.pixels)),
            None => self.plan.run(&input.pixels),
        };
        Ok(Found::Classes(softmax(&logits)))
    }
}

/// As candle computes it.
struct Reference {
    model: ModelId,
    side: usize,
    network: Network,
}

impl Execution for Reference {
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault> {
        takes(&self.model, self.side, input)?;
        let logits = self.network.run(&input.pixels, self.side);
        let logits =
            logits.map_err(|error| Fault::Input { model: self.model.clone(), what: error.to_string() })?;
        Ok(Found::Classes(softmax(&logits)))
    }
}
