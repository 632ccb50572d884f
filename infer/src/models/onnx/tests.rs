//! Files of strangers: what can be run is run, what cannot says why, and nothing panics.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::path::Path;

use cloudpose_wire::{Output as Told, Person};
use proptest::prelude::*;
use rten_onnx::onnx::{
    AttributeProto, DataType, Dimension, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, TypeProtoTensor, ValueInfoProto,
};

use super::add::{Addition, Wishes, look_at};
use super::config::Kind;
use super::*;
use crate::models::folder::{self, Folder, Import};
use crate::models::manifest::{PipelineEntry, StageEntry};
use crate::models::{FAMILIES, ModelStore, Models};
use crate::task::LabelsEntry;
use crate::{Detail, Image, Job, Pipeline};

fn value(name: &str, sizes: &[i64]) -> ValueInfoProto {
    let dim = |&size: &i64| Dimension { dim_value: (size > 0).then_some(size), dim_param: None };
    let shape = Some(TensorShapeProto { dim: sizes.iter().map(dim).collect() });
    let tensor_type = Some(TypeProtoTensor { elem_type: Some(DataType::FLOAT), shape });
    let r#type = Some(TypeProto { tensor_type, ..TypeProto::default() });
    ValueInfoProto { name: Some(name.into()), r#type }
}

fn node(name: &str, operator: &str, inputs: &[&str], output: &str) -> NodeProto {
    NodeProto {
        name: Some(name.into()),
        op_type: Some(operator.into()),
        input: inputs.iter().map(|&input| input.into()).collect(),
        output: vec![output.into()],
        ..NodeProto::default()
    }
}

fn weight(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: Some(name.into()),
        dims: dims.to_vec(),
        data_type: Some(DataType::FLOAT),
        raw_data: Some(RefCell::new(values.iter().flat_map(|value| value.to_le_bytes()).collect())),
        ..TensorProto::default()
    }
}

/// A classifier: the mean of each colour, times 8.
fn colours() -> ModelProto {
    let graph = GraphProto {
        node: vec![
            node("pool", "GlobalAveragePool", &["pixels"], "means"),
            node("flat", "Flatten", &["means"], "flattened"),
            node("times", "Mul", &["flattened", "factor"], "logits"),
        ],
        initializer: vec![weight("factor", &[1], &[8.0])],
        input: vec![value("pixels", &[1, 3, 16, 16])],
        output: vec![value("logits", &[1, 3])],
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(17) };
    ModelProto { ir_version: Some(9), graph: Some(graph), opset_import: vec![opset], ..ModelProto::default() }
}

/// The same, of what convolutions, a pool, a sum and a larger map leave.
fn convolved() -> ModelProto {
    let mut model = colours();
    let graph = graph_of(&mut model);
    let ints = |name: &str, ints: &[i64]| AttributeProto {
        name: Some(name.into()),
        ints: ints.to_vec(),
        ..AttributeProto::default()
    };
    let mut nodes = vec![
        node("wide", "Conv", &["pixels", "dense", "bias"], "wide"),
        node("deep", "Conv", &["wide", "depthwise", "bias"], "deep"),
        node("gate", "Sigmoid", &["deep"], "gate"),
        node("silu", "Mul", &["deep", "gate"], "silu"),
        node("sum", "Add", &["silu", "wide"], "sum"),
        node("most", "MaxPool", &["sum"], "most"),
        node("large", "Resize", &["most", "", "scales"], "large"),
    ];
    nodes[0].attribute = vec![ints("strides", &[2, 2]), ints("pads", &[1; 4]), ints("kernel_shape", &[3; 2])];
    nodes[1].attribute = vec![ints("strides", &[1, 1]), ints("pads", &[1; 4]), ints("kernel_shape", &[3; 2])];
    nodes[1].attribute.push(AttributeProto { name: Some("group".into()), i: Some(3), ..Default::default() });
    nodes[5].attribute = vec![ints("strides", &[1, 1]), ints("pads", &[1; 4]), ints("kernel_shape", &[3; 2])];
    nodes.append(&mut graph.node);
    nodes[7].input = vec!["large".into()];
    graph.node = nodes;
    graph.initializer.extend([
        weight("dense", &[3, 3, 3, 3], &[0.1; 81]),
        weight("depthwise", &[3, 1, 3, 3], &[0.2; 27]),
        weight("bias", &[3], &[0.5; 3]),
        weight("scales", &[4], &[1.0, 1.0, 2.0, 2.0]),
    ]);
    model
}

#[test]
fn a_file_that_asks_for_more_than_there_is_memory_is_refused() {
    let refused = |change: fn(&mut GraphProto)| {
        let mut model = convolved();
        change(graph_of(&mut model));
        looked(&written(&model), None).unwrap_err()
    };
    let scales = |graph: &mut GraphProto| {
        graph.initializer.retain(|tensor| tensor.name.as_deref() != Some("scales"));
        graph.initializer.push(weight("scales", &[4], &[1.0, 1.0, 1e9, 1e9]));
    };
    let asks = |node: &str| {
        format!("colours.onnx cannot be added: node {node} asks for more than a model of pictures can need")
    };
    assert_eq!(refused(scales), asks("large (Resize)"));
    let pads = |graph: &mut GraphProto| graph.node[5].attribute[1].ints = vec![1 << 40; 4];
    assert_eq!(refused(pads), asks("most (MaxPool)"));
}

#[test]
fn the_graph_that_is_damaged_is_a_model_while_it_is_whole() {
    assert_eq!(looked(&written(&convolved()), None).unwrap().finds, Finds::Classes(3));
}

fn written(model: &ModelProto) -> Vec<u8> {
    model.write_buf().unwrap()
}

fn looked(file: &[u8], kind: Option<Kind>) -> Result<Addition, String> {
    let wishes = Wishes { kind, ..Wishes::default() };
    look_at(Path::new("colours.onnx"), file, wishes).map_err(|error| error.to_string())
}

/// Why the graph cannot be added, once it is changed.
fn refusal(change: impl FnOnce(&mut ModelProto)) -> String {
    let mut model = colours();
    change(&mut model);
    looked(&written(&model), None).unwrap_err()
}

fn graph_of(model: &mut ModelProto) -> &mut GraphProto {
    model.graph.as_mut().unwrap()
}

#[test]
fn a_graph_becomes_a_model_of_a_folder_that_finds_what_is_there() {
    let file = written(&colours());
    let labels = LabelsEntry::Listed(["red", "green", "blue"].map(String::from).into());
    let wishes = Wishes { labels: Some(labels), licence: Some("CC0-1.0".into()), ..Wishes::default() };
    let addition = look_at(Path::new("My Colours.onnx"), &file, wishes).unwrap();
    assert_eq!((addition.config.kind, addition.is_guessed), (Kind::Classes, true));
    assert_eq!(addition.finds, Finds::Classes(3));
    assert_eq!(addition.entry.config["mean"][0].to_string(), "123.675", "as people write it");
    let entry = &addition.entry;
    assert_eq!(
        (entry.name.as_str(), entry.input.as_str(), entry.licence.as_str()),
        ("my-colours", "16x16", "CC0-1.0")
    );

    let at = tempfile::tempdir().unwrap();
    let mut folder = Folder::begin(&at.path().join("models")).unwrap();
    folder.add(&Import { files: vec![(entry.clone(), file)], pipelines: Vec::new() }).unwrap();
    let models = Models::new(ModelStore::open(&at.path().join("models")).unwrap(), FAMILIES).unwrap();
    let names: Vec<String> = models.infos().iter().map(|info| info.id.to_string()).collect();
    assert!(names.contains(&"multipose".into()) && names.contains(&"my-colours".into()), "{names:?}");

    let mut pipeline = Pipeline::on_cpu(Arc::new(models), NonZeroUsize::MIN).unwrap();
    for (colour, label) in [([250, 5, 5], "red"), ([5, 250, 5], "green"), ([5, 5, 250], "blue")] {
        let mut planes = cloudpose_pixels::PlanarImage::new(40, 30, cloudpose_pixels::Subsampling::S444);
        let ycc = ycc_from_rgb(colour);
        let (mut luma, chroma) = planes.planes_mut();
        let [mut u, mut v] = chroma.unwrap();
        for y in 0..30 {
            luma.row_mut(y).fill(ycc[0]);
            u.row_mut(y).fill(ycc[1]);
            v.row_mut(y).fill(ycc[2]);
        }
        let job = Job {
            image: Image::Planes(&planes),
            detail: Detail::Model,
            model: &"my-colours".parse().unwrap(),
            min_score: 0.2,
            top: 1,
            past: None,
            stream: None,
            pictures: None,
        };
        let Told::Classes(classes) = pipeline.detect(job).unwrap().output else { panic!("classes") };
        assert_eq!((classes.len(), classes[0].label.as_str()), (1, label));
        assert!(classes[0].score > 0.99, "{classes:?}");
    }
}

/// ITU-R BT.601, full range.
fn ycc_from_rgb([r, g, b]: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = [r, g, b].map(f32::from);
    let y = 0.299 * r + 0.587 * g + 0.114 * b;
    [y, 128.0 + (b - y) / 1.772, 128.0 + (r - y) / 1.402].map(|value| value.round() as u8)
}

/// A graph that answers the same to every picture of that width and height.
fn constant([width, height]: [i64; 2], outputs: &[(&str, &[i64], Vec<f32>)]) -> Vec<u8> {
    let mut model = colours();
    let graph = graph_of(&mut model);
    graph.input = vec![value("pixels", &[1, 3, height, width])];
    (graph.node, graph.initializer, graph.output) = (Vec::new(), Vec::new(), Vec::new());
    for (name, shape, values) in outputs {
        let constant = format!("{name} of all");
        graph.node.push(node(name, "Identity", &[&constant], name));
        graph.initializer.push(weight(&constant, shape, values));
        graph.output.push(value(name, shape));
    }
    written(&model)
}

#[test]
fn boxes_of_one_graph_lead_another_to_each_person() {
    // Left, top, right and bottom of 64 pixels, score, class: two persons, one who is too unsure, and something else.
    let rows = [
        [8.0, 8.0, 24.0, 40.0, 0.9, 0.0],
        [32.0, 16.0, 64.0, 32.0, 0.3, 0.0],
        [0.0, 0.0, 8.0, 8.0, 0.15, 0.0],
        [0.0, 32.0, 32.0, 64.0, 0.8, 1.0],
    ];
    let finder = constant([64, 64], &[("found", &[1, 4, 6], rows.concat())]);
    // All joints are in the middle of an upright input, but the first, which is in its upper left corner.
    let bins = |count: usize| -> Vec<f32> {
        let bin = move |joint: usize, bin: usize| bin == if joint == 0 { 0 } else { count / 2 };
        (0..17).flat_map(|joint| (0..count).map(move |at| f32::from(u8::from(bin(joint, at))))).collect()
    };
    let joints = [("across", &[1, 17, 48][..], bins(48)), ("down", &[1, 17, 64], bins(64))];
    let joints = constant([24, 32], &joints);

    let at = tempfile::tempdir().unwrap();
    let mut folder = Folder::begin(at.path()).unwrap();
    for (name, file, kind) in [("finder", finder, Kind::Yolo), ("joints", joints, Kind::Simcc)] {
        let addition = look_at(Path::new(name), &file, Wishes::default()).unwrap();
        assert_eq!(addition.config.kind, kind);
        folder.add(&Import { files: vec![(addition.entry, file)], pipelines: Vec::new() }).unwrap();
    }
    let models = || Models::new(ModelStore::open(at.path()).unwrap(), FAMILIES).unwrap();
    let [finder, joints, both, closer] =
        ["finder", "joints", "both", "closer"].map(|name| name.parse::<ModelId>().unwrap());
    let made = |finds: &ModelId, looks: &ModelId| {
        folder::pair(&models(), folder.manifest(), [finds, looks], both.clone())
    };
    let both_of_ours = made(&finder, &joints).unwrap();
    assert_eq!(serde_json::to_value(&both_of_ours.stages).unwrap(), serde_json::json!(["finder", "joints"]));
    // MultiPose is made a detector.
    let multipose = PipelineEntry { name: closer, ..made(&"multipose".parse().unwrap(), &joints).unwrap() };
    assert!(matches!(&multipose.stages[..], [StageEntry::Detector(_), StageEntry::Model(_)]));
    let told = made(&finder, &"nobody".parse().unwrap()).unwrap_err().to_string();
    assert!(told.contains("no model nobody"), "{told}");
    folder.add(&Import { files: Vec::new(), pipelines: vec![both_of_ours, multipose] }).unwrap();
    let names: Vec<String> = models().infos().iter().map(|info| info.id.to_string()).collect();
    assert!(names.contains(&"both".into()) && !names.contains(&"finder".into()), "{names:?}");
    let alone = models().served(&finder).unwrap_err().to_string();
    assert!(alone.contains("models pair"), "{alone}");

    let mut pipeline = Pipeline::on_cpu(Arc::new(models()), NonZeroUsize::MIN).unwrap();
    let planes = cloudpose_pixels::PlanarImage::new(128, 128, cloudpose_pixels::Subsampling::S444);
    let job = Job {
        image: Image::Planes(&planes),
        detail: Detail::Model,
        model: &both,
        min_score: 0.2,
        top: 1,
        past: None,
        stream: None,
        pictures: None,
    };
    let Told::Poses { persons, .. } = pipeline.detect(job).unwrap().output else { panic!("persons") };
    let place = |person: &Person, joint: usize| (person.keypoints[joint].x, person.keypoints[joint].y);
    let mut places: Vec<_> = persons.iter().map(|person| (place(person, 0), place(person, 5))).collect();
    places.sort_by(|(_, a), (_, b)| a.0.total_cmp(&b.0));
    // A box of 32×64 is in the middle of what is a quarter higher; one of 64×32 of what is a quarter wider.
    let (high, wide) = (1.25 * 64.0, 1.25 * 64.0);
    let expected = [
        ((32.0 - 0.375 * high, 48.0 - 0.5 * high), (32.0, 48.0)),
        ((96.0 - 0.5 * wide, 48.0 - wide / 1.5), (96.0, 48.0)),
    ];
    assert_eq!(places.len(), 2, "{places:?}");
    for ((corner, middle), (corner_there, middle_there)) in places.into_iter().zip(expected) {
        for (found, there) in [(corner, corner_there), (middle, middle_there)] {
            assert!((found.0 - there.0).hypot(found.1 - there.1) < 1e-3, "{found:?} {there:?}");
        }
    }
}

#[test]
fn files_that_are_no_graphs_are_refused() {
    let whole = written(&colours());
    for end in 0..whole.len() {
        assert!(looked(&whole[..end], None).is_err(), "cut off after {end} bytes");
    }
    for (file, words) in
        [(&b"PK\x03\x04 a zip"[..], "unpack it"), (b"", "no ONNX file"), (&[0xff; 64], "no ONNX file")]
    {
        let error = looked(file, None).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn graphs_that_cannot_be_run_say_why() {
    let dims = |sizes: &'static [i64]| {
        move |model: &mut ModelProto| graph_of(model).input[0] = value("pixels", sizes)
    };
    for (error, words) in [
        (refusal(|model| model.opset_import[0].version = Some(6)), &["opset 6", "7 to 24"][..]),
        (refusal(|model| model.opset_import[0].version = Some(99)), &["opset 99"]),
        (refusal(|model| model.opset_import.clear()), &["opset"]),
        (
            refusal(|model| graph_of(model).node[2].op_type = Some("Frobnicate".into())),
            &["times", "Frobnicate"],
        ),
        (refusal(|model| graph_of(model).node[0].input[0] = "logits".into()), &["pool", "uses logits"]),
        (refusal(|model| graph_of(model).output[0].name = Some("scores".into())), &["output scores"]),
        (refusal(|model| graph_of(model).initializer[0].dims = vec![1 << 30]), &["factor", "4 bytes"]),
        (
            refusal(|model| graph_of(model).initializer[0].dims = vec![i64::MAX, i64::MAX]),
            &["factor", "shape"],
        ),
        (refusal(|model| graph_of(model).initializer[0].dims = vec![-1]), &["factor", "shape"]),
        (
            refusal(|model| graph_of(model).initializer[0] = weight("factor", &[1], &[f32::NAN])),
            &["factor", "no numbers"],
        ),
        (refusal(|model| graph_of(model).input.push(value("more", &[1]))), &["more than a picture", "more"]),
        (refusal(dims(&[1, 16, 16, 3])), &["[1, 16, 16, 3]", "[N, 3, height, width]"]),
        (refusal(dims(&[1, 3, 16])), &["[1, 3, 16]"]),
        (refusal(dims(&[0, 3, 0, 0])), &["--input"]),
        (refusal(dims(&[1, 3, 1 << 40, 16])), &["sides of 1 to 4096"]),
        (refusal(|model| graph_of(model).node.truncate(1)), &["output logits"]),
    ] {
        for word in words {
            assert!(error.contains(word), "{error:?} does not say {word:?}");
        }
    }
    let odd = looked(&written(&colours()), Some(Kind::Simcc)).unwrap_err();
    assert!(odd.contains("it is no simcc") && odd.contains("logits [1, 3]"), "{odd}");
}

#[test]
fn a_graph_whose_outputs_nobody_knows_is_asked_about() {
    let error = refusal(|model| {
        let graph = graph_of(model);
        graph.node.truncate(1);
        graph.node[0] = node("same", "Relu", &["pixels"], "logits");
    });
    assert!(error.contains("logits [1, 3, 16, 16]") && error.contains("--as one of simcc"), "{error}");
}

#[test]
fn a_config_that_is_none_is_told_when_the_model_is_loaded() {
    let file = written(&colours());
    let addition = looked(&file, None).unwrap();
    let opened = |config: serde_json::Value| {
        let entry = Entry { config, ..addition.entry.clone() };
        OnnxFamily.open(&entry, file.clone().into()).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(opened(addition.entry.config.clone()), Ok(()));
    assert!(opened(serde_json::json!({"kind": "classes"})).unwrap_err().contains("missing field"));
    let mut config = addition.entry.config.clone();
    config["deviation"][1] = 0.into();
    assert!(opened(config).unwrap_err().contains("normalised"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a file holds, it is a model or says why not.
    #[test]
    fn damaged_files_never_panic(
        is_convolved in any::<bool>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut file = written(&if is_convolved { convolved() } else { colours() });
        for (at, byte) in changes {
            let at = at.index(file.len());
            file[at] = byte;
        }
        drop(looked(&file, None));
    }

    /// Manifests are read with care.
    #[test]
    fn any_config_is_taken_or_refused(side in any::<usize>(), other in any::<usize>(), number in any::<f32>()) {
        let config = Config { mean: [number; 3], input: [side, other], ..Config::usual(Kind::Classes, [1, 1]) };
        let read = serde_json::to_value(config).and_then(serde_json::from_value::<Config>);
        if let Ok(config) = read {
            prop_assert!(config.check().is_err() || (1..=4096).contains(&config.input[0]));
        }
    }
}
