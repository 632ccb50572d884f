//! The architecture of EfficientNet-Lite0: every layer's name, shape and stride, in execution order.
//!
//! Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", 2019, arXiv:1905.11946,
//! table 1, in its authors' Lite variant (`tensorflow/tpu`, `models/official/efficientnet/lite`): no squeeze and
//! excitation, ReLU6 in the place of swish, the stem and the last convolution not scaled. The other Lite variants have
//! input sizes that do not stay even when they are halved, which the CPU engine does not take.

use serde::{Deserialize, Serialize};

/// Table 1 of the paper, one entry a stage: repeats, window, stride of the first block, expansion, output channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// Output channels of the stem.
pub(super) const STEM: usize = 32;
/// Output channels of the last convolution.
pub(super) const LAST: usize = 1280;
/// The input is halved five times.
pub(super) const REDUCTION: usize = 32;
/// What a pixel is less of, and is divided by then: `MEAN_RGB` and `STDDEV_RGB` of its authors.
pub(super) const MEAN: f32 = 127.0;
/// See [`MEAN`].
pub(super) const DEVIATION: f32 = 128.0;
/// How many pixels less than the picture's shorter side the input shows: `CROP_PADDING` of its authors.
pub(super) const CROP_PADDING: usize = 32;

/// What manifests tell of a model of this family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Side of the input, in pixels; a multiple of 32.
    pub input: usize,
}

impl Config {
    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// In words, for who wrote it.
    pub fn check(&self) -> Result<(), String> {
        if self.input.is_multiple_of(REDUCTION) && (REDUCTION..=1024).contains(&self.input) {
            return Ok(());
        }
        Err(format!("an input of {} pixels; use a multiple of {REDUCTION}, at most 1024", self.input))
    }
}

/// An inverted residual block: 1×1 expand (ReLU6) → depthwise (ReLU6) → 1×1 project (linear), plus the block's input
/// where `residual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Position; the tensors are `block<index>.…`.
    pub index: usize,
    /// Input channels.
    pub inputs: usize,
    /// Channels of the depthwise convolution; block 0 has no expand convolution.
    pub hidden: usize,
    /// Output channels.
    pub outputs: usize,
    /// Rows and columns of the depthwise convolution's windows.
    pub size: usize,
    /// Its stride, 1 or 2.
    pub stride: usize,
    /// Whether the block's input is added to its output.
    pub residual: bool,
}

impl Block {
    /// The prefix of the block's tensor names.
    pub fn name(&self) -> String {
        format!("block{}", self.index)
    }

    /// Whether the block begins with a 1×1 expand convolution.
    pub fn expands(&self) -> bool {
        self.index > 0
    }
}

/// All blocks, in order.
pub fn blocks() -> Vec<Block> {
    let mut inputs = STEM;
    let mut blocks = Vec::new();
    for (repeats, size, first_stride, expansion, outputs) in STAGES {
        for repeat in 0..repeats {
            let stride = if repeat == 0 { first_stride } else { 1 };
            let residual = stride == 1 && inputs == outputs;
            let hidden = expansion * inputs;
            blocks.push(Block { index: blocks.len(), inputs, hidden, outputs, size, stride, residual });
            inputs = outputs;
        }
    }
    blocks
}

/// The name and shape of every tensor of a model that tells `classes`, in execution order: stem `[3, 3, 3, Cout]`,
/// depthwise `[K, K, C]`, pointwise and the classifier `[Cin, Cout]`, biases `[C]`. Batch norm is folded in.
pub fn tensors(classes: usize) -> Vec<(String, Vec<usize>)> {
    let mut list = Vec::new();
    let mut layer = |name: String, shape: &[usize]| {
        list.push((format!("{name}.weight"), shape.to_vec()));
        list.push((format!("{name}.bias"), vec![shape[shape.len() - 1]]));
    };
    layer("stem".to_owned(), &[3, 3, 3, STEM]);
    let blocks = blocks();
    for block in &blocks {
        let name = block.name();
        if block.expands() {
            layer(format!("{name}.expand"), &[block.inputs, block.hidden]);
        }
        layer(format!("{name}.depthwise"), &[block.size, block.size, block.hidden]);
        layer(format!("{name}.project"), &[block.hidden, block.outputs]);
    }
    layer("last".to_owned(), &[blocks[blocks.len() - 1].outputs, LAST]);
    layer("classifier".to_owned(), &[LAST, classes]);
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_those_of_the_paper() {
        let blocks = blocks();
        assert_eq!(blocks.len(), 16);
        assert_eq!(blocks.iter().map(|b| b.stride).product::<usize>() * 2, REDUCTION);
        let residual: Vec<usize> = blocks.iter().filter(|b| b.residual).map(|b| b.index).collect();
        assert_eq!(residual, [2, 4, 6, 7, 9, 10, 12, 13, 14]);
        assert_eq!((blocks[11].hidden, blocks[11].size, blocks[15].outputs), (672, 5, 320));
    }

    #[test]
    fn inputs_stay_even_when_they_are_halved() {
        for (input, is_taken) in [(224, true), (32, true), (240, false), (0, false), (1 << 20, false)] {
            assert_eq!(Config { input }.check().is_ok(), is_taken, "{input}");
        }
    }
}
