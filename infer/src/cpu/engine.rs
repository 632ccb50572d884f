//! Models on the processor, behind the contract.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use cloudpose_kernels::{Isa, Kernels};
use cloudpose_wire::ModelId;

use super::{Error, Half};
use crate::contract::{Engine, Fault, Found};
use crate::gpu::{Place, Precision};
use crate::models::{Execution, Model, Models, Processor};
use crate::preprocess::ModelInput;

/// What makes an execution of a model.
type Start = fn(&dyn Model, &Processor) -> Result<Box<dyn Execution>, Fault>;

/// An execution, and the model that it is of.
type Started = (Arc<dyn Model>, Box<dyn Execution>);

/// Runs models on the processor.
pub struct CpuEngine {
    models: Arc<Models>,
    processor: Processor,
    start: Start,
    executions: HashMap<ModelId, Started>,
}

impl CpuEngine {
    /// An engine on the best instruction set, or the one that `CLOUDPOSE_ISA` names, which shares each inference
    /// among `threads`: one is the caller's, more are its own. For machines with more cores than frames at a time:
    /// every thread more brings less than the one before.
    ///
    /// # Errors
    /// [`Error::Isa`] if the instruction set is unknown or this processor lacks it, [`Error::Threads`] if the system
    /// does not start threads.
    pub fn new(models: Arc<Models>, threads: NonZeroUsize) -> Result<Self, Error> {
        let pool = match threads.get() {
            1 => None,
            threads => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                Some(Arc::new(pool.thread_name(|index| format!("engine-{index}")).build()?))
            }
        };
        let processor = Processor { kernels: Kernels::detect()?, half: None, pool };
        Ok(Self::start(models, processor, |model, processor| Ok(model.on_cpu(processor))))
    }

    /// An engine that computes each model as its family's reference does, on candle's CPU device: slow, and what the
    /// others are held to.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn reference(models: Arc<Models>) -> Result<Self, Error> {
        let processor = Processor { kernels: Kernels::detect()?, half: None, pool: None };
        Ok(Self::start(models, processor, |model, _| model.reference(&candle_core::Device::Cpu)))
    }

    /// The same engine, computing in `precision` from now on; at first it is float32. `auto` and `f16` mean bfloat16 where
    /// this processor multiplies it faster, and for models whose accuracy in it was measured to hold.
    ///
    /// # Errors
    /// [`Error::Isa`] if the instruction set that is to be used is unknown.
    pub fn in_precision(mut self, precision: Precision) -> Result<Self, Error> {
        self.processor.half = Half::of(precision, &self.processor.kernels)?;
        self.executions.clear();
        Ok(self)
    }

    fn start(models: Arc<Models>, processor: Processor, start: Start) -> Self {
        Self { models, processor, start, executions: HashMap::new() }
    }

    /// The instruction set in use.
    pub fn isa(&self) -> Isa {
        self.processor.kernels.isa()
    }

    fn execution(&mut self, model: &ModelId) -> Result<&mut Box<dyn Execution>, Fault> {
        let now = self.models.get(model)?;
        let is_of_now = |(of, _): &Started| Arc::ptr_eq(of, &now);
        if !self.executions.get(model).is_some_and(is_of_now) {
            let execution = (self.start)(&*now, &self.processor)?;
            self.executions.insert(model.clone(), (now, execution));
            let listed = self.models.ids();
            self.executions.retain(|id, _| listed.contains(id));
        }
        let (_, execution) = self.executions.get_mut(model).expect("it is there or was put there");
        Ok(execution)
    }
}

impl std::fmt::Debug for CpuEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CpuEngine").field("processor", &self.processor).finish_non_exhaustive()
    }
}

impl Engine for CpuEngine {
    fn place(&self) -> Place {
        Place::Cpu
    }

    fn load(&mut self, model: &ModelId) -> Result<(), Fault> {
        self.execution(model).map(|_| ())
    }

    fn run(&mut self, model: &ModelId, batch: &[ModelInput]) -> Result<Vec<Found>, Fault> {
        self.execution(model)?.run_batch(batch)
    }
}
