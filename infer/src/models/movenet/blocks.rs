//! The convolutions of MoveNet in candle, on NHWC tensors.
//!
//! candle's own `conv2d` wants NCHW and runs a depthwise convolution as one convolution a channel. Here a
//! 1×1 convolution is a matrix product, and a 3×3 one is nine shifted slices of the padded input: only
//! operations that every candle device has, in the layout of the weight files and of the heads.

use candle_core::{D, Result, Tensor};
use candle_nn::VarBuilder;

use super::arch::{Activation, Block, Head, Merge};
use super::arch::{FEATURES, HEAD_HIDDEN};

fn activate(x: Tensor, activation: Activation) -> Result<Tensor> {
    match activation {
        Activation::Linear => Ok(x),
        Activation::Relu => x.relu(),
        Activation::Relu6 => x.clamp(0f32, 6f32),
    }
}

/// The nine shifted slices of a 3×3 window: `taps[3·ky + kx][n, y, x, c]` is the padded input at
/// (`stride·y + ky`, `stride·x + kx`).
///
/// Padding is TensorFlow's `SAME`: one zero all round at stride 1; one at the bottom and at the right at
/// stride 2, for even sizes.
fn taps(x: &Tensor, stride: usize) -> Result<Vec<Tensor>> {
    let (n, height, width, channels) = x.dims4()?;
    if stride == 1 {
        let padded = x.pad_with_zeros(1, 1, 1)?.pad_with_zeros(2, 1, 1)?;
        return (0..9).map(|tap| padded.narrow(1, tap / 3, height)?.narrow(2, tap % 3, width)).collect();
    }
    // Splitting each axis in (position, parity) turns the strided slice into a plain one.
    let (rows, columns) = (height / 2, width / 2);
    let padded = x.pad_with_zeros(1, 0, 2)?.pad_with_zeros(2, 0, 2)?;
    let split = padded.reshape(&[n, rows + 1, 2, columns + 1, 2, channels])?;
    (0..9)
        .map(|tap| {
            let (ky, kx) = (tap / 3, tap % 3);
            split.narrow(1, ky / 2, rows)?.narrow(2, ky % 2, 1)?.narrow(3, kx / 2, columns)?.narrow(
                4,
                kx % 2,
                1,
            )
        })
        .map(|slice| slice?.reshape((n, rows, columns, channels)))
        .collect()
}

/// A 3×3 convolution over all channels, stride 2, ReLU6: the stem.
#[derive(Debug)]
pub(super) struct Stem {
    /// On the nine taps side by side, `[N, H/2, W/2, 27]`, the convolution is a pointwise one.
    pointwise: Pointwise,
}

impl Stem {
    pub(super) fn load(outputs: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let weight = vb.get((3, 3, 3, outputs), "weight")?.reshape((27, outputs))?;
        let bias = vb.get(outputs, "bias")?;
        Ok(Self { pointwise: Pointwise { weight, bias, activation: Activation::Relu6 } })
    }

    /// `[N, H, W, 3]` → `[N, H/2, W/2, Cout]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.pointwise.forward(&Tensor::cat(&taps(x, 2)?, D::Minus1)?)
    }
}

/// A 3×3 convolution of each channel by itself.
#[derive(Debug)]
struct Depthwise {
    /// `[9, C]`.
    weight: Tensor,
    stride: usize,
}

impl Depthwise {
    fn load(channels: usize, stride: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get((3, 3, channels), "weight")?.reshape((9, channels))?, stride })
    }

    /// `[N, H, W, C]` → `[N, H/stride, W/stride, C]`.
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut products = taps(x, self.stride)?
            .into_iter()
            .enumerate()
            .map(|(tap, slice)| slice.contiguous()?.broadcast_mul(&self.weight.get(tap)?));
        let first = products.next().expect("a 3×3 window has nine taps")?;
        products.try_fold(first, |sum, product| sum + product?)
    }
}

/// A 1×1 convolution with bias and activation.
#[derive(Debug)]
pub(super) struct Pointwise {
    /// `[Cin, Cout]`.
    weight: Tensor,
    bias: Tensor,
    activation: Activation,
}

impl Pointwise {
    pub(super) fn load(
        inputs: usize,
        outputs: usize,
        activation: Activation,
        vb: VarBuilder<'_>,
    ) -> Result<Self> {
        Ok(Self { weight: vb.get((inputs, outputs), "weight")?, bias: vb.get(outputs, "bias")?, activation })
    }

    /// `[N, H, W, Cin]` → `[N, H, W, Cout]`.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (n, height, width, channels) = x.dims4()?;
        let rows = x.reshape((n * height * width, channels))?.matmul(&self.weight)?;
        let rows = rows.broadcast_add(&self.bias)?;
        activate(rows, self.activation)?.reshape((n, height, width, ()))
    }
}

/// [`Block`].
#[derive(Debug)]
pub(super) struct InvertedResidual {
    expand: Option<Pointwise>,
    depthwise: Depthwise,
    depthwise_bias: Tensor,
    project: Pointwise,
    residual: bool,
}

impl InvertedResidual {
    pub(super) fn load(block: &Block, vb: VarBuilder<'_>) -> Result<Self> {
        let expand = if block.expands() {
            Some(Pointwise::load(block.inputs, block.hidden, Activation::Relu6, vb.pp("expand"))?)
        } else {
            None
        };
        Ok(Self {
            expand,
            depthwise: Depthwise::load(block.hidden, block.stride, &vb.pp("depthwise"))?,
            depthwise_bias: vb.get(block.hidden, "depthwise.bias")?,
            project: Pointwise::load(block.hidden, block.outputs, Activation::Linear, vb.pp("project"))?,
            residual: block.residual,
        })
    }

    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let expanded = match &self.expand {
            Some(expand) => expand.forward(x)?,
            None => x.clone(),
        };
        let sums = self.depthwise.forward(&expanded)?.broadcast_add(&self.depthwise_bias)?;
        let projected = self.project.forward(&activate(sums, Activation::Relu6)?)?;
        if self.residual { x + projected } else { Ok(projected) }
    }
}

/// Doubles height and width of an NHWC tensor: bilinear, half-pixel centres, edges repeated.
fn upsample(x: &Tensor) -> Result<Tensor> {
    upsample_axis(&upsample_axis(x, 1)?, 2)
}

/// `out[2i] = ¼·x[i−1] + ¾·x[i]`, `out[2i+1] = ¾·x[i] + ¼·x[i+1]`, indices clamped to the axis.
fn upsample_axis(x: &Tensor, axis: usize) -> Result<Tensor> {
    let size = x.dim(axis)?;
    let first = x.narrow(axis, 0, 1)?;
    let last = x.narrow(axis, size - 1, 1)?;
    let before = Tensor::cat(&[&first, &x.narrow(axis, 0, size - 1)?], axis)?;
    let after = Tensor::cat(&[&x.narrow(axis, 1, size - 1)?, &last], axis)?;
    let near = (x * 0.75)?;
    let even = (&near + (before * 0.25)?)?;
    let odd = (near + (after * 0.25)?)?;
    let mut dims = x.dims().to_vec();
    dims[axis] = 2 * size;
    Tensor::stack(&[even, odd], axis + 1)?.reshape(dims)
}

/// [`Merge`].
#[derive(Debug)]
pub(super) struct PyramidMerge {
    pub(super) after_block: usize,
    lateral: Pointwise,
    depthwise: Depthwise,
    pointwise: Pointwise,
}

impl PyramidMerge {
    pub(super) fn load(merge: &Merge, vb: VarBuilder<'_>) -> Result<Self> {
        let Merge { level, after_block, lateral_inputs, channels, outputs } = *merge;
        let lateral_vb = vb.pp(format!("lateral{level}"));
        let vb = vb.pp(format!("merge{level}"));
        Ok(Self {
            after_block,
            lateral: Pointwise::load(lateral_inputs, channels, Activation::Linear, lateral_vb)?,
            depthwise: Depthwise::load(channels, 1, &vb.pp("depthwise"))?,
            pointwise: Pointwise::load(channels, outputs, Activation::Relu, vb.pp("pointwise"))?,
        })
    }

    /// `coarser` `[N, H/2, W/2, channels]` and `backbone` `[N, H, W, lateral_inputs]` → `[N, H, W, outputs]`.
    pub(super) fn forward(&self, coarser: &Tensor, backbone: &Tensor) -> Result<Tensor> {
        let sum = (upsample(coarser)? + self.lateral.forward(backbone)?)?;
        self.pointwise.forward(&self.depthwise.forward(&sum)?)
    }
}

/// [`Head`].
#[derive(Debug)]
pub(super) struct HeadLayers {
    pub(super) head: Head,
    depthwise: Depthwise,
    hidden: Pointwise,
    out: Pointwise,
}

impl HeadLayers {
    pub(super) fn load(head: Head, keypoints: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let vb = vb.pp(head.name());
        Ok(Self {
            head,
            depthwise: Depthwise::load(FEATURES, 1, &vb.pp("depthwise"))?,
            hidden: Pointwise::load(FEATURES, HEAD_HIDDEN, Activation::Relu, vb.pp("hidden"))?,
            out: Pointwise::load(HEAD_HIDDEN, head.channels(keypoints), Activation::Linear, vb.pp("out"))?,
        })
    }

    /// `[N, H, W, FEATURES]` → `[N, H, W, channels]`.
    pub(super) fn forward(&self, features: &Tensor) -> Result<Tensor> {
        self.out.forward(&self.hidden.forward(&self.depthwise.forward(features)?)?)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn upsampling_interpolates_between_half_pixel_centres() {
        let x = Tensor::new(&[0f32, 4., 8.], &Device::Cpu).unwrap().reshape((1, 3, 1, 1)).unwrap();
        let up = upsample_axis(&x, 1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(up, [0., 1., 3., 5., 7., 8.]);
    }

    #[test]
    fn stride_two_windows_start_at_even_pixels_and_pad_after() {
        let x = Tensor::arange(0f32, 16., &Device::Cpu).unwrap().reshape((1, 4, 4, 1)).unwrap();
        let taps = taps(&x, 2).unwrap();
        let values = |tap: usize| taps[tap].flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(0), [0., 2., 8., 10.]);
        assert_eq!(values(4), [5., 7., 13., 15.]);
        assert_eq!(values(8), [10., 0., 0., 0.]);
    }
}
