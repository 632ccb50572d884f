//! The network on the CPU engine: weights packed once, and a program over them for each thread.

use std::ops::Range;
use std::sync::Arc;

use cloudpose_kernels::depthwise::{Layer, Stride};
use cloudpose_kernels::normalise::Pattern;
use cloudpose_kernels::pointwise::{Activations, Left, Output, Segment, Weights as Pointwise};
use cloudpose_kernels::{Clamp, Kernels, Slab};

use super::arch::{Block, DEVIATION, LAST, MEAN, REDUCTION, blocks};
use crate::cpu::program::{Builder, Program};
use crate::cpu::separable::Separable;
use crate::cpu::stage::{Layers, Source, Stage};
use crate::models::Tensors;

/// All layers of a model, packed.
#[derive(Debug)]
pub(super) struct Packed {
    kernels: Kernels,
    pattern: Arc<Pattern>,
    /// Each with its expand convolution, the first with the stem, and the rest of it.
    blocks: Vec<(Block, Arc<Pointwise>, Arc<Separable>)>,
    last: Pointwise,
    classifier: Pointwise,
}

impl Packed {
    /// Packs `tensors` for the instruction set of `kernels`.
    pub(super) fn pack(tensors: &Tensors, kernels: Kernels) -> Self {
        let mut packer = Packer { tensors, kernels, slab: Slab::default() };
        let offset = -MEAN / DEVIATION;
        Self {
            kernels,
            pattern: Arc::new(Pattern::new([1.0 / DEVIATION; 3], [offset; 3])),
            blocks: blocks().into_iter().map(|block| packer.block(block)).collect(),
            last: packer.pointwise("last", Clamp::RELU6, Activations::Dense),
            classifier: packer.pointwise("classifier", Clamp::NONE, Activations::Dense),
        }
    }
}

struct Packer<'a> {
    tensors: &'a Tensors,
    kernels: Kernels,
    /// All weights lie side by side, in about the order in which they are read.
    slab: Slab,
}

impl Packer<'_> {
    fn layer(&self, name: &str) -> [Vec<f32>; 2] {
        ["weight", "bias"].map(|part| self.tensors.values(&format!("{name}.{part}")))
    }

    fn pointwise(&mut self, name: &str, clamp: Clamp, activations: Activations) -> Pointwise {
        let [weights, bias] = self.layer(name);
        Pointwise::pack(&self.kernels, &mut self.slab, &weights, &bias, clamp, activations)
    }

    fn block(&mut self, block: Block) -> (Block, Arc<Pointwise>, Arc<Separable>) {
        let name = block.name();
        let expand = if block.expands() { format!("{name}.expand") } else { "stem".to_owned() };
        let expand = self.pointwise(&expand, Clamp::RELU6, Activations::Dense);
        let [weights, bias] = self.layer(&format!("{name}.depthwise"));
        let project = self.pointwise(&format!("{name}.project"), Clamp::NONE, Activations::Sparse);
        let depthwise = Layer { size: block.size, weights: &weights, bias: Some(&bias) };
        let (kernels, slab) = (&self.kernels, &mut self.slab);
        let separable = Separable::pack(kernels, slab, depthwise, Clamp::RELU6, Arc::new(project));
        (block, Arc::new(expand), Arc::new(separable))
    }
}

/// The network at its input size, with the memory it runs in.
#[derive(Debug)]
pub(super) struct Plan {
    model: Arc<Packed>,
    program: Program,
    /// What the last block leaves, in the program's memory: `[pixels, channels]`.
    features: Range<usize>,
    /// `[pixels, LAST]`.
    last: Vec<f32>,
}

impl Plan {
    /// Plans `model` for a square input of `side` pixels, whose rows `threads` share.
    pub(super) fn new(model: Arc<Packed>, side: usize, threads: usize) -> Self {
        let mut builder = Builder::new(1);
        let mut size = side / 2;
        let mut output = None;
        for (block, expand, separable) in &model.blocks {
            let source = if block.expands() {
                Source::Expand(expand.clone())
            } else {
                Source::Stem { pattern: model.pattern.clone(), weights: expand.clone() }
            };
            let stride = if block.stride == 2 { Stride::Two } else { Stride::One };
            let separable = separable.clone();
            let layers = Layers { source, separable, then: None, stride, residual: block.residual };
            let stage = Stage::new(layers, size, size, threads);
            output = Some(builder.step(block.name(), stage, output, None));
            size /= stride.pixels();
        }
        let (program, [features]) = builder.finish([output.expect("there are blocks")]);
        let pixels = (side / REDUCTION) * (side / REDUCTION);
        Self { model, program, features, last: vec![0.0; pixels * LAST] }
    }

    /// The logit of each class for `pixels`, `[side, side, 3]` RGB, in the rayon pool that this is called in.
    pub(super) fn run(&mut self, pixels: &[u8]) -> Vec<f32> {
        let kernels = &self.model.kernels;
        self.program.run(kernels, &[pixels]);
        let features = &self.program.arena()[self.features.clone()];
        let rows = self.last.len() / LAST;
        product(kernels, &self.model.last, features, &mut self.last, rows);
        let mut mean = vec![0.0; LAST];
        for pixel in self.last.chunks_exact(LAST) {
            mean.iter_mut().zip(pixel).for_each(|(sum, value)| *sum += value);
        }
        mean.iter_mut().for_each(|sum| *sum /= rows as f32);
        let mut logits = vec![0.0; self.model.classifier.columns()];
        product(kernels, &self.model.classifier, &mean, &mut logits, 1);
        logits
    }
}

fn product(kernels: &Kernels, weights: &Pointwise, input: &[f32], output: &mut [f32], rows: usize) {
    let depth = weights.depth();
    let segment = Segment { offset: 0, stride: depth, width: depth };
    let left = Left { data: input, segments: &[segment], rows, depth_from: 0 };
    let output = Output { data: output, stride: weights.columns(), residual: None };
    kernels.pointwise(weights, 0..weights.panels().len(), left, output);
}
