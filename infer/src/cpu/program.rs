//! A program: what runs in which order, on which floats of an arena.

use std::ops::Range;
use std::time::{Duration, Instant};

use cloudpose_kernels::{AlignedVec, Kernels};

use super::arena::{Buffer, Layout, Placement, Places, Regions};

/// How much a step has to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Effort {
    /// Weights that it reads.
    pub weights: usize,
    /// Multiply-adds of pointwise convolutions and the stem; those that threads repeat at their seams are not counted.
    pub pointwise: usize,
    /// Multiply-adds of depthwise convolutions.
    pub depthwise: usize,
}

/// What a step does.
pub(crate) trait Work: std::fmt::Debug + Send + Sync {
    /// What it does for one picture.
    fn effort(&self) -> Effort;
    /// Height, width and channels of its output.
    fn output_shape(&self) -> [usize; 3];
    /// Floats of its output, for one picture.
    fn output_len(&self) -> usize;
    /// Floats that it needs while it runs for so many pictures or fewer: ring, middle, rows.
    fn scratch(&self, pictures: usize) -> [usize; 3];
    /// Runs for `pictures`, whose maps lie one behind the other in the regions. `pixels` are those of the only one.
    fn run(&self, kernels: &Kernels, pixels: &[u8], pictures: usize, regions: Regions, arena: &mut [f32]);
}

#[derive(Debug)]
struct Step {
    /// The last of its layers, as the weights are named.
    name: String,
    work: Box<dyn Work>,
    /// Input, coarse, output, ring, middle, rows.
    places: [Places; 6],
}

/// What a step of a plan is and how long it takes.
#[derive(Clone, Debug)]
pub struct StepProfile {
    /// The last of the layers that the step fuses, as the weights are named.
    pub name: String,
    /// Height, width and channels of the result.
    pub output: [usize; 3],
    /// For one picture.
    pub effort: Effort,
    /// The shortest run, of all pictures.
    pub shortest: Duration,
}

/// Steps, with the memory they run in, for several pictures. These go through the steps one after another, but together
/// through some in the middle, whose weights outnumber what they are used for.
#[derive(Debug)]
pub(crate) struct Program {
    steps: Vec<Step>,
    together: Range<usize>,
    arena: AlignedVec,
}

impl Program {
    /// Runs the steps on `pictures`, each `[height, width, 3]` RGB, in the rayon pool that this is called in.
    ///
    /// # Panics
    /// If there are more than the program was built for.
    pub(crate) fn run(&mut self, kernels: &Kernels, pictures: &[&[u8]]) {
        for (step, of) in self.turns(pictures.len()) {
            self.steps[step].run(kernels, pictures, of, &mut self.arena);
        }
    }

    /// Runs the steps `runs` times on `pictures`, and says what each took at least for all of them.
    pub(super) fn profile(&mut self, kernels: &Kernels, pictures: &[&[u8]], runs: usize) -> Vec<StepProfile> {
        let mut profiles: Vec<_> = self.steps.iter().map(Step::profile).collect();
        for _ in 0..runs {
            let mut took = vec![Duration::ZERO; self.steps.len()];
            for (step, of) in self.turns(pictures.len()) {
                let begun = Instant::now();
                self.steps[step].run(kernels, pictures, of, &mut self.arena);
                took[step] += begun.elapsed();
            }
            for (profile, took) in profiles.iter_mut().zip(took) {
                profile.shortest = profile.shortest.min(took);
            }
        }
        profiles
    }

    /// Which step runs for which pictures, in order.
    fn turns(&self, pictures: usize) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
        let one_by_one = move |steps: Range<usize>| {
            let of = move |picture| steps.clone().map(move |step| (step, picture..picture + 1));
            (0..pictures).flat_map(of)
        };
        let together =
            self.together.clone().filter(move |_| pictures > 0).map(move |step| (step, 0..pictures));
        let behind = one_by_one(self.together.end..self.steps.len());
        one_by_one(0..self.together.start).chain(together).chain(behind)
    }

    /// The memory of all buffers.
    pub(crate) fn arena(&self) -> &[f32] {
        &self.arena
    }
}

impl Step {
    fn run(&self, kernels: &Kernels, pictures: &[&[u8]], of: Range<usize>, arena: &mut [f32]) {
        let [input, coarse, output] = [0, 1, 2].map(|index| self.places[index].over(of.clone()));
        let [ring, middle, rows] = [3, 4, 5].map(|index| self.places[index].of(0));
        let regions = Regions { input, coarse, output, ring, middle, rows };
        self.work.run(kernels, pictures[of.start], of.len(), regions, arena);
    }

    fn profile(&self) -> StepProfile {
        let (output, effort) = (self.work.output_shape(), self.work.effort());
        StepProfile { name: self.name.clone(), output, effort, shortest: Duration::MAX }
    }
}

/// A step whose buffers have no place yet: input, coarse, output, ring, middle, rows.
struct Pending {
    name: String,
    work: Box<dyn Work>,
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

    /// Appends a step that reads `input` and `coarse`, and returns its output. Only the first reads pixels.
    pub(crate) fn step(
        &mut self,
        name: String,
        work: impl Work + 'static,
        input: Option<Buffer>,
        coarse: Option<Buffer>,
    ) -> Buffer {
        let step = self.pending.len();
        for buffer in [input, coarse].into_iter().flatten() {
            self.layout.keep(buffer, step);
        }
        let output = self.layout.buffer(work.output_len(), step);
        let pictures = if is_shared(&work) { self.pictures } else { 1 };
        let [ring, middle, rows] =
            work.scratch(pictures).map(|floats| Some(self.layout.scratch(floats, step)));
        let buffers = [input, coarse, Some(output), ring, middle, rows];
        self.pending.push(Pending { name, work: Box::new(work), buffers });
        output
    }

    /// The program, and where in its memory the `results` lie once it has run.
    pub(crate) fn finish<const N: usize>(mut self, results: [Buffer; N]) -> (Program, [Places; N]) {
        let steps = self.pending.len();
        for buffer in results {
            self.layout.keep(buffer, steps);
        }
        // The first one reads pixels, which do not lie one behind the other.
        let is_shared = |step: &usize| *step > 0 && is_shared(&*self.pending[*step].work);
        let start = (0..steps).find(is_shared).unwrap_or(steps);
        let end = (start..steps).find(|step| !is_shared(step)).unwrap_or(steps);
        if self.pictures > 1 {
            self.layout.for_pictures(self.pictures, start..end, steps);
        }
        let placement = self.layout.place();
        let steps = self.pending.into_iter().map(|pending| pending.place(&placement)).collect();
        let arena = AlignedVec::zeroed(placement.floats);
        let program = Program { steps, together: start..end, arena };
        (program, results.map(|buffer| placement.places(Some(buffer))))
    }
}

/// Whether several pictures go through a step together.
fn is_shared(work: &dyn Work) -> bool {
    let [height, width, channels] = work.output_shape();
    work.effort().weights > height * width * channels
}

impl Pending {
    fn place(self, placement: &Placement) -> Step {
        let places = self.buffers.map(|buffer| placement.places(buffer));
        Step { name: self.name, work: self.work, places }
    }
}
