//! From nodes to steps. A node that no step can stand for, or that needs one that none can, stays the library's.

use cloudpose_kernels::depthwise::{Layer as Stored, Taps};
use cloudpose_kernels::elementwise::{Activation, Pairing};
use cloudpose_kernels::pointwise::{Activations, Weights};
use cloudpose_kernels::{Kernels, Slab};
use rten_onnx::onnx::{GraphProto, NodeProto};

use super::convolution::{Convolution, Depthwise, Enlarging};
use super::known::{Known, only_output};
use super::layer::Layer;
use super::map::{Shape, Window};
use super::tail::Tail;
use crate::models::onnx::nodes::Attributes;
use crate::models::onnx::sizes::{MOST_NUMBERS, MOST_PIXELS};

/// A step between maps that have no place yet; those are numbers in [`Lowered::shapes`], the input's is 0.
pub(super) struct Step {
    pub(super) layer: Layer,
    pub(super) inputs: Vec<usize>,
    pub(super) output: usize,
}

/// What came of a graph.
pub(super) struct Lowered {
    pub(super) steps: Vec<Step>,
    /// Of all maps.
    pub(super) shapes: Vec<Shape>,
    /// What the graph calls those that steps make.
    pub(super) names: Vec<(String, usize)>,
    /// For each node, whether steps stand for it.
    pub(super) taken: Vec<bool>,
}

/// Lowers what can be of `graph`, whose nodes are in order; none if there is no convolution in it.
pub(super) fn lower(graph: &GraphProto, input: &str, shape: Shape, kernels: Kernels) -> Option<Lowered> {
    let mut lowering = Lowering {
        known: Known::of(graph, input, shape),
        kernels,
        slab: Slab::default(),
        are_rectified: vec![false],
        steps: Vec::new(),
    };
    for index in 0..graph.node.len() {
        if !lowering.known.taken[index] && lowering.node(index).is_some() {
            lowering.known.taken[index] = true;
        }
    }
    let Lowering { known: Known { maps, shapes, taken, .. }, steps, .. } = lowering;
    let is_convolution =
        |step: &Step| matches!(step.layer, Layer::Convolution(_) | Layer::Depthwise(_) | Layer::Enlarging(_));
    let made = maps.into_iter().filter(|&(_, map)| map > 0);
    let names = made.map(|(name, map)| (name.to_owned(), map)).collect();
    steps.iter().any(is_convolution).then_some(Lowered { steps, shapes, names, taken })
}

struct Lowering<'a> {
    known: Known<'a>,
    kernels: Kernels,
    slab: Slab,
    /// Of each map, whether nothing in it is negative and much is likely 0.
    are_rectified: Vec<bool>,
    steps: Vec<Step>,
}

impl<'a> Lowering<'a> {
    /// Lowers a node, with what follows it if that fits; none if it stays the library's.
    fn node(&mut self, index: usize) -> Option<()> {
        let node = &self.known.nodes[index];
        let attributes = Attributes(node);
        match node.op_type.as_deref()? {
            "Conv" => self.convolution(node),
            "ConvTranspose" => self.enlarging(node),
            "Identity" => {
                let map = self.known.map(node, 0)?;
                self.known.maps.insert(only_output(node)?, map);
                Some(())
            }
            "Relu" | "Clip" | "Sigmoid" | "HardSigmoid" | "HardSwish" => {
                let activation = self.known.activation(node)?;
                let shape = self.known.shapes[self.known.map(node, 0)?];
                self.push(node, Layer::Activation(activation), 1, shape)
            }
            "Add" => self.pair(node, Pairing::Sum),
            "Mul" => self.pair(node, Pairing::Product),
            "GlobalAveragePool" => {
                let shape = self.known.shapes[self.known.map(node, 0)?];
                self.push(node, Layer::Mean, 1, Shape { height: 1, width: 1, ..shape })
            }
            "MaxPool" => {
                let shape = self.known.shapes[self.known.map(node, 0)?];
                let window = window(attributes, attributes.sizes("kernel_shape", 0)?)?;
                let is_plain = attributes.integer("ceil_mode").unwrap_or(0) == 0 && node.output.len() == 1;
                // Each window has something of the map in it.
                let is_inside = (0..2).all(|axis| {
                    window.before[axis].max(window.behind[axis]) < window.size[axis] && window.size[axis] > 0
                });
                let [height, width] = window.outputs(shape).filter(|_| is_plain && is_inside)?;
                self.push(node, Layer::Maximum(window), 1, Shape { height, width, ..shape })
            }
            "Concat" => {
                if ![1, -3].contains(&attributes.integer("axis")?) {
                    return None;
                }
                let maps: Vec<usize> =
                    (0..node.input.len()).map(|at| self.known.map(node, at)).collect::<Option<_>>()?;
                let first = self.known.shapes[*maps.first()?];
                let is_same =
                    |&map: &usize| Shape { channels: first.channels, ..self.known.shapes[map] } == first;
                let channels = maps.iter().map(|&map| self.known.shapes[map].channels).sum();
                maps.iter().all(is_same).then_some(())?;
                self.push(node, Layer::Concat, maps.len(), Shape { channels, ..first })
            }
            "Resize" | "Upsample" => self.nearest(node),
            "Slice" => self.slice(node),
            "Split" => self.split(node),
            _ => None,
        }
    }

    /// Appends a step on the first inputs of `node`, for its only output.
    fn push(&mut self, node: &'a NodeProto, layer: Layer, inputs: usize, shape: Shape) -> Option<()> {
        let inputs = (0..inputs).map(|at| self.known.map(node, at)).collect::<Option<_>>()?;
        self.append(only_output(node)?, layer, inputs, shape)
    }

    fn append(&mut self, name: &'a str, layer: Layer, inputs: Vec<usize>, shape: Shape) -> Option<()> {
        let floats = shape.height.checked_mul(shape.width)?.checked_mul(shape.channels)?;
        let is_bounded = (1..=MOST_NUMBERS).contains(&floats)
            && layer.scratch(self.known.shapes[inputs[0]], shape) <= MOST_NUMBERS;
        is_bounded.then_some(())?;
        self.are_rectified.push(match &layer {
            Layer::Activation(Activation::Clamp(clamp)) => clamp.low == 0.0,
            Layer::Part { .. } | Layer::Nearest { .. } | Layer::Maximum(_) => self.are_rectified[inputs[0]],
            _ => false,
        });
        self.known.shapes.push(shape);
        let output = self.known.shapes.len() - 1;
        self.steps.push(Step { layer, inputs, output });
        self.known.maps.insert(name, output);
        Some(())
    }

    /// Appends a convolution with its tail.
    fn append_with(&mut self, layer: Layer, input: usize, tail: &Tail<'a>, shape: Shape) -> Option<()> {
        let inputs = [input].into_iter().chain(tail.residual).chain(tail.added).collect();
        self.append(tail.name, layer, inputs, shape)?;
        let is_rectified = tail.clamp.low == 0.0 && tail.activation.is_none() && tail.added.is_none();
        self.are_rectified[self.known.shapes.len() - 1] = is_rectified;
        tail.nodes.iter().for_each(|&node| self.known.taken[node] = true);
        Some(())
    }

    fn pair(&mut self, node: &'a NodeProto, pairing: Pairing) -> Option<()> {
        let [a, b] = [self.known.map(node, 0)?, self.known.map(node, 1)?];
        let [shape, other] = [self.known.shapes[a], self.known.shapes[b]];
        let of_channels = |map: Shape, of: Shape| {
            pairing == Pairing::Product && map == Shape { height: 1, width: 1, channels: of.channels }
        };
        let (layer, inputs, shape) = if shape == other {
            (Layer::Pair(pairing), vec![a, b], shape)
        } else if of_channels(other, shape) {
            (Layer::Scale, vec![a, b], shape)
        } else if of_channels(shape, other) {
            (Layer::Scale, vec![b, a], other)
        } else {
            return None;
        };
        self.append(only_output(node)?, layer, inputs, shape)
    }

    fn convolution(&mut self, node: &'a NodeProto) -> Option<()> {
        let attributes = Attributes(node);
        let input = self.known.map(node, 0)?;
        let shape = self.known.shapes[input];
        let (sizes, weights) = self.known.constants.floats(node.input.get(1))?;
        let &[channels, depth, rows, columns] = &sizes[..] else { return None };
        let window = window(attributes, [rows, columns])?;
        let groups = usize::try_from(attributes.integer("group").unwrap_or(1)).ok()?;
        let [height, width] = window.outputs(shape)?;
        let output = Shape { height, width, channels };
        let bias = self.bias(node, channels)?;
        let is_depthwise = groups == shape.channels && groups == channels && depth == 1 && groups > 1;
        if is_depthwise {
            let tail = self.known.tail(node, output, false)?;
            let (weights, bias) = normed(weights, bias, &tail.norm);
            let taps = transposed(&weights, channels, rows * columns);
            let stride = Depthwise::stride(window)?;
            let layer = Stored { size: rows, weights: &taps, bias: Some(&bias) };
            let taps = Taps::pack(&self.kernels, &mut self.slab, layer, 0..channels, tail.clamp);
            let depthwise = Depthwise { taps, window, stride, after: tail.after() };
            depthwise.reaches(shape, output).then_some(())?;
            return self.append_with(Layer::Depthwise(depthwise), input, &tail, output);
        }
        if groups != 1 || depth != shape.channels {
            return None;
        }
        let tail = self.known.tail(node, output, true)?;
        let (weights, bias) = normed(weights, bias, &tail.norm);
        // [channels, depth, rows · columns] → [rows · columns, depth, channels].
        let taps = rows * columns;
        let mut packed = vec![0.0; weights.len()];
        for (channel, of_channel) in weights.chunks_exact(depth * taps).enumerate() {
            for (c, of_depth) in of_channel.chunks_exact(taps).enumerate() {
                for (tap, &weight) in of_depth.iter().enumerate() {
                    packed[(tap * depth + c) * channels + channel] = weight;
                }
            }
        }
        let kind = if window.is_pixel() && self.are_rectified[input] {
            Activations::Sparse
        } else {
            Activations::Dense
        };
        let weights = Weights::pack(&self.kernels, &mut self.slab, &packed, &bias, tail.clamp, kind);
        let convolution =
            Convolution { weights, window, has_residual: tail.residual.is_some(), after: tail.after() };
        self.append_with(Layer::Convolution(convolution), input, &tail, output)
    }

    /// A transposed convolution whose windows do not overlap.
    fn enlarging(&mut self, node: &'a NodeProto) -> Option<()> {
        let attributes = Attributes(node);
        let input = self.known.map(node, 0)?;
        let shape = self.known.shapes[input];
        let (sizes, weights) = self.known.constants.floats(node.input.get(1))?;
        let &[depth, channels, times, columns] = &sizes[..] else { return None };
        let window = window(attributes, [times, columns])?;
        let is_plain = window
            == Window { size: [times, times], stride: times, before: [0, 0], behind: [0, 0] }
            && attributes.integer("group").unwrap_or(1) == 1
            && attributes.sizes::<2>("output_padding", 0)? == [0, 0]
            && attributes.integers("output_shape").is_none()
            && depth == shape.channels;
        is_plain.then_some(())?;
        let bias = self.bias(node, channels)?;
        let output = Shape { height: times * shape.height, width: times * shape.width, channels };
        let tail = self.known.tail(node, output, false)?;
        let taps = times * times;
        let [factor, offset] =
            tail.norm.clone().unwrap_or_else(|| [vec![1.0; channels], vec![0.0; channels]]);
        let bias: Vec<f32> = (0..channels).map(|c| bias[c] * factor[c] + offset[c]).collect();
        let of_tap = |tap: usize| -> Vec<f32> {
            let channel = |c: usize| weights[c * taps + tap] * factor[c % channels];
            (0..depth * channels).map(channel).collect()
        };
        let mut pack = |tap: usize| {
            let (kernels, weights) = (&self.kernels, of_tap(tap));
            Weights::pack(kernels, &mut self.slab, &weights, &bias, tail.clamp, Activations::Dense)
        };
        let weights = (0..taps).map(&mut pack).collect();
        let enlarging = Enlarging { weights, times, after: tail.after() };
        self.append_with(Layer::Enlarging(enlarging), input, &tail, output)
    }

    fn bias(&self, node: &NodeProto, channels: usize) -> Option<Vec<f32>> {
        match node.input.get(2).filter(|name| !name.is_empty()) {
            Some(name) => self.known.constants.floats(Some(name)).map(|(_, bias)| bias),
            None => Some(vec![0.0; channels]),
        }
        .filter(|bias| bias.len() == channels)
    }

    fn nearest(&mut self, node: &'a NodeProto) -> Option<()> {
        let attributes = Attributes(node);
        let shape = self.known.shapes[self.known.map(node, 0)?];
        let is_old = node.op_type.as_deref() == Some("Upsample");
        let scales = self.known.constants.floats(node.input.get(if is_old { 1 } else { 2 }));
        let sizes = self.known.constants.integers(node.input.get(3));
        let target = match (scales, sizes) {
            (Some((_, scales)), _) if scales.len() == 4 => {
                (scales[0] == 1.0 && scales[1] == 1.0).then_some(())?;
                [(shape.height, scales[2]), (shape.width, scales[3])]
                    .map(|(size, scale)| (size, (size as f32 * scale) as usize, scale))
            }
            (_, Some(sizes)) if sizes.len() == 4 && sizes[1] == shape.channels as i64 => {
                [(shape.height, sizes[2]), (shape.width, sizes[3])]
                    .map(|(size, to)| (size, to as usize, to as f32 / size as f32))
            }
            _ => return None,
        };
        let mode = attributes.text("mode").unwrap_or("nearest");
        let place = attributes.text("coordinate_transformation_mode");
        let place = place.unwrap_or(if is_old { "asymmetric" } else { "half_pixel" });
        let round = attributes.text("nearest_mode");
        let round = round.unwrap_or(if is_old { "floor" } else { "round_prefer_floor" });
        (mode == "nearest" && target.iter().all(|&(_, to, _)| (1..1 << 14).contains(&to))).then_some(())?;
        let along = |(size, to, scale): (usize, usize, f32)| -> Option<Vec<usize>> {
            let source = |x: usize| {
                let from = match place {
                    "asymmetric" => x as f32 / scale,
                    "half_pixel" | "pytorch_half_pixel" if to > 1 => (x as f32 + 0.5) / scale - 0.5,
                    _ => return None,
                };
                let whole = match round {
                    "floor" => from.floor(),
                    "ceil" => from.ceil(),
                    "round_prefer_floor" => (from - 0.5).ceil(),
                    "round_prefer_ceil" => (from + 0.5).floor(),
                    _ => return None,
                };
                Some((whole.max(0.0) as usize).min(size - 1))
            };
            (0..to).map(source).collect()
        };
        let (rows, columns) = (along(target[0])?, along(target[1])?);
        let output = Shape { height: rows.len(), width: columns.len(), ..shape };
        self.push(node, Layer::Nearest { rows, columns }, 1, output)
    }

    fn slice(&mut self, node: &'a NodeProto) -> Option<()> {
        let shape = self.known.shapes[self.known.map(node, 0)?];
        let given = |at: usize| self.known.constants.integers(node.input.get(at));
        let (starts, ends) = (given(1)?, given(2)?);
        let axes = given(3).unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = match node.input.get(4).filter(|name| !name.is_empty()) {
            Some(_) => given(4)?,
            None => vec![1; starts.len()],
        };
        ([ends.len(), axes.len(), steps.len()] == [starts.len(); 3]).then_some(())?;
        // Channels, rows, columns: first, step, count.
        let sizes = [shape.channels, shape.height, shape.width];
        let mut parts = sizes.map(|size| (0, 1, size));
        for (at, &axis) in axes.iter().enumerate() {
            let axis = if axis < 0 { axis + 4 } else { axis };
            let axis = usize::try_from(axis - 1).ok().filter(|&axis| axis < 3)?;
            let size = sizes[axis] as i64;
            let place =
                |value: i64| if value < 0 { value.saturating_add(size) } else { value }.clamp(0, size);
            let (start, end) = (place(starts[at]), place(ends[at]));
            let step = usize::try_from(steps[at]).ok().filter(|&step| step > 0)?;
            let span = usize::try_from(end - start).ok().filter(|&span| span > 0)?;
            parts[axis] = (start as usize, step, span.div_ceil(step));
        }
        let [(first, 1, channels), (top, down, height), (left, across, width)] = parts else { return None };
        let layer =
            Layer::Part { channels: first..first + channels, from: [top, left], step: [down, across] };
        self.push(node, layer, 1, Shape { height, width, channels })
    }

    /// Into parts of the channels.
    fn split(&mut self, node: &'a NodeProto) -> Option<()> {
        let attributes = Attributes(node);
        let input = self.known.map(node, 0)?;
        let shape = self.known.shapes[input];
        let count = node.output.len();
        [1, -3].contains(&attributes.integer("axis").unwrap_or(0)).then_some(())?;
        let sizes = match (node.input.get(1).filter(|name| !name.is_empty()), attributes.integers("split")) {
            (Some(name), _) => self.known.constants.integers(Some(name))?,
            (None, Some(sizes)) => sizes.to_vec(),
            (None, None) if shape.channels.is_multiple_of(count) => {
                vec![(shape.channels / count) as i64; count]
            }
            _ => return None,
        };
        let sizes: Vec<usize> =
            sizes.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
        let is_whole = sizes.len() == count && sizes.iter().sum::<usize>() == shape.channels;
        (is_whole && !sizes.contains(&0)).then_some(())?;
        let mut first = 0;
        for (name, channels) in node.output.iter().zip(sizes) {
            let layer = Layer::Part { channels: first..first + channels, from: [0, 0], step: [1, 1] };
            self.append(name, layer, vec![input], Shape { channels, ..shape })?;
            first += channels;
        }
        Some(())
    }
}

/// The windows of a node, whose size its weights or attributes say.
fn window(attributes: Attributes<'_>, size: [usize; 2]) -> Option<Window> {
    let [down, across] = attributes.sizes("strides", 1)?;
    let [top, left, bottom, right] = attributes.sizes("pads", 0)?;
    let is_plain = attributes.sizes("dilations", 1)? == [1, 1]
        && attributes.text("auto_pad").is_none_or(|pad| pad == "NOTSET" || pad.is_empty())
        && attributes.sizes::<2>("kernel_shape", 0).is_some_and(|given| given == [0, 0] || given == size)
        && down == across
        && [down, top, left, bottom, right].iter().chain(&size).all(|&pixels| pixels <= MOST_PIXELS)
        && down > 0
        && size.iter().all(|&size| size > 0);
    is_plain.then_some(Window { size, stride: down, before: [top, left], behind: [bottom, right] })
}

/// Weights, a row for each channel, and biases with a batch norm in them.
fn normed(mut weights: Vec<f32>, mut bias: Vec<f32>, norm: &Option<[Vec<f32>; 2]>) -> (Vec<f32>, Vec<f32>) {
    if let Some([factor, offset]) = norm {
        let row = weights.len() / bias.len();
        for (weights, factor) in weights.chunks_exact_mut(row).zip(factor) {
            weights.iter_mut().for_each(|weight| *weight *= factor);
        }
        bias.iter_mut().zip(factor.iter().zip(offset)).for_each(|(bias, (f, o))| *bias = *bias * f + o);
    }
    (weights, bias)
}

/// `[rows, columns]` → `[columns, rows]`.
fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..rows * columns).map(|at| matrix[at % rows * columns + at / rows]).collect()
}
