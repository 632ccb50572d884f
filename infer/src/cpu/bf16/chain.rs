//! Two pointwise convolutions in a row.

use std::sync::Arc;

use cloudpose_kernels::Kernels as Single;
use cloudpose_kernels::bf16::product::{Left, Output, Weights as Pointwise};
use cloudpose_kernels::bf16::{Kernels, numbers, numbers_mut, padded};

use super::map_len;
use crate::cpu::chain::Pair;

/// The layers.
#[derive(Debug)]
pub(super) struct Pointwises {
    pub(super) kernels: Kernels,
    pub(super) first: Arc<Pointwise>,
    pub(super) second: Arc<Pointwise>,
}

impl Pair for Pointwises {
    fn weights(&self) -> usize {
        self.first.columns() * (self.first.depth() + self.second.columns())
    }

    fn columns(&self) -> usize {
        self.second.columns()
    }

    fn floats(&self) -> [usize; 3] {
        [self.first.depth(), self.first.columns(), self.second.columns()].map(|channels| map_len(1, channels))
    }

    fn run(&self, _: &Single, input: &[f32], middle: &mut [f32], output: &mut [f32]) {
        let [depth, between, columns] =
            [self.first.depth(), self.first.columns(), self.second.columns()].map(padded);
        let output = numbers_mut(output);
        let rows = output.len() / columns;
        let tiles = self.kernels.tiles();
        let left = Left { data: numbers(input), stride: depth, rows };
        let to = Output::Half { data: numbers_mut(middle), stride: between, residual: None };
        tiles.product(&self.first, 0..self.first.panels(), left, to);
        let left = Left { data: numbers(middle), stride: between, rows };
        let to = Output::Half { data: output, stride: columns, residual: None };
        tiles.product(&self.second, 0..self.second.panels(), left, to);
    }
}
