//! The static plan: what runs in which order, on which floats of the arena.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cloudpose_kernels::depthwise::Stride;
use cloudpose_kernels::{AlignedVec, Kernels};

use super::arena::{Buffer, Layout};
use super::chain::Chain;
use super::heads::PlanHeads;
use super::maps::Maps;
use super::packed::PackedModel;
use super::stage::{Layers, Regions, Source, Stage};
use crate::models::movenet::arch::{CELL_PX, FEATURES, Head, INPUT_MULTIPLE};

#[derive(Debug)]
struct Step {
    /// The last of its layers, as the weights are named.
    name: String,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Stage(Stage),
    Chain(Chain),
}

/// What a step of a plan is and how long it takes.
#[derive(Clone, Debug)]
pub struct StepProfile {
    /// The last of the layers that the step fuses, as the weights are named.
    pub name: String,
    /// Height, width and channels of the result.
    pub output: [usize; 3],
    /// Multiply-adds.
    pub multiply_adds: usize,
    /// The shortest run.
    pub shortest: Duration,
}

/// One model at one input size, with the memory it runs in.
#[derive(Debug)]
pub(super) struct Plan {
    model: Arc<PackedModel>,
    steps: Vec<Step>,
    arena: AlignedVec,
    maps: Maps,
}

impl Plan {
    /// Plans `model` for an input of `height` × `width` pixels, multiples of [`INPUT_MULTIPLE`], and
    /// `threads` that share the work.
    pub(super) fn new(model: Arc<PackedModel>, height: usize, width: usize, threads: usize) -> Self {
        debug_assert!(height.is_multiple_of(INPUT_MULTIPLE) && width.is_multiple_of(INPUT_MULTIPLE));
        let mut builder = Builder { threads, ..Builder::default() };
        let backbone = builder.backbone(&model, height, width);
        let features = builder.pyramid(&model, &backbone, height, width);
        let (height, width) = (height / CELL_PX, width / CELL_PX);
        let [center, keypoints] = [Head::Center, Head::Keypoints]
            .map(|head| builder.dense_head(&model, head, features, height, width));
        // The decoder reads all three after the last step.
        let end = builder.pending.len();
        for buffer in [features, center, keypoints] {
            builder.layout.keep(buffer, end);
        }

        let placement = builder.layout.place();
        let range = |buffer| placement.range(Some(buffer));
        let maps = Maps {
            height,
            width,
            features: range(features),
            center: range(center),
            keypoints: range(keypoints),
        };
        let steps = builder
            .pending
            .into_iter()
            .map(|Pending { mut step, buffers }| {
                let [input, coarse, output, ring, middle, rows] = buffers.map(|b| placement.range(b));
                match &mut step.work {
                    Work::Stage(stage) => {
                        stage.regions = Regions { input, coarse, output, ring, middle, rows };
                    }
                    Work::Chain(chain) => (chain.input, chain.output, chain.middle) = (input, output, middle),
                }
                step
            })
            .collect();
        Self { model, steps, arena: AlignedVec::zeroed(placement.floats), maps }
    }

    /// Runs the plan on `pixels`, `[height, width, 3]` RGB, in the rayon pool that this is called in.
    ///
    /// # Panics
    /// If `pixels` has another length than the plan was made for.
    pub(super) fn run(&mut self, pixels: &[u8]) -> PlanHeads<'_> {
        assert_eq!(pixels.len(), self.maps.height * self.maps.width * CELL_PX * CELL_PX * 3);
        for step in &self.steps {
            step.run(&self.model.kernels, pixels, &mut self.arena);
        }
        PlanHeads::new(&self.model, &self.maps, &self.arena)
    }

    /// Runs the plan `runs` times as [`Plan::run`] does, and says what each step took at least.
    pub(super) fn profile(&mut self, pixels: &[u8], runs: usize) -> Vec<StepProfile> {
        let mut profiles: Vec<_> = self.steps.iter().map(Step::profile).collect();
        for _ in 0..runs {
            for (step, profile) in self.steps.iter().zip(&mut profiles) {
                let begun = Instant::now();
                step.run(&self.model.kernels, pixels, &mut self.arena);
                profile.shortest = profile.shortest.min(begun.elapsed());
            }
        }
        profiles
    }
}

impl Step {
    fn run(&self, kernels: &Kernels, pixels: &[u8], arena: &mut [f32]) {
        match &self.work {
            Work::Stage(stage) => stage.run(kernels, pixels, arena),
            Work::Chain(chain) => chain.run(kernels, arena),
        }
    }

    fn profile(&self) -> StepProfile {
        let (output, multiply_adds) = match &self.work {
            Work::Stage(stage) => (stage.output_shape(), stage.multiply_adds()),
            Work::Chain(chain) => (chain.output_shape(), chain.multiply_adds()),
        };
        StepProfile { name: self.name.clone(), output, multiply_adds, shortest: Duration::MAX }
    }
}

/// A step whose buffers have no place yet: input, coarse, output, ring, middle, rows.
struct Pending {
    step: Step,
    buffers: [Option<Buffer>; 6],
}

#[derive(Default)]
struct Builder {
    threads: usize,
    layout: Layout,
    pending: Vec<Pending>,
}

/// A feature map of the backbone that the pyramid reads.
struct Backbone {
    /// The output of each block, until nobody needs it.
    blocks: Vec<Buffer>,
    top: Buffer,
}

impl Builder {
    fn backbone(&mut self, model: &PackedModel, height: usize, width: usize) -> Backbone {
        let (mut height, mut width) = (height / 2, width / 2);
        let mut blocks = Vec::new();
        for (block, (expand, separable)) in model.architecture.blocks.iter().zip(&model.blocks) {
            let source = if block.expands() {
                Source::Expand(expand.clone())
            } else {
                Source::Stem { pattern: model.pattern.clone(), weights: expand.clone() }
            };
            let stride = if block.stride == 2 { Stride::Two } else { Stride::One };
            let residual = block.residual;
            let layers = Layers { source, separable: separable.clone(), then: None, stride, residual };
            blocks.push(self.stage(
                block.name(),
                Stage::new(layers, height, width, self.threads),
                blocks.last().copied(),
                None,
            ));
            (height, width) = (height / stride.pixels(), width / stride.pixels());
        }
        let last = blocks[blocks.len() - 1];
        Backbone { top: self.top(model, last, height, width), blocks }
    }

    /// The backbone's last convolution and the pyramid's first.
    fn top(&mut self, model: &PackedModel, input: Buffer, height: usize, width: usize) -> Buffer {
        let step = self.pending.len();
        self.layout.keep(input, step);
        let pixels = height * width;
        let output = self.layout.buffer(pixels * model.top.columns(), step);
        let middle = self.layout.buffer(Chain::middle_len(pixels), step);
        let chain = Chain {
            first: model.last.clone(),
            second: model.top.clone(),
            height,
            width,
            threads: self.threads,
            input: 0..0,
            output: 0..0,
            middle: 0..0,
        };
        let buffers = [Some(input), None, Some(output), None, Some(middle), None];
        let step = Step { name: "fpn.lateral5".to_owned(), work: Work::Chain(chain) };
        self.pending.push(Pending { step, buffers });
        output
    }

    fn pyramid(&mut self, model: &PackedModel, backbone: &Backbone, height: usize, width: usize) -> Buffer {
        let mut coarse = backbone.top;
        for (merge, (lateral, separable)) in model.architecture.merges.iter().zip(&model.merges) {
            let layers = Layers {
                source: Source::Merge { lateral: lateral.clone() },
                separable: separable.clone(),
                then: None,
                stride: Stride::One,
                residual: false,
            };
            let stage = Stage::new(layers, height >> merge.level, width >> merge.level, self.threads);
            let name = format!("fpn.merge{}", merge.level);
            coarse = self.stage(name, stage, Some(backbone.blocks[merge.after_block]), Some(coarse));
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
        self.stage(name, Stage::new(layers, height, width, self.threads), Some(features), None)
    }

    /// Appends a stage and returns its output.
    fn stage(&mut self, name: String, stage: Stage, input: Option<Buffer>, coarse: Option<Buffer>) -> Buffer {
        let step = self.pending.len();
        for buffer in [input, coarse].into_iter().flatten() {
            self.layout.keep(buffer, step);
        }
        let scratch = stage.scratch();
        let output = self.layout.buffer(stage.output_len(), step);
        let [ring, middle, rows] = [scratch.ring, scratch.middle, scratch.rows]
            .map(|floats| Some(self.layout.buffer(stage.parts() * floats, step)));
        let buffers = [input, coarse, Some(output), ring, middle, rows];
        self.pending.push(Pending { step: Step { name, work: Work::Stage(stage) }, buffers });
        output
    }
}
