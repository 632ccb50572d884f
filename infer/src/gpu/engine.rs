//! One device's batches: models on it, memory that is used again, RGB images in, poses out.

use std::collections::HashMap;
use std::sync::Arc;

use cloudpose_wire::ModelId;

use super::buffers::Buffers;
use super::device::Place;
use super::memory::Number;
use super::model::Loaded;
use super::ops::Maps;
use super::program::{Device, Program, Spent};
use super::{DeviceError, Precision};
use crate::GpuConfig;
use crate::contract::{Engine, Fault, Found};
use crate::models::{Model, Models};
use crate::preprocess::ModelInput;

/// Programs that an engine keeps: more sizes of batches and of inputs than there are in turns.
const MOST_PROGRAMS: usize = 256;

/// A model's program for a GPU, and the model that it is of.
type OfModel = (Arc<dyn Model>, Box<dyn Loaded>);

/// Runs batches on one device, one at a time. Belongs to one thread, and has a stream of its own: two engines
/// on one device overlap, so that one uploads while the other computes.
#[derive(Debug)]
pub struct GpuEngine {
    place: Place,
    number: Number,
    models: Arc<Models>,
    device: Box<dyn Device>,
    loaded: HashMap<ModelId, OfModel>,
    buffers: Buffers,
    /// By model and size of the batch; and how much memory had been taken when it was made.
    programs: HashMap<(ModelId, Maps), (Program, usize)>,
    downloaded: Vec<u8>,
}

/// A batch that was run.
#[derive(Debug, Clone)]
pub struct Done {
    /// What was found in each input.
    pub found: Vec<Found>,
    /// Where the time went.
    pub spent: Spent,
}

impl GpuEngine {
    /// An engine without models.
    ///
    /// # Errors
    /// If the device is not there or does not work.
    pub fn open(place: Place, precision: Precision, models: Arc<Models>) -> Result<Self, DeviceError> {
        let number = precision.number().ok_or_else(|| {
            DeviceError::says(place, "GPUs do not compute in bf16 here; use --precision f16 or f32")
        })?;
        Ok(Self {
            place,
            number,
            models,
            device: place.open().map_err(|problem| DeviceError::new(place, &problem))?,
            loaded: HashMap::new(),
            buffers: Buffers::default(),
            programs: HashMap::new(),
            downloaded: Vec::new(),
        })
    }

    /// Runs `model` on a batch of inputs that all have the same size. Takes memory from the device only if there are
    /// more of them, or they have more pixels, than any before.
    ///
    /// # Errors
    /// Those of [`Engine::run`]; after [`Fault::Device`] the engine is of no use.
    pub fn run_batch(&mut self, model: &ModelId, batch: &[ModelInput]) -> Result<Done, Fault> {
        let Some(&ModelInput { height, width, .. }) = batch.first() else {
            return Ok(Done { found: Vec::new(), spent: Spent::default() });
        };
        self.load(model)?;
        let is_of_size = |input: &ModelInput| {
            (input.height, input.width, input.pixels.len()) == (height, width, 3 * height * width)
        };
        if !self.loaded[model].1.takes(height, width) || !batch.iter().all(is_of_size) {
            let what = format!("a batch of inputs of {width}×{height} pixels and others");
            return Err(Fault::Input { model: model.clone(), what });
        }
        let done = self.run_loaded(model, batch, Maps { images: batch.len(), height, width });
        done.map_err(|problem| DeviceError::new(self.place, &problem).into())
    }

    fn run_loaded(
        &mut self,
        model: &ModelId,
        batch: &[ModelInput],
        maps: Maps,
    ) -> super::memory::Result<Done> {
        let key = (model.clone(), maps);
        let (_, network) = &self.loaded[model];
        let taken = self.buffers.allocations();
        if self.programs.get(&key).is_none_or(|(_, at)| *at < taken) {
            let program = network.program(maps, &mut *self.device, &mut self.buffers)?;
            let taken_now = self.buffers.allocations();
            if taken_now > taken || self.programs.len() >= MOST_PROGRAMS {
                // What the others use may no longer be there; or nobody knows which of them is used again.
                self.programs.clear();
            }
            self.programs.insert(key.clone(), (program, taken_now));
        }
        let (program, _) = self.programs.get_mut(&key).expect("it is there or was made");
        self.device.upload(program.input, 3 * maps.pixels(), &mut |bytes| {
            for (to, input) in bytes.chunks_exact_mut(3 * maps.height * maps.width).zip(batch) {
                to.copy_from_slice(&input.pixels);
            }
        })?;
        self.device.run(program)?;
        let (output, bytes) = program.output;
        self.downloaded.resize(bytes, 0);
        let spent = self.device.download(output, &mut self.downloaded)?;
        Ok(Done { found: network.read(&self.downloaded), spent })
    }

    /// How often this engine has taken memory from the device, for weights or for batches.
    pub fn allocations(&self) -> usize {
        self.buffers.allocations() + self.loaded.len()
    }
}

impl Engine for GpuEngine {
    fn place(&self) -> Place {
        self.place
    }

    fn load(&mut self, model: &ModelId) -> Result<(), Fault> {
        let read = self.models.get(model)?;
        if !self.loaded.get(model).is_some_and(|(of, _)| Arc::ptr_eq(of, &read)) {
            let Some(on_gpu) = read.on_gpu() else {
                return Err(Fault::Input {
                    model: model.clone(),
                    what: "pictures on a GPU: use --device cpu".into(),
                });
            };
            let loaded = on_gpu.load(&mut *self.device, self.number);
            let loaded = loaded.map_err(|error| DeviceError::new(self.place, &error))?;
            self.loaded.insert(model.clone(), (read, loaded));
            let listed = self.models.ids();
            self.loaded.retain(|id, _| listed.contains(id));
            // Those of the model that it was before read its weights.
            self.programs.retain(|(of, _), _| of != model && listed.contains(of));
        }
        Ok(())
    }

    fn run(&mut self, model: &ModelId, batch: &[ModelInput]) -> Result<Vec<Found>, Fault> {
        let most = batch.first().map_or(1, |input| most_at_once(input.size()));
        let mut found = Vec::with_capacity(batch.len());
        for part in batch.chunks(most) {
            found.append(&mut self.run_batch(model, part)?.found);
        }
        Ok(found)
    }
}

/// Pixels of inputs that go to the device at once: the largest batch of the models that look at pictures of 256×256.
/// Detectors look at larger ones, for which there is no memory so many at a time, nor need of it.
const MOST_PIXELS: usize = 64 * 256 * 256;

/// How many inputs of that size go to the device at once.
fn most_at_once([width, height]: [usize; 2]) -> usize {
    (MOST_PIXELS / (width * height).max(1)).max(1)
}

/// Engines on one GPU: one uploads while the other computes.
const ENGINES: usize = 2;

/// Opens the engines of GPU `number`, and runs the models `ready` and the others that are served once in the largest batch there
/// can be, so that the GPU has all the memory that it will need, or says so now. Models that cannot run there are left
/// out, but for those.
pub(crate) fn open(
    number: usize,
    config: &GpuConfig,
    models: &Arc<Models>,
    ready: &[ModelId],
) -> Result<Vec<Box<dyn Engine>>, Fault> {
    let mut engines: Vec<Box<dyn Engine>> = Vec::with_capacity(ENGINES);
    for _ in 0..ENGINES {
        let mut engine = GpuEngine::open(Place::Cuda(number), config.numbers.precision, models.clone())?;
        for model in ready {
            for stage in models.served(model)?.models() {
                warm_up(&mut engine, models, stage, config.max_batch.into())?;
            }
        }
        for other in models.ids() {
            if models.get(&other)?.on_gpu().is_some() {
                warm_up(&mut engine, models, &other, config.max_batch.into())?;
            }
        }
        engines.push(Box::new(engine));
    }
    Ok(engines)
}

/// Runs `model` on black pictures, `size` of them. They are square: no shape has more pixels in a model's input.
pub(super) fn warm_up(
    engine: &mut GpuEngine,
    models: &Models,
    model: &ModelId,
    size: usize,
) -> Result<(), Fault> {
    let [side, _] = models.get(model)?.fit().shape();
    engine.run_batch(model, &vec![ModelInput::black(side); size.min(most_at_once([side; 2]))])?;
    Ok(())
}
