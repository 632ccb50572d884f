//! Two pointwise convolutions in a row, the wide map between them a group of channels at a time.

use std::sync::Arc;

use cloudpose_kernels::Kernels;
use cloudpose_kernels::pointwise::{Left, Output, Segment, Weights as Pointwise};

use super::arena::Regions;

/// Channels of the map in the middle that exist at once: with its share of the weights it should fit in
/// the second cache.
const GROUP_CHANNELS: usize = 192;

/// `second(first(input))`.
#[derive(Debug)]
pub(crate) struct Chain {
    first: Arc<Pointwise>,
    second: Arc<Pointwise>,
    /// Size of the maps.
    height: usize,
    width: usize,
    /// Threads that share the pixels.
    threads: usize,
}

impl Chain {
    /// The layers on maps of that height and width, whose pixels `threads` share.
    pub(super) fn new(
        first: Arc<Pointwise>,
        second: Arc<Pointwise>,
        [height, width]: [usize; 2],
        threads: usize,
    ) -> Self {
        Self { first, second, height, width, threads }
    }

    pub(super) fn middle_len(&self) -> usize {
        self.height * self.width * GROUP_CHANNELS
    }

    pub(super) fn output_len(&self) -> usize {
        self.height * self.width * self.second.columns()
    }

    pub(super) fn multiply_adds(&self) -> usize {
        self.height * self.width * self.weights()
    }

    /// How many.
    pub(super) fn weights(&self) -> usize {
        self.first.columns() * (self.first.depth() + self.second.columns())
    }

    /// Height, width and channels of the output.
    pub(super) fn output_shape(&self) -> [usize; 3] {
        [self.height, self.width, self.second.columns()]
    }

    /// Runs the layers on the regions of `arena`.
    pub(super) fn run(&self, kernels: &Kernels, regions: Regions, arena: &mut [f32]) {
        let [input, output, middle] = arena
            .get_disjoint_mut([regions.input, regions.output, regions.middle])
            .expect("buffers of one step do not overlap");
        self.run_pixels(kernels, self.threads, input, output, middle);
    }

    /// Runs the pixels that the slices hold, shared by `threads` of the pool that this is called in.
    fn run_pixels(
        &self,
        kernels: &Kernels,
        threads: usize,
        input: &[f32],
        output: &mut [f32],
        middle: &mut [f32],
    ) {
        let pixels = output.len() / self.second.columns();
        if threads > 1 && pixels > 1 {
            let half = pixels / 2;
            let (input, input_2) = input.split_at(half * self.first.depth());
            let (output, output_2) = output.split_at_mut(half * self.second.columns());
            let (middle, middle_2) = middle.split_at_mut(half * GROUP_CHANNELS);
            rayon::join(
                || self.run_pixels(kernels, threads / 2, input, output, middle),
                || self.run_pixels(kernels, threads - threads / 2, input_2, output_2, middle_2),
            );
            return;
        }
        let (depth, columns) = (self.first.depth(), self.second.columns());
        let panels = self.first.panels();
        let mut start = 0;
        while start < panels.len() {
            let first = panels[start].first;
            let fits =
                |p: &&cloudpose_kernels::pointwise::Panel| p.first + p.columns - first <= GROUP_CHANNELS;
            let end = start + panels[start..].iter().take_while(fits).count();
            let width = panels[end - 1].first + panels[end - 1].columns - first;

            let segment = Segment { offset: 0, stride: depth, width: depth };
            let left = Left { data: input, segments: &[segment], rows: pixels, depth_from: 0 };
            let to = Output { data: &mut *middle, stride: width, residual: None };
            kernels.pointwise(&self.first, start..end, left, to);

            let segment = Segment { offset: 0, stride: width, width };
            let left = Left { data: middle, segments: &[segment], rows: pixels, depth_from: first };
            let to = Output { data: &mut *output, stride: columns, residual: None };
            kernels.pointwise(&self.second, 0..self.second.panels().len(), left, to);
            start = end;
        }
    }
}
