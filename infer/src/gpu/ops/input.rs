//! From uploaded pictures to the network's first matrix; `kernels/input.cu` on a GPU.

use candle_core::{CpuStorage, DType, Result, Tensor};
use cloudpose_pixels::bt601;

use super::super::picture::SHARE_SHIFT;
use super::{Arg, Launch, Maps, Op, Real, Work, each, floats, in_either, of_type, with_values};

/// Entries of a window of the stem: nine taps of three colours, and zeros up to a multiple that matrix products
/// like.
pub(in crate::gpu) const WINDOW: usize = 32;

/// Uploaded pictures → `[images, height, width, 3]`, resized, placed, RGB, normalised. Inputs: the upload (see
/// [`crate::gpu::picture`]); the model's mean and scale of each colour, and its shift.
///
/// The integers before the normalisation are those of [`crate::preprocess`].
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct ModelInput {
    pub(in crate::gpu) maps: Maps,
}

/// A packed picture, read back.
struct Packed<'a> {
    bytes: &'a [u8],
}

impl Packed<'_> {
    fn word(&self, offset: usize) -> usize {
        let bytes = &self.bytes[offset..offset + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize
    }

    /// Field `index` of the header.
    fn field(&self, index: usize) -> usize {
        self.word(4 * index)
    }

    /// Sample (x, y) of the resized plane of which the fields named hold rows, pitch, taps across and shares
    /// down.
    fn sample(&self, [rows, pitch, across, down]: [usize; 4], x: usize, y: usize) -> u8 {
        let pitch = self.field(pitch);
        let tap = self.word(self.field(across) + 4 * x);
        let (first, share) = (tap & ((1 << SHARE_SHIFT) - 1), tap >> SHARE_SHIFT);
        let second = (first + 1).min(pitch - 1);
        let between = |row: usize| {
            let row = &self.bytes[self.field(rows) + row * pitch..][..pitch];
            usize::from(row[first]) * (256 - share) + usize::from(row[second]) * share
        };
        let lower = self.word(self.field(down) + 4 * y);
        ((between(2 * y) * (256 - lower) + between(2 * y + 1) * lower + (1 << 15)) >> 16) as u8
    }

    /// The colour at (x, y) of the model input.
    fn rgb(&self, x: usize, y: usize) -> [u8; 3] {
        let (x, y) = (x.wrapping_sub(self.field(11)), y.wrapping_sub(self.field(12)));
        if x >= self.field(9) || y >= self.field(10) {
            return [0; 3];
        }
        let chroma = |rows| if self.field(13) == 1 { self.sample([rows, 4, 6, 8], x, y) } else { 128 };
        bt601::rgb_from_ycc([self.sample([0, 3, 5, 7], x, y), chroma(1), chroma(2)])
    }
}

impl Op for ModelInput {
    fn name(&self) -> &'static str {
        "model-input"
    }

    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()> {
        let Maps { images, height, width } = self.maps;
        let constants = floats(inputs[1])?;
        let normalised =
            |level: u8, c: usize| (f32::from(level) - constants[c]) * constants[3 + c] - constants[6];
        with_values(inputs[0], |upload: &[u8]| {
            for image in 0..images {
                let start = Packed { bytes: upload }.field(image);
                let picture = Packed { bytes: &upload[start..] };
                for y in 0..height {
                    for x in 0..width {
                        let first = 3 * ((image * height + y) * width + x);
                        for (c, level) in picture.rgb(x, y).into_iter().enumerate() {
                            let value = normalised(level, c);
                            in_either!(&mut *output, output => output[first + c] = Real::narrow(value));
                        }
                    }
                }
            }
            Ok(())
        })
    }

    fn work(&self, dtype: DType) -> Result<Vec<Work>> {
        let args = [Arg::Input(0), Arg::Input(1), Arg::Output];
        let threads = each(self.maps.pixels())?;
        Ok(vec![Launch::work(of_type("model_input", dtype), threads, &args, &self.maps.sizes(), &[])?])
    }
}

/// The 3×3 windows at stride 2 of `[images, height, width, 3]`, padded by one zero at the bottom and at the right:
/// `[images, height / 2, width / 2, WINDOW]`, on which the stem is a 1×1 convolution.
#[derive(Clone, Copy, Debug)]
pub(in crate::gpu) struct StemWindows {
    /// Of the input.
    pub(in crate::gpu) maps: Maps,
}

impl StemWindows {
    fn cut<T: Real>(&self, map: &[T], output: &mut [T]) {
        let Maps { images, height, width } = self.maps;
        let (rows, columns) = (height / 2, width / 2);
        for (window, entries) in
            output[..images * rows * columns * WINDOW].chunks_exact_mut(WINDOW).enumerate()
        {
            let (x, y) = (2 * (window % columns), 2 * (window / columns % rows));
            let image = window / columns / rows;
            entries.fill(T::narrow(0.0));
            for (tap, colours) in entries[..27].chunks_exact_mut(3).enumerate() {
                let (x, y) = (x + tap % 3, y + tap / 3);
                if x < width && y < height {
                    let first = 3 * ((image * height + y) * width + x);
                    colours.copy_from_slice(&map[first..first + 3]);
                }
            }
        }
    }
}

impl Op for StemWindows {
    fn name(&self) -> &'static str {
        "stem-windows"
    }

    fn compute(&self, inputs: &[&Tensor], output: &mut CpuStorage) -> Result<()> {
        in_either!(output, output => with_values(inputs[0], |map| {
            self.cut(map, output);
            Ok(())
        }))
    }

    fn work(&self, dtype: DType) -> Result<Vec<Work>> {
        let count = self.maps.halved().pixels() * WINDOW;
        let args = [Arg::Input(0), Arg::Output];
        Ok(vec![Launch::work(of_type("stem_windows", dtype), each(count)?, &args, &self.maps.sizes(), &[])?])
    }
}
