//! Trunks against the library, which runs the same graphs as a whole.

use std::cell::RefCell;
use std::sync::Arc;

use cloudpose_kernels::Isa;
use rten_onnx::onnx::{AttributeProto, DataType, ModelProto, NodeProto, OperatorSetIdProto, TensorProto};
use rten_tensor::prelude::*;

use super::*;

/// Nodes and weights that are appended; numbers that are always the same.
#[derive(Default)]
struct Writer {
    nodes: Vec<NodeProto>,
    weights: Vec<TensorProto>,
}

fn integers(name: &str, values: &[i64]) -> AttributeProto {
    let values = values.to_vec();
    AttributeProto { name: Some(name.into()), ints: values, ..AttributeProto::default() }
}

fn integer(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: Some(name.into()), i: Some(value), ..AttributeProto::default() }
}

fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: Some(name.into()), f: Some(value), ..AttributeProto::default() }
}

fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto { name: Some(name.into()), s: Some(value.into()), ..AttributeProto::default() }
}

/// A number between −1 and 1 for each place.
fn noise(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|at| ((at * 7919 + seed * 104_729 + at * at % 311) % 2003) as f32 / 1001.5 - 1.0).collect()
}

impl Writer {
    fn node(&mut self, operator: &str, inputs: &[&str], attributes: &[AttributeProto]) -> String {
        let output = format!("{operator}_{}", self.nodes.len());
        self.nodes.push(NodeProto {
            op_type: Some(operator.into()),
            input: inputs.iter().map(|&input| input.into()).collect(),
            output: vec![output.clone()],
            attribute: attributes.to_vec(),
            ..NodeProto::default()
        });
        output
    }

    fn tensor(&mut self, kind: DataType, dims: &[usize], bytes: Vec<u8>) -> String {
        let name = format!("w{}", self.weights.len());
        self.weights.push(TensorProto {
            name: Some(name.clone()),
            dims: dims.iter().map(|&size| size as i64).collect(),
            data_type: Some(kind),
            raw_data: Some(RefCell::new(bytes)),
            ..TensorProto::default()
        });
        name
    }

    fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        self.tensor(DataType::FLOAT, dims, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn numbers(&mut self, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(DataType::INT64, &[values.len()], bytes)
    }

    /// Weights that keep numbers about as large as they are.
    fn drawn(&mut self, dims: &[usize]) -> String {
        let count = dims.iter().product();
        let row: usize = dims[1..].iter().product();
        let scale = 1.5 / (row as f32).sqrt();
        let seed = self.weights.len();
        self.floats(dims, &noise(count, seed).iter().map(|value| value * scale).collect::<Vec<_>>())
    }

    fn conv(
        &mut self,
        x: &str,
        [inputs, outputs]: [usize; 2],
        window: usize,
        stride: i64,
        groups: usize,
    ) -> String {
        self.conv_padded(x, [inputs, outputs], [window, window], (stride, [window as i64 / 2; 4]), groups)
    }

    fn conv_padded(
        &mut self,
        x: &str,
        [inputs, outputs]: [usize; 2],
        [rows, columns]: [usize; 2],
        (stride, pads): (i64, [i64; 4]),
        groups: usize,
    ) -> String {
        let weights = self.drawn(&[outputs, inputs / groups, rows, columns]);
        let bias = self.floats(&[outputs], &noise(outputs, 3));
        let attributes = [
            integers("strides", &[stride; 2]),
            integers("pads", &pads),
            integer("group", groups as i64),
            integers("kernel_shape", &[rows as i64, columns as i64]),
        ];
        self.node("Conv", &[x, &weights, &bias], &attributes)
    }

    fn norm(&mut self, x: &str, channels: usize) -> String {
        let parts: Vec<String> =
            (0..3).map(|seed| self.floats(&[channels], &noise(channels, seed))).collect();
        let variance: Vec<f32> = noise(channels, 9).iter().map(|value| value + 1.5).collect();
        let variance = self.floats(&[channels], &variance);
        let inputs = [x, &parts[0], &parts[1], &parts[2], &variance];
        self.node("BatchNormalization", &inputs, &[float("epsilon", 1e-3)])
    }

    fn silu(&mut self, x: &str) -> String {
        let gate = self.node("Sigmoid", &[x], &[]);
        self.node("Mul", &[x, &gate], &[])
    }

    fn graph(self, outputs: &[String]) -> GraphProto {
        let value = |name: &str| ValueInfoProto { name: Some(name.into()), r#type: None };
        GraphProto {
            node: self.nodes,
            initializer: self.weights,
            input: vec![value("x")],
            output: outputs.iter().map(|name| value(name)).collect(),
            ..GraphProto::default()
        }
    }
}

/// What the library makes of a graph.
fn by_the_library(
    graph: &GraphProto,
    [width, height]: [usize; 2],
    input: &[f32],
) -> Vec<(Vec<usize>, Vec<f32>)> {
    let opset_import = vec![OperatorSetIdProto { domain: None, version: Some(17) }];
    let proto =
        ModelProto { ir_version: Some(9), graph: Some(graph.clone()), opset_import, ..ModelProto::default() };
    let model = rten::ModelOptions::with_all_ops().load(proto.write_buf().unwrap()).unwrap();
    let input = rten_tensor::TensorView::try_from_data(&[1, 3, height, width][..], input).unwrap();
    let made = model.run(vec![(model.input_ids()[0], input.into())], model.output_ids(), None).unwrap();
    let map = |value: rten::Value| match value {
        rten::Value::FloatTensor(tensor) => (tensor.shape().to_vec(), tensor.to_vec()),
        other => panic!("{other:?}"),
    };
    made.into_iter().map(map).collect()
}

/// Holds a graph of `x`, which all must become steps, to the library, on every instruction set and on threads.
fn holds(what: &str, size: [usize; 2], outputs: &[String], writer: Writer) {
    let graph = writer.graph(outputs);
    let input = noise(3 * size[0] * size[1], 1);
    let expected = by_the_library(&graph, size, &input);
    for kernels in Isa::ALL.into_iter().filter_map(|isa| Kernels::of(isa).ok()) {
        let mut rest = graph.clone();
        let trunk = Trunk::cut(&mut rest, "x", size, kernels).expect(what);
        assert!(rest.node.is_empty() && rest.initializer.is_empty(), "{what}: {:?} stay", rest.node);
        let (mut memory, isa) = (trunk.memory(1), kernels.isa());
        let mut left = trunk.run(&mut memory, None, &input);
        for (name, (shape, values)) in outputs.iter().zip(&expected) {
            let (_, got_shape, got) = left.iter().find(|(other, ..)| other == name).expect(what);
            assert_eq!(got_shape[..], shape[..], "{what}");
            let largest = values.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
            let worst = got.iter().zip(values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst <= 2e-5 * largest, "{what} on {isa}: {name} is off by {worst:e} of {largest}");
        }
        let again = trunk.run(&mut memory, None, &input);
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap());
        let mut shared = trunk.run(&mut trunk.memory(3), Some(&pool), &input);
        left.sort_by(|a, b| a.0.cmp(&b.0));
        shared.sort_by(|a, b| a.0.cmp(&b.0));
        assert!(left == shared, "{what} on {isa}: threads give other numbers");
        assert!(again.iter().all(|map| left.contains(map)), "{what} on {isa}: what ran before left its mark");
    }
}

#[test]
fn convolutions_of_every_size_stride_and_padding() {
    for (window, stride) in [(1, 1), (1, 2), (2, 2), (3, 1), (3, 2), (5, 1), (5, 3), (7, 1)] {
        for channels in [5, 48] {
            for size in [[19, 13], [40, 22]] {
                let mut writer = Writer::default();
                let x = writer.conv("x", [3, channels], 3, 1, 1);
                let y = writer.conv(&x, [channels, 20], window, stride, 1);
                holds(&format!("{window}×{window} by {stride} of {channels}"), size, &[y], writer);
            }
        }
    }
    let mut writer = Writer::default();
    let x = writer.conv_padded("x", [3, 9], [3, 5], (1, [0, 3, 2, 0]), 1);
    holds("a window that is not square", [20, 17], &[x], writer);
}

#[test]
fn depthwise_convolutions_as_both_tensorflow_and_pytorch_pad_them() {
    for size in [[24, 16], [23, 21]] {
        for (window, stride, pads) in [
            (3, 1, [1; 4]),
            (5, 1, [2; 4]),
            (3, 2, [1; 4]),
            (5, 2, [2; 4]),
            (3, 2, [0, 0, 1, 1]),
            (5, 2, [1, 1, 2, 2]),
            (3, 2, [0; 4]),
        ] {
            let mut writer = Writer::default();
            let x = writer.conv("x", [3, 21], 1, 1, 1);
            let y = writer.conv_padded(&x, [21, 21], [window, window], (stride, pads), 21);
            let y = writer.silu(&y);
            holds(&format!("{window}×{window} by {stride}, {pads:?}, {size:?}"), size, &[y], writer);
        }
    }
}

#[test]
fn what_follows_a_convolution_becomes_part_of_it() {
    type Follow = fn(&mut Writer, &str, &str) -> String;
    let cases: [(&str, Follow); 9] = [
        ("relu", |w, x, _| w.node("Relu", &[x], &[])),
        ("norm, then relu", |w, x, _| {
            let x = w.norm(x, 12);
            w.node("Relu", &[&x], &[])
        }),
        ("silu", |w, x, _| w.silu(x)),
        ("hard swish", |w, x, _| {
            let gate = w.node("HardSigmoid", &[x], &[float("alpha", 1.0 / 6.0), float("beta", 0.5)]);
            w.node("Mul", &[&gate, x], &[])
        }),
        ("sigmoid", |w, x, _| w.node("Sigmoid", &[x], &[])),
        ("sum, then relu", |w, x, before| {
            let x = w.node("Add", &[x, before], &[]);
            w.node("Relu", &[&x], &[])
        }),
        ("silu, then sum", |w, x, before| {
            let x = w.silu(x);
            w.node("Add", &[before, &x], &[])
        }),
        ("norm, relu, sum", |w, x, before| {
            let x = w.norm(x, 12);
            let x = w.node("Relu", &[&x], &[]);
            w.node("Add", &[before, &x], &[])
        }),
        ("a range", |w, x, _| {
            let bounds = [-0.25, 0.5].map(|bound| w.floats(&[], &[bound]));
            w.node("Clip", &[x, &bounds[0], &bounds[1]], &[])
        }),
    ];
    for (what, follow) in cases {
        for groups in [1, 12] {
            let mut writer = Writer::default();
            let before = writer.conv("x", [3, 12], 3, 1, 1);
            let x = writer.conv(&before, [12, 12], 3, 1, groups);
            let y = follow(&mut writer, &x, &before);
            let graph = writer.graph(std::slice::from_ref(&y));
            let trunk = Trunk::cut(&mut graph.clone(), "x", [11, 9], Kernels::detect().unwrap()).unwrap();
            // The sums of single channels do not go on from another map's numbers.
            let steps = if (what, groups) == ("sum, then relu", 12) { 3 } else { 2 };
            assert_eq!(trunk.steps.len(), steps, "{what} by {groups}");
            holds(what, [11, 9], &[y], Writer { nodes: graph.node, weights: graph.initializer });
        }
    }
}

#[test]
fn a_map_that_others_use_too_is_kept() {
    // The convolution's sums are an output, and the gate is used twice.
    let mut writer = Writer::default();
    let x = writer.conv("x", [3, 8], 3, 1, 1);
    let gate = writer.node("Sigmoid", &[&x], &[]);
    let product = writer.node("Mul", &[&x, &gate], &[]);
    let y = writer.node("Add", &[&product, &gate], &[]);
    let y = writer.node("Relu", &[&y], &[]);
    holds("many users", [10, 8], &[x, y], writer);
}

#[test]
fn maps_are_joined_cut_pooled_and_enlarged() {
    let mut writer = Writer::default();
    let x = writer.conv("x", [3, 16], 3, 1, 1);
    let x = writer.silu(&x);
    let pool = |window: i64, stride: i64| {
        [
            integers("kernel_shape", &[window; 2]),
            integers("strides", &[stride; 2]),
            integers("pads", &[window / 2; 4]),
        ]
    };
    let pooled = [5, 9].map(|window| writer.node("MaxPool", &[&x], &pool(window, 1)));
    let joined = writer.node("Concat", &[&x, &pooled[0], &pooled[1]], &[integer("axis", 1)]);
    let halved = writer.node("MaxPool", &[&joined], &pool(3, 2));
    let mean = writer.node("GlobalAveragePool", &[&halved], &[]);
    let gate = writer.conv(&mean, [48, 48], 1, 1, 1);
    let gate = writer.node("HardSigmoid", &[&gate], &[float("alpha", 1.0 / 6.0), float("beta", 0.5)]);
    let gated = writer.node("Mul", &[&halved, &gate], &[]);
    let [starts, ends, axes] = [[2, 1], [-1, i64::MAX], [1, -1]].map(|values| writer.numbers(&values));
    let steps = writer.numbers(&[1, 3]);
    let part = writer.node("Slice", &[&gated, &starts, &ends, &axes, &steps], &[]);
    holds("a head of many parts", [22, 14], &[gated, part], writer);

    let mut writer = Writer::default();
    let x = writer.conv("x", [3, 6], 1, 1, 1);
    let square = writer.drawn(&[6, 10, 2, 2]);
    let x = writer.node(
        "ConvTranspose",
        &[&x, &square],
        &[integers("strides", &[2, 2]), integers("dilations", &[1, 1]), integers("pads", &[0; 4])],
    );
    let x = writer.norm(&x, 10);
    let x = writer.node("Relu", &[&x], &[]);
    holds("enlarged by weights", [9, 7], &[x], writer);
}

#[test]
fn the_nearest_pixel_is_onnxs() {
    for (place, round, factor) in [
        ("asymmetric", "floor", 2.0),
        ("asymmetric", "floor", 3.0),
        ("asymmetric", "round_prefer_floor", 4.0),
        ("half_pixel", "round_prefer_floor", 2.0),
        ("half_pixel", "floor", 2.0),
        ("half_pixel", "round_prefer_ceil", 3.0),
        ("half_pixel", "ceil", 0.5),
    ] {
        let mut writer = Writer::default();
        let x = writer.conv("x", [3, 7], 1, 1, 1);
        let scales = writer.floats(&[4], &[1.0, 1.0, factor, factor]);
        let attributes = [
            text("mode", "nearest"),
            text("coordinate_transformation_mode", place),
            text("nearest_mode", round),
        ];
        let x = writer.node("Resize", &[&x, "", &scales], &attributes);
        holds(&format!("{place} {round} {factor}"), [10, 6], &[x], writer);
    }
}

#[test]
fn channels_are_split() {
    let mut writer = Writer::default();
    let x = writer.conv("x", [3, 12], 3, 2, 1);
    let sizes = writer.numbers(&[4, 8]);
    let first = writer.node("Split", &[&x, &sizes], &[integer("axis", 1)]);
    let second = "second".to_owned();
    writer.nodes.last_mut().unwrap().output.push(second.clone());
    holds("split", [16, 12], &[first, second], writer);
}

#[test]
fn what_cannot_be_a_step_stays_with_what_needs_it() {
    let mut writer = Writer::default();
    let x = writer.conv("x", [3, 8], 3, 1, 1);
    let y = writer.conv(&x, [8, 8], 3, 1, 1);
    writer.nodes[1].attribute.push(integers("dilations", &[2, 2]));
    let z = writer.node("Relu", &[&y], &[]);
    let graph = writer.graph(std::slice::from_ref(&z));
    let mut rest = graph.clone();
    let trunk = Trunk::cut(&mut rest, "x", [12, 10], Kernels::detect().unwrap()).unwrap();
    assert_eq!(trunk.names().collect::<Vec<_>>(), [x.as_str()]);
    assert_eq!(rest.node.len(), 2);
    assert_eq!(rest.input.iter().map(|input| input.name.as_deref()).collect::<Vec<_>>(), [Some(x.as_str())]);
    assert_eq!(rest.initializer.len(), 2, "weights that nobody needs any more are gone");
}

#[test]
fn a_graph_without_convolutions_is_the_librarys() {
    let mut writer = Writer::default();
    let x = writer.node("Relu", &["x"], &[]);
    let mut graph = writer.graph(&[x]);
    assert!(Trunk::cut(&mut graph, "x", [8, 8], Kernels::detect().unwrap()).is_none());
    assert_eq!(graph.node.len(), 1);
}

#[test]
fn sizes_that_a_file_claims_are_bounded() {
    for attribute in [
        integers("pads", &[i64::MAX; 4]),
        integers("pads", &[-1; 4]),
        integers("pads", &[1 << 20; 4]),
        integers("strides", &[i64::MAX; 2]),
        integers("strides", &[0; 2]),
    ] {
        let mut writer = Writer::default();
        let x = writer.conv("x", [3, 8], 3, 1, 1);
        let y = writer.conv(&x, [8, 8], 3, 1, 1);
        let attributes = &mut writer.nodes[1].attribute;
        attributes.retain(|other| other.name != attribute.name);
        attributes.push(attribute);
        let mut graph = writer.graph(&[y]);
        assert!(Trunk::cut(&mut graph, "x", [8, 8], Kernels::detect().unwrap()).is_some());
        assert_eq!(graph.node.len(), 1);
    }
    let mut writer = Writer::default();
    let x = writer.conv("x", [3, 8], 1, 1, 1);
    let scales = writer.floats(&[4], &[1.0, 1.0, 1e3, 1e3]);
    let y = writer.node("Resize", &[&x, "", &scales], &[text("mode", "nearest")]);
    let mut graph = writer.graph(&[y]);
    assert!(Trunk::cut(&mut graph, "x", [16, 16], Kernels::detect().unwrap()).is_some());
    assert_eq!(graph.node.len(), 1, "two gigabytes of one map");
}
