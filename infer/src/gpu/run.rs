//! Carries out an operation where its tensors are.

use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Result, Tensor, bail};

#[cfg(feature = "cuda")]
use super::cuda;
use super::ops::Op;

/// Computes `op` where its tensors are. All are contiguous, and `output` is none of `inputs`.
pub(super) fn run(op: &dyn Op, inputs: &[&Tensor], output: &Tensor) -> Result<()> {
    output.inplace_op1(&InPlace { op, inputs })
}

/// [`Op`] as candle takes operations on any device.
struct InPlace<'a> {
    op: &'a dyn Op,
    inputs: &'a [&'a Tensor],
}

impl InplaceOp1 for InPlace<'_> {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn cpu_fwd(&self, output: &mut CpuStorage, layout: &Layout) -> Result<()> {
        check(self.op, layout)?;
        self.op.compute(self.inputs, output)
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(&self, output: &mut CudaStorage, layout: &Layout) -> Result<()> {
        check(self.op, layout)?;
        cuda::run(self.op, self.inputs, output)
    }

    #[cfg(not(feature = "cuda"))]
    fn cuda_fwd(&self, _: &mut CudaStorage, _: &Layout) -> Result<()> {
        bail!("{} was built without CUDA", self.op.name())
    }
}

/// Operations write a buffer from its beginning.
fn check(op: &dyn Op, output: &Layout) -> Result<()> {
    match output.contiguous_offsets() {
        Some((0, _)) => Ok(()),
        _ => bail!("the output of {} does not begin a buffer", op.name()),
    }
}
