//! MoveNet on a GPU: its steps, and its weights there.
//!
//! The same layers as [`super::reference`], which is the reference, built from the same [`Architecture`] and weights. Maps
//! are NHWC, in float32 or float16; the heads and all that follows are float32.

mod poses;

use std::sync::Arc;

use super::arch::{Activation, Architecture, CELL_PX, FEATURES, HEAD_HIDDEN, Head};
use super::{Decoder, MoveNetModel, Weights};
use crate::contract::Found;
use crate::gpu::{
    Buffers, Clamp, Depthwise, Device, Loaded, Maps, Merge, Number, OnGpu, Op, Part, Pointwise, Program,
    Result, Slot, Stem, Step, Then, Values, Widen,
};
pub(crate) use poses::{CENTER_PITCH, PoseDecoder, Poses, keypoint_pitch};

/// RGB images, as they are uploaded.
const INPUT: Part = Part("input", 0);
/// The output of an expanding 1×1 convolution.
const WIDE: Part = Part("wide", 0);
/// The output of a depthwise convolution.
const SPATIAL: Part = Part("spatial", 0);
/// The features that heads read, in float32.
const FEATURES_MAP: Part = Part("features", 0);
/// As `SPATIAL` and `WIDE`, in the heads.
const HEAD_SPATIAL: Part = Part("head spatial", 0);
const HEAD_HIDDEN_MAP: Part = Part("head hidden", 0);
const CENTER: Part = Part("center", 0);
const KEYPOINTS: Part = Part("keypoints", 0);
const POSES: Part = Part("poses", 0);

/// What goes from block to block and from level to level, in turns.
const fn trunk_of(turn: usize) -> Part {
    Part("trunk", turn)
}

/// The output of the block whose position this is, which the pyramid reads.
const fn kept_of(block: usize) -> Part {
    Part("kept", block)
}

/// A model's weights on a device.
#[derive(Debug)]
struct MoveNetOnGpu {
    /// Of maps and matrices.
    number: Number,
    architecture: Architecture,
    /// Mean, scale and shift of the input.
    constants: Slot,
    stem: Convolution,
    blocks: Vec<Block>,
    last: Convolution,
    top: Convolution,
    merges: Vec<Level>,
    /// Those that are evaluated everywhere: centre and keypoints.
    dense: [DenseHead; 2],
    decoder: Arc<PoseDecoder>,
}

/// A convolution: the stem, `[27, channels]`; of each channel by itself, `[9, channels]`; 1×1, `[channels, depth]`.
#[derive(Debug)]
struct Convolution {
    weight: Slot,
    bias: Slot,
    clamp: Clamp,
    /// Of a 1×1 convolution.
    depth: usize,
    /// Of the output.
    channels: usize,
}

#[derive(Debug)]
struct Block {
    expand: Option<Convolution>,
    depthwise: Convolution,
    project: Convolution,
}

#[derive(Debug)]
struct Level {
    lateral: Convolution,
    depthwise: Convolution,
    pointwise: Convolution,
}

#[derive(Debug)]
struct DenseHead {
    part: Part,
    depthwise: Convolution,
    hidden: Convolution,
    out: Convolution,
}

/// Puts weights on a device.
struct Loader<'a> {
    weights: &'a Weights,
    device: &'a mut dyn Device,
}

impl Loader<'_> {
    fn floats(&mut self, values: Vec<f32>) -> Result<Slot> {
        self.device.put(&Values::F32(values))
    }

    /// A 1×1 convolution in `number`, with rows of zeros up to `columns`.
    fn pointwise(
        &mut self,
        name: &str,
        activation: Activation,
        [depth, columns]: [usize; 2],
        number: Number,
    ) -> Result<Convolution> {
        let mut bias = self.weights.values(&format!("{name}.bias"));
        let weight = self.weights.values(&format!("{name}.weight"));
        let mut turned = vec![0.0; columns * depth];
        for (k, row) in weight.chunks_exact(bias.len()).enumerate() {
            for (column, value) in row.iter().enumerate() {
                turned[column * depth + k] = *value;
            }
        }
        bias.resize(columns, 0.0);
        // The weight files hold float16: exact in either kind.
        let (weight, bias) = (self.device.put(&Values::of(turned, number))?, self.floats(bias)?);
        Ok(Convolution { weight, bias, clamp: activation.into(), depth, channels: columns })
    }

    /// The stem, or a convolution of each channel by itself, with weights in `number`.
    fn spatial(
        &mut self,
        name: &str,
        has_bias: bool,
        activation: Activation,
        number: Number,
    ) -> Result<Convolution> {
        let weight = self.weights.values(&format!("{name}.weight"));
        let bias = has_bias.then(|| self.weights.values(&format!("{name}.bias")));
        let bias = bias.unwrap_or_else(|| vec![0.0; weight.len() / 9]);
        let channels = bias.len();
        let (weight, bias) = (self.device.put(&Values::of(weight, number))?, self.floats(bias)?);
        Ok(Convolution { weight, bias, clamp: activation.into(), depth: 0, channels })
    }

    fn dense(&mut self, head: Head, part: Part, pitch: usize) -> Result<DenseHead> {
        let name = head.name();
        let (hidden, out) = ([FEATURES, HEAD_HIDDEN], [HEAD_HIDDEN, pitch]);
        Ok(DenseHead {
            part,
            depthwise: self.spatial(&format!("{name}.depthwise"), false, Activation::Linear, Number::F32)?,
            hidden: self.pointwise(&format!("{name}.hidden"), Activation::Relu, hidden, Number::F32)?,
            out: self.pointwise(&format!("{name}.out"), Activation::Linear, out, Number::F32)?,
        })
    }
}

impl MoveNetOnGpu {
    fn load(weights: &Weights, decoder: &Decoder, device: &mut dyn Device, number: Number) -> Result<Self> {
        use Activation::{Linear, Relu, Relu6};
        let mut loader = Loader { weights, device };
        let architecture = weights.architecture().clone();
        let constants =
            ["input.mean", "input.scale", "input.shift"].map(|name| weights.values(name)).concat();
        let mut blocks = Vec::with_capacity(architecture.blocks.len());
        for block in &architecture.blocks {
            let name = block.name();
            let (expand, project) = ([block.inputs, block.hidden], [block.hidden, block.outputs]);
            blocks.push(Block {
                expand: match block.expands() {
                    true => Some(loader.pointwise(&format!("{name}.expand"), Relu6, expand, number)?),
                    false => None,
                },
                depthwise: loader.spatial(&format!("{name}.depthwise"), true, Relu6, number)?,
                project: loader.pointwise(&format!("{name}.project"), Linear, project, number)?,
            });
        }
        let mut merges = Vec::with_capacity(architecture.merges.len());
        for merge in &architecture.merges {
            let (lateral, name) =
                (format!("fpn.lateral{}", merge.level), format!("fpn.merge{}", merge.level));
            let (shape, of_lateral) =
                ([merge.channels, merge.outputs], [merge.lateral_inputs, merge.channels]);
            merges.push(Level {
                lateral: loader.pointwise(&lateral, Linear, of_lateral, number)?,
                depthwise: loader.spatial(&format!("{name}.depthwise"), false, Linear, number)?,
                pointwise: loader.pointwise(&format!("{name}.pointwise"), Relu, shape, number)?,
            });
        }
        let backbone_outputs = architecture.blocks[architecture.blocks.len() - 1].outputs;
        let (last, top) = ([backbone_outputs, architecture.last], [architecture.last, architecture.top]);
        Ok(Self {
            number,
            constants: loader.floats(constants)?,
            stem: loader.spatial("backbone.stem", true, Relu6, Number::F32)?,
            blocks,
            last: loader.pointwise("backbone.last", Relu6, last, number)?,
            top: loader.pointwise("fpn.lateral5", Linear, top, number)?,
            merges,
            dense: [
                loader.dense(Head::Center, CENTER, CENTER_PITCH)?,
                loader.dense(Head::Keypoints, KEYPOINTS, keypoint_pitch(architecture.keypoints))?,
            ],
            decoder: Arc::new(PoseDecoder::load(weights, decoder.clone(), loader.device)?),
            architecture,
        })
    }

    /// Answers where the decoder's numbers will be.
    fn poses(&self, pass: &mut Pass<'_>, input: Slot, maps: Maps) -> Result<Slot> {
        let mut maps_now = maps.halved();
        let stem = &self.stem;
        let mut trunk = pass.buffer(trunk_of(0), maps_now.pixels() * stem.channels)?;
        let op = Stem { maps, channels: stem.channels, clamp: stem.clamp };
        pass.step(op, &[input, self.constants, stem.weight, stem.bias], trunk);

        let kept = |index| self.architecture.merges.iter().any(|merge| merge.after_block == index);
        let mut outputs: Vec<(usize, Slot, Maps)> = Vec::new();
        let mut turn = 0;
        for (layers, block) in self.blocks.iter().zip(&self.architecture.blocks) {
            let wide = match &layers.expand {
                Some(expand) => pass.pointwise(expand, trunk, maps_now, WIDE, None)?,
                None => trunk,
            };
            let (spatial, after) = pass.spatial(&layers.depthwise, wide, maps_now, block.stride)?;
            maps_now = after;
            let part = if kept(block.index) {
                kept_of(block.index)
            } else {
                turn = 1 - turn;
                trunk_of(turn)
            };
            let residual = block.residual.then_some(trunk);
            trunk = pass.pointwise(&layers.project, spatial, maps_now, part, residual)?;
            if kept(block.index) {
                outputs.push((block.index, trunk, maps_now));
            }
        }
        let last = pass.pointwise(&self.last, trunk, maps_now, WIDE, None)?;
        trunk = pass.pointwise(&self.top, last, maps_now, trunk_of(0), None)?;
        for (layers, merge) in self.merges.iter().zip(&self.architecture.merges) {
            let found = outputs.iter().find(|(index, ..)| *index == merge.after_block);
            let (_, backbone, finer) = *found.expect("every merge reads a block of the backbone");
            maps_now = finer;
            let sum = pass.pointwise(&layers.lateral, backbone, maps_now, WIDE, None)?;
            pass.step(Merge { maps: maps_now, channels: merge.channels }, &[trunk], sum);
            let (spatial, _) = pass.spatial(&layers.depthwise, sum, maps_now, 1)?;
            trunk = pass.pointwise(&layers.pointwise, spatial, maps_now, trunk_of(0), None)?;
        }
        debug_assert_eq!([maps_now.height, maps_now.width], [maps.height / CELL_PX, maps.width / CELL_PX]);
        self.heads(pass, trunk, maps_now)
    }

    fn heads(&self, pass: &mut Pass<'_>, trunk: Slot, grid: Maps) -> Result<Slot> {
        let count = grid.pixels() * FEATURES;
        let number = std::mem::replace(&mut pass.number, Number::F32);
        let features = pass.buffer(FEATURES_MAP, count)?;
        pass.step(Widen { count, number }, &[trunk], features);
        let mut maps = Vec::with_capacity(self.dense.len());
        for head in &self.dense {
            let spatial = pass.buffer(HEAD_SPATIAL, count)?;
            pass.spatial_into(&head.depthwise, features, (grid, 1), spatial);
            let hidden = pass.pointwise(&head.hidden, spatial, grid, HEAD_HIDDEN_MAP, None)?;
            maps.push(pass.pointwise(&head.out, hidden, grid, head.part, None)?);
        }
        let poses = pass.buffer(POSES, self.decoder.buffer_len(grid))?;
        let inputs = [maps[0], maps[1], features, self.decoder.heads, self.decoder.center_weight];
        pass.step(Poses { decoder: self.decoder.clone(), grid }, &inputs, poses);
        Ok(poses)
    }
}

impl OnGpu for MoveNetModel {
    fn load(&self, device: &mut dyn Device, number: Number) -> Result<Box<dyn Loaded>> {
        Ok(Box::new(MoveNetOnGpu::load(self.weights(), &self.decoder, device, number)?))
    }
}

impl Loaded for MoveNetOnGpu {
    fn takes(&self, height: usize, width: usize) -> bool {
        self.architecture.input.takes(height, width)
    }

    fn program(&self, maps: Maps, device: &mut dyn Device, buffers: &mut Buffers) -> Result<Program> {
        let input = buffers.get(device, INPUT, Number::U8, 3 * maps.pixels())?;
        let mut pass = Pass { device, buffers, number: self.number, steps: Vec::new() };
        let output = self.poses(&mut pass, input, maps)?;
        let output_bytes = self.decoder.records_len(maps.images) * Number::F32.bytes();
        Ok(Program::new(pass.steps, input, (output, output_bytes)))
    }

    fn read(&self, output: &[u8]) -> Vec<Found> {
        self.decoder.read(output).into_iter().map(Found::Poses).collect()
    }
}

/// A program in the making.
struct Pass<'a> {
    device: &'a mut dyn Device,
    buffers: &'a mut Buffers,
    /// Of the maps.
    number: Number,
    steps: Vec<Step>,
}

impl Pass<'_> {
    fn buffer(&mut self, part: Part, len: usize) -> Result<Slot> {
        self.buffers.get(self.device, part, self.number, len)
    }

    fn step(&mut self, op: impl Op + 'static, inputs: &[Slot], output: Slot) {
        self.steps.push(Step { op: Box::new(op), inputs: inputs.to_vec(), output });
    }

    /// A 1×1 convolution, plus `residual` if there is one.
    fn pointwise(
        &mut self,
        layer: &Convolution,
        map: Slot,
        maps: Maps,
        part: Part,
        residual: Option<Slot>,
    ) -> Result<Slot> {
        let (rows, depth, columns) = (maps.pixels(), layer.depth, layer.channels);
        let output = self.buffer(part, rows * columns)?;
        let then = if residual.is_some() { Then::Residual } else { Then::Clamp(layer.clamp) };
        let inputs: Vec<_> = [map, layer.weight, layer.bias].into_iter().chain(residual).collect();
        self.step(Pointwise { rows, depth, columns, then }, &inputs, output);
        Ok(output)
    }

    /// A convolution of each channel by itself, and the size of its output.
    fn spatial(&mut self, layer: &Convolution, map: Slot, maps: Maps, stride: usize) -> Result<(Slot, Maps)> {
        let after = if stride == 1 { maps } else { maps.halved() };
        let output = self.buffer(SPATIAL, after.pixels() * layer.channels)?;
        self.spatial_into(layer, map, (maps, stride), output);
        Ok((output, after))
    }

    fn spatial_into(&mut self, layer: &Convolution, map: Slot, (maps, stride): (Maps, usize), output: Slot) {
        let op = Depthwise { maps, channels: layer.channels, stride, clamp: layer.clamp };
        self.step(op, &[map, layer.weight, layer.bias], output);
    }
}
