//! A model's weights, packed once for one instruction set and shared by all plans and threads.

use std::sync::Arc;

use cloudpose_kernels::depthwise::Layer;
use cloudpose_kernels::normalise::Pattern;
use cloudpose_kernels::pointwise::{Activations, Weights as Pointwise};
use cloudpose_kernels::{Clamp, Kernels, Slab};
use cloudpose_wire::ModelId;

use super::bf16;
use super::prune::{channels_that_matter, select_columns, select_rows};
use super::separable::Separable;
use crate::models::movenet::Weights;
use crate::models::movenet::arch::{Architecture, Block, Head, Merge};

/// The layers of a head.
#[derive(Debug)]
pub(super) struct HeadLayers {
    pub(super) head: Head,
    /// Depthwise and the 1×1 to the hidden channels.
    pub(super) separable: Arc<Separable>,
    pub(super) out: Arc<Pointwise>,
}

/// The layers of a model in float32, but the heads'.
#[derive(Debug)]
pub(super) struct Single {
    pub(super) pattern: Arc<Pattern>,
    /// Each block's expand convolution, in block 0 the stem, and the rest of it.
    pub(super) blocks: Vec<(Arc<Pointwise>, Arc<Separable>)>,
    pub(super) last: Arc<Pointwise>,
    pub(super) top: Arc<Pointwise>,
    /// Each pyramid step's lateral convolution and the rest of it.
    pub(super) merges: Vec<(Arc<Pointwise>, Arc<Separable>)>,
}

/// What a model's maps are computed in.
#[derive(Debug)]
pub(super) enum Network {
    Single(Single),
    Half(bf16::Packed),
}

/// All layers of a model, packed.
#[derive(Debug)]
pub struct PackedModel {
    pub(super) id: ModelId,
    pub(super) kernels: Kernels,
    pub(super) architecture: Architecture,
    pub(super) network: Network,
    pub(super) heads: Vec<HeadLayers>,
}

impl PackedModel {
    /// Packs `weights` for the instruction set of `kernels`, and for maps of bfloat16 if there are kernels for them.
    pub fn pack(weights: &Weights, kernels: Kernels, half: Option<cloudpose_kernels::bf16::Kernels>) -> Self {
        let mut packer = Packer { weights, kernels, slab: Slab::default() };
        let architecture = weights.architecture().clone();
        let network = match half {
            Some(half) => Network::Half(bf16::Packed::pack(weights, half)),
            None => Network::Single(Single {
                pattern: Arc::new(packer.pattern()),
                blocks: architecture.blocks.iter().map(|block| packer.block(block)).collect(),
                last: packer.pointwise("backbone.last", Clamp::RELU6, Activations::Dense),
                top: packer.pointwise("fpn.lateral5", Clamp::NONE, Activations::Sparse),
                merges: architecture.merges.iter().map(|merge| packer.merge(merge)).collect(),
            }),
        };
        Self {
            id: weights.model().clone(),
            kernels,
            network,
            heads: architecture.heads.iter().map(|&head| packer.head(head)).collect(),
            architecture,
        }
    }

    /// The layers of `head`.
    ///
    /// # Panics
    /// If the model does not have it.
    pub(super) fn head(&self, head: Head) -> &HeadLayers {
        self.heads.iter().find(|layers| layers.head == head).expect("the decoder asks for the model's heads")
    }
}

struct Packer<'a> {
    weights: &'a Weights,
    kernels: Kernels,
    /// All weights lie side by side, in about the order in which they are read.
    slab: Slab,
}

impl Packer<'_> {
    /// `(x − mean) · scale − shift` as one scale and one offset a channel.
    fn pattern(&self) -> Pattern {
        let [mean, scale] = ["input.mean", "input.scale"].map(|name| self.weights.values(name));
        let shift = self.weights.scalar("input.shift");
        let scale = std::array::from_fn(|c| scale[c]);
        Pattern::new(scale, std::array::from_fn(|c| -mean[c] * scale[c] - shift))
    }

    /// `name.weight`, whose last dimension is the output channels, and `name.bias`.
    fn layer(&self, name: &str) -> [Vec<f32>; 2] {
        ["weight", "bias"].map(|part| self.weights.values(&format!("{name}.{part}")))
    }

    fn pointwise(&mut self, name: &str, clamp: Clamp, activations: Activations) -> Arc<Pointwise> {
        let [weights, bias] = self.layer(name);
        self.pack(&weights, &bias, clamp, activations)
    }

    fn pack(
        &mut self,
        weights: &[f32],
        bias: &[f32],
        clamp: Clamp,
        activations: Activations,
    ) -> Arc<Pointwise> {
        Arc::new(Pointwise::pack(&self.kernels, &mut self.slab, weights, bias, clamp, activations))
    }

    fn separable(
        &mut self,
        weights: &[f32],
        bias: Option<&[f32]>,
        clamp: Clamp,
        pointwise: Arc<Pointwise>,
    ) -> Arc<Separable> {
        let depthwise = Layer { size: 3, weights, bias };
        Arc::new(Separable::pack(&self.kernels, &mut self.slab, depthwise, clamp, pointwise))
    }

    fn block(&mut self, block: &Block) -> (Arc<Pointwise>, Arc<Separable>) {
        let name = block.name();
        let expand = if block.expands() { format!("{name}.expand") } else { "backbone.stem".to_owned() };
        let [expand, expand_bias] = self.layer(&expand);
        let [taps, bias] = self.layer(&format!("{name}.depthwise"));
        let [project, project_bias] = self.layer(&format!("{name}.project"));

        let channels = bias.len();
        let keep = channels_that_matter(&taps, &bias, &project, self.kernels.lanes());
        let [expand, expand_bias, taps, bias] =
            [expand, expand_bias, taps, bias].map(|matrix| select_columns(&matrix, channels, &keep));
        let project = select_rows(&project, channels, &keep);

        let expand = self.pack(&expand, &expand_bias, Clamp::RELU6, Activations::Dense);
        let project = self.pack(&project, &project_bias, Clamp::NONE, Activations::Sparse);
        (expand, self.separable(&taps, Some(&bias), Clamp::RELU6, project))
    }

    fn merge(&mut self, merge: &Merge) -> (Arc<Pointwise>, Arc<Separable>) {
        let lateral = self.pointwise(&format!("fpn.lateral{}", merge.level), Clamp::NONE, Activations::Dense);
        let name = format!("fpn.merge{}", merge.level);
        let pointwise = self.pointwise(&format!("{name}.pointwise"), Clamp::RELU, Activations::Dense);
        let taps = self.weights.values(&format!("{name}.depthwise.weight"));
        (lateral, self.separable(&taps, None, Clamp::NONE, pointwise))
    }

    fn head(&mut self, head: Head) -> HeadLayers {
        let name = head.name();
        let hidden = self.pointwise(&format!("{name}.hidden"), Clamp::RELU, Activations::Dense);
        let taps = self.weights.values(&format!("{name}.depthwise.weight"));
        HeadLayers {
            head,
            separable: self.separable(&taps, None, Clamp::NONE, hidden),
            out: self.pointwise(&format!("{name}.out"), Clamp::NONE, Activations::Dense),
        }
    }
}
