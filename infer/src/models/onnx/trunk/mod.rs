//! What of a graph our own kernels run: from the picture on, convolutions and what comes between them. The library runs the
//! rest, from the maps that this leaves.
//!
//! | module | what |
//! |---|---|
//! | `lower` | nodes → steps |
//! | `tail` | what follows a convolution and becomes part of its step |
//! | `layer`, `convolution` | what a step does |
//! | `map` | maps and windows |
//!
//! Maps are float32, channels last; a step reads maps and writes one, and maps that are not needed at the same time share
//! memory.

mod convolution;
mod known;
mod layer;
mod lower;
mod map;
mod tail;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use cloudpose_kernels::{AlignedVec, Kernels, Slab};
use rten_onnx::onnx::{GraphProto, ValueInfoProto};

use convolution::Band;
use layer::Layer;
use map::{Map, Shape};

/// The first part of a graph, for one size of input. Shared by all threads that run it.
#[derive(Debug)]
pub(super) struct Trunk {
    kernels: Kernels,
    steps: Vec<Step>,
    /// Floats of the memory that maps share.
    slots: Vec<usize>,
    input: Place,
    /// What others need, by name.
    outputs: Vec<(String, Place)>,
}

/// A map in memory.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: usize,
    shape: Shape,
}

#[derive(Debug)]
struct Step {
    layer: Layer,
    inputs: Vec<Place>,
    output: Place,
}

/// What a trunk runs in.
#[derive(Debug)]
pub(super) struct Memory {
    /// None while a step writes it.
    slots: Vec<Option<AlignedVec>>,
    scratch: AlignedVec,
}

/// A map that a trunk leaves: its name, `[1, channels, height, width]`, and its values, row-major.
pub(super) type Left = (String, [usize; 4], Vec<f32>);

impl Trunk {
    /// Takes from `graph`, whose nodes are in order, what it can run; none if there is no convolution in it. What stays takes
    /// the maps that it needs in the place of `input`, a picture of that width and height.
    pub(super) fn cut(
        graph: &mut GraphProto,
        input: &str,
        [width, height]: [usize; 2],
        kernels: Kernels,
    ) -> Option<Self> {
        // What graphs in nodes use is not among the nodes' inputs.
        if graph.node.iter().any(|node| node.attribute.iter().any(|attribute| attribute.g.is_some())) {
            return None;
        }
        let shape = Shape { height, width, channels: 3 };
        let lowered = lower::lower(graph, input, shape, kernels)?;
        let mut taken = lowered.taken.iter();
        graph.node.retain(|_| !taken.next().is_some_and(|&taken| taken));
        let used: HashSet<&str> = graph
            .node
            .iter()
            .flat_map(|node| &node.input)
            .chain(graph.output.iter().filter_map(|output| output.name.as_ref()))
            .map(String::as_str)
            .collect();
        let is_used = |(name, _): &&(String, usize)| used.contains(name.as_str());
        let needed: Vec<(String, usize)> = lowered.names.iter().filter(is_used).cloned().collect();
        let weights = |name: &Option<String>| name.as_deref().is_some_and(|name| used.contains(name));
        let keep: Vec<bool> = graph.initializer.iter().map(|tensor| weights(&tensor.name)).collect();
        let value = |(name, _): &(String, usize)| ValueInfoProto { name: Some(name.clone()), r#type: None };
        let mut inputs: Vec<ValueInfoProto> = needed.iter().map(value).collect();
        if graph.node.iter().any(|node| node.input.iter().any(|name| name == input)) {
            inputs.extend(graph.input.iter().filter(|value| value.name.as_deref() == Some(input)).cloned());
        }
        let mut keep = keep.iter();
        graph.initializer.retain(|_| keep.next().is_some_and(|&keep| keep));
        graph.input = inputs;
        Some(Self::place(lowered.steps, &lowered.shapes, needed, kernels))
    }

    /// Gives each map a place.
    fn place(
        steps: Vec<lower::Step>,
        shapes: &[Shape],
        needed: Vec<(String, usize)>,
        kernels: Kernels,
    ) -> Self {
        let mut last_use = vec![0; shapes.len()];
        for (at, step) in steps.iter().enumerate() {
            step.inputs.iter().for_each(|&value| last_use[value] = at);
        }
        needed.iter().for_each(|(_, value)| last_use[*value] = steps.len());
        let mut slots: Vec<usize> = vec![shapes[0].len()];
        let mut free: Vec<usize> = Vec::new();
        let mut places = vec![Place { slot: 0, shape: shapes[0] }; shapes.len()];
        let mut placed: Vec<Step> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            let shape = shapes[step.output];
            // The one that fits best; else the largest grows.
            let fit = |&index: &usize| {
                let floats = slots[free[index]];
                (floats < shape.len(), floats.abs_diff(shape.len()))
            };
            let slot = match (0..free.len()).min_by_key(fit) {
                Some(index) => free.swap_remove(index),
                None => {
                    slots.push(0);
                    slots.len() - 1
                }
            };
            slots[slot] = slots[slot].max(shape.len());
            places[step.output] = Place { slot, shape };
            let mut ended: Vec<usize> =
                step.inputs.iter().copied().filter(|&value| last_use[value] == at).collect();
            ended.sort_unstable();
            ended.dedup();
            free.extend(ended.into_iter().map(|value| places[value].slot));
            let inputs = step.inputs.iter().map(|&value| places[value]).collect();
            placed.push(Step { layer: step.layer, inputs, output: places[step.output] });
        }
        let outputs = needed.into_iter().map(|(name, value)| (name, places[value])).collect();
        Self { kernels, steps: placed, slots, input: places[0], outputs }
    }

    /// The names of the maps that it leaves.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.outputs.iter().map(|(name, _)| name.as_str())
    }

    /// Memory to run it in, on so many threads.
    pub(super) fn memory(&self, threads: usize) -> Memory {
        let mut slab = Slab::default();
        let slots = self.slots.iter().map(|&floats| Some(slab.zeroed(floats))).collect();
        let scratch = |step: &Step| step.layer.scratch(step.inputs[0].shape, step.output.shape);
        let scratch = self.steps.iter().map(scratch).max().unwrap_or(0);
        Memory { slots, scratch: slab.zeroed(threads * scratch) }
    }

    /// Runs it on `[3, height, width]`, on the threads of `pool` if there is one.
    pub(super) fn run(
        &self,
        memory: &mut Memory,
        pool: Option<&rayon::ThreadPool>,
        input: &[f32],
    ) -> Vec<Left> {
        let Memory { slots, scratch } = memory;
        let pixels = slots[self.input.slot].as_mut().expect(WRITTEN);
        let (pixels, _) = pixels.as_chunks_mut::<3>();
        let plane = input.len() / 3;
        for (index, pixel) in pixels[..plane].iter_mut().enumerate() {
            *pixel = [0, 1, 2].map(|channel| input[channel * plane + index]);
        }
        for step in &self.steps {
            let mut output = slots[step.output.slot].take().expect(WRITTEN);
            let map = |place: &Place| Map {
                shape: place.shape,
                data: &slots[place.slot].as_ref().expect(WRITTEN)[..place.shape.len()],
            };
            let inputs: Vec<Map<'_>> = step.inputs.iter().map(map).collect();
            let shape = step.output.shape;
            let whole = Band { output: shape, first: 0, rows: &mut output[..shape.len()], scratch };
            step.layer.run(&self.kernels, pool, &inputs, whole);
            slots[step.output.slot] = Some(output);
        }
        let left = |(name, place): &'_ (String, Place)| {
            let Shape { height, width, channels } = place.shape;
            let data = &slots[place.slot].as_ref().expect(WRITTEN)[..place.shape.len()];
            let mut values = Vec::with_capacity(data.len());
            for channel in 0..channels {
                values.extend(data.iter().skip(channel).step_by(channels));
            }
            (name.clone(), [1, channels, height, width], values)
        };
        self.outputs.iter().map(left).collect()
    }
}

/// Why a slot is there.
const WRITTEN: &str = "steps give back what they write";
