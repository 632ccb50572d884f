//! The heads: centre and keypoint logits for every cell, the others at the cells that are read.

use cloudpose_kernels::bf16::{numbers, padded, widen};
use cloudpose_kernels::depthwise::{RowShape, Stride};
use cloudpose_kernels::pointwise::{Left, Output, Segment, Weights as Pointwise};

use super::maps::Maps;
use super::packed::{Network, PackedModel};
use crate::models::movenet::arch::{FEATURES, HEAD_HIDDEN, Head};
use crate::models::movenet::decoder::{Grid, Heads};

/// What a run of a plan left of one picture.
#[derive(Debug)]
pub struct PlanHeads<'a> {
    model: &'a PackedModel,
    maps: Maps,
    arena: &'a [f32],
    /// All channels of the head that was read last, at one cell.
    channels: Vec<f32>,
}

impl<'a> PlanHeads<'a> {
    pub(super) fn new(model: &'a PackedModel, maps: Maps, arena: &'a [f32]) -> Self {
        Self { model, maps, arena, channels: Vec::new() }
    }

    /// The depthwise convolution at one cell: of a row of the window, three cells wide or fewer at the
    /// edges.
    fn depthwise(&self, head: Head, cell: usize) -> [f32; FEATURES] {
        let features = &self.arena[self.maps.features.clone()];
        let Maps { height, width, .. } = self.maps;
        let (y, x) = (cell / width, cell % width);
        let (left, right) = (x.saturating_sub(1), (x + 2).min(width));
        let is_inside = |r: usize| (y + r).checked_sub(1).filter(|&row| row < height);
        let mut wide = [[0.0; 3 * FEATURES]; 3];
        let rows = match &self.model.network {
            Network::Single(_) => [0, 1, 2].map(|r| {
                let row = is_inside(r)?;
                Some(&features[(row * width + left) * FEATURES..(row * width + right) * FEATURES])
            }),
            Network::Half(_) => {
                let pixels = numbers(features).chunks_exact(padded(FEATURES));
                for (r, wide) in wide.iter_mut().enumerate() {
                    let Some(row) = is_inside(r) else { continue };
                    let pixels = pixels.clone().skip(row * width + left);
                    for (wide, pixel) in wide.chunks_exact_mut(FEATURES).zip(pixels).take(right - left) {
                        widen(&pixel[..FEATURES], wide);
                    }
                }
                let wide = &wide;
                [0, 1, 2].map(|r| is_inside(r).map(|_| &wide[r][..(right - left) * FEATURES]))
            }
        };
        let shape = RowShape {
            width: right - left,
            input_pitch: FEATURES,
            output_pitch: FEATURES,
            stride: Stride::One,
        };
        let separable = &self.model.head(head).separable;
        let mut output = [0.0; 3 * FEATURES];
        for (taps, panel) in separable.taps.iter().zip(&separable.panels) {
            let rows = rows.map(|row| row.map(|row| &row[panel.first..]));
            self.model.kernels.depthwise_rows(taps, shape, &[rows], &mut output[panel.first..]);
        }
        std::array::from_fn(|c| output[(x - left) * FEATURES + c])
    }

    fn pointwise(&self, weights: &Pointwise, input: &[f32], output: &mut [f32]) {
        let segment = Segment { offset: 0, stride: input.len(), width: input.len() };
        let left = Left { data: input, segments: &[segment], rows: 1, depth_from: 0 };
        let output = Output { data: output, stride: weights.columns(), residual: None };
        self.model.kernels.pointwise(weights, 0..weights.panels().len(), left, output);
    }
}

impl Heads for PlanHeads<'_> {
    fn grid(&self) -> Grid {
        Grid { height: self.maps.height, width: self.maps.width }
    }

    fn center(&self) -> &[f32] {
        &self.arena[self.maps.center.clone()]
    }

    fn keypoints(&self) -> &[f32] {
        &self.arena[self.maps.keypoints.clone()]
    }

    fn read(&mut self, head: Head, cell: usize, first_channel: usize, out: &mut [f32]) {
        let layers = self.model.head(head);
        let mut hidden = [0.0; HEAD_HIDDEN];
        self.pointwise(&layers.separable.pointwise, &self.depthwise(head, cell), &mut hidden);
        let mut channels = std::mem::take(&mut self.channels);
        channels.resize(layers.out.columns(), 0.0);
        self.pointwise(&layers.out, &hidden, &mut channels);
        out.copy_from_slice(&channels[first_channel..first_channel + out.len()]);
        self.channels = channels;
    }
}
