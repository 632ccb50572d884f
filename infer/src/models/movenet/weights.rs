//! One weight file, checked against the model's architecture.

use std::borrow::Cow;

use cloudpose_wire::ModelId;

use super::arch::Architecture;
use crate::models::{Error, Tensors};

/// The weights of one model: every tensor of its [`Architecture`] is there, in float16 and in shape.
#[derive(Clone, Debug)]
pub struct Weights {
    architecture: Architecture,
    tensors: Tensors,
}

impl Weights {
    /// Checks a safetensors file against the architecture of `model`.
    ///
    /// # Errors
    /// [`Error::Weights`] if the file is damaged, or lacks a tensor of `model`, or has one in another
    /// type or shape.
    pub fn parse(
        model: ModelId,
        architecture: Architecture,
        file: Cow<'static, [u8]>,
    ) -> Result<Self, Error> {
        let tensors = Tensors::parse(model, architecture.tensors(), file)?;
        Ok(Self { architecture, tensors })
    }

    /// Which model these weights are of.
    pub fn model(&self) -> &ModelId {
        self.tensors.model()
    }

    /// The layers these weights fill.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }

    /// The safetensors file itself.
    pub fn file(&self) -> &[u8] {
        self.tensors.file()
    }

    /// The values of a tensor of the architecture, row-major, widened to float32 (exactly).
    ///
    /// # Panics
    /// If the architecture has no tensor `name`.
    pub fn values(&self, name: &str) -> Vec<f32> {
        self.tensors.values(name)
    }

    /// The value of a scalar constant of the architecture.
    ///
    /// # Panics
    /// If the architecture has no tensor `name`.
    pub fn scalar(&self, name: &str) -> f32 {
        self.values(name)[0]
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;
    use crate::models::movenet::embedded as weights;

    fn embedded() -> Vec<u8> {
        weights("lightning").file().to_vec()
    }

    #[track_caller]
    fn assert_refused(file: Vec<u8>, reason: &str) {
        let lightning = weights("lightning");
        let read = Weights::parse(lightning.model().clone(), lightning.architecture.clone(), file.into());
        let error = read.expect_err("the file is damaged");
        assert!(error.to_string().contains(reason), "{error} does not say {reason:?}");
    }

    /// The file with its header's text changed and its length kept right.
    fn with_header(file: &[u8], change: impl Fn(String) -> String) -> Vec<u8> {
        let length = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header = change(String::from_utf8(file[8..8 + length].to_vec()).unwrap());
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &file[8 + length..]].concat()
    }

    #[test]
    fn constants_are_the_published_float16_values() {
        let weights = weights("lightning");
        assert_eq!(weights.values("decode.cell_size"), [0.020_828_247; 2], "1/48, rounded by its authors");
        assert_eq!(weights.scalar("input.shift"), 1.0);
    }

    #[test]
    fn damaged_files_are_refused() {
        let file = embedded();
        assert_refused(Vec::new(), "header too small");
        assert_refused(file[..file.len() - 1].to_vec(), "not fully covered");
        assert_refused(file[..1000].to_vec(), "invalid header length");
        let mut lying = file.clone();
        lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_refused(lying, "header too large");
        assert_refused(
            with_header(&file, |h| h.replacen("\"data_offsets\":[0,", "\"data_offsets\":[4,", 1)),
            "offset",
        );
        assert_refused(
            with_header(&file, |h| h.replacen("\"data_offsets\":[0,", "\"data_offsets\":[-1,", 1)),
            "JSON",
        );
        assert_refused(with_header(&file, |h| h.replacen("[3,3,3,32]", "[3,3,3,33]", 1)), "invalid shape");
        assert_refused(
            with_header(&file, |h| h.replacen("[3,3,3,32]", "[18446744073709551615,2]", 1)),
            "overflow",
        );
        assert_refused(
            with_header(&file, |h| h.replacen("backbone.stem", "backbone.stam", 1)),
            "backbone.stem",
        );
        assert_refused(with_header(&file, |h| h.replacen("[3,3,3,32]", "[32,3,3,3]", 1)), "[32, 3, 3, 3]");
        assert_refused(with_header(&file, |h| h.replacen("\"F16\"", "\"BF16\"", 1)), "is BF16");
    }

    #[test]
    fn weights_of_another_model_are_refused() {
        let thunder = weights("thunder").file().to_vec();
        assert_refused(thunder, "expected F16 [3, 3, 3, 32]");
        let view = TensorView::new(Dtype::F16, vec![1], &[0, 0]).unwrap();
        let other = safetensors::serialize([("x", view)], None).unwrap();
        assert_refused(other, "`backbone.stem.weight` not found");
    }
}
