//! A model's weights, packed once for one instruction set and shared by all plans and threads.

use std::sync::Arc;

use cloudpose_kernels::depthwise::Taps;
use cloudpose_kernels::normalise::Pattern;
use cloudpose_kernels::pointwise::{Panel, Weights as Pointwise};
use cloudpose_kernels::{Clamp, Kernels, Slab};

use crate::model::Weights;
use crate::model::arch::{Architecture, Block, Head, Merge};

/// A depthwise convolution and the pointwise one behind it.
#[derive(Debug)]
pub(super) struct Separable {
    /// How the channels of the depthwise convolution are cut.
    pub(super) panels: Vec<Panel>,
    /// Its weights, one entry a panel.
    pub(super) taps: Vec<Taps>,
    /// The 1×1 convolution.
    pub(super) pointwise: Arc<Pointwise>,
}

/// The layers of a head.
#[derive(Debug)]
pub(super) struct HeadLayers {
    pub(super) head: Head,
    /// Depthwise and the 1×1 to the hidden channels.
    pub(super) separable: Arc<Separable>,
    pub(super) out: Arc<Pointwise>,
}

/// All layers of a model, packed.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) kernels: Kernels,
    pub(super) architecture: Architecture,
    pub(super) pattern: Arc<Pattern>,
    pub(super) stem: Arc<Pointwise>,
    /// Each block's expand convolution (none in block 0) and the rest of it.
    pub(super) blocks: Vec<(Option<Arc<Pointwise>>, Arc<Separable>)>,
    pub(super) last: Arc<Pointwise>,
    pub(super) top: Arc<Pointwise>,
    /// Each pyramid step's lateral convolution and the rest of it.
    pub(super) merges: Vec<(Arc<Pointwise>, Arc<Separable>)>,
    pub(super) heads: Vec<HeadLayers>,
}

impl Network {
    pub(super) fn pack(weights: &Weights, kernels: Kernels) -> Self {
        let mut packer = Packer { weights, kernels, slab: Slab::default() };
        let architecture = weights.architecture().clone();
        Self {
            kernels,
            pattern: Arc::new(packer.pattern()),
            stem: packer.pointwise("backbone.stem", Clamp::RELU6),
            blocks: architecture.blocks.iter().map(|block| packer.block(block)).collect(),
            last: packer.pointwise("backbone.last", Clamp::RELU6),
            top: packer.pointwise("fpn.lateral5", Clamp::NONE),
            merges: architecture.merges.iter().map(|merge| packer.merge(merge)).collect(),
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

    /// Packs `name.weight`, whose last dimension is the output channels, and `name.bias`.
    fn pointwise(&mut self, name: &str, clamp: Clamp) -> Arc<Pointwise> {
        let weights = self.weights.values(&format!("{name}.weight"));
        let bias = self.weights.values(&format!("{name}.bias"));
        Arc::new(Pointwise::pack(&self.kernels, &mut self.slab, &weights, &bias, clamp))
    }

    fn separable(
        &mut self,
        depthwise: &str,
        bias: Option<&[f32]>,
        clamp: Clamp,
        pointwise: Arc<Pointwise>,
    ) -> Arc<Separable> {
        let weights = self.weights.values(&format!("{depthwise}.weight"));
        let panels = self.kernels.panels(pointwise.depth());
        let (kernels, slab) = (&self.kernels, &mut self.slab);
        let taps = panels
            .iter()
            .map(|p| Taps::pack(kernels, slab, &weights, bias, p.first..p.first + p.columns, clamp))
            .collect();
        Arc::new(Separable { panels, taps, pointwise })
    }

    fn block(&mut self, block: &Block) -> (Option<Arc<Pointwise>>, Arc<Separable>) {
        let name = block.name();
        let expand = block.expands().then(|| self.pointwise(&format!("{name}.expand"), Clamp::RELU6));
        let project = self.pointwise(&format!("{name}.project"), Clamp::NONE);
        let depthwise = format!("{name}.depthwise");
        let bias = self.weights.values(&format!("{depthwise}.bias"));
        (expand, self.separable(&depthwise, Some(&bias), Clamp::RELU6, project))
    }

    fn merge(&mut self, merge: &Merge) -> (Arc<Pointwise>, Arc<Separable>) {
        let lateral = self.pointwise(&format!("fpn.lateral{}", merge.level), Clamp::NONE);
        let name = format!("fpn.merge{}", merge.level);
        let pointwise = self.pointwise(&format!("{name}.pointwise"), Clamp::RELU);
        (lateral, self.separable(&format!("{name}.depthwise"), None, Clamp::NONE, pointwise))
    }

    fn head(&mut self, head: Head) -> HeadLayers {
        let name = head.name();
        let hidden = self.pointwise(&format!("{name}.hidden"), Clamp::RELU);
        HeadLayers {
            head,
            separable: self.separable(&format!("{name}.depthwise"), None, Clamp::NONE, hidden),
            out: self.pointwise(&format!("{name}.out"), Clamp::NONE),
        }
    }
}
