//! Convolutions over all channels, as products of matrices; of single channels; and the ones that enlarge.

use std::ops::Range;

use cloudpose_kernels::Kernels;
use cloudpose_kernels::depthwise::{MOST_ROWS, RowShape, Stride, Taps, Window as Rows};
use cloudpose_kernels::elementwise::{Activation, Pairing};
use cloudpose_kernels::pointwise::{Left, Output, Segment, Weights};

use super::map::{Map, Shape, Window};

/// Floats of windows that are laid out for a product at once: a share of the second cache.
const GATHERED_FLOATS: usize = 128 * 1024;
/// Floats that a product writes before what comes after it: they should still be in the second cache.
const BAND_FLOATS: usize = 32 * 1024;
/// Floats of a window's row up to which windows are read where they overlap: laying them out would cost more.
const NARROW: usize = 600;
/// Pixels of a row from which on that has rows enough for the tiles.
const WIDE: usize = 16;

/// Rows of a map to make.
pub(super) struct Band<'a> {
    /// The whole map.
    pub(super) output: Shape,
    /// The number of the first one.
    pub(super) first: usize,
    pub(super) rows: &'a mut [f32],
    /// As much as the layer says.
    pub(super) scratch: &'a mut [f32],
}

/// What comes after the sums.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct After {
    /// Beside the clamp that is packed with the weights.
    pub(super) activation: Option<Activation>,
    /// Whether the last input is added, after the activation.
    pub(super) adds: bool,
}

impl After {
    /// Does it to the rows from `first` on.
    fn apply(self, kernels: &Kernels, inputs: &[Map<'_>], first: usize, rows: &mut [f32]) {
        if let Some(activation) = self.activation {
            kernels.activate(activation, rows);
        }
        if let (true, Some(added)) = (self.adds, inputs.last()) {
            kernels.pair(Pairing::Sum, rows, &added.data[first * added.shape.row()..][..rows.len()]);
        }
    }
}

/// A convolution over all channels.
#[derive(Debug)]
pub(super) struct Convolution {
    /// The depth is `[rows, columns, channels]` of a window.
    pub(super) weights: Weights,
    pub(super) window: Window,
    /// Whether the second input is added to the sums, before they are clamped.
    pub(super) has_residual: bool,
    pub(super) after: After,
}

impl Convolution {
    /// Floats of scratch for a thread.
    pub(super) fn scratch(&self, of: Shape, output: Shape) -> usize {
        let row = self.window.size[1] * of.channels;
        match self.way(of, output) {
            Way::Pixels => 0,
            Way::Overlapping => self.window.size[0] * self.padded_row(of, output),
            Way::Gathered => self.rows_at_once(of, output) * output.width * row,
        }
    }

    fn way(&self, of: Shape, output: Shape) -> Way {
        if self.window.is_pixel() {
            Way::Pixels
        } else if self.window.size[1] * of.channels <= NARROW && output.width >= WIDE {
            Way::Overlapping
        } else {
            Way::Gathered
        }
    }

    /// Output rows of a band.
    fn rows_at_once(&self, of: Shape, output: Shape) -> usize {
        let most = match self.way(of, output) {
            Way::Gathered => GATHERED_FLOATS / (output.width * self.window.size[1] * of.channels),
            Way::Pixels | Way::Overlapping => BAND_FLOATS / output.row(),
        };
        most.clamp(1, output.height)
    }

    /// Floats of a row with its padding.
    fn padded_row(&self, of: Shape, output: Shape) -> usize {
        ((output.width - 1) * self.window.stride + self.window.size[1]) * of.channels
    }

    /// Makes a band of the output.
    pub(super) fn run(&self, kernels: &Kernels, inputs: &[Map<'_>], band: Band<'_>) {
        let input = inputs[0];
        let Band { output, first, rows, scratch } = band;
        let at_once = self.rows_at_once(input.shape, output);
        for (index, rows) in rows.chunks_mut(at_once * output.row()).enumerate() {
            let first = first + index * at_once;
            let residual = self.has_residual.then(|| &inputs[1].data[first * output.row()..][..rows.len()]);
            let band = Band { output, first, rows: &mut *rows, scratch: &mut *scratch };
            match self.way(input.shape, output) {
                Way::Pixels => {
                    let data = &input.data[first * input.shape.row()..];
                    self.product(kernels, (data, input.shape.channels, 0), band.rows, residual);
                }
                Way::Overlapping => self.overlapping(kernels, input, band, residual),
                Way::Gathered => self.gathered(kernels, input, band, residual),
            }
            self.after.apply(kernels, inputs, first, rows);
        }
    }

    /// Multiplies `[pixels, width]` with the weights' rows from `from` on.
    fn product(
        &self,
        kernels: &Kernels,
        (data, width, from): (&[f32], usize, usize),
        rows: &mut [f32],
        residual: Option<&[f32]>,
    ) {
        let columns = self.weights.columns();
        let segments = [Segment { offset: 0, stride: width, width }];
        let left = Left { data, segments: &segments, rows: rows.len() / columns, depth_from: from };
        let output = Output { data: rows, stride: columns, residual };
        kernels.pointwise(&self.weights, all(&self.weights), left, output);
    }

    fn overlapping(&self, kernels: &Kernels, input: Map<'_>, band: Band<'_>, residual: Option<&[f32]>) {
        let Band { output, first, rows, scratch } = band;
        let (channels, padded) = (input.shape.channels, self.padded_row(input.shape, output));
        let [top, left] = self.window.before;
        let segments: Vec<Segment> = (0..self.window.size[0])
            .map(|row| Segment {
                offset: row * padded,
                stride: self.window.stride * channels,
                width: self.window.size[1] * channels,
            })
            .collect();
        for (index, row) in rows.chunks_mut(output.row()).enumerate() {
            let y = (first + index) * self.window.stride;
            for (r, to) in scratch.chunks_exact_mut(padded).take(segments.len()).enumerate() {
                Window::copy_padded(input.row(y + r, top), channels, left, to);
            }
            let left = Left { data: scratch, segments: &segments, rows: output.width, depth_from: 0 };
            let residual = residual.map(|residual| &residual[index * output.row()..]);
            let output = Output { data: row, stride: output.channels, residual };
            kernels.pointwise(&self.weights, all(&self.weights), left, output);
        }
    }

    /// One row of all windows after another, so that its weights stay in the caches.
    fn gathered(&self, kernels: &Kernels, input: Map<'_>, band: Band<'_>, residual: Option<&[f32]>) {
        let Band { output, first, rows, scratch } = band;
        let channels = input.shape.channels;
        let width = self.window.size[1] * channels;
        let [top, left] = self.window.before;
        let pixels = rows.len() / output.channels;
        let scratch = &mut scratch[..pixels * width];
        for r in 0..self.window.size[0] {
            for (index, to) in scratch.chunks_exact_mut(output.width * width).enumerate() {
                let row = input.row((first + index) * self.window.stride + r, top);
                for (x, to) in to.chunks_exact_mut(width).enumerate() {
                    let from = x * self.window.stride;
                    let row = row.map(|row| row.get(from.saturating_sub(left) * channels..).unwrap_or(&[]));
                    Window::copy_padded(row, channels, left.saturating_sub(from), to);
                }
            }
            self.product(kernels, (scratch, width, r * width), rows, residual);
        }
    }
}

/// How the windows of a map become the left side of a product.
enum Way {
    /// They are its pixels.
    Pixels,
    /// As rows with their padding, in which they overlap.
    Overlapping,
    /// Laid out one by one.
    Gathered,
}

/// A convolution of each channel by itself, whose windows are 3×3 or 5×5.
#[derive(Debug)]
pub(super) struct Depthwise {
    pub(super) taps: Taps,
    pub(super) window: Window,
    /// The window's.
    pub(super) stride: Stride,
    pub(super) after: After,
}

impl Depthwise {
    /// The stride, if the kernels know it; with windows of that size and padding.
    pub(super) fn stride(window: Window) -> Option<Stride> {
        let [size, columns] = window.size;
        let near = [size / 2, size / 2];
        let stride = match window.stride {
            1 if window.before == near && window.behind == near => Stride::One,
            2 => Stride::Two,
            _ => return None,
        };
        let is_square = size == columns && [3, 5].contains(&size);
        let known = is_square.then(|| stride.pad_before(size))?;
        [known, known + 1].contains(&window.before[1]).then_some(stride)
    }

    /// Zeros that a row needs on its left, beyond those that the kernel knows of.
    fn shift(&self) -> usize {
        self.window.before[1] - self.stride.pad_before(self.window.size[1])
    }

    /// Whether the kernel makes as many pixels of a row as the output has.
    pub(super) fn reaches(&self, of: Shape, output: Shape) -> bool {
        output.width <= self.padded(of) / self.window.stride
    }

    /// Pixels of a row as the kernel takes it.
    fn padded(&self, of: Shape) -> usize {
        (of.width + self.shift()).next_multiple_of(self.window.stride)
    }

    /// Whether rows must be copied, because they lack padding or the kernel makes more of them than is wanted.
    fn copies(&self, of: Shape, output: Shape) -> bool {
        let padded = self.padded(of);
        padded != of.width || padded / self.window.stride != output.width
    }

    fn input_rows(&self) -> usize {
        (MOST_ROWS - 1) * self.window.stride + self.window.size[0]
    }

    /// Floats of scratch for a thread.
    pub(super) fn scratch(&self, of: Shape, output: Shape) -> usize {
        let row = self.padded(of) * of.channels;
        if self.copies(of, output) { (self.input_rows() + MOST_ROWS) * row } else { 0 }
    }

    /// Makes a band of the output.
    pub(super) fn run(&self, kernels: &Kernels, inputs: &[Map<'_>], band: Band<'_>) {
        let Band { output, first, rows, scratch } = band;
        let band = Band { output, first, rows: &mut *rows, scratch };
        match self.window.size[0] {
            3 => self.of_size::<3>(kernels, inputs[0], band),
            _ => self.of_size::<5>(kernels, inputs[0], band),
        }
        self.after.apply(kernels, inputs, first, rows);
    }

    fn of_size<const K: usize>(&self, kernels: &Kernels, input: Map<'_>, band: Band<'_>) {
        let Band { output, first, rows, scratch } = band;
        let (channels, width, top) = (input.shape.channels, self.padded(input.shape), self.window.before[0]);
        let shape = RowShape { width, input_pitch: channels, output_pitch: channels, stride: self.stride };
        let copies = self.copies(input.shape, output);
        for (group, rows) in rows.chunks_mut(MOST_ROWS * output.row()).enumerate() {
            let first = first + group * MOST_ROWS;
            let count = rows.len() / output.row();
            let (padded, made) =
                scratch.split_at_mut(if copies { self.input_rows() * width * channels } else { 0 });
            let from = first * self.window.stride;
            if copies {
                for (r, to) in padded.chunks_exact_mut(width * channels).enumerate() {
                    if let Some(row) = input.row(from + r, top) {
                        Window::copy_padded(Some(row), channels, self.shift(), to);
                    }
                }
            }
            let mut windows: [Rows<'_, K>; MOST_ROWS] = [[None; K]; MOST_ROWS];
            for (y, window) in windows[..count].iter_mut().enumerate() {
                for (tap, row) in window.iter_mut().enumerate() {
                    let r = y * self.window.stride + tap;
                    let own = input.row(from + r, top);
                    let copy = || &padded[r * width * channels..][..width * channels];
                    *row = own.map(|own| if copies { copy() } else { own });
                }
            }
            if !copies {
                kernels.depthwise_rows(&self.taps, shape, &windows[..count], rows);
                continue;
            }
            kernels.depthwise_rows(&self.taps, shape, &windows[..count], made);
            let made_row = width / self.window.stride * channels;
            for (to, made) in rows.chunks_exact_mut(output.row()).zip(made.chunks_exact(made_row)) {
                to.copy_from_slice(&made[..to.len()]);
            }
        }
    }
}

/// A convolution that makes a square of pixels of each.
#[derive(Debug)]
pub(super) struct Enlarging {
    /// For each pixel of the square, row by row.
    pub(super) weights: Vec<Weights>,
    /// Its side.
    pub(super) times: usize,
    pub(super) after: After,
}

impl Enlarging {
    /// Makes the whole output.
    pub(super) fn run(&self, kernels: &Kernels, inputs: &[Map<'_>], output: Shape, rows: &mut [f32]) {
        let input = inputs[0];
        let depth = input.shape.channels;
        let segments = [Segment { offset: 0, stride: depth, width: depth }];
        for y in 0..input.shape.height {
            let pixels = input.shape.width;
            let left = Left {
                data: &input.data[y * input.shape.row()..],
                segments: &segments,
                rows: pixels,
                depth_from: 0,
            };
            for (index, weights) in self.weights.iter().enumerate() {
                let at = (y * self.times + index / self.times) * output.row()
                    + index % self.times * output.channels;
                let to =
                    Output { data: &mut rows[at..], stride: self.times * output.channels, residual: None };
                kernels.pointwise(weights, all(weights), left, to);
            }
        }
        self.after.apply(kernels, inputs, 0, rows);
    }
}

/// All panels.
fn all(weights: &Weights) -> Range<usize> {
    0..weights.panels().len()
}
