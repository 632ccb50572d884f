//! What a model family brings: how its files are read, and models that engines run.

use std::{borrow::Cow, fmt, sync::Arc};

use cloudpose_kernels::Kernels;
use cloudpose_wire::Prior;

use super::{Entry, Error};
use crate::contract::{Fault, Found};
use crate::cpu::Half;
use crate::gpu::OnGpu;
use crate::preprocess::{Fit, ModelInput, Square};
use crate::task::Finds;

/// Models that have their code in common and differ in data.
pub trait Family: fmt::Debug + Sync {
    /// What manifests call it.
    fn name(&self) -> &'static str;

    /// Reads a weight file that `entry` describes.
    ///
    /// # Errors
    /// [`Error::Weights`] if it does not fit the entry.
    fn open(&self, entry: &Entry, file: Cow<'static, [u8]>) -> Result<Arc<dyn Model>, Error>;
}

/// A model that was read and checked. Shared by all engines that run it.
pub trait Model: fmt::Debug + Send + Sync {
    /// What it finds, as its weights say.
    fn finds(&self) -> Finds;

    /// How a picture is fitted into its input.
    fn fit(&self) -> Fit;

    /// The same model as a detector: it looks at pictures whose longer side is made that many pixels, a multiple of 32,
    /// and finds as many persons as it can.
    ///
    /// # Errors
    /// Why it cannot, in words.
    fn detector(&self, _longer_side: usize) -> Result<Arc<dyn Model>, String> {
        Err("it takes pictures of one size".into())
    }

    /// Whether it finds the same in a picture that was decoded to no more than it reads.
    fn takes_reduced(&self) -> bool {
        false
    }

    /// Where in a picture of that width and height to look, after what came before; everywhere if nowhere else.
    fn region(&self, _prior: &Prior, _size: [usize; 2]) -> Option<Square> {
        None
    }

    /// The model for one thread of `processor`.
    fn on_cpu(&self, processor: &Processor) -> Box<dyn Execution>;

    /// The model on a candle device, computed as plainly as possible: the reference for the others.
    ///
    /// # Errors
    /// [`Fault::Device`] if the device cannot hold it.
    fn reference(&self, device: &candle_core::Device) -> Result<Box<dyn Execution>, Fault>;

    /// Whether an engine on the processor that has `half` computes it in bfloat16.
    fn in_half(&self, _half: Half) -> bool {
        false
    }

    /// The model for GPUs; none if it cannot run there.
    fn on_gpu(&self) -> Option<&dyn OnGpu> {
        None
    }
}

/// The processor as engines use it.
#[derive(Clone, Debug)]
pub struct Processor {
    /// The kernels of the instruction set in use.
    pub kernels: Kernels,
    /// Those on bfloat16, for models that are computed in it.
    pub half: Option<Half>,
    /// Threads that share an inference; none if the caller's does everything.
    pub pool: Option<Arc<rayon::ThreadPool>>,
}

/// A model on the processor, with memory of its own.
pub trait Execution: Send {
    /// Runs it on one input.
    ///
    /// # Errors
    /// [`Fault::Input`] if the model does not take that size; others as [`Fault`] says.
    fn run(&mut self, input: &ModelInput) -> Result<Found, Fault>;

    /// Runs it on inputs of one size, and finds in each what [`run`](Self::run) does.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    fn run_batch(&mut self, batch: &[ModelInput]) -> Result<Vec<Found>, Fault> {
        batch.iter().map(|input| self.run(input)).collect()
    }
}
