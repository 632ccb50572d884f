//! What a step of a trunk does.

use std::ops::Range;

use cloudpose_kernels::Kernels;
use cloudpose_kernels::elementwise::{Activation, Pairing};

use super::convolution::{Band, Convolution, Depthwise, Enlarging};
use super::map::{Map, Shape, Window};

/// A step, from maps to a map.
#[derive(Debug)]
pub(super) enum Layer {
    Convolution(Convolution),
    Depthwise(Depthwise),
    Enlarging(Enlarging),
    Activation(Activation),
    /// Of two maps of one size.
    Pair(Pairing),
    /// Each channel by a factor of its own, the second input.
    Scale,
    /// Of each channel, over the whole map.
    Mean,
    /// Of each channel, over windows.
    Maximum(Window),
    /// The channels of all inputs, one input after another.
    Concat,
    /// For each row and column of the output the one of the input that is the nearest.
    Nearest {
        rows: Vec<usize>,
        columns: Vec<usize>,
    },
    /// A part of a map: channels, and each so many-th row and column.
    Part {
        channels: Range<usize>,
        from: [usize; 2],
        step: [usize; 2],
    },
}

impl Layer {
    /// Floats of scratch for a thread.
    pub(super) fn scratch(&self, of: Shape, output: Shape) -> usize {
        match self {
            Self::Convolution(convolution) => convolution.scratch(of, output),
            Self::Depthwise(depthwise) => depthwise.scratch(of, output),
            Self::Maximum(_) => output.width * of.channels * of.height,
            _ => 0,
        }
    }

    /// Makes the output, `rows`, of which threads of `pool` share what takes long.
    pub(super) fn run(
        &self,
        kernels: &Kernels,
        pool: Option<&rayon::ThreadPool>,
        inputs: &[Map<'_>],
        whole: Band<'_>,
    ) {
        let Band { output, first, rows, scratch } = whole;
        match self {
            Self::Convolution(convolution) => {
                let whole = Band { output, first, rows, scratch };
                shared(pool, whole, |band| convolution.run(kernels, inputs, band));
            }
            Self::Depthwise(depthwise) => {
                let whole = Band { output, first, rows, scratch };
                shared(pool, whole, |band| depthwise.run(kernels, inputs, band));
            }
            Self::Enlarging(enlarging) => enlarging.run(kernels, inputs, output, rows),
            Self::Activation(activation) => {
                rows.copy_from_slice(inputs[0].data);
                kernels.activate(*activation, rows);
            }
            Self::Pair(pairing) => {
                rows.copy_from_slice(inputs[0].data);
                kernels.pair(*pairing, rows, inputs[1].data);
            }
            Self::Scale => {
                rows.copy_from_slice(inputs[0].data);
                for pixel in rows.chunks_exact_mut(output.channels) {
                    kernels.pair(Pairing::Product, pixel, inputs[1].data);
                }
            }
            Self::Mean => {
                rows.fill(0.0);
                for pixel in inputs[0].data.chunks_exact(output.channels) {
                    kernels.pair(Pairing::Sum, rows, pixel);
                }
                let pixels = inputs[0].shape.height * inputs[0].shape.width;
                rows.iter_mut().for_each(|sum| *sum /= pixels as f32);
            }
            Self::Maximum(window) => maximum(kernels, *window, inputs[0], output, rows, scratch),
            Self::Concat => {
                let mut first = 0;
                for input in inputs {
                    let channels = input.shape.channels;
                    let pixels = input.data.chunks_exact(channels);
                    for (to, from) in rows.chunks_exact_mut(output.channels).zip(pixels) {
                        to[first..first + channels].copy_from_slice(from);
                    }
                    first += channels;
                }
            }
            Self::Nearest { rows: ys, columns } => {
                for (to, &y) in rows.chunks_exact_mut(output.row()).zip(ys) {
                    let row = inputs[0].row(y, 0).expect("it was made for this map");
                    for (to, &x) in to.chunks_exact_mut(output.channels).zip(columns) {
                        to.copy_from_slice(&row[x * output.channels..][..output.channels]);
                    }
                }
            }
            Self::Part { channels, from, step } => {
                for (y, to) in rows.chunks_exact_mut(output.row()).enumerate() {
                    let row = inputs[0].row(from[0] + y * step[0], 0).expect("it was made for this map");
                    for (x, to) in to.chunks_exact_mut(output.channels).enumerate() {
                        let pixel = (from[1] + x * step[1]) * inputs[0].shape.channels;
                        to.copy_from_slice(&row[pixel..][channels.clone()]);
                    }
                }
            }
        }
    }
}

/// Along the rows first, then from row to row.
fn maximum(
    kernels: &Kernels,
    window: Window,
    input: Map<'_>,
    output: Shape,
    rows: &mut [f32],
    scratch: &mut [f32],
) {
    let (channels, [top, left]) = (output.channels, window.before);
    let across = &mut scratch[..input.shape.height * output.row()];
    for (y, to) in across.chunks_exact_mut(output.row()).enumerate() {
        let row = input.row(y, 0).expect("as many rows as the map has");
        for (x, to) in to.chunks_exact_mut(channels).enumerate() {
            let from = (x * window.stride).saturating_sub(left);
            let end = (x * window.stride + window.size[1] - left).min(input.shape.width);
            let pixel = |x: usize| &row[x * channels..][..channels];
            to.copy_from_slice(pixel(from));
            (from + 1..end).for_each(|x| kernels.pair(Pairing::Maximum, to, pixel(x)));
        }
    }
    for (y, to) in rows.chunks_exact_mut(output.row()).enumerate() {
        let from = (y * window.stride).saturating_sub(top);
        let end = (y * window.stride + window.size[0] - top).min(input.shape.height);
        let row = |y: usize| &across[y * output.row()..][..output.row()];
        to.copy_from_slice(row(from));
        (from + 1..end).for_each(|y| kernels.pair(Pairing::Maximum, to, row(y)));
    }
}

/// Lets the threads of `pool` each make a band of a whole map.
fn shared(pool: Option<&rayon::ThreadPool>, whole: Band<'_>, work: impl Fn(Band<'_>) + Sync) {
    let Some(pool) = pool else { return work(whole) };
    let Band { output, mut rows, mut scratch, .. } = whole;
    let of_each = scratch.len() / pool.current_num_threads();
    let at_once = output.height.div_ceil(pool.current_num_threads());
    pool.scope(|scope| {
        for first in (0..output.height).step_by(at_once) {
            let (own, later) = rows.split_at_mut((at_once.min(output.height - first)) * output.row());
            let (own_scratch, others) = scratch.split_at_mut(of_each);
            (rows, scratch) = (later, others);
            let work = &work;
            scope.spawn(move |_| work(Band { output, first, rows: own, scratch: own_scratch }));
        }
    });
}
