//! The engine as a candle operation, for callers that have tensors.

use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, bail};
use cloudpose_wire::ModelName;

use super::{Engine, Engines};
use crate::model::arch::{Architecture, CELL_PX};
use crate::postprocess::Heads as _;

/// All heads of a model in full: `[N, H, W, 3]` uint8 RGB → `[N, H / 4, W / 4, channels]` float32, the
/// heads' channels one after another in the order of [`Architecture::heads`].
///
/// Runs on the CPU. Whoever decodes poses runs an [`Engine`] instead, which leaves out what the decoder
/// does not read.
#[derive(Debug)]
pub struct DenseHeadsOp {
    model: ModelName,
    engine: Mutex<Engine>,
}

impl DenseHeadsOp {
    /// The operation that runs `model`.
    pub fn new(engines: Arc<Engines>, model: ModelName) -> Self {
        Self { model, engine: Mutex::new(Engine::new(engines)) }
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
        let heads = Architecture::of(self.model).heads;
        let channels: usize = heads.iter().map(|head| head.channels()).sum();
        let (rows, columns) = (height / CELL_PX, width / CELL_PX);
        let mut output = vec![0.0; images * rows * columns * channels];

        // A panic inside of the engine leaves plans that the next run overwrites from the start.
        let mut engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        let results = output.chunks_exact_mut(rows * columns * channels);
        for (image, result) in bytes[start..end].chunks_exact(height * width * 3).zip(results) {
            let mut plan = engine.run(self.model, height, width, image).map_err(candle_core::Error::wrap)?;
            for (cell, mut rest) in result.chunks_exact_mut(channels).enumerate() {
                for &head in heads {
                    let (this, behind) = rest.split_at_mut(head.channels());
                    plan.read(head, cell, 0, this);
                    rest = behind;
                }
            }
        }
        Ok((CpuStorage::F32(output), Shape::from((images, rows, columns, channels))))
    }
}
