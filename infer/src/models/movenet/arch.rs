//! The architecture of MoveNet: every layer's name, shape, stride and activation, in execution order.
//!
//! A MobileNetV2 backbone (Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks",
//! 2018, arXiv:1801.04381, table 2) feeds a feature pyramid (Lin et al., "Feature Pyramid Networks for
//! Object Detection", 2017, arXiv:1612.03144) whose stride-4 level feeds the heads of a CenterNet (Zhou
//! et al., "Objects as Points", 2019, arXiv:1904.07850). The three models differ in the backbone's width
//! multiplier and in their heads. Both executions build from this description, and [`super::Weights`]
//! checks a file against it.

use serde::{Deserialize, Serialize};

/// What follows a convolution's bias.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing: the sum itself.
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
}

/// An inverted residual block: 1×1 expand (ReLU6) → 3×3 depthwise (ReLU6) → 1×1 project (linear), plus
/// the block's input where `residual`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Position in the backbone; the tensors are `backbone.block<index>.…`.
    pub index: usize,
    /// Input channels.
    pub inputs: usize,
    /// Channels of the depthwise convolution: 6 × `inputs`, but in block 0 just `inputs`, for it has no
    /// expand convolution.
    pub hidden: usize,
    /// Output channels.
    pub outputs: usize,
    /// Stride of the depthwise convolution, 1 or 2.
    pub stride: usize,
    /// Whether the block's input is added to its output.
    pub residual: bool,
}

impl Block {
    /// The prefix of the block's tensor names.
    pub fn name(&self) -> String {
        format!("backbone.block{}", self.index)
    }

    /// Whether the block begins with a 1×1 expand convolution.
    pub fn expands(&self) -> bool {
        self.index > 0
    }
}

/// One step down the feature pyramid: the coarser level is upsampled ×2 (bilinear, half-pixel centres),
/// the lateral 1×1 convolution of a backbone stage is added, and the sum goes through a 3×3 depthwise
/// convolution without bias and a 1×1 convolution with ReLU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merge {
    /// log2 of the stride this step works at: 4, 3, 2. The tensors are `fpn.lateral<level>.…`,
    /// `fpn.merge<level>.…`.
    pub level: usize,
    /// The backbone block whose output the lateral convolution reads.
    pub after_block: usize,
    /// Channels of that block's output.
    pub lateral_inputs: usize,
    /// Channels of the sum.
    pub channels: usize,
    /// Output channels.
    pub outputs: usize,
}

/// A head on the stride-4 feature map: 3×3 depthwise without bias → 1×1 to [`HEAD_HIDDEN`] with ReLU →
/// 1×1, linear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Head {
    /// 1 channel: logit that a person's centre lies in the cell.
    Center,
    /// K channels, one for each keypoint: logit that the keypoint lies in the cell.
    Keypoints,
    /// K × (dy, dx) from a person's centre cell to the keypoints, in cells.
    Regression,
    /// K × (dy, dx) from a keypoint's cell to the keypoint itself, in cells.
    Offset,
    /// 2 channels: height and width of a person's box, in cells, at the centre cell.
    BoxScale,
    /// 2 channels: (dy, dx) from the centre cell to the middle of the box, in cells.
    BoxOffset,
}

impl Head {
    /// The prefix of the head's tensor names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Center => "heads.center",
            Self::Keypoints => "heads.keypoints",
            Self::Regression => "heads.regression",
            Self::Offset => "heads.offset",
            Self::BoxScale => "heads.box_scale",
            Self::BoxOffset => "heads.box_offset",
        }
    }

    /// Output channels in a model that finds `keypoints` of a person.
    pub fn channels(self, keypoints: usize) -> usize {
        match self {
            Self::Center => 1,
            Self::Keypoints => keypoints,
            Self::Regression | Self::Offset => 2 * keypoints,
            Self::BoxScale | Self::BoxOffset => 2,
        }
    }
}

/// Channels between a head's two 1×1 convolutions.
pub const HEAD_HIDDEN: usize = 96;
/// Channels of the stride-4 feature map that all heads read.
pub const FEATURES: usize = 24;
/// Input pixels per cell of the heads.
pub const CELL_PX: usize = 4;
/// Inputs must be multiples of this in height and width: the backbone halves them five times.
pub const INPUT_MULTIPLE: usize = 32;
/// Channels of the coarsest pyramid level.
const PYRAMID_TOP: usize = 64;
/// Channels of the backbone's last convolution; not scaled by the width multiplier.
const LAST: usize = 1280;
/// Table 2 of the MobileNetV2 paper, one entry a block: (channels at width 1, stride).
const BLOCKS: [(usize, usize); 17] = [
    (16, 1),
    (24, 2),
    (24, 1),
    (32, 2),
    (32, 1),
    (32, 1),
    (64, 2),
    (64, 1),
    (64, 1),
    (64, 1),
    (96, 1),
    (96, 1),
    (96, 1),
    (160, 2),
    (160, 1),
    (160, 1),
    (320, 1),
];

/// The sizes of input that a model takes, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InputSize {
    /// This height and width only, a multiple of [`INPUT_MULTIPLE`]: a SinglePose model.
    Square(usize),
    /// Any height and width that are multiples of [`INPUT_MULTIPLE`]: a MultiPose model.
    Multiple {
        /// The longer side that the model was trained for.
        longer: usize,
    },
}

impl InputSize {
    /// Whether it holds inputs of that size.
    pub fn takes(self, height: usize, width: usize) -> bool {
        match self {
            Self::Square(side) => height == side && width == side,
            Self::Multiple { .. } => {
                [height, width].iter().all(|&side| side > 0 && side.is_multiple_of(INPUT_MULTIPLE))
            }
        }
    }
}

/// How the models of the family differ, beside their weights and skeletons: the `config` of their manifest entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The backbone's width multiplier, in percent.
    pub width_percent: usize,
    /// The sizes of input.
    pub input: InputSize,
    /// Whether its accuracy was measured to hold in bfloat16.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bfloat16: bool,
}

impl Config {
    /// What is wrong with it, if anything is.
    ///
    /// # Errors
    /// In words, for who wrote it.
    pub fn check(&self) -> Result<(), String> {
        let (InputSize::Square(side) | InputSize::Multiple { longer: side }) = self.input;
        if !(10..=400).contains(&self.width_percent) {
            return Err(format!("width_percent is {}; use 10 to 400", self.width_percent));
        }
        if !side.is_multiple_of(INPUT_MULTIPLE) || !(INPUT_MULTIPLE..=2048).contains(&side) {
            return Err(format!(
                "an input of {side} pixels; use a multiple of {INPUT_MULTIPLE}, at most 2048"
            ));
        }
        Ok(())
    }
}

/// The layers of one model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Architecture {
    /// The sizes of input the model takes.
    pub input: InputSize,
    /// Keypoints of a person.
    pub keypoints: usize,
    /// Output channels of the stem: 3×3 stride 2 on the normalised RGB input, ReLU6.
    pub stem: usize,
    /// The inverted residual blocks.
    pub blocks: Vec<Block>,
    /// Output channels of the backbone's last 1×1 convolution, ReLU6.
    pub last: usize,
    /// Channels of the coarsest pyramid level, a linear 1×1 convolution on the backbone's output.
    pub top: usize,
    /// The steps down the pyramid, coarse to fine; the last one's output feeds the heads.
    pub merges: Vec<Merge>,
    /// The heads, in the order of the published graph.
    pub heads: &'static [Head],
    /// Names and shapes of the constants the decoder needs.
    pub constants: Vec<(&'static str, Vec<usize>)>,
}

impl Architecture {
    /// Describes a model that finds `keypoints` of a person.
    pub fn new(config: Config, keypoints: usize) -> Self {
        let Config { width_percent, input, .. } = config;
        let stem = scaled(32, width_percent);
        let mut inputs = stem;
        let mut blocks = Vec::with_capacity(BLOCKS.len());
        for (index, (channels, stride)) in BLOCKS.into_iter().enumerate() {
            let outputs = scaled(channels, width_percent);
            blocks.push(Block {
                index,
                inputs,
                hidden: if index == 0 { inputs } else { 6 * inputs },
                outputs,
                stride,
                residual: stride == 1 && inputs == outputs,
            });
            inputs = outputs;
        }
        let merge = |level, after_block: usize, channels, outputs| Merge {
            level,
            after_block,
            lateral_inputs: blocks[after_block].outputs,
            channels,
            outputs,
        };
        let merges = vec![merge(4, 9, PYRAMID_TOP, 32), merge(3, 5, 32, 24), merge(2, 2, 24, FEATURES)];
        let heads: &[Head] = match input {
            InputSize::Square(_) => &[Head::Center, Head::Keypoints, Head::Regression, Head::Offset],
            InputSize::Multiple { .. } => &[
                Head::Center,
                Head::BoxScale,
                Head::BoxOffset,
                Head::Keypoints,
                Head::Regression,
                Head::Offset,
            ],
        };
        let mut constants = vec![("input.mean", vec![3]), ("input.scale", vec![3]), ("input.shift", vec![])];
        match input {
            InputSize::Square(side) => constants.extend([
                ("decode.center_weight", vec![side / CELL_PX, side / CELL_PX]),
                ("decode.distance_offset", vec![]),
                ("decode.cell_size", vec![2]),
            ]),
            InputSize::Multiple { .. } => constants.extend([
                ("decode.peak_tolerance", vec![]),
                ("decode.falloff", vec![]),
                ("decode.min_keypoint_score", vec![]),
            ]),
        }
        Self { input, keypoints, stem, blocks, last: LAST, top: PYRAMID_TOP, merges, heads, constants }
    }

    /// How many weights and constants there are.
    pub fn weights(&self) -> usize {
        self.tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// The name and shape of every tensor, in execution order: first convolution `[3, 3, 3, Cout]`,
    /// depthwise `[3, 3, C]`, pointwise `[Cin, Cout]`, biases `[C]`, then the constants.
    pub fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let mut list = Vec::new();
        let mut layer = |name: String, shape: &[usize], has_bias: bool| {
            list.push((format!("{name}.weight"), shape.to_vec()));
            if has_bias {
                list.push((format!("{name}.bias"), vec![shape[shape.len() - 1]]));
            }
        };
        layer("backbone.stem".to_owned(), &[3, 3, 3, self.stem], true);
        for block in &self.blocks {
            let name = block.name();
            if block.expands() {
                layer(format!("{name}.expand"), &[block.inputs, block.hidden], true);
            }
            layer(format!("{name}.depthwise"), &[3, 3, block.hidden], true);
            layer(format!("{name}.project"), &[block.hidden, block.outputs], true);
        }
        let backbone_outputs = self.blocks[self.blocks.len() - 1].outputs;
        layer("backbone.last".to_owned(), &[backbone_outputs, self.last], true);
        layer("fpn.lateral5".to_owned(), &[self.last, self.top], true);
        for merge in &self.merges {
            let level = merge.level;
            layer(format!("fpn.lateral{level}"), &[merge.lateral_inputs, merge.channels], true);
            layer(format!("fpn.merge{level}.depthwise"), &[3, 3, merge.channels], false);
            layer(format!("fpn.merge{level}.pointwise"), &[merge.channels, merge.outputs], true);
        }
        for head in self.heads {
            let name = head.name();
            layer(format!("{name}.depthwise"), &[3, 3, FEATURES], false);
            layer(format!("{name}.hidden"), &[FEATURES, HEAD_HIDDEN], true);
            layer(format!("{name}.out"), &[HEAD_HIDDEN, head.channels(self.keypoints)], true);
        }
        list.extend(self.constants.iter().map(|(name, shape)| ((*name).to_owned(), shape.clone())));
        list
    }
}

/// `channels` times the width multiplier, to the nearest multiple of 8, but never less than 90 % of the
/// product (the paper's reference implementation: `_make_divisible`).
fn scaled(channels: usize, width_percent: usize) -> usize {
    let exact_percent = channels * width_percent;
    let rounded = (exact_percent + 400) / 800 * 8;
    if rounded * 1000 < exact_percent * 9 { rounded + 8 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_those_of_the_published_graphs() {
        let outputs = |width_percent| {
            let config = Config { width_percent, input: InputSize::Square(192), bfloat16: false };
            Architecture::new(config, 17).blocks.iter().map(|b| b.outputs).collect::<Vec<_>>()
        };
        assert_eq!(outputs(100), [16, 24, 24, 32, 32, 32, 64, 64, 64, 64, 96, 96, 96, 160, 160, 160, 320]);
        assert_eq!(
            outputs(175),
            [32, 40, 40, 56, 56, 56, 112, 112, 112, 112, 168, 168, 168, 280, 280, 280, 560]
        );
        assert_eq!(outputs(150), [24, 40, 40, 48, 48, 48, 96, 96, 96, 96, 144, 144, 144, 240, 240, 240, 480]);
    }

    #[test]
    fn residuals_join_equal_shapes_only() {
        let config = Config { width_percent: 100, input: InputSize::Square(192), bfloat16: false };
        let architecture = Architecture::new(config, 17);
        let residual: Vec<usize> =
            architecture.blocks.iter().filter(|b| b.residual).map(|b| b.index).collect();
        assert_eq!(residual, [2, 4, 5, 7, 8, 9, 11, 12, 14, 15]);
    }

    #[test]
    fn tensor_names_are_unique() {
        for input in [InputSize::Square(192), InputSize::Multiple { longer: 256 }] {
            let tensors =
                Architecture::new(Config { width_percent: 100, input, bfloat16: false }, 5).tensors();
            let names: std::collections::HashSet<&str> = tensors.iter().map(|(n, _)| n.as_str()).collect();
            assert_eq!(names.len(), tensors.len());
        }
    }
}
