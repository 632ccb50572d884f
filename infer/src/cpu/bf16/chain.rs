//! Two pointwise convolutions in a row.

use std::sync::Arc;

use cloudpose_kernels::bf16::product::{Left, Output, Weights as Pointwise};
use cloudpose_kernels::bf16::{Bf16, Kernels, numbers, numbers_mut, padded};

use super::map_len;
use crate::cpu::arena::Regions;

/// `second(first(input))`.
#[derive(Debug)]
pub(crate) struct Chain {
    pub(super) kernels: Kernels,
    pub(super) first: Arc<Pointwise>,
    pub(super) second: Arc<Pointwise>,
    /// Size of the maps.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Threads that share the pixels.
    pub(super) threads: usize,
}

impl Chain {
    /// Floats of the arena that the map in the middle takes.
    pub(in crate::cpu) fn middle_len(&self) -> usize {
        map_len(self.height * self.width, self.first.columns())
    }

    /// Floats of the arena that the output takes.
    pub(in crate::cpu) fn output_len(&self) -> usize {
        map_len(self.height * self.width, self.second.columns())
    }

    /// How many.
    pub(in crate::cpu) fn weights(&self) -> usize {
        self.first.columns() * (self.first.depth() + self.second.columns())
    }

    pub(in crate::cpu) fn multiply_adds(&self) -> usize {
        self.height * self.width * self.weights()
    }

    /// Height, width and channels of the output.
    pub(in crate::cpu) fn output_shape(&self) -> [usize; 3] {
        [self.height, self.width, self.second.columns()]
    }

    /// Runs the layers on the regions of `arena`.
    pub(in crate::cpu) fn run(&self, regions: Regions, arena: &mut [f32]) {
        let [input, output, middle] = arena
            .get_disjoint_mut([regions.input, regions.output, regions.middle])
            .expect("buffers of one step do not overlap");
        self.run_pixels(self.threads, numbers(input), numbers_mut(output), numbers_mut(middle));
    }

    /// Runs the pixels that the slices hold, shared by `threads` of the pool that this is called in.
    fn run_pixels(&self, threads: usize, input: &[Bf16], output: &mut [Bf16], middle: &mut [Bf16]) {
        let [depth, between, columns] =
            [self.first.depth(), self.first.columns(), self.second.columns()].map(padded);
        let pixels = output.len() / columns;
        if threads > 1 && pixels > 1 {
            let half = pixels / 2;
            let (input, input_2) = input.split_at(half * depth);
            let (output, output_2) = output.split_at_mut(half * columns);
            let (middle, middle_2) = middle.split_at_mut(half * between);
            rayon::join(
                || self.run_pixels(threads / 2, input, output, middle),
                || self.run_pixels(threads - threads / 2, input_2, output_2, middle_2),
            );
            return;
        }
        let tiles = self.kernels.tiles();
        let left = Left { data: input, stride: depth, rows: pixels };
        let to = Output::Half { data: &mut *middle, stride: between, residual: None };
        tiles.product(&self.first, 0..self.first.panels(), left, to);
        let left = Left { data: middle, stride: between, rows: pixels };
        let to = Output::Half { data: output, stride: columns, residual: None };
        tiles.product(&self.second, 0..self.second.panels(), left, to);
    }
}
