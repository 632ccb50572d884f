//! What is known of a graph while it is lowered.

use std::collections::{HashMap, HashSet};

use cloudpose_kernels::Clamp;
use cloudpose_kernels::elementwise::Activation;
use rten_onnx::onnx::{GraphProto, NodeProto};

use super::map::Shape;
use crate::models::onnx::nodes::{Attributes, Constants};

/// A graph, and how far it has got.
pub(super) struct Known<'a> {
    pub(super) nodes: &'a [NodeProto],
    pub(super) constants: Constants<'a>,
    /// The nodes that use a tensor.
    pub(super) users: HashMap<&'a str, Vec<usize>>,
    /// The graph's outputs.
    pub(super) wanted: HashSet<&'a str>,
    /// By the name that the graph has for them.
    pub(super) maps: HashMap<&'a str, usize>,
    pub(super) shapes: Vec<Shape>,
    /// For each node, whether a step stands for it.
    pub(super) taken: Vec<bool>,
}

impl<'a> Known<'a> {
    /// Before anything is lowered: the map of the input, which is number 0.
    pub(super) fn of(graph: &'a GraphProto, input: &'a str, shape: Shape) -> Self {
        let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
        for (index, node) in graph.node.iter().enumerate() {
            for name in &node.input {
                users.entry(name).or_default().push(index);
            }
        }
        Self {
            nodes: &graph.node,
            constants: Constants::of(graph),
            users,
            wanted: graph.output.iter().filter_map(|output| output.name.as_deref()).collect(),
            maps: HashMap::from([(input, 0)]),
            shapes: vec![shape],
            taken: vec![false; graph.node.len()],
        }
    }

    /// The map that an input names.
    pub(super) fn map(&self, node: &NodeProto, at: usize) -> Option<usize> {
        self.maps.get(node.input.get(at)?.as_str()).copied()
    }

    pub(super) fn activation(&self, node: &NodeProto) -> Option<Activation> {
        let attributes = Attributes(node);
        Some(match node.op_type.as_deref()? {
            "Relu" => Activation::Clamp(Clamp::RELU),
            "Clip" => {
                let bound = |at: usize, name: &str, otherwise: f32| match node.input.get(at) {
                    Some(input) if !input.is_empty() => self.constants.number(Some(input)),
                    _ => Some(attributes.float(name).unwrap_or(otherwise)),
                };
                let low = bound(1, "min", f32::NEG_INFINITY)?;
                Activation::Clamp(Clamp { low, high: bound(2, "max", f32::INFINITY)? })
            }
            "Sigmoid" => Activation::Sigmoid,
            "HardSigmoid" => Activation::HardSigmoid {
                slope: attributes.float("alpha").unwrap_or(0.2),
                offset: attributes.float("beta").unwrap_or(0.5),
            },
            "HardSwish" => Activation::HardSwish { slope: 1.0 / 6.0, offset: 0.5 },
            _ => return None,
        })
    }
}

/// The only output of a node.
pub(super) fn only_output(node: &NodeProto) -> Option<&str> {
    match &node.output[..] {
        [only] => Some(only),
        _ => None,
    }
}
