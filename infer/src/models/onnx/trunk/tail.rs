//! What follows a convolution.

use cloudpose_kernels::Clamp;
use cloudpose_kernels::elementwise::Activation;
use rten_onnx::onnx::NodeProto;

use super::convolution::After;
use super::known::{Known, only_output};
use super::map::Shape;
use crate::models::onnx::nodes::Attributes;

/// What follows a convolution and becomes part of its step.
pub(super) struct Tail<'a> {
    /// Factor and offset for each channel.
    pub(super) norm: Option<[Vec<f32>; 2]>,
    pub(super) clamp: Clamp,
    pub(super) residual: Option<usize>,
    pub(super) activation: Option<Activation>,
    pub(super) added: Option<usize>,
    /// What the last of it makes.
    pub(super) name: &'a str,
    pub(super) nodes: Vec<usize>,
}

impl Tail<'_> {
    pub(super) fn after(&self) -> After {
        After { activation: self.activation, adds: self.added.is_some() }
    }
}

impl<'a> Known<'a> {
    /// What of the nodes behind a convolution becomes part of its step. Sums can go on from a map that is there, where
    /// `sums` says so.
    pub(super) fn tail(&self, node: &'a NodeProto, shape: Shape, sums: bool) -> Option<Tail<'a>> {
        let mut tail = Tail {
            norm: None,
            clamp: Clamp::NONE,
            residual: None,
            activation: None,
            added: None,
            name: only_output(node)?,
            nodes: Vec::new(),
        };
        if let Some((index, norm)) = self.only_user(tail.name, "BatchNormalization")
            && let Some(norm) = self.norm(norm, shape.channels)
        {
            tail.norm = Some(norm);
            self.go_on(&mut tail, index)?;
        }
        if sums && let Some((index, other)) = self.sum(&tail, shape) {
            tail.residual = Some(other);
            self.go_on(&mut tail, index)?;
        }
        for operator in ["Relu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish"] {
            let Some((index, user)) = self.only_user(tail.name, operator) else { continue };
            match self.activation(user) {
                Some(Activation::Clamp(clamp)) => tail.clamp = clamp,
                Some(activation) => tail.activation = Some(activation),
                None => continue,
            }
            self.go_on(&mut tail, index)?;
            break;
        }
        if tail.activation.is_none()
            && tail.clamp == Clamp::NONE
            && let Some((gate, product)) = self.gated(tail.name)
        {
            tail.activation = Some(match self.activation(&self.nodes[gate])? {
                Activation::Sigmoid => Activation::Silu,
                Activation::HardSigmoid { slope, offset } => Activation::HardSwish { slope, offset },
                _ => return Some(tail),
            });
            tail.nodes.push(gate);
            self.go_on(&mut tail, product)?;
        }
        if tail.residual.is_none()
            && let Some((index, other)) = self.sum(&tail, shape)
        {
            tail.added = Some(other);
            self.go_on(&mut tail, index)?;
        }
        Some(tail)
    }

    fn go_on(&self, tail: &mut Tail<'a>, index: usize) -> Option<()> {
        tail.nodes.push(index);
        tail.name = only_output(&self.nodes[index])?;
        Some(())
    }

    /// The node that alone uses a tensor, if it is of that operator.
    fn only_user(&self, name: &str, operator: &str) -> Option<(usize, &'a NodeProto)> {
        let &[index] = &self.users.get(name)?[..] else { return None };
        let node = &self.nodes[index];
        let is_it =
            node.op_type.as_deref() == Some(operator) && !self.wanted.contains(name) && !self.taken[index];
        is_it.then_some((index, node))
    }

    /// An `Add` behind a tail, and the other map, that is there already.
    fn sum(&self, tail: &Tail<'a>, shape: Shape) -> Option<(usize, usize)> {
        let (index, node) = self.only_user(tail.name, "Add")?;
        let other = node.input.iter().find(|name| *name != tail.name)?;
        let other = *self.maps.get(other.as_str())?;
        (self.shapes[other] == shape).then_some((index, other))
    }

    /// The two nodes that use a tensor, if one is a gate and the other multiplies them.
    fn gated(&self, name: &str) -> Option<(usize, usize)> {
        let &[a, b] = &self.users.get(name)?[..] else { return None };
        let find = |gate: usize, product: usize| {
            let [sigmoid, times] = [&self.nodes[gate], &self.nodes[product]];
            let is_gate = matches!(sigmoid.op_type.as_deref(), Some("Sigmoid" | "HardSigmoid"));
            let made = only_output(sigmoid)?;
            let (only, _) = self.only_user(made, "Mul")?;
            let is_product = times.input.iter().all(|input| input == name || input == made);
            (is_gate && only == product && is_product && !self.wanted.contains(name))
                .then_some((gate, product))
        };
        find(a, b).or_else(|| find(b, a))
    }

    /// A batch norm as a factor and an offset for each channel.
    fn norm(&self, node: &NodeProto, channels: usize) -> Option<[Vec<f32>; 2]> {
        let part = |at: usize| {
            let (_, values) = self.constants.floats(node.input.get(at))?;
            (values.len() == channels).then_some(values)
        };
        let [gamma, beta, mean, variance] = [part(1)?, part(2)?, part(3)?, part(4)?];
        let epsilon = Attributes(node).float("epsilon").unwrap_or(1e-5);
        let factor: Vec<f32> = (0..channels).map(|c| gamma[c] / (variance[c] + epsilon).sqrt()).collect();
        let offset = (0..channels).map(|c| beta[c] - mean[c] * factor[c]).collect();
        Some([factor, offset])
    }
}
