//! The CPU engine: each model as a static plan over the kernels of `cloudpose-kernels`.
//!
//! | module | what |
//! |---|---|
//! | `network` | a model's weights, packed once, shared by all threads |
//! | `plan` | the steps for one input size, built by walking the architecture |
//! | `stage` | rows → depthwise → pointwise, fused, a band of rows at a time: nearly every layer |
//! | `chain` | pointwise → pointwise, fused |
//! | `arena` | one block of memory, shared by buffers that do not live together |
//! | `heads` | what the decoder reads; most heads are evaluated at those cells only |
//! | `op` | the engine behind a candle operation |
//!
//! An [`Engine`] runs one frame at a time and allocates only when it meets a model and size for the first
//! time. Activations are NHWC float32.

mod arena;
mod chain;
mod heads;
mod network;
mod op;
mod plan;
mod prune;
mod stage;
#[cfg(test)]
mod tests;

use std::num::NonZeroUsize;
#[cfg(test)]
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use cloudpose_kernels::{Isa, IsaError, Kernels};
use cloudpose_wire::ModelName;

pub use heads::PlanHeads;
pub use op::DenseHeadsOp;
pub use plan::StepProfile;

use crate::model::arch::takes;
use crate::model::{self, ModelStore, Weights};
use crate::postprocess::Decoder;
use network::Network;
use plan::Plan;

/// Why the engine cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The instruction set that was asked for cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The threads that share an inference cannot be started.
    #[error("cannot start the threads that share an inference: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// The model cannot be loaded.
    #[error(transparent)]
    Model(#[from] model::Error),
    /// The model does not take this input.
    #[error("{model} does not take an input of {width}×{height} pixels in {bytes} bytes")]
    Input {
        /// The model.
        model: ModelName,
        /// Rows of pixels.
        height: usize,
        /// Pixels a row.
        width: usize,
        /// Length of the input.
        bytes: usize,
    },
}

/// What all threads share: the models' packed weights, each loaded when it is first asked for.
#[derive(Debug)]
pub struct Engines {
    store: ModelStore,
    kernels: Kernels,
    loaded: [OnceLock<Loaded>; ModelName::ALL.len()],
    /// Held while a model is loaded: who asks meanwhile waits, for loading it too would take as long.
    loading: Mutex<()>,
    /// How often weights were read.
    #[cfg(test)]
    reads: AtomicUsize,
}

/// What is made of a model's weights.
#[derive(Debug)]
struct Loaded {
    network: Arc<Network>,
    decoder: Decoder,
}

impl Engines {
    /// Engines for the models of `store`, on the best instruction set or the one that `CLOUDPOSE_ISA`
    /// names.
    ///
    /// # Errors
    /// [`Error::Isa`] if that is unknown or this processor lacks it.
    pub fn new(store: ModelStore) -> Result<Self, Error> {
        Ok(Self::with(store, Kernels::detect()?))
    }

    fn with(store: ModelStore, kernels: Kernels) -> Self {
        Self {
            store,
            kernels,
            loaded: Default::default(),
            loading: Mutex::default(),
            #[cfg(test)]
            reads: AtomicUsize::new(0),
        }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.kernels.isa()
    }

    /// Floating point operations a second that this thread can do at most, as measured for `duration`.
    pub fn peak_flops(&self, duration: Duration) -> f64 {
        self.kernels.peak_flops(duration)
    }

    /// Reads and checks a model's weights, for what is not part of the engine.
    ///
    /// # Errors
    /// [`Error::Model`] if they cannot be loaded.
    pub fn weights(&self, model: ModelName) -> Result<Weights, Error> {
        #[cfg(test)]
        self.reads.fetch_add(1, Ordering::Relaxed);
        Ok(self.store.load(model)?)
    }

    /// What makes poses of the model's heads.
    pub(crate) fn decoder(&self, model: ModelName) -> Result<&Decoder, Error> {
        Ok(&self.load(model)?.decoder)
    }

    fn load(&self, model: ModelName) -> Result<&Loaded, Error> {
        let slot = &self.loaded[model as usize];
        if let Some(loaded) = slot.get() {
            return Ok(loaded);
        }
        let _loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = slot.get() {
            return Ok(loaded);
        }
        let weights = self.weights(model)?;
        let network = Arc::new(Network::pack(&weights, self.kernels));
        Ok(slot.get_or_init(|| Loaded { network, decoder: Decoder::new(&weights) }))
    }
}

/// The plans of one frame at a time, and the threads that share them.
#[derive(Debug)]
pub struct Engine {
    engines: Arc<Engines>,
    /// None if the caller's thread does everything.
    pool: Option<rayon::ThreadPool>,
    plans: Vec<(Key, Plan)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    model: ModelName,
    height: usize,
    width: usize,
}

/// Plans an engine keeps: beyond it the one used longest ago is dropped. Streams have few aspect ratios.
const MOST_PLANS: usize = 8;

impl Engine {
    /// An engine without plans, which works on the caller's thread.
    pub fn new(engines: Arc<Engines>) -> Self {
        Self { engines, pool: None, plans: Vec::new() }
    }

    /// An engine without plans, which shares the rows of each inference among `threads` of its own. For
    /// machines with more cores than frames at a time: every thread more brings less than the one before.
    ///
    /// # Errors
    /// [`Error::Threads`] if the system does not start them.
    pub fn with_threads(engines: Arc<Engines>, threads: NonZeroUsize) -> Result<Self, Error> {
        let mut engine = Self::new(engines);
        if threads.get() > 1 {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.get());
            engine.pool = Some(pool.thread_name(|index| format!("engine-{index}")).build()?);
        }
        Ok(engine)
    }

    /// Runs `model` on `rgb`, `[height, width, 3]` RGB. The result borrows the engine's memory.
    ///
    /// # Errors
    /// [`Error::Input`] if the model does not take that size, or `rgb` is not that long; [`Error::Model`]
    /// if the model's weights cannot be loaded.
    pub fn run(
        &mut self,
        model: ModelName,
        height: usize,
        width: usize,
        rgb: &[u8],
    ) -> Result<PlanHeads<'_>, Error> {
        self.prepare(model, height, width, rgb)?;
        let (_, plan) = self.plans.last_mut().expect("it was prepared");
        Ok(match &self.pool {
            Some(pool) => pool.install(|| plan.run(rgb)),
            None => plan.run(rgb),
        })
    }

    /// Runs `model` on `rgb` as [`Engine::run`] does, `runs` times, and says what each step of its plan took
    /// at least.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn profile(
        &mut self,
        model: ModelName,
        height: usize,
        width: usize,
        rgb: &[u8],
        runs: usize,
    ) -> Result<Vec<StepProfile>, Error> {
        self.prepare(model, height, width, rgb)?;
        let (_, plan) = self.plans.last_mut().expect("it was prepared");
        Ok(match &self.pool {
            Some(pool) => pool.install(|| plan.profile(rgb, runs)),
            None => plan.profile(rgb, runs),
        })
    }

    /// Makes the plan for an input the last of `plans`.
    fn prepare(&mut self, model: ModelName, height: usize, width: usize, rgb: &[u8]) -> Result<(), Error> {
        if !takes(model, height, width) || rgb.len() != height * width * 3 {
            return Err(Error::Input { model, height, width, bytes: rgb.len() });
        }
        let key = Key { model, height, width };
        if let Some(index) = self.plans.iter().position(|(k, _)| *k == key) {
            self.plans[index..].rotate_left(1);
            return Ok(());
        }
        let threads = self.pool.as_ref().map_or(1, rayon::ThreadPool::current_num_threads);
        let plan = Plan::new(self.engines.load(model)?.network.clone(), height, width, threads);
        if self.plans.len() == MOST_PLANS {
            self.plans.remove(0);
        }
        self.plans.push((key, plan));
        Ok(())
    }
}
