//! MoveNet on a candle device, a batch at a time: pictures in, poses out, nothing in between on the host.
//!
//! The same layers as [`crate::models::movenet::reference`], which is the reference, built from the same [`Architecture`] and
//! weights. Maps are NHWC, in float32 or float16; the heads and all that follows are float32.

use candle_core::{DType, Device, Result, Tensor};

use super::buffers::{Buffers, Part};
use super::ops::input::{ModelInput, StemWindows, WINDOW};
use super::ops::layers::{Depthwise, Finish, Merge, Then, Widen};
use super::ops::matmul::MatMul;
use super::ops::poses::{CENTER_PITCH, PoseDecoder, Poses, keypoint_pitch};
use super::ops::{Clamp, Maps};
use super::run::run;
use crate::models::movenet::Weights;
use crate::models::movenet::arch::{Activation, Architecture, CELL_PX, FEATURES, HEAD_HIDDEN, Head};

/// A model's weights on a device.
#[derive(Debug)]
pub(super) struct DeviceModel {
    dtype: DType,
    architecture: Architecture,
    /// Mean, scale and shift of the input.
    constants: Tensor,
    stem: Pointwise,
    blocks: Vec<Block>,
    last: Pointwise,
    top: Pointwise,
    merges: Vec<Level>,
    /// Those that are evaluated everywhere: centre and keypoints.
    dense: [DenseHead; 2],
    decoder: PoseDecoder,
}

/// A 1×1 convolution.
#[derive(Debug)]
struct Pointwise {
    /// `[depth, columns]`.
    weight: Tensor,
    bias: Tensor,
    clamp: Clamp,
    depth: usize,
    columns: usize,
}

/// A 3×3 convolution of each channel by itself.
#[derive(Debug)]
struct Spatial {
    /// `[9, channels]`.
    weight: Tensor,
    bias: Tensor,
    clamp: Clamp,
    channels: usize,
}

#[derive(Debug)]
struct Block {
    expand: Option<Pointwise>,
    depthwise: Spatial,
    project: Pointwise,
}

#[derive(Debug)]
struct Level {
    lateral: Pointwise,
    depthwise: Spatial,
    pointwise: Pointwise,
}

#[derive(Debug)]
struct DenseHead {
    part: Part,
    depthwise: Spatial,
    hidden: Pointwise,
    out: Pointwise,
}

/// Puts weights on a device.
struct Loader<'a> {
    weights: &'a Weights,
    device: &'a Device,
    /// Of matrices.
    dtype: DType,
}

impl Loader<'_> {
    fn tensor(&self, values: Vec<f32>, dtype: DType) -> Result<Tensor> {
        let len = values.len();
        // The weight files hold float16: exact in either type.
        Tensor::from_vec(values, len, &Device::Cpu)?.to_dtype(dtype)?.to_device(self.device)
    }

    /// `name`'s weight, with rows and columns of zeros up to `depth` and `columns`.
    fn padded(&self, name: &str, activation: Activation, depth: usize, columns: usize) -> Result<Pointwise> {
        let mut bias = self.weights.values(&format!("{name}.bias"));
        let weight = self.weights.values(&format!("{name}.weight"));
        let mut padded = vec![0.0; depth * columns];
        for (to, from) in padded.chunks_exact_mut(columns).zip(weight.chunks_exact(bias.len())) {
            to[..from.len()].copy_from_slice(from);
        }
        bias.resize(columns, 0.0);
        let (weight, bias) = (self.tensor(padded, self.dtype)?, self.tensor(bias, DType::F32)?);
        Ok(Pointwise { weight, bias, clamp: activation.into(), depth, columns })
    }

    fn pointwise(
        &self,
        name: &str,
        activation: Activation,
        [depth, columns]: [usize; 2],
    ) -> Result<Pointwise> {
        self.padded(name, activation, depth, columns)
    }

    fn spatial(&self, name: &str, has_bias: bool, activation: Activation) -> Result<Spatial> {
        let weight = self.weights.values(&format!("{name}.weight"));
        let channels = weight.len() / 9;
        let bias = if has_bias { self.weights.values(&format!("{name}.bias")) } else { vec![0.0; channels] };
        Ok(Spatial {
            weight: self.tensor(weight, DType::F32)?,
            bias: self.tensor(bias, DType::F32)?,
            clamp: activation.into(),
            channels,
        })
    }
}

impl DeviceModel {
    /// Puts a model on `device`, with matrices and maps in `dtype`, float32 or float16.
    pub(super) fn load(weights: &Weights, device: &Device, dtype: DType) -> Result<Self> {
        use Activation::{Linear, Relu, Relu6};
        let loader = Loader { weights, device, dtype };
        let architecture = weights.architecture().clone();
        let constants =
            ["input.mean", "input.scale", "input.shift"].map(|name| weights.values(name)).concat();
        let blocks = architecture.blocks.iter().map(|block| {
            let name = block.name();
            let expand = format!("{name}.expand");
            let expand = block
                .expands()
                .then(|| loader.pointwise(&expand, Relu6, [block.inputs, block.hidden]))
                .transpose()?;
            let project = format!("{name}.project");
            Ok(Block {
                expand,
                depthwise: loader.spatial(&format!("{name}.depthwise"), true, Relu6)?,
                project: loader.pointwise(&project, Linear, [block.hidden, block.outputs])?,
            })
        });
        let merges = architecture.merges.iter().map(|merge| {
            let (lateral, name) =
                (format!("fpn.lateral{}", merge.level), format!("fpn.merge{}", merge.level));
            let shape = [merge.channels, merge.outputs];
            Ok(Level {
                lateral: loader.pointwise(&lateral, Linear, [merge.lateral_inputs, merge.channels])?,
                depthwise: loader.spatial(&format!("{name}.depthwise"), false, Linear)?,
                pointwise: loader.pointwise(&format!("{name}.pointwise"), Relu, shape)?,
            })
        });
        let wide = Loader { dtype: DType::F32, ..loader };
        let dense = |head: Head, part, pitch| {
            let name = head.name();
            Ok::<_, candle_core::Error>(DenseHead {
                part,
                depthwise: wide.spatial(&format!("{name}.depthwise"), false, Linear)?,
                hidden: wide.pointwise(&format!("{name}.hidden"), Relu, [FEATURES, HEAD_HIDDEN])?,
                out: wide.padded(&format!("{name}.out"), Linear, HEAD_HIDDEN, pitch)?,
            })
        };
        let backbone_outputs = architecture.blocks[architecture.blocks.len() - 1].outputs;
        Ok(Self {
            dtype,
            constants: loader.tensor(constants, DType::F32)?,
            stem: loader.padded("backbone.stem", Relu6, WINDOW, architecture.stem)?,
            blocks: blocks.collect::<Result<_>>()?,
            last: loader.pointwise("backbone.last", Relu6, [backbone_outputs, architecture.last])?,
            top: loader.pointwise("fpn.lateral5", Linear, [architecture.last, architecture.top])?,
            merges: merges.collect::<Result<_>>()?,
            dense: [
                dense(Head::Center, Part::Center, CENTER_PITCH)?,
                dense(Head::Keypoints, Part::Keypoints, keypoint_pitch(architecture.keypoints))?,
            ],
            decoder: PoseDecoder::load(weights, device)?,
            architecture,
        })
    }

    /// Whether it takes inputs of that size.
    pub(super) fn takes(&self, height: usize, width: usize) -> bool {
        self.architecture.input.takes(height, width)
    }

    /// What makes poses of the numbers that [`forward`](Self::forward) answers.
    pub(super) fn decoder(&self) -> &PoseDecoder {
        &self.decoder
    }

    /// Runs a batch of uploaded pictures. `maps`: how many there are, and the model input's size. Answers the
    /// decoder's buffer, on the device.
    pub(super) fn forward(&self, upload: &Tensor, maps: Maps, buffers: &mut Buffers) -> Result<Tensor> {
        let input = self.input(upload, maps, buffers)?;
        self.poses(&input, maps, buffers)
    }

    /// Uploaded pictures as normalised RGB.
    pub(super) fn input(&self, upload: &Tensor, maps: Maps, buffers: &mut Buffers) -> Result<Tensor> {
        let input = buffers.get(Part::Input, self.dtype, maps.pixels() * 3)?;
        run(&ModelInput { maps }, &[upload, &self.constants], &input)?;
        Ok(input)
    }

    /// From normalised RGB on.
    fn poses(&self, input: &Tensor, maps: Maps, buffers: &mut Buffers) -> Result<Tensor> {
        let mut pass = Pass { buffers, dtype: self.dtype };
        let mut maps_now = maps.halved();
        let windows = pass.buffers.get(Part::Windows, self.dtype, maps_now.pixels() * WINDOW)?;
        run(&StemWindows { maps }, &[input], &windows)?;
        let mut trunk = pass.pointwise(&self.stem, &windows, maps_now, Part::Trunk(0), None)?;

        let kept = |index| self.architecture.merges.iter().any(|merge| merge.after_block == index);
        let mut outputs: Vec<(usize, Tensor, Maps)> = Vec::new();
        let mut turn = 0;
        for (layers, block) in self.blocks.iter().zip(&self.architecture.blocks) {
            let wide = match &layers.expand {
                Some(expand) => pass.pointwise(expand, &trunk, maps_now, Part::Wide, None)?,
                None => trunk.clone(),
            };
            let (spatial, after) = pass.spatial(&layers.depthwise, &wide, maps_now, block.stride)?;
            maps_now = after;
            let part = if kept(block.index) {
                Part::Kept(block.index)
            } else {
                turn = 1 - turn;
                Part::Trunk(turn)
            };
            let residual = block.residual.then_some(&trunk);
            trunk = pass.pointwise(&layers.project, &spatial, maps_now, part, residual)?;
            if kept(block.index) {
                outputs.push((block.index, trunk.clone(), maps_now));
            }
        }
        let last = pass.pointwise(&self.last, &trunk, maps_now, Part::Wide, None)?;
        trunk = pass.pointwise(&self.top, &last, maps_now, Part::Trunk(0), None)?;
        for (layers, merge) in self.merges.iter().zip(&self.architecture.merges) {
            let found = outputs.iter().find(|(index, ..)| *index == merge.after_block);
            let (_, backbone, finer) = found.expect("every merge reads a block of the backbone");
            maps_now = *finer;
            let sum = pass.product(&layers.lateral, backbone, maps_now, Part::Wide)?;
            let op = Merge { maps: maps_now, channels: merge.channels };
            run(&op, &[&layers.lateral.bias, &trunk], &sum)?;
            let (spatial, _) = pass.spatial(&layers.depthwise, &sum, maps_now, 1)?;
            trunk = pass.pointwise(&layers.pointwise, &spatial, maps_now, Part::Trunk(0), None)?;
        }
        debug_assert_eq!([maps_now.height, maps_now.width], [maps.height / CELL_PX, maps.width / CELL_PX]);
        self.heads(pass, &trunk, maps_now)
    }

    /// From RGB, 0 to 255 on the host, on.
    #[cfg(test)]
    pub(super) fn forward_rgb(&self, rgb: &Tensor, maps: Maps, buffers: &mut Buffers) -> Result<Tensor> {
        let constants = self.constants.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
        let normalised =
            rgb.to_vec1::<u8>()?.into_iter().enumerate().map(|(i, level)| {
                (f32::from(level) - constants[i % 3]) * constants[3 + i % 3] - constants[6]
            });
        let normalised = Tensor::from_iter(normalised, &Device::Cpu)?.to_dtype(self.dtype)?;
        self.poses(&normalised.to_device(self.constants.device())?, maps, buffers)
    }

    fn heads(&self, pass: Pass<'_>, trunk: &Tensor, grid: Maps) -> Result<Tensor> {
        let count = grid.pixels() * FEATURES;
        let features = pass.buffers.get(Part::Features, DType::F32, count)?;
        run(&Widen { count, dtype: self.dtype }, &[trunk], &features)?;
        let mut pass = Pass { dtype: DType::F32, ..pass };
        let mut maps = Vec::with_capacity(self.dense.len());
        for head in &self.dense {
            let spatial = pass.buffers.get(Part::HeadSpatial, DType::F32, count)?;
            pass.spatial_into(&head.depthwise, &features, (grid, 1), &spatial)?;
            let hidden = pass.pointwise(&head.hidden, &spatial, grid, Part::HeadHidden, None)?;
            maps.push(pass.pointwise(&head.out, &hidden, grid, head.part, None)?);
        }
        let poses = pass.buffers.get(Part::Poses, DType::F32, self.decoder.buffer_len(grid))?;
        let inputs = [&maps[0], &maps[1], &features, &self.decoder.heads, &self.decoder.center_weight];
        run(&Poses { decoder: &self.decoder, grid }, &inputs, &poses)?;
        Ok(poses)
    }
}

/// One batch on its way through the network.
struct Pass<'a> {
    buffers: &'a mut Buffers,
    dtype: DType,
}

impl Pass<'_> {
    /// The sums of a 1×1 convolution, without what follows them.
    fn product(&mut self, layer: &Pointwise, map: &Tensor, maps: Maps, part: Part) -> Result<Tensor> {
        let (rows, depth, columns) = (maps.pixels(), layer.depth, layer.columns);
        let output = self.buffers.get(part, self.dtype, rows * columns)?;
        run(&MatMul { rows, depth, columns }, &[map, &layer.weight], &output)?;
        Ok(output)
    }

    /// A 1×1 convolution, plus `residual` if there is one.
    fn pointwise(
        &mut self,
        layer: &Pointwise,
        map: &Tensor,
        maps: Maps,
        part: Part,
        residual: Option<&Tensor>,
    ) -> Result<Tensor> {
        let output = self.product(layer, map, maps, part)?;
        let finish = |then| Finish { pixels: maps.pixels(), channels: layer.columns, then };
        match residual {
            Some(residual) => run(&finish(Then::Residual), &[&layer.bias, residual], &output)?,
            None => run(&finish(Then::Clamp(layer.clamp)), &[&layer.bias], &output)?,
        }
        Ok(output)
    }

    /// A depthwise convolution, and the size of its output.
    fn spatial(
        &mut self,
        layer: &Spatial,
        map: &Tensor,
        maps: Maps,
        stride: usize,
    ) -> Result<(Tensor, Maps)> {
        let after = if stride == 1 { maps } else { maps.halved() };
        let output = self.buffers.get(Part::Spatial, self.dtype, after.pixels() * layer.channels)?;
        self.spatial_into(layer, map, (maps, stride), &output)?;
        Ok((output, after))
    }

    fn spatial_into(
        &self,
        layer: &Spatial,
        map: &Tensor,
        (maps, stride): (Maps, usize),
        output: &Tensor,
    ) -> Result<()> {
        let op = Depthwise { maps, channels: layer.channels, stride, clamp: layer.clamp };
        run(&op, &[map, &layer.weight, &layer.bias], output)
    }
}
