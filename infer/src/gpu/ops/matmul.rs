//! 1×1 convolutions: matrix products of all pixels of a batch with the weights.

use candle_core::{CpuStorage, DType, Result, Tensor};

use super::{Op, Work, in_either, with_values};

/// `[rows, depth]` times `[depth, columns]`: inputs map and weight, all of one type. Sums are float32.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct MatMul {
    pub(in crate::gpu) rows: usize,
    pub(in crate::gpu) depth: usize,
    pub(in crate::gpu) columns: usize,
}

impl Op for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()> {
        let map = inputs[0].flatten_all()?.reshape((self.rows, self.depth))?;
        let product = map.matmul(&inputs[1].reshape((self.depth, self.columns))?)?;
        in_either!(output, output => with_values(&product, |values| {
            output[..values.len()].copy_from_slice(values);
            Ok(())
        }))
    }

    fn work(&self, _: DType) -> Result<Vec<Work>> {
        let Self { rows, depth, columns } = *self;
        Ok(vec![Work::Multiply { rows, depth, columns }])
    }
}
