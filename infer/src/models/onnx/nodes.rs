//! A graph's constants, and what its nodes say beside their inputs.

use std::collections::HashMap;

use rten_onnx::onnx::{DataType, GraphProto, NodeProto, TensorProto};

/// Tensors that are in the file, by name.
pub(super) struct Constants<'a>(HashMap<&'a str, &'a TensorProto>);

impl<'a> Constants<'a> {
    pub(super) fn of(graph: &'a GraphProto) -> Self {
        let weights = graph.initializer.iter().filter_map(|weight| Some((weight.name.as_deref()?, weight)));
        let nodes = graph.node.iter().filter(|node| node.op_type.as_deref() == Some("Constant"));
        let nodes = nodes.filter_map(|node| {
            let tensor = node.attribute.iter().find_map(|attribute| attribute.t.as_ref())?;
            Some((node.output.first()?.as_str(), tensor))
        });
        Self(weights.chain(nodes).collect())
    }

    /// The sizes and values of a tensor of float32 that an input names.
    pub(super) fn floats(&self, name: Option<&String>) -> Option<(Vec<usize>, Vec<f32>)> {
        let tensor = self.0.get(name?.as_str())?;
        let shape: Option<Vec<usize>> = tensor.dims.iter().map(|&size| usize::try_from(size).ok()).collect();
        let shape = shape?;
        let values = match (&tensor.raw_data, tensor.data_type) {
            (Some(raw), Some(DataType::FLOAT)) => {
                let raw = raw.borrow();
                let (values, _) = raw.as_chunks();
                values.iter().map(|value| f32::from_le_bytes(*value)).collect()
            }
            (None, Some(DataType::FLOAT)) => tensor.float_data.clone(),
            _ => return None,
        };
        let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        (count == Some(values.len())).then_some((shape, values))
    }

    /// The values of a tensor of int64 that an input names.
    pub(super) fn integers(&self, name: Option<&String>) -> Option<Vec<i64>> {
        let tensor = self.0.get(name?.as_str())?;
        match (&tensor.raw_data, tensor.data_type) {
            (Some(raw), Some(DataType::INT64)) => {
                let raw = raw.borrow();
                let (values, _) = raw.as_chunks();
                Some(values.iter().map(|value| i64::from_le_bytes(*value)).collect())
            }
            (None, Some(DataType::INT64)) => Some(tensor.int64_data.clone()),
            _ => None,
        }
    }

    /// The only number, of float32 or int64, that an input names.
    pub(super) fn number(&self, name: Option<&String>) -> Option<f32> {
        match (self.floats(name), self.integers(name).as_deref()) {
            (Some((_, values)), _) if values.len() == 1 => Some(values[0]),
            (_, Some(&[value])) => Some(value as f32),
            _ => None,
        }
    }
}

/// What a node says beside its inputs.
#[derive(Clone, Copy)]
pub(super) struct Attributes<'a>(pub(super) &'a NodeProto);

impl<'a> Attributes<'a> {
    fn get(self, name: &str) -> Option<&'a rten_onnx::onnx::AttributeProto> {
        self.0.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))
    }

    pub(super) fn integer(self, name: &str) -> Option<i64> {
        self.get(name)?.i
    }

    pub(super) fn float(self, name: &str) -> Option<f32> {
        self.get(name)?.f
    }

    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.get(name)?.s.as_deref()
    }

    /// None if it is not there.
    pub(super) fn integers(self, name: &str) -> Option<&'a [i64]> {
        self.get(name).map(|attribute| &attribute.ints[..])
    }

    /// As many sizes as that, all `otherwise` if it is not there; none if one is negative or they are not so many.
    pub(super) fn sizes<const N: usize>(self, name: &str, otherwise: usize) -> Option<[usize; N]> {
        let Some(integers) = self.integers(name) else { return Some([otherwise; N]) };
        let sizes: Option<Vec<usize>> = integers.iter().map(|&size| usize::try_from(size).ok()).collect();
        sizes?.try_into().ok()
    }
}
