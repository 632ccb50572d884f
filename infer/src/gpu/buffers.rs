//! The memory of a running engine: one buffer for each part that a map can play, used again by every batch.

use candle_core::{DType, Device, Result, Shape, Tensor};

/// What a buffer is for. Two parts that are alive at the same time are different ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Pictures as they are uploaded.
    Upload,
    /// Normalised RGB.
    Input,
    /// The stem's windows.
    Windows,
    /// The output of an expanding 1×1 convolution.
    Wide,
    /// The output of a depthwise convolution.
    Spatial,
    /// What goes from block to block and from level to level, in turns.
    Trunk(usize),
    /// The output of the block whose position this is, which the pyramid reads.
    Kept(usize),
    /// The features that heads read, in float32.
    Features,
    /// As `Spatial` and `Wide`, in the heads.
    HeadSpatial,
    HeadHidden,
    Center,
    Keypoints,
    Poses,
}

/// Buffers that grow to the largest batch they have met.
#[derive(Debug)]
pub(super) struct Buffers {
    device: Device,
    buffers: Vec<(Part, DType, Tensor)>,
    /// How often memory was taken from the device.
    allocations: usize,
}

impl Buffers {
    pub(super) fn new(device: Device) -> Self {
        Self { device, buffers: Vec::new(), allocations: 0 }
    }

    /// The beginning of the buffer for `part`, in `shape`. Its contents are whatever was there.
    pub(super) fn get(&mut self, part: Part, dtype: DType, shape: impl Into<Shape>) -> Result<Tensor> {
        let shape = shape.into();
        let len = shape.elem_count();
        let slot = self.buffers.iter().position(|(p, d, _)| (*p, *d) == (part, dtype));
        if slot.is_none_or(|slot| self.buffers[slot].2.elem_count() < len) {
            if let Some(slot) = slot {
                // First, so that old and new need not fit side by side.
                self.buffers.swap_remove(slot);
            }
            self.allocations += 1;
            self.buffers.push((part, dtype, Tensor::zeros(len, dtype, &self.device)?));
        }
        let found = self.buffers.iter().find(|(p, d, _)| (*p, *d) == (part, dtype));
        let (_, _, buffer) = found.expect("it is there or was made");
        buffer.narrow(0, 0, len)?.reshape(shape)
    }

    /// How often memory was taken from the device.
    pub(super) fn allocations(&self) -> usize {
        self.allocations
    }
}
