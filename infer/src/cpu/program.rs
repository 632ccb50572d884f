//! A program: what runs in which order, on which floats of an arena.

use std::ops::Range;
use std::time::{Duration, Instant};

use cloudpose_kernels::{AlignedVec, Kernels};

use super::arena::{Buffer, Layout, Placement};
use super::chain::Chain;
use super::stage::{Regions, Stage};

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

/// Steps, with the memory they run in.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Vec<Step>,
    arena: AlignedVec,
}

impl Program {
    /// Runs the steps on `pixels`, `[height, width, 3]` RGB, in the rayon pool that this is called in.
    pub(crate) fn run(&mut self, kernels: &Kernels, pixels: &[u8]) {
        for step in &self.steps {
            step.run(kernels, pixels, &mut self.arena);
        }
    }

    /// Runs the steps `runs` times, and says what each took at least.
    pub(super) fn profile(&mut self, kernels: &Kernels, pixels: &[u8], runs: usize) -> Vec<StepProfile> {
        let mut profiles: Vec<_> = self.steps.iter().map(Step::profile).collect();
        for _ in 0..runs {
            for (step, profile) in self.steps.iter().zip(&mut profiles) {
                let begun = Instant::now();
                step.run(kernels, pixels, &mut self.arena);
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

/// A program that is being written, one step after another.
#[derive(Default)]
pub(crate) struct Builder {
    layout: Layout,
    pending: Vec<Pending>,
}

impl Builder {
    /// Appends a stage and returns its output.
    pub(crate) fn stage(
        &mut self,
        name: String,
        stage: Stage,
        input: Option<Buffer>,
        coarse: Option<Buffer>,
    ) -> Buffer {
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

    /// Appends a chain and returns its output.
    pub(super) fn chain(&mut self, name: String, chain: Chain, input: Buffer) -> Buffer {
        let step = self.pending.len();
        self.layout.keep(input, step);
        let output = self.layout.buffer(chain.output_len(), step);
        let middle = self.layout.buffer(chain.middle_len(), step);
        let buffers = [Some(input), None, Some(output), None, Some(middle), None];
        self.pending.push(Pending { step: Step { name, work: Work::Chain(chain) }, buffers });
        output
    }

    /// The program, and where in its memory the `results` lie once it has run.
    pub(crate) fn finish<const N: usize>(mut self, results: [Buffer; N]) -> (Program, [Range<usize>; N]) {
        let end = self.pending.len();
        for buffer in results {
            self.layout.keep(buffer, end);
        }
        let placement = self.layout.place();
        let steps = self.pending.into_iter().map(|pending| pending.place(&placement)).collect();
        let arena = AlignedVec::zeroed(placement.floats);
        (Program { steps, arena }, results.map(|buffer| placement.range(Some(buffer))))
    }
}

impl Pending {
    fn place(self, placement: &Placement) -> Step {
        let Self { mut step, buffers } = self;
        let [input, coarse, output, ring, middle, rows] = buffers.map(|b| placement.range(b));
        match &mut step.work {
            Work::Stage(stage) => stage.regions = Regions { input, coarse, output, ring, middle, rows },
            Work::Chain(chain) => (chain.input, chain.output, chain.middle) = (input, output, middle),
        }
        step
    }
}
