//! Reads a TensorFlow.js graph model: the JSON file and the binary shards beside it.
//!
//! Only the weights are read; the graph itself is written anew in [`super::arch`]. The format is that of
//! TensorFlow.js (`tfjs-core/src/io/types.ts`, `WeightsManifestConfig`): groups of tensors, each group's
//! bytes being the concatenation of its shard files, tensors one after another without padding, values
//! little-endian.

use std::collections::HashMap;
use std::path::{Component, Path};

use half::f16;
use serde::Deserialize;

use super::Error;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GraphModel {
    weights_manifest: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
    #[serde(default)]
    min: f32,
    #[serde(default)]
    scale: f32,
}

/// A floating-point tensor of a graph model.
#[derive(Debug)]
pub(super) struct FloatTensor {
    /// Sizes of the dimensions, outermost first.
    pub(super) shape: Vec<usize>,
    /// The values, row-major. Exact where the file holds float16; rounded to it otherwise.
    pub(super) values: Vec<f16>,
}

/// How a tensor's values lie in the shards.
#[derive(Clone, Copy)]
enum Storage {
    F16,
    F32,
    /// `value = min + scale × quantised`.
    Affine {
        bytes: usize,
        min: f32,
        scale: f32,
    },
    /// A tensor no layer reads (shapes, axes): skipped.
    Skipped {
        bytes: usize,
    },
}

impl Storage {
    fn of(entry: &Entry) -> Option<Self> {
        match (entry.dtype.as_str(), &entry.quantization) {
            ("float32", None) => Some(Self::F32),
            ("float32", Some(q)) => match q.dtype.as_str() {
                "float16" => Some(Self::F16),
                "uint8" => Some(Self::Affine { bytes: 1, min: q.min, scale: q.scale }),
                "uint16" => Some(Self::Affine { bytes: 2, min: q.min, scale: q.scale }),
                _ => None,
            },
            ("int32", None) => Some(Self::Skipped { bytes: 4 }),
            ("int32", Some(q)) => match q.dtype.as_str() {
                "uint8" => Some(Self::Skipped { bytes: 1 }),
                "uint16" => Some(Self::Skipped { bytes: 2 }),
                _ => None,
            },
            ("bool", None) => Some(Self::Skipped { bytes: 1 }),
            _ => None,
        }
    }

    fn bytes_per_value(self) -> usize {
        match self {
            Self::F16 => 2,
            Self::F32 => 4,
            Self::Affine { bytes, .. } | Self::Skipped { bytes } => bytes,
        }
    }

    /// The values of a floating-point tensor; none for a skipped one.
    fn decode(self, bytes: &[u8]) -> Option<Vec<f16>> {
        let values = match self {
            Self::F16 => bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect(),
            Self::F32 => bytes
                .chunks_exact(4)
                .map(|b| f16::from_f32(f32::from_le_bytes([b[0], b[1], b[2], b[3]])))
                .collect(),
            Self::Affine { bytes: width, min, scale } => bytes
                .chunks_exact(width)
                .map(|b| {
                    let quantised = b.iter().rev().fold(0u32, |q, &byte| q << 8 | u32::from(byte));
                    f16::from_f32(min + scale * quantised as f32)
                })
                .collect(),
            Self::Skipped { .. } => return None,
        };
        Some(values)
    }
}

/// Reads every floating-point tensor of the graph model whose JSON file is `json`, by name.
pub(super) fn read(json: &Path) -> Result<HashMap<String, FloatTensor>, Error> {
    let invalid = |problem: String| Error::GraphModel { path: json.to_owned(), problem };
    let text = read_file(json)?;
    let model: GraphModel = serde_json::from_slice(&text).map_err(|e| invalid(e.to_string()))?;
    let folder = json.parent().unwrap_or(Path::new(""));

    let mut tensors = HashMap::new();
    for group in model.weights_manifest {
        let mut bytes = Vec::new();
        for path in &group.paths {
            if !is_plain_file_name(path) {
                return Err(invalid(format!("shard path {path:?} is not a plain file name")));
            }
            bytes.extend(read_file(&folder.join(path))?);
        }
        let mut rest = bytes.as_slice();
        for entry in group.weights {
            let storage = Storage::of(&entry).ok_or_else(|| {
                let quantization = entry.quantization.as_ref().map(|q| q.dtype.as_str());
                invalid(format!("{}: data type {} {quantization:?} is unknown", entry.name, entry.dtype))
            })?;
            let length = entry
                .shape
                .iter()
                .try_fold(storage.bytes_per_value(), |n, &d| n.checked_mul(d))
                .ok_or_else(|| invalid(format!("{}: shape {:?} overflows", entry.name, entry.shape)))?;
            let (tensor, after) = rest.split_at_checked(length).ok_or_else(|| {
                invalid(format!("{} needs {length} bytes, {} are left in the shards", entry.name, rest.len()))
            })?;
            rest = after;
            if let Some(values) = storage.decode(tensor) {
                tensors.insert(entry.name, FloatTensor { shape: entry.shape, values });
            }
        }
        if !rest.is_empty() {
            return Err(invalid(format!("{} bytes of the shards belong to no tensor", rest.len())));
        }
    }
    Ok(tensors)
}

fn is_plain_file_name(path: &str) -> bool {
    let mut components = Path::new(path).components();
    matches!(components.next(), Some(Component::Normal(_))) && components.next().is_none()
}

fn read_file(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Reads a graph model with one group of `weights` and one shard, `bytes`.
    fn read_model(weights: Value, bytes: &[u8]) -> Result<HashMap<String, FloatTensor>, Error> {
        read_manifest(json!([{"paths": ["shard.bin"], "weights": weights}]), bytes)
    }

    fn read_manifest(manifest: Value, bytes: &[u8]) -> Result<HashMap<String, FloatTensor>, Error> {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("model.json");
        std::fs::write(&json, json!({"weightsManifest": manifest}).to_string()).unwrap();
        std::fs::write(folder.path().join("shard.bin"), bytes).unwrap();
        read(&json)
    }

    #[track_caller]
    fn assert_refused(result: Result<HashMap<String, FloatTensor>, Error>, reason: &str) {
        let error = result.expect_err("the model is damaged").to_string();
        assert!(error.contains(reason), "{error:?} does not say {reason:?}");
    }

    #[test]
    fn every_storage_decodes_to_its_values() {
        let weights = json!([
            {"name": "half", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}},
            {"name": "axis", "shape": [], "dtype": "int32"},
            {"name": "full", "shape": [1, 2], "dtype": "float32"},
            {"name": "byte", "shape": [2], "dtype": "float32",
             "quantization": {"dtype": "uint8", "min": -1.0, "scale": 0.5}},
            {"name": "word", "shape": [1], "dtype": "float32",
             "quantization": {"dtype": "uint16", "min": 0.0, "scale": 0.25}},
        ]);
        let mut bytes = vec![0x00, 0x3c, 0x00, 0xc0, 7, 0, 0, 0];
        bytes.extend([1.5f32.to_le_bytes(), (-3f32).to_le_bytes()].concat());
        bytes.extend([0, 6, 0x00, 0x01]);
        let tensors = read_model(weights, &bytes).unwrap();
        let values = |name: &str| tensors[name].values.iter().map(|v| v.to_f32()).collect::<Vec<_>>();
        assert_eq!(values("half"), [1.0, -2.0]);
        assert_eq!(values("full"), [1.5, -3.0]);
        assert_eq!(values("byte"), [-1.0, 2.0]);
        assert_eq!(values("word"), [64.0]);
        assert_eq!(tensors["full"].shape, [1, 2]);
        assert!(!tensors.contains_key("axis"), "no layer reads integers");
    }

    #[test]
    fn shards_are_joined_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let json = folder.path().join("model.json");
        let weights = json!([{"name": "x", "shape": [1], "dtype": "float32"}]);
        let manifest = json!({"weightsManifest": [{"paths": ["b", "a"], "weights": weights}]});
        std::fs::write(&json, manifest.to_string()).unwrap();
        std::fs::write(folder.path().join("b"), [0x00, 0x00, 0x80]).unwrap();
        std::fs::write(folder.path().join("a"), [0x3f]).unwrap();
        assert_eq!(read(&json).unwrap()["x"].values, [f16::ONE]);
    }

    #[test]
    fn damaged_models_are_refused() {
        let one = |shape: Value, dtype: &str| json!([{"name": "x", "shape": shape, "dtype": dtype}]);
        assert_refused(read_model(one(json!([2]), "float32"), &[0; 7]), "x needs 8 bytes, 7 are left");
        assert_refused(read_model(one(json!([1]), "float32"), &[0; 5]), "1 bytes of the shards belong to no");
        assert_refused(read_model(one(json!([1]), "string"), &[0; 4]), "data type string");
        let huge = json!([u64::MAX, 2]);
        assert_refused(read_model(one(huge, "float32"), &[0; 4]), "overflows");
        assert_refused(read_model(one(json!([-1]), "float32"), &[0; 4]), "invalid value");
        assert_refused(read_manifest(json!("no list"), &[]), "invalid type");
    }

    #[test]
    fn shards_outside_the_folder_are_refused() {
        for path in ["../shard.bin", "/etc/hostname", "sub/shard.bin", "", ".."] {
            let manifest = json!([{"paths": [path], "weights": []}]);
            assert_refused(read_manifest(manifest, &[]), "not a plain file name");
        }
    }

    #[test]
    fn a_missing_shard_is_named() {
        let manifest = json!([{"paths": ["other.bin"], "weights": []}]);
        assert_refused(read_manifest(manifest, &[]), "other.bin");
    }
}
