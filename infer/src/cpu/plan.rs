//! MoveNet as a program.

use std::sync::Arc;

use cloudpose_kernels::depthwise::Stride;

use super::arena::Buffer;
use super::bf16;
use super::chain::Chain;
use super::heads::PlanHeads;
use super::maps::Maps;
use super::packed::{Network, PackedModel, Single};
use super::program::{Builder, Program, StepProfile};
use super::stage::{Layers, Source, Stage};
use crate::models::movenet::arch::{CELL_PX, FEATURES, Head, INPUT_MULTIPLE};

/// One model at one input size, with the memory it runs in, for several pictures at once.
#[derive(Debug)]
pub(super) struct Plan {
    model: Arc<PackedModel>,
    program: Program,
    /// Of the first picture.
    maps: Maps,
    pictures: usize,
}

impl Plan {
    /// Plans `model` for up to `pictures` of `height` × `width` pixels, multiples of [`INPUT_MULTIPLE`], and
    /// `threads` that share the work.
    pub(super) fn new(
        model: Arc<PackedModel>,
        [height, width]: [usize; 2],
        pictures: usize,
        threads: usize,
    ) -> Self {
        debug_assert!(height.is_multiple_of(INPUT_MULTIPLE) && width.is_multiple_of(INPUT_MULTIPLE));
        let mut builder = Builder::new(pictures);
        let results = match &model.network {
            Network::Single(layers) => {
                Planner { threads, builder: &mut builder, layers }.plan(&model, height, width)
            }
            Network::Half(layers) => bf16::plan(&mut builder, &model, layers, [height, width], threads),
        };
        let (height, width) = (height / CELL_PX, width / CELL_PX);
        // The decoder reads all three after the last step.
        let (program, [features, center, keypoints]) = builder.finish(results);
        let maps = Maps { height, width, features, center, keypoints };
        Self { model, program, maps, pictures }
    }

    /// How many pictures it runs at once.
    pub(super) fn pictures(&self) -> usize {
        self.pictures
    }

    /// Runs the plan on `pictures`, each `[height, width, 3]` RGB, in the rayon pool that this is called in.
    ///
    /// # Panics
    /// If there are more, or one has another length, than the plan was made for.
    pub(super) fn run(&mut self, pictures: &[&[u8]]) -> Vec<PlanHeads<'_>> {
        let bytes = self.maps.height * self.maps.width * CELL_PX * CELL_PX * 3;
        assert!(pictures.iter().all(|pixels| pixels.len() == bytes), "another size");
        self.program.run(&self.model.kernels, pictures);
        let heads =
            |picture| PlanHeads::new(&self.model, self.maps.of_picture(picture), self.program.arena());
        (0..pictures.len()).map(heads).collect()
    }

    /// Runs the plan `runs` times on one picture, and says what each step took at least.
    pub(super) fn profile(&mut self, pixels: &[u8], runs: usize) -> Vec<StepProfile> {
        self.program.profile(&self.model.kernels, pixels, runs)
    }
}

/// Writes the steps of a MoveNet in float32.
struct Planner<'a> {
    threads: usize,
    builder: &'a mut Builder,
    layers: &'a Single,
}

/// A feature map of the backbone that the pyramid reads.
struct Backbone {
    /// The output of each block, until nobody needs it.
    blocks: Vec<Buffer>,
    top: Buffer,
}

impl Planner<'_> {
    /// The features, and the logits of the centre and of the keypoints.
    fn plan(&mut self, model: &PackedModel, height: usize, width: usize) -> [Buffer; 3] {
        let backbone = self.backbone(model, height, width);
        let features = self.pyramid(model, &backbone, height, width);
        let (height, width) = (height / CELL_PX, width / CELL_PX);
        let [center, keypoints] =
            [Head::Center, Head::Keypoints].map(|head| self.dense_head(model, head, features, height, width));
        [features, center, keypoints]
    }

    fn backbone(&mut self, model: &PackedModel, height: usize, width: usize) -> Backbone {
        let (mut height, mut width) = (height / 2, width / 2);
        let mut blocks = Vec::new();
        for (block, (expand, separable)) in model.architecture.blocks.iter().zip(&self.layers.blocks) {
            let source = if block.expands() {
                Source::Expand(expand.clone())
            } else {
                Source::Stem { pattern: self.layers.pattern.clone(), weights: expand.clone() }
            };
            let stride = if block.stride == 2 { Stride::Two } else { Stride::One };
            let residual = block.residual;
            let layers = Layers { source, separable: separable.clone(), then: None, stride, residual };
            blocks.push(self.builder.step(
                block.name(),
                Stage::new(layers, height, width, self.threads),
                blocks.last().copied(),
                None,
            ));
            (height, width) = (height / stride.pixels(), width / stride.pixels());
        }
        let last = blocks[blocks.len() - 1];
        Backbone { top: self.top(last, height, width), blocks }
    }

    /// The backbone's last convolution and the pyramid's first.
    fn top(&mut self, input: Buffer, height: usize, width: usize) -> Buffer {
        let chain =
            Chain::new(self.layers.last.clone(), self.layers.top.clone(), [height, width], self.threads);
        self.builder.step("fpn.lateral5".to_owned(), chain, Some(input), None)
    }

    fn pyramid(&mut self, model: &PackedModel, backbone: &Backbone, height: usize, width: usize) -> Buffer {
        let mut coarse = backbone.top;
        for (merge, (lateral, separable)) in model.architecture.merges.iter().zip(&self.layers.merges) {
            let layers = Layers {
                source: Source::Merge { lateral: lateral.clone() },
                separable: separable.clone(),
                then: None,
                stride: Stride::One,
                residual: false,
            };
            let stage = Stage::new(layers, height >> merge.level, width >> merge.level, self.threads);
            let name = format!("fpn.merge{}", merge.level);
            coarse = self.builder.step(name, stage, Some(backbone.blocks[merge.after_block]), Some(coarse));
        }
        coarse
    }

    fn dense_head(
        &mut self,
        model: &PackedModel,
        head: Head,
        features: Buffer,
        height: usize,
        width: usize,
    ) -> Buffer {
        let name = head.name().to_owned();
        let head = model.head(head);
        debug_assert_eq!(head.separable.pointwise.depth(), FEATURES);
        let layers = Layers {
            source: Source::Input,
            separable: head.separable.clone(),
            then: Some(head.out.clone()),
            stride: Stride::One,
            residual: false,
        };
        self.builder.step(name, Stage::new(layers, height, width, self.threads), Some(features), None)
    }
}
