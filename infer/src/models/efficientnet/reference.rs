//! EfficientNet-Lite0 in candle: the reference that runs on any candle device.

use candle_core::{D, DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use super::arch::{Block, DEVIATION, LAST, MEAN, STEM, blocks};
use crate::models::Tensors;

/// The network on a device.
#[derive(Debug)]
pub(super) struct Network {
    stem: Convolution,
    blocks: Vec<(Block, Option<Convolution>, Convolution, Convolution)>,
    last: Convolution,
    /// `[LAST, classes]`.
    classifier: Tensor,
    classifier_bias: Tensor,
    device: Device,
}

impl Network {
    /// Puts the weights of a model that tells `classes` on `device`, in float32.
    pub(super) fn load(tensors: &Tensors, classes: usize, device: &Device) -> Result<Self> {
        let vb = VarBuilder::from_slice_safetensors(tensors.file(), DType::F32, device)?;
        let pointwise =
            |vb: VarBuilder<'_>, inputs, outputs| Convolution::load(&vb, [1, 1, inputs, outputs], 1, false);
        let mut loaded = Vec::new();
        for block in blocks() {
            let vb = vb.pp(block.name());
            let Block { inputs, hidden, outputs, size, stride, .. } = block;
            let expand =
                if block.expands() { Some(pointwise(vb.pp("expand"), inputs, hidden)?) } else { None };
            let depthwise = Convolution::load(&vb.pp("depthwise"), [size, size, 1, hidden], stride, true)?;
            loaded.push((block, expand, depthwise, pointwise(vb.pp("project"), hidden, outputs)?));
        }
        let features = loaded[loaded.len() - 1].0.outputs;
        Ok(Self {
            stem: Convolution::load(&vb.pp("stem"), [3, 3, 3, STEM], 2, false)?,
            blocks: loaded,
            last: pointwise(vb.pp("last"), features, LAST)?,
            classifier: vb.get((LAST, classes), "classifier.weight")?,
            classifier_bias: vb.get(classes, "classifier.bias")?,
            device: device.clone(),
        })
    }

    /// The logit of each class for `[side, side, 3]` RGB pixels.
    pub(super) fn run(&self, pixels: &[u8], side: usize) -> Result<Vec<f32>> {
        let x = Tensor::from_slice(pixels, (1, side, side, 3), &self.device)?.permute((0, 3, 1, 2))?;
        let x = ((x.to_dtype(DType::F32)? - f64::from(MEAN))? / f64::from(DEVIATION))?;
        let mut x = relu6(&self.stem.forward(&x)?)?;
        for (block, expand, depthwise, project) in &self.blocks {
            let expanded = match expand {
                Some(expand) => relu6(&expand.forward(&x)?)?,
                None => x.clone(),
            };
            let projected = project.forward(&relu6(&depthwise.forward(&expanded)?)?)?;
            x = if block.residual { (x + projected)? } else { projected };
        }
        let mean = relu6(&self.last.forward(&x)?)?.mean(D::Minus1)?.mean(D::Minus1)?;
        mean.matmul(&self.classifier)?.broadcast_add(&self.classifier_bias)?.squeeze(0)?.to_vec1()
    }
}

fn relu6(x: &Tensor) -> Result<Tensor> {
    x.clamp(0f32, 6f32)
}

/// A convolution with TensorFlow's `SAME` padding, and its bias.
#[derive(Debug)]
struct Convolution {
    /// `[Cout, Cin / groups, K, K]`.
    weight: Tensor,
    /// `[1, Cout, 1, 1]`.
    bias: Tensor,
    size: usize,
    stride: usize,
    groups: usize,
}

impl Convolution {
    /// `shape` is that of a whole convolution, `[K, K, Cin / groups, Cout]`; files leave out what is 1.
    fn load(vb: &VarBuilder<'_>, shape: [usize; 4], stride: usize, by_channel: bool) -> Result<Self> {
        let [size, _, _, outputs] = shape;
        let stored: Vec<usize> = match (size, by_channel) {
            (1, _) => shape[2..].to_vec(),
            (_, true) => vec![size, size, outputs],
            (_, false) => shape.to_vec(),
        };
        let weight = vb.get(stored, "weight")?.reshape(&shape)?.permute((3, 2, 0, 1))?.contiguous()?;
        let bias = vb.get(outputs, "bias")?.reshape((1, outputs, 1, 1))?;
        Ok(Self { weight, bias, size, stride, groups: if by_channel { outputs } else { 1 } })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for axis in [2, 3] {
            let side = x.dim(axis)?;
            let needed = (side.div_ceil(self.stride) - 1) * self.stride + self.size;
            let padding = needed.saturating_sub(side);
            x = x.pad_with_zeros(axis, padding / 2, padding - padding / 2)?;
        }
        x.conv2d(&self.weight, 0, self.stride, 1, self.groups)?.broadcast_add(&self.bias)
    }
}
