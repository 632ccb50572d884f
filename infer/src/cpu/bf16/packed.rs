//! The layers of a model in bfloat16, packed.

use std::sync::Arc;

use cloudpose_kernels::bf16::depthwise::Taps;
use cloudpose_kernels::bf16::product::{Order, Weights as Pointwise};
use cloudpose_kernels::bf16::stem::Levels;
use cloudpose_kernels::bf16::{Kernels, PANEL};
use cloudpose_kernels::{Clamp, Slab};

use crate::cpu::prune::{channels_that_matter, select_columns, select_rows};
use crate::models::movenet::Weights;
use crate::models::movenet::arch::{Block, Head, Merge};

/// A pointwise convolution, and the separable one behind it.
#[derive(Debug)]
pub(super) struct Separable {
    pub(super) source: Arc<Pointwise>,
    pub(super) taps: Arc<Taps>,
    pub(super) pointwise: Arc<Pointwise>,
}

/// All layers but the heads' last ones.
#[derive(Debug)]
pub(in crate::cpu) struct Packed {
    pub(super) kernels: Kernels,
    pub(super) levels: Arc<Levels>,
    /// Each block's expand convolution, in block 0 the stem, and the rest of it.
    pub(super) blocks: Vec<Separable>,
    pub(super) last: Arc<Pointwise>,
    pub(super) top: Arc<Pointwise>,
    /// Each pyramid step's lateral convolution and the rest of it.
    pub(super) merges: Vec<Separable>,
    /// Of the heads that are evaluated for all cells: depthwise, and the 1×1 to the hidden channels.
    pub(super) heads: Vec<(Head, Arc<Taps>, Arc<Pointwise>)>,
}

impl Packed {
    /// Packs `weights` for `kernels`.
    pub(in crate::cpu) fn pack(weights: &Weights, kernels: Kernels) -> Self {
        let mut packer = Packer { weights, slab: Slab::default() };
        let architecture = weights.architecture();
        let [mean, scale] = ["input.mean", "input.scale"].map(|name| weights.values(name));
        let shift = weights.scalar("input.shift");
        Self {
            kernels,
            // Where `(x − mean) · scale − shift` is zero.
            levels: Arc::new(Levels::new(std::array::from_fn(|c| mean[c] + shift / scale[c]))),
            blocks: architecture.blocks.iter().map(|block| packer.block(block, &scale)).collect(),
            last: packer.pointwise("backbone.last", Clamp::RELU6, Order::Plain),
            top: packer.pointwise("fpn.lateral5", Clamp::NONE, Order::Plain),
            merges: architecture.merges.iter().map(|merge| packer.merge(merge)).collect(),
            heads: [Head::Center, Head::Keypoints].into_iter().map(|head| packer.head(head)).collect(),
        }
    }
}

struct Packer<'a> {
    weights: &'a Weights,
    slab: Slab,
}

impl Packer<'_> {
    /// `name.weight`, whose last dimension is the output channels, and `name.bias`.
    fn layer(&self, name: &str) -> [Vec<f32>; 2] {
        ["weight", "bias"].map(|part| self.weights.values(&format!("{name}.{part}")))
    }

    fn pointwise(&mut self, name: &str, clamp: Clamp, order: Order) -> Arc<Pointwise> {
        let [weights, bias] = self.layer(name);
        Arc::new(Pointwise::pack(&mut self.slab, &weights, &bias, clamp, order))
    }

    fn taps(&mut self, name: &str) -> Arc<Taps> {
        let taps = self.weights.values(&format!("{name}.depthwise.weight"));
        Arc::new(Taps::pack(&mut self.slab, &taps, None, Clamp::NONE))
    }

    /// `scale`: of the pixels' colours, which goes into the stem.
    fn block(&mut self, block: &Block, scale: &[f32]) -> Separable {
        let name = block.name();
        let expand = if block.expands() { format!("{name}.expand") } else { "backbone.stem".to_owned() };
        let [mut expand, expand_bias] = self.layer(&expand);
        let [taps, bias] = self.layer(&format!("{name}.depthwise"));
        let [project, project_bias] = self.layer(&format!("{name}.project"));

        let channels = bias.len();
        if !block.expands() {
            for (row, weights) in expand.chunks_exact_mut(channels).enumerate() {
                weights.iter_mut().for_each(|weight| *weight *= scale[row % scale.len()]);
            }
        }
        let keep = channels_that_matter(&taps, &bias, &project, PANEL);
        let [expand, expand_bias, taps, bias] =
            [expand, expand_bias, taps, bias].map(|matrix| select_columns(&matrix, channels, &keep));
        let project = select_rows(&project, channels, &keep);

        let slab = &mut self.slab;
        Separable {
            source: Arc::new(Pointwise::pack(slab, &expand, &expand_bias, Clamp::RELU6, Order::Plain)),
            taps: Arc::new(Taps::pack(slab, &taps, Some(&bias), Clamp::RELU6)),
            pointwise: Arc::new(Pointwise::pack(slab, &project, &project_bias, Clamp::NONE, Order::Split)),
        }
    }

    fn merge(&mut self, merge: &Merge) -> Separable {
        let name = format!("fpn.merge{}", merge.level);
        Separable {
            source: self.pointwise(&format!("fpn.lateral{}", merge.level), Clamp::NONE, Order::Plain),
            taps: self.taps(&name),
            pointwise: self.pointwise(&format!("{name}.pointwise"), Clamp::RELU, Order::Split),
        }
    }

    fn head(&mut self, head: Head) -> (Head, Arc<Taps>, Arc<Pointwise>) {
        let name = head.name();
        let hidden = self.pointwise(&format!("{name}.hidden"), Clamp::RELU, Order::Split);
        (head, self.taps(name), hidden)
    }
}
