//! The layers that are no matrix products, on `[images, height, width, channels]`; `kernels/layers.cu` on a GPU.
//!
//! Weights and biases are float32. A map keeps float32 or float16; sums are float32.

use candle_core::{CpuStorage, DType, Result, Tensor};

use super::{Arg, Clamp, Launch, Maps, Op, Real, Work, each, floats, in_either, of_type, with_values};

/// Outputs along a row that a thread of the kernel makes.
const TILE: usize = 4;

/// 3×3 convolution of each channel by itself, with bias and activation. Inputs: map, weight `[9, channels]`,
/// bias.
///
/// Padding is TensorFlow's `SAME`: one zero all round at stride 1; one at the bottom and at the right at
/// stride 2, for even sizes.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct Depthwise {
    /// Of the input.
    pub(in crate::gpu) maps: Maps,
    pub(in crate::gpu) channels: usize,
    /// 1 or 2.
    pub(in crate::gpu) stride: usize,
    pub(in crate::gpu) clamp: Clamp,
}

impl Depthwise {
    fn convolve<T: Real>(&self, map: &[T], weight: &[f32], bias: &[f32], output: &mut [T]) {
        let Self { maps: Maps { height, width, .. }, channels, stride, clamp } = *self;
        let (rows, columns, pad) = (height / stride, width / stride, usize::from(stride == 1));
        let mut sums = vec![0.0; channels];
        let windows = output[..self.outputs() * channels].chunks_exact_mut(channels);
        for (window, output) in windows.enumerate() {
            let (x, y, image) = (window % columns, window / columns % rows, window / columns / rows);
            sums.fill(0.0);
            for (tap, weight) in weight.chunks_exact(channels).enumerate() {
                let (y, x) = (y * stride + tap / 3, x * stride + tap % 3);
                if y < pad || y - pad >= height || x < pad || x - pad >= width {
                    continue;
                }
                let pixel = (image * height + y - pad) * width + x - pad;
                for ((sum, value), weight) in sums.iter_mut().zip(&map[pixel * channels..]).zip(weight) {
                    *sum += value.widen() * weight;
                }
            }
            for ((output, sum), bias) in output.iter_mut().zip(&sums).zip(bias) {
                *output = T::narrow(clamp.apply(sum + bias));
            }
        }
    }

    /// Pixels of the output.
    fn outputs(&self) -> usize {
        self.maps.images * (self.maps.height / self.stride) * (self.maps.width / self.stride)
    }
}

impl Op for Depthwise {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()> {
        let (weight, bias) = (floats(inputs[1])?, floats(inputs[2])?);
        in_either!(output, output => with_values(inputs[0], |map| {
            self.convolve(map, &weight, &bias, output);
            Ok(())
        }))
    }

    fn work(&self, dtype: DType) -> Result<Vec<Work>> {
        let Self { maps, channels, stride, clamp } = *self;
        let kernel = if stride == 1 { "depthwise_s1" } else { "depthwise_s2" };
        let tiles = maps.images * (maps.height / stride) * (maps.width / stride).div_ceil(TILE);
        let args = [Arg::Input(0), Arg::Input(1), Arg::Input(2), Arg::Output];
        let [images, height, width] = maps.sizes();
        let sizes = [images, height, width, channels];
        let threads = each(tiles * channels / 4)?;
        Ok(vec![Launch::work(of_type(kernel, dtype), threads, &args, &sizes, &clamp.bounds())?])
    }
}

/// What follows a 1×1 convolution, on its output. Inputs: bias, and for a residual the map to add.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct Finish {
    pub(in crate::gpu) pixels: usize,
    pub(in crate::gpu) channels: usize,
    pub(in crate::gpu) then: Then,
}

/// What comes after the bias.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) enum Then {
    Clamp(Clamp),
    /// Another map is added.
    Residual,
}

impl Finish {
    fn finish<T: Real>(&self, bias: &[f32], residual: Option<&[T]>, map: &mut [T]) {
        for (index, value) in map[..self.pixels * self.channels].iter_mut().enumerate() {
            let sum = value.widen() + bias[index % self.channels];
            *value = T::narrow(match (self.then, residual) {
                (Then::Residual, Some(residual)) => sum + residual[index].widen(),
                (Then::Clamp(clamp), _) => clamp.apply(sum),
                (Then::Residual, None) => sum,
            });
        }
    }
}

impl Op for Finish {
    fn name(&self) -> &'static str {
        "bias"
    }

    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()> {
        let bias = floats(inputs[0])?;
        in_either!(output, map => match self.then {
            Then::Clamp(_) => self.finish(&bias, None, map),
            Then::Residual => with_values(inputs[1], |residual| {
                self.finish(&bias, Some(residual), map);
                Ok(())
            })?,
        });
        Ok(())
    }

    fn work(&self, dtype: DType) -> Result<Vec<Work>> {
        let fours = self.pixels * self.channels / 4;
        let sizes = [fours, self.channels];
        let (kernel, args, bounds) = match self.then {
            Then::Residual => ("add_residual", &[Arg::Input(0), Arg::Input(1), Arg::Output][..], None),
            Then::Clamp(clamp) => ("add_bias", &[Arg::Input(0), Arg::Output][..], Some(clamp.bounds())),
        };
        let bounds = bounds.as_ref().map_or(&[][..], |bounds| bounds);
        Ok(vec![Launch::work(of_type(kernel, dtype), each(fours)?, args, &sizes, bounds)?])
    }
}

/// Adds to a lateral 1×1 convolution's output its bias and the coarser level, doubled in height and width:
/// bilinear, half-pixel centres, edges repeated. Inputs: bias, coarser level.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct Merge {
    /// Of the output.
    pub(in crate::gpu) maps: Maps,
    pub(in crate::gpu) channels: usize,
}

impl Merge {
    fn merge<T: Real>(&self, bias: &[f32], coarse: &[T], map: &mut [T]) {
        let Self { maps: Maps { images, height, width }, channels } = *self;
        let (rows, columns) = (height / 2, width / 2);
        // The cell that `i` of the finer level lies in, and the neighbour on its side.
        let pair = |i: usize, cells: usize| {
            let near = i / 2;
            (near, if i.is_multiple_of(2) { near.saturating_sub(1) } else { (near + 1).min(cells - 1) })
        };
        for image in 0..images {
            for y in 0..height {
                for x in 0..width {
                    let ((near_y, far_y), (near_x, far_x)) = (pair(y, rows), pair(x, columns));
                    let first = ((image * height + y) * width + x) * channels;
                    for (c, (value, bias)) in map[first..first + channels].iter_mut().zip(bias).enumerate() {
                        let at = |y: usize, x: usize| {
                            coarse[((image * rows + y) * columns + x) * channels + c].widen()
                        };
                        let down = |x| 0.75 * at(near_y, x) + 0.25 * at(far_y, x);
                        let up = 0.75 * down(near_x) + 0.25 * down(far_x);
                        *value = T::narrow(value.widen() + bias + up);
                    }
                }
            }
        }
    }
}

impl Op for Merge {
    fn name(&self) -> &'static str {
        "upsample-add"
    }

    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()> {
        let bias = floats(inputs[0])?;
        in_either!(output, map => with_values(inputs[1], |coarse| {
            self.merge(&bias, coarse, map);
            Ok(())
        }))
    }

    fn work(&self, dtype: DType) -> Result<Vec<Work>> {
        let args = [Arg::Input(0), Arg::Input(1), Arg::Output];
        let [images, height, width] = self.maps.sizes();
        let count = self.maps.pixels() * self.channels / 4;
        let sizes = [images, height, width, self.channels];
        Ok(vec![Launch::work(of_type("add_upsampled", dtype), each(count)?, &args, &sizes, &[])?])
    }
}

/// Copies a map into one of float32. Input: the map, of `dtype`.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct Widen {
    pub(in crate::gpu) count: usize,
    pub(in crate::gpu) dtype: DType,
}

impl Op for Widen {
    fn name(&self) -> &'static str {
        "widen"
    }

    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()> {
        let values = inputs[0].to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        let CpuStorage::F32(output) = output else { candle_core::bail!("the output is float32") };
        output[..self.count].copy_from_slice(&values);
        Ok(())
    }

    fn work(&self, _: DType) -> Result<Vec<Work>> {
        let args = [Arg::Input(0), Arg::Output];
        let kernel = of_type("widen", self.dtype);
        Ok(vec![Launch::work(kernel, each(self.count)?, &args, &[self.count], &[])?])
    }
}
