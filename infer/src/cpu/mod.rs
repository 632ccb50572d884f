//! The CPU engine. MoveNet is a static plan over the kernels of `cloudpose-kernels`.
//!
//! | module | what |
//! |---|---|
//! | `engine` | [`CpuEngine`]: models on one thread, or on threads of its own |
//! | `packed` | a model's weights, packed once, shared by all threads |
//! | `plans`, `plan` | the steps for one input size, built by walking the architecture |
//! | `program` | steps and their memory; families of their own write theirs with its `Builder` |
//! | `stage` | rows → depthwise → pointwise, fused, a band of rows at a time: nearly every layer |
//! | `chain` | pointwise → pointwise, fused |
//! | `half`, `bf16` | which models are computed in bfloat16, and how |
//! | `arena` | one block of memory, shared by buffers that do not live together |
//! | `maps`, `heads` | what the decoder reads; most heads are evaluated at those cells only |
//! | `op` | a plan behind a candle operation |
//!
//! Where it pays, a few inputs of one size go through each step together, while its weights are in the caches. An engine
//! takes memory for activations only when it meets a model, a size and so many inputs for the first time. Activations are
//! NHWC float32, or bfloat16 ([why](../../../docs/adr/0010-bfloat16.md)).

mod arena;
mod bf16;
mod chain;
mod engine;
mod half;
mod heads;
mod maps;
mod op;
mod packed;
mod plan;
mod plans;
pub(crate) mod program;
mod prune;
pub(crate) mod separable;
pub(crate) mod stage;
#[cfg(test)]
mod tests;

pub use engine::CpuEngine;
pub use half::Half;
pub use heads::PlanHeads;
pub use op::DenseHeadsOp;
pub use packed::PackedModel;
pub use plans::Plans;
pub use program::StepProfile;

use cloudpose_kernels::IsaError;

/// Why the engine cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The instruction set that was asked for cannot be used.
    #[error(transparent)]
    Isa(#[from] IsaError),
    /// The threads that share an inference cannot be started.
    #[error("cannot start the threads that share an inference: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
}
