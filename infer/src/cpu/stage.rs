//! One pass over a feature map: its rows are produced, go through a depthwise and a pointwise convolution, and leave as
//! rows of the next feature map, a band of rows at a time.
//!
//! The map in the middle, six times as wide as what comes in and goes out, never exists as a whole: for
//! each panel of channels the band's new rows are produced and go through the depthwise convolution at
//! once, while they are in the first cache; some or all panels then add their share to the pointwise sums.
//! The rows that the next band's windows still need stay in a ring.
//!
//! Threads that share an inference each take a run of output rows, with a ring of their own: the few rows at
//! the seams are produced twice, and every sum stays the same whatever the number of threads. Nor does it change with the
//! number of pictures whose maps go through the stage as one ([`Bands`]).
//!
//! ```text
//! source rows ──panel──▶ ring ──depthwise──▶ middle ──pointwise──▶ output rows
//! ```

use std::ops::Range;

use cloudpose_kernels::Kernels;
use cloudpose_kernels::depthwise::Stride;

use super::arena::Regions;
use super::bands::{Bands, Map};
use super::program::{Effort, Work};

/// Layers that go over a map together, in some arithmetic.
pub(crate) trait Fused: std::fmt::Debug + Send + Sync {
    /// Rows and columns of a window.
    fn size(&self) -> usize;
    /// From one window to the next.
    fn stride(&self) -> Stride;
    /// How many weights there are before the depthwise convolution, in it, and behind it.
    fn weights(&self) -> [usize; 3];
    /// Channels of the output.
    fn columns(&self) -> usize;
    /// Floats of the arena that so many pixels of the output take.
    fn output_len(&self, pixels: usize) -> usize;
    /// Floats of the arena that a part takes while it runs: ring, middle, rows.
    fn scratch(&self, bands: &Bands) -> [usize; 3];
    /// Makes the output rows of a part. `pixels`, `[2 · height, 2 · width, 3]`, are those of the first picture.
    fn run(&self, kernels: &Kernels, pixels: &[u8], bands: &Bands, part: usize, memory: Memory<'_>);
}

/// The slices behind [`Regions`], as floats of the arena: inputs whole, of the output the rows to write, scratch.
pub(crate) struct Memory<'a> {
    pub(crate) input: &'a [f32],
    pub(crate) coarse: &'a [f32],
    pub(crate) output: &'a mut [f32],
    pub(crate) ring: &'a mut [f32],
    pub(crate) middle: &'a mut [f32],
    pub(crate) rows: &'a mut [f32],
}

/// [`Fused`] layers at one size of feature map.
#[derive(Debug)]
pub(crate) struct Stage<L> {
    layers: L,
    map: Map,
    /// Who share the output rows.
    threads: usize,
}

impl<L: Fused> Stage<L> {
    /// `height` × `width` is the size of the map that enters the depthwise convolution, `threads` how many
    /// share it.
    pub(crate) fn new(layers: L, [height, width]: [usize; 2], threads: usize) -> Self {
        let map = Map { height, width, size: layers.size(), stride: layers.stride() };
        Self { layers, map, threads }
    }

    fn bands(&self, pictures: usize) -> Bands {
        Bands::new(self.map, pictures, self.threads)
    }

    /// Runs `parts`, for which `memory` has the output rows and scratch, each on a thread of the pool that
    /// this is called in.
    fn run_parts(
        &self,
        kernels: &Kernels,
        pixels: &[u8],
        bands: &Bands,
        parts: Range<usize>,
        memory: Memory<'_>,
    ) {
        if parts.len() == 1 {
            return self.layers.run(kernels, pixels, bands, parts.start, memory);
        }
        let half = parts.start + parts.len() / 2;
        let Memory { input, coarse, output, ring, middle, rows } = memory;
        let output_rows = bands.part_top(half) - bands.part_top(parts.start);
        let output_at = self.layers.output_len(output_rows * self.map.out_width());
        let (output, output_2) = output.split_at_mut(output_at);
        let scratch = self.layers.scratch(bands).map(|floats| (half - parts.start) * floats);
        let (ring, ring_2) = ring.split_at_mut(scratch[0]);
        let (middle, middle_2) = middle.split_at_mut(scratch[1]);
        let (rows, rows_2) = rows.split_at_mut(scratch[2]);
        let first = Memory { input, coarse, output, ring, middle, rows };
        let second = Memory { input, coarse, output: output_2, ring: ring_2, middle: middle_2, rows: rows_2 };
        rayon::join(
            || self.run_parts(kernels, pixels, bands, parts.start..half, first),
            || self.run_parts(kernels, pixels, bands, half..parts.end, second),
        );
    }
}

impl<L: Fused> Work for Stage<L> {
    fn effort(&self) -> Effort {
        let [before, depthwise, behind] = self.layers.weights();
        let (inputs, outputs) =
            (self.map.height * self.map.width, self.map.out_height() * self.map.out_width());
        Effort {
            weights: before + depthwise + behind,
            pointwise: inputs * before + outputs * behind,
            depthwise: outputs * depthwise,
        }
    }

    fn output_shape(&self) -> [usize; 3] {
        [self.map.out_height(), self.map.out_width(), self.layers.columns()]
    }

    fn output_len(&self) -> usize {
        self.layers.output_len(self.map.out_height() * self.map.out_width())
    }

    fn scratch(&self, pictures: usize) -> [usize; 3] {
        let of = |pictures| {
            let bands = self.bands(pictures);
            self.layers.scratch(&bands).map(|floats| bands.parts() * floats)
        };
        let larger = |[a, b, c]: [usize; 3], [x, y, z]: [usize; 3]| [a.max(x), b.max(y), c.max(z)];
        (1..=pictures).map(of).fold([0; 3], larger)
    }

    fn run(&self, kernels: &Kernels, pixels: &[u8], pictures: usize, regions: Regions, arena: &mut [f32]) {
        let Regions { input, coarse, output, ring, middle, rows } = regions;
        let [input, coarse, output, ring, middle, rows] = arena
            .get_disjoint_mut([input, coarse, output, ring, middle, rows])
            .expect("buffers of one step do not overlap");
        let memory = Memory { input, coarse, output, ring, middle, rows };
        let bands = self.bands(pictures);
        self.run_parts(kernels, pixels, &bands, 0..bands.parts(), memory);
    }
}
