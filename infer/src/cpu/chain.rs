//! Two pointwise convolutions in a row.

use cloudpose_kernels::Kernels;

use super::arena::Regions;
use super::program::{Effort, Work};

/// `second(first(input))`, in some arithmetic.
pub(crate) trait Pair: std::fmt::Debug + Send + Sync {
    /// How many weights there are.
    fn weights(&self) -> usize;
    /// Channels of the output.
    fn columns(&self) -> usize;
    /// Floats of the arena that a pixel takes of the input, of what is kept in the middle, and of the output.
    fn floats(&self) -> [usize; 3];
    /// Computes the pixels that the slices hold.
    fn run(&self, kernels: &Kernels, input: &[f32], middle: &mut [f32], output: &mut [f32]);
}

/// A [`Pair`] at one size of feature map.
#[derive(Debug)]
pub(crate) struct Chain<P> {
    pub(super) layers: P,
    /// Height and width of the maps.
    pub(super) size: [usize; 2],
    /// Threads that share the pixels.
    pub(super) threads: usize,
}

impl<P: Pair> Chain<P> {
    fn pixels(&self) -> usize {
        self.size.into_iter().product()
    }

    /// Runs the pixels that the slices hold, shared by `threads` of the pool that this is called in.
    fn run_pixels(
        &self,
        kernels: &Kernels,
        threads: usize,
        input: &[f32],
        middle: &mut [f32],
        output: &mut [f32],
    ) {
        let [input_len, middle_len, output_len] = self.layers.floats();
        let pixels = output.len() / output_len;
        if threads <= 1 || pixels <= 1 {
            return self.layers.run(kernels, input, middle, output);
        }
        let half = pixels / 2;
        let (input, input_2) = input.split_at(half * input_len);
        let (middle, middle_2) = middle.split_at_mut(half * middle_len);
        let (output, output_2) = output.split_at_mut(half * output_len);
        rayon::join(
            || self.run_pixels(kernels, threads / 2, input, middle, output),
            || self.run_pixels(kernels, threads - threads / 2, input_2, middle_2, output_2),
        );
    }
}

impl<P: Pair> Work for Chain<P> {
    fn effort(&self) -> Effort {
        let weights = self.layers.weights();
        Effort { weights, pointwise: self.pixels() * weights, depthwise: 0 }
    }

    fn output_shape(&self) -> [usize; 3] {
        [self.size[0], self.size[1], self.layers.columns()]
    }

    fn output_len(&self) -> usize {
        self.pixels() * self.layers.floats()[2]
    }

    fn scratch(&self, pictures: usize) -> [usize; 3] {
        [0, pictures * self.pixels() * self.layers.floats()[1], 0]
    }

    fn run(&self, kernels: &Kernels, _: &[u8], _: usize, regions: Regions, arena: &mut [f32]) {
        let [input, middle, output] = arena
            .get_disjoint_mut([regions.input, regions.middle, regions.output])
            .expect("buffers of one step do not overlap");
        self.run_pixels(kernels, self.threads, input, middle, output);
    }
}
