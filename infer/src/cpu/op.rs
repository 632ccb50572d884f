//! The engine as a candle operation, for callers that have tensors.

use std::sync::{Arc, Mutex, PoisonError};

use super::{PackedModel, Plans};
use crate::models::movenet::arch::CELL_PX;
use crate::models::movenet::decoder::Heads as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, bail};

/// All heads of a model in full: `[N, H, W, 3]` uint8 RGB → `[N, H / 4, W / 4, channels]` float32, the
/// heads' channels one after another in the order of
/// [`Architecture::heads`](crate::models::movenet::arch::Architecture::heads).
///
/// Runs on the CPU. Whoever decodes poses runs [`Plans`] instead, which leaves out what the decoder
/// does not read.
#[derive(Debug)]
pub struct DenseHeadsOp {
    model: Arc<PackedModel>,
    plans: Mutex<Plans>,
}

impl DenseHeadsOp {
    /// The operation that runs `model`.
    pub fn new(model: Arc<PackedModel>) -> Self {
        Self { plans: Mutex::new(Plans::new(model.clone(), None)), model }
    }
}

impl CustomOp1 for DenseHeadsOp {
    fn name(&self) -> &'static str {
        "movenet-dense-heads"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (images, height, width, colours) = layout.shape().dims4()?;
        let (CpuStorage::U8(bytes), Some((start, end)), 3) = (storage, layout.contiguous_offsets(), colours)
        else {
            bail!("{} takes contiguous uint8 [N, H, W, 3]", self.name());
        };
        let (heads, keypoints) = (self.model.architecture.heads, self.model.architecture.keypoints);
        let channels: usize = heads.iter().map(|head| head.channels(keypoints)).sum();
        let (rows, columns) = (height / CELL_PX, width / CELL_PX);
        let mut output = vec![0.0; images * rows * columns * channels];

        // A panic inside of a plan leaves what the next run overwrites from the start.
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        let results = output.chunks_exact_mut(rows * columns * channels);
        for (image, result) in bytes[start..end].chunks_exact(height * width * 3).zip(results) {
            let mut plan = plans.run(height, width, &[image]).map_err(candle_core::Error::wrap)?.remove(0);
            for (cell, mut rest) in result.chunks_exact_mut(channels).enumerate() {
                for &head in heads {
                    let (this, behind) = rest.split_at_mut(head.channels(keypoints));
                    plan.read(head, cell, 0, this);
                    rest = behind;
                }
            }
        }
        Ok((CpuStorage::F32(output), Shape::from((images, rows, columns, channels))))
    }
}
