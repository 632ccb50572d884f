//! The tensors of one safetensors file, checked against what its model must have.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;

use cloudpose_wire::ModelId;
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};

use super::Error;

/// A file in which every tensor that its model needs is there, in float16 and in shape.
#[derive(Clone, Debug)]
pub struct Tensors {
    model: ModelId,
    file: Cow<'static, [u8]>,
    /// Where each tensor's bytes lie in `file`.
    places: HashMap<String, Range<usize>>,
}

impl Tensors {
    /// Checks `file` against the names and shapes that `model` needs.
    ///
    /// # Errors
    /// [`Error::Weights`] if the file is damaged, or lacks a tensor, or has one in another type or shape.
    pub fn parse(
        model: ModelId,
        needed: Vec<(String, Vec<usize>)>,
        file: Cow<'static, [u8]>,
    ) -> Result<Self, Error> {
        let invalid = |problem: String| Error::Weights { model: model.clone(), problem };
        let parsed = SafeTensors::deserialize(&file).map_err(|e| invalid(e.to_string()))?;
        let mut places = HashMap::new();
        for (name, shape) in needed {
            let view = parsed.tensor(&name).map_err(|e| invalid(e.to_string()))?;
            if view.dtype() != Dtype::F16 || view.shape() != shape {
                return Err(invalid(format!(
                    "tensor {name} is {} {:?}, expected {} {shape:?}",
                    view.dtype(),
                    view.shape(),
                    Dtype::F16
                )));
            }
            let start = view.data().as_ptr() as usize - file.as_ptr() as usize;
            places.insert(name, start..start + view.data().len());
        }
        Ok(Self { model, file, places })
    }

    /// Which model they are of.
    pub fn model(&self) -> &ModelId {
        &self.model
    }

    /// The safetensors file itself.
    pub fn file(&self) -> &[u8] {
        &self.file
    }

    /// The values of a tensor, row-major, widened to float32 (exactly).
    ///
    /// # Panics
    /// If the model needs no tensor `name`.
    pub fn values(&self, name: &str) -> Vec<f32> {
        let range = self.places.get(name).unwrap_or_else(|| panic!("{} has no tensor {name}", self.model));
        let halves: Vec<f16> =
            self.file[range.clone()].chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
        halves.to_f32_vec()
    }
}

/// A safetensors file of float16 tensors, the same bytes for the same tensors.
///
/// # Errors
/// In words, if a shape is not that of its values.
pub(super) fn write(model: &str, tensors: &[(String, Vec<usize>, Vec<f16>)]) -> Result<Vec<u8>, String> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|(.., values)| values.iter().flat_map(|v| v.to_le_bytes()).collect()).collect();
    let views: Result<Vec<_>, safetensors::SafeTensorError> = tensors
        .iter()
        .zip(&bytes)
        .map(|((name, shape, _), bytes)| Ok((name, TensorView::new(Dtype::F16, shape.clone(), bytes)?)))
        .collect();
    // A single key: the order of several in the file would change from run to run, and with it the sum.
    let metadata = HashMap::from([("model".to_owned(), model.to_owned())]);
    views.and_then(|views| safetensors::serialize(views, Some(metadata))).map_err(|e| e.to_string())
}
