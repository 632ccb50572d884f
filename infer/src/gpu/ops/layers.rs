//! The layers that are no 1×1 convolutions, on `[images, height, width, channels]`; `kernels/layers.cu` on a GPU.
//!
//! Weights and biases are float32. A map keeps float32 or float16; sums are float32.

use super::{
    Arg, Clamp, Launch, Maps, Number, Op, Real, Result, Values, each, floats, in_either, lanes, of_type, says,
};

/// Outputs along a row that a thread of a kernel makes.
const TILE: usize = 4;

/// The first convolution: 3×3 at stride 2 of three normalised colours, padded by one zero at the bottom and at the
/// right, with bias and activation. Inputs: `[images, height, width, 3]`, 0 to 255; the model's mean and scale of each
/// colour, and its shift; weight `[27, channels]`, bias.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stem {
    /// Of the input.
    pub(crate) maps: Maps,
    pub(crate) channels: usize,
    pub(crate) clamp: Clamp,
}

impl Stem {
    fn convolve<T: Real>(&self, map: &[u8], [constants, weight, bias]: [&[f32]; 3], output: &mut [T]) {
        let Self { maps, channels, clamp } = *self;
        let Maps { height, width, .. } = maps;
        let (rows, columns) = (height / 2, width / 2);
        let mut sums = vec![0.0; channels];
        let pixels = output[..maps.halved().pixels() * channels].chunks_exact_mut(channels);
        for (pixel, output) in pixels.enumerate() {
            let (column, row, image) = (pixel % columns, pixel / columns % rows, pixel / columns / rows);
            sums.fill(0.0);
            for (tap, weight) in weight.chunks_exact(3 * channels).enumerate() {
                let (y, x) = (2 * row + tap / 3, 2 * column + tap % 3);
                if y >= height || x >= width {
                    continue;
                }
                let colours = &map[3 * ((image * height + y) * width + x)..][..3];
                for (c, (level, weight)) in colours.iter().zip(weight.chunks_exact(channels)).enumerate() {
                    let colour = (f32::from(*level) - constants[c]) * constants[3 + c] - constants[6];
                    for (sum, weight) in sums.iter_mut().zip(weight) {
                        *sum += colour * weight;
                    }
                }
            }
            for ((output, sum), bias) in output.iter_mut().zip(&sums).zip(bias) {
                *output = T::narrow(clamp.apply(sum + bias));
            }
        }
    }
}

impl Op for Stem {
    fn compute(&self, inputs: &[&Values], output: &mut Values) -> Result<()> {
        let Values::U8(map) = inputs[0] else { return Err(says("inputs are bytes")) };
        let weights = [floats(inputs[1])?, floats(inputs[2])?, floats(inputs[3])?];
        in_either!(output, output => {
            self.convolve(map, weights, output);
            Ok(())
        })
    }

    fn launches(&self, number: Number) -> Result<Vec<Launch>> {
        let Self { maps, channels, clamp } = *self;
        if !maps.width.is_multiple_of(2 * TILE) {
            return Err(says(format!("inputs {} pixels wide", maps.width)));
        }
        let threads = each(maps.halved().pixels() / TILE * channels / lanes(channels, number)?)?;
        let args = [Arg::Input(0), Arg::Input(1), Arg::Input(2), Arg::Input(3), Arg::Output];
        let [images, height, width] = maps.sizes();
        let sizes = [images, height, width, channels];
        Ok(vec![Launch::new(of_type("stem", number), threads, &args, &sizes, &clamp.bounds())?])
    }
}

/// 3×3 convolution of each channel by itself, with bias and activation. Inputs: map, weight `[9, channels]` of the map's
/// type, bias.
///
/// Padding is TensorFlow's `SAME`: one zero all round at stride 1; one at the bottom and at the right at
/// stride 2, for even sizes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depthwise {
    /// Of the input.
    pub(crate) maps: Maps,
    pub(crate) channels: usize,
    /// 1 or 2.
    pub(crate) stride: usize,
    pub(crate) clamp: Clamp,
}

impl Depthwise {
    fn convolve<T: Real>(&self, [map, weight]: [&[T]; 2], bias: &[f32], output: &mut [T]) {
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
                    *sum += value.widen() * weight.widen();
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
    fn compute(&self, inputs: &[&Values], output: &mut Values) -> Result<()> {
        in_either!(output, output => {
            self.convolve([Real::of(inputs[0])?, Real::of(inputs[1])?], floats(inputs[2])?, output);
            Ok(())
        })
    }

    fn launches(&self, number: Number) -> Result<Vec<Launch>> {
        let Self { maps, channels, stride, clamp } = *self;
        let tiles = maps.images * (maps.height / stride) * (maps.width / stride).div_ceil(TILE);
        let threads = each(tiles * channels / lanes(channels, number)?)?;
        let args = [Arg::Input(0), Arg::Input(1), Arg::Input(2), Arg::Output];
        let [images, height, width] = maps.sizes();
        let sizes = [images, height, width, channels];
        let kernel = of_type(&format!("depthwise_s{stride}"), number);
        Ok(vec![Launch::new(kernel, threads, &args, &sizes, &clamp.bounds())?])
    }
}

/// Adds to a map the coarser level, doubled in height and width: bilinear, half-pixel centres, edges repeated. Input:
/// the coarser level.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merge {
    /// Of the output.
    pub(crate) maps: Maps,
    pub(crate) channels: usize,
}

impl Merge {
    fn merge<T: Real>(&self, coarse: &[T], map: &mut [T]) {
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
                    for (c, value) in map[first..first + channels].iter_mut().enumerate() {
                        let at = |y: usize, x: usize| {
                            coarse[((image * rows + y) * columns + x) * channels + c].widen()
                        };
                        let down = |x| 0.75 * at(near_y, x) + 0.25 * at(far_y, x);
                        let up = 0.75 * down(near_x) + 0.25 * down(far_x);
                        *value = T::narrow(value.widen() + up);
                    }
                }
            }
        }
    }
}

impl Op for Merge {
    fn compute(&self, inputs: &[&Values], output: &mut Values) -> Result<()> {
        in_either!(output, map => {
            self.merge(Real::of(inputs[0])?, map);
            Ok(())
        })
    }

    fn launches(&self, number: Number) -> Result<Vec<Launch>> {
        let Self { maps, channels } = *self;
        let [images, height, width] = maps.sizes();
        let threads = each(maps.pixels() * channels / lanes(channels, number)?)?;
        let (args, sizes) = ([Arg::Input(0), Arg::Output], [images, height, width, channels]);
        Ok(vec![Launch::new(of_type("add_upsampled", number), threads, &args, &sizes, &[])?])
    }
}

/// Copies a map into one of float32. Input: the map, of `number`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Widen {
    pub(crate) count: usize,
    pub(crate) number: Number,
}

impl Op for Widen {
    fn compute(&self, inputs: &[&Values], output: &mut Values) -> Result<()> {
        let Values::F32(output) = output else { return Err(says("the output is float32")) };
        in_either!(inputs[0], values => {
            for (to, from) in output.iter_mut().zip(&values[..self.count]) {
                *to = from.widen();
            }
            Ok(())
        })
    }

    fn launches(&self, _: Number) -> Result<Vec<Launch>> {
        let args = [Arg::Input(0), Arg::Output];
        let kernel = of_type("widen", self.number);
        Ok(vec![Launch::new(kernel, each(self.count)?, &args, &[self.count], &[])?])
    }
}
