//! A program: what runs in which order, on which floats of an arena.

use std::ops::Range;
use std::time::{Duration, Instant};

use cloudpose_kernels::{AlignedVec, Kernels};

use super::arena::{Buffer, Layout, Placement, Regions};
use super::bf16;
use super::chain::Chain;
use super::stage::Stage;
use crate::rest;

#[derive(Debug)]
struct Step {
    /// The last of its layers, as the weights are named.
    name: String,
    work: Work,
    /// Of the first picture.
    regions: Regions,
}

/// What a step does.
#[derive(Debug)]
pub(crate) enum Work {
    Stage(Stage),
    Chain(Chain),
    HalfStage(bf16::Stage),
    HalfChain(bf16::Chain),
}

impl From<Stage> for Work {
    fn from(stage: Stage) -> Self {
        Self::Stage(stage)
    }
}

impl From<Chain> for Work {
    fn from(chain: Chain) -> Self {
        Self::Chain(chain)
    }
}

impl From<bf16::Stage> for Work {
    fn from(stage: bf16::Stage) -> Self {
        Self::HalfStage(stage)
    }
}

impl From<bf16::Chain> for Work {
    fn from(chain: bf16::Chain) -> Self {
        Self::HalfChain(chain)
    }
}

impl Work {
    fn run(&self, kernels: &Kernels, pixels: &[u8], regions: Regions, arena: &mut [f32]) {
        match self {
            Self::Stage(stage) => stage.run(kernels, pixels, regions, arena),
            Self::Chain(chain) => chain.run(kernels, regions, arena),
            Self::HalfStage(stage) => stage.run(kernels, pixels, regions, arena),
            Self::HalfChain(chain) => chain.run(regions, arena),
        }
    }

    /// Weights that it reads, and its multiply-adds.
    fn effort(&self) -> [usize; 2] {
        match self {
            Self::Stage(stage) => [stage.weights(), stage.multiply_adds()],
            Self::Chain(chain) => [chain.weights(), chain.multiply_adds()],
            Self::HalfStage(stage) => [stage.weights(), stage.multiply_adds()],
            Self::HalfChain(chain) => [chain.weights(), chain.multiply_adds()],
        }
    }

    /// Floats of its output.
    fn output_len(&self) -> usize {
        match self {
            Self::Stage(stage) => stage.output_len(),
            Self::Chain(chain) => chain.output_len(),
            Self::HalfStage(stage) => stage.output_len(),
            Self::HalfChain(chain) => chain.output_len(),
        }
    }

    /// Height, width and channels of its output.
    fn output_shape(&self) -> [usize; 3] {
        match self {
            Self::Stage(stage) => stage.output_shape(),
            Self::Chain(chain) => chain.output_shape(),
            Self::HalfStage(stage) => stage.output_shape(),
            Self::HalfChain(chain) => chain.output_shape(),
        }
    }

    /// Floats that it needs while it runs: ring, middle, rows.
    fn scratch(&self) -> [usize; 3] {
        match self {
            Self::Stage(stage) => {
                let scratch = stage.scratch();
                [scratch.ring, scratch.middle, scratch.rows].map(|floats| stage.parts() * floats)
            }
            Self::Chain(chain) => [0, chain.middle_len(), 0],
            Self::HalfStage(stage) => stage.scratch(),
            Self::HalfChain(chain) => [0, chain.middle_len(), 0],
        }
    }

    /// Whether it reads fewer weights than it writes numbers: then a picture better goes on to the next step at once.
    fn is_wide(&self) -> bool {
        self.effort()[0] < self.output_shape().into_iter().product()
    }
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

/// Steps, with the memory they run in, for several pictures at once. The first steps, whose maps are larger than their
/// weights, run for one picture after another; from then on each step goes through all pictures while its weights are in
/// the caches. What is kept between steps lies there once for each picture.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Vec<Step>,
    /// The first step that goes through all pictures.
    shared_from: usize,
    arena: AlignedVec,
}

impl Program {
    /// Runs the steps on `pictures`, each `[height, width, 3]` RGB, in the rayon pool that this is called in. The caller's thread
    /// may rest between them.
    ///
    /// # Panics
    /// If there are more than the program was built for.
    pub(crate) fn run(&mut self, kernels: &Kernels, pictures: &[&[u8]]) {
        let (alone, shared) = self.steps.split_at(self.shared_from);
        for (index, pixels) in pictures.iter().enumerate() {
            for step in alone {
                rest::here();
                step.run(kernels, index, pixels, &mut self.arena);
            }
        }
        for step in shared {
            rest::here();
            for (index, pixels) in pictures.iter().enumerate() {
                step.run(kernels, index, pixels, &mut self.arena);
            }
        }
    }

    /// Runs the steps `runs` times on one picture, and says what each took at least.
    pub(super) fn profile(&mut self, kernels: &Kernels, pixels: &[u8], runs: usize) -> Vec<StepProfile> {
        let mut profiles: Vec<_> = self.steps.iter().map(Step::profile).collect();
        for _ in 0..runs {
            for (step, profile) in self.steps.iter().zip(&mut profiles) {
                let begun = Instant::now();
                step.run(kernels, 0, pixels, &mut self.arena);
                profile.shortest = profile.shortest.min(begun.elapsed());
            }
        }
        profiles
    }

    /// The memory of all buffers.
    pub(crate) fn arena(&self) -> &[f32] {
        &self.arena
    }
}

impl Step {
    fn run(&self, kernels: &Kernels, picture: usize, pixels: &[u8], arena: &mut [f32]) {
        let regions = self.regions.of(picture);
        self.work.run(kernels, pixels, regions, arena);
    }

    fn profile(&self) -> StepProfile {
        let (output, [_, multiply_adds]) = (self.work.output_shape(), self.work.effort());
        StepProfile { name: self.name.clone(), output, multiply_adds, shortest: Duration::MAX }
    }
}

/// A step whose buffers have no place yet: input, coarse, output, ring, middle, rows.
struct Pending {
    name: String,
    work: Work,
    buffers: [Option<Buffer>; 6],
}

/// A program that is being written, one step after another.
pub(crate) struct Builder {
    layout: Layout,
    pending: Vec<Pending>,
    pictures: usize,
}

impl Builder {
    /// Of a program for that many pictures at once.
    pub(crate) fn new(pictures: usize) -> Self {
        Self { layout: Layout::default(), pending: Vec::new(), pictures }
    }

    /// Appends a step that reads `input` and `coarse`, and returns its output.
    pub(crate) fn step(
        &mut self,
        name: String,
        work: impl Into<Work>,
        input: Option<Buffer>,
        coarse: Option<Buffer>,
    ) -> Buffer {
        let (step, work) = (self.pending.len(), work.into());
        for buffer in [input, coarse].into_iter().flatten() {
            self.layout.keep(buffer, step);
        }
        let output = self.layout.buffers(self.pictures, work.output_len(), step);
        let [ring, middle, rows] = work.scratch().map(|floats| Some(self.layout.buffer(floats, step)));
        let buffers = [input, coarse, Some(output), ring, middle, rows];
        self.pending.push(Pending { name, work, buffers });
        output
    }

    /// The program, and where in its memory the `results` of the first picture lie once it has run;
    /// [`of_picture`] says where the others'.
    pub(crate) fn finish<const N: usize>(mut self, results: [Buffer; N]) -> (Program, [Range<usize>; N]) {
        let end = self.pending.len();
        for buffer in results {
            self.layout.keep(buffer, end);
        }
        let shared_from = self.pending.iter().take_while(|pending| pending.work.is_wide()).count();
        if self.pictures > 1 {
            self.layout.repeat_before(shared_from);
        }
        let placement = self.layout.place();
        let steps = self.pending.into_iter().map(|pending| pending.place(&placement)).collect();
        let arena = AlignedVec::zeroed(placement.floats);
        (Program { steps, shared_from, arena }, results.map(|buffer| placement.range(Some(buffer))))
    }
}

impl Pending {
    fn place(self, placement: &Placement) -> Step {
        let [input, coarse, output, ring, middle, rows] = self.buffers.map(|b| placement.range(b));
        let regions = Regions { input, coarse, output, ring, middle, rows };
        Step { name: self.name, work: self.work, regions }
    }
}
