//! MoveNet in candle: the reference that runs on any candle device.
//!
//! One graph serves the three models; [`Architecture`] says how they differ. The published graphs are
//! `movenet/singlepose/lightning/4`, `…/thunder/4` and `movenet/multipose/lightning/1` of TensorFlow Hub
//! (Google, Apache-2.0). Batch norm is folded into the weights there already. Decoding the heads, part of
//! those graphs, is [`super::decoder`] here.

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::Weights;
use super::arch::{Activation, Architecture, Head, INPUT_MULTIPLE};
use super::blocks::{HeadLayers, InvertedResidual, Pointwise, PyramidMerge, Stem};
use super::decoder::{DenseHeads, Grid};

/// A MoveNet on a device.
#[derive(Debug)]
pub struct MoveNet {
    device: Device,
    mean: Tensor,
    scale: Tensor,
    shift: Tensor,
    stem: Stem,
    blocks: Vec<InvertedResidual>,
    last: Pointwise,
    top: Pointwise,
    merges: Vec<PyramidMerge>,
    heads: Vec<HeadLayers>,
    /// Keypoints of a person.
    keypoints: usize,
}

impl MoveNet {
    /// Puts the weights on `device`, in float32.
    ///
    /// # Errors
    /// If the device cannot hold them.
    pub fn load(weights: &Weights, device: &Device) -> Result<Self> {
        let vb = VarBuilder::from_slice_safetensors(weights.file(), DType::F32, device)?;
        let Architecture { keypoints, stem, blocks, last, top, merges, heads, .. } = weights.architecture();
        let backbone = vb.pp("backbone");
        let fpn = vb.pp("fpn");
        let backbone_outputs = blocks[blocks.len() - 1].outputs;
        Ok(Self {
            device: device.clone(),
            keypoints: *keypoints,
            mean: vb.get(3, "input.mean")?,
            scale: vb.get(3, "input.scale")?,
            shift: vb.get((), "input.shift")?,
            stem: Stem::load(*stem, backbone.pp("stem"))?,
            blocks: blocks
                .iter()
                .map(|block| InvertedResidual::load(block, vb.pp(block.name())))
                .collect::<Result<_>>()?,
            last: Pointwise::load(backbone_outputs, *last, Activation::Relu6, backbone.pp("last"))?,
            top: Pointwise::load(*last, *top, Activation::Linear, fpn.pp("lateral5"))?,
            merges: merges
                .iter()
                .map(|merge| PyramidMerge::load(merge, fpn.clone()))
                .collect::<Result<_>>()?,
            heads: heads
                .iter()
                .map(|&head| HeadLayers::load(head, *keypoints, vb.clone()))
                .collect::<Result<_>>()?,
        })
    }

    /// Where the model runs.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Runs the network on a batch of images: `[N, H, W, 3]`, uint8 or float32, RGB, 0 to 255, H and W
    /// multiples of [`INPUT_MULTIPLE`]. Answers each image's heads, in full, on the host.
    ///
    /// # Errors
    /// If the input has another shape, or the device fails.
    pub fn forward(&self, input: &Tensor) -> Result<Vec<DenseHeads>> {
        let (_, height, width, _) = input.dims4()?;
        if height % INPUT_MULTIPLE != 0 || width % INPUT_MULTIPLE != 0 {
            candle_core::bail!("input is {height}×{width}, both must be multiples of {INPUT_MULTIPLE}");
        }
        let pixels = input.to_device(&self.device)?.to_dtype(DType::F32)?;
        let normalised =
            pixels.broadcast_sub(&self.mean)?.broadcast_mul(&self.scale)?.broadcast_sub(&self.shift)?;

        let mut outputs = Vec::with_capacity(self.blocks.len());
        let mut x = self.stem.forward(&normalised)?;
        for block in &self.blocks {
            x = block.forward(&x)?;
            outputs.push(x.clone());
        }
        x = self.top.forward(&self.last.forward(&x)?)?;
        for merge in &self.merges {
            x = merge.forward(&x, &outputs[merge.after_block])?;
        }
        let maps = self
            .heads
            .iter()
            .map(|layers| Ok((layers.head, layers.forward(&x)?)))
            .collect::<Result<Vec<_>>>()?;
        split_batch(&maps, self.keypoints)
    }
}

/// Takes the heads of a batch, `[N, H, W, channels]` each, apart into images.
fn split_batch(maps: &[(Head, Tensor)], keypoints: usize) -> Result<Vec<DenseHeads>> {
    let (images, height, width, _) = maps[0].1.dims4()?;
    let mut split = vec![DenseHeads { grid: Grid { height, width }, keypoints, maps: Vec::new() }; images];
    for (head, map) in maps {
        for (image, values) in split.iter_mut().zip(map.flatten_from(1)?.to_vec2()?) {
            image.maps.push((*head, values));
        }
    }
    Ok(split)
}
