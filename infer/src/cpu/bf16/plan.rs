//! MoveNet in bfloat16 as a program.

use std::sync::Arc;

use cloudpose_kernels::bf16::product::Weights as Pointwise;
use cloudpose_kernels::depthwise::Stride;

use super::packed::Separable;
use super::stage::{Layers, Source};
use super::{Chain, Packed, Stage};
use crate::cpu::arena::Buffer;
use crate::cpu::packed::PackedModel;
use crate::cpu::program::Builder;
use crate::models::movenet::arch::CELL_PX;

/// Writes the steps of `packed`, the layers of `model`, for inputs of that height and width that `threads` share. Returns
/// the features, and the logits of the centre and of the keypoints.
pub(in crate::cpu) fn plan(
    builder: &mut Builder,
    model: &PackedModel,
    packed: &Packed,
    [height, width]: [usize; 2],
    threads: usize,
) -> [Buffer; 3] {
    let stage = |layers, size| Stage::new(packed.kernels, layers, size, threads);
    let mut size = [height / 2, width / 2];
    let mut blocks: Vec<Buffer> = Vec::new();
    for (block, layers) in model.architecture.blocks.iter().zip(&packed.blocks) {
        let source = if block.expands() {
            Source::Expand(layers.source.clone())
        } else {
            Source::Stem { levels: packed.levels.clone(), weights: layers.source.clone() }
        };
        let stride = if block.stride == 2 { Stride::Two } else { Stride::One };
        let layers = separable(source, layers, stride, block.residual);
        blocks.push(builder.step(block.name(), stage(layers, size), blocks.last().copied(), None));
        size = size.map(|pixels| pixels / stride.pixels());
    }
    let chain = Chain {
        kernels: packed.kernels,
        first: packed.last.clone(),
        second: packed.top.clone(),
        height: size[0],
        width: size[1],
        threads,
    };
    let mut features = builder.step("fpn.lateral5".to_owned(), chain, blocks.last().copied(), None);
    for (merge, layers) in model.architecture.merges.iter().zip(&packed.merges) {
        let size = [height, width].map(|pixels| pixels >> merge.level);
        let layers = separable(Source::Merge(layers.source.clone()), layers, Stride::One, false);
        let (name, input) = (format!("fpn.merge{}", merge.level), blocks[merge.after_block]);
        features = builder.step(name, stage(layers, size), Some(input), Some(features));
    }
    let [center, keypoints] = [0, 1].map(|index| {
        let (head, taps, pointwise) = &packed.heads[index];
        let layers = Layers {
            source: Source::Input,
            taps: taps.clone(),
            pointwise: pointwise.clone(),
            then: Some(model.head(*head).out.clone()),
            stride: Stride::One,
            residual: false,
        };
        let size = [height, width].map(|pixels| pixels / CELL_PX);
        builder.step(head.name().to_owned(), stage(layers, size), Some(features), None)
    });
    [features, center, keypoints]
}

fn separable(source: Source, layers: &Separable, stride: Stride, residual: bool) -> Layers {
    let pointwise: Arc<Pointwise> = layers.pointwise.clone();
    Layers { source, taps: layers.taps.clone(), pointwise, then: None, stride, residual }
}
