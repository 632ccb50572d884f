//! Every execution against ONNX Runtime's outputs, on every instruction set.

use cloudpose_kernels::{Isa, Kernels};
use cloudpose_testing::golden::Golden;

use super::*;
use crate::models::{ModelStore, folder};
use crate::task::LabelsEntry;

/// How far a logit may be off, as a share of the largest: sums in float32, in other orders.
const TOLERANCE: f32 = 1e-4;

fn shipped(side: usize) -> (Entry, EfficientNet) {
    let store = ModelStore::embedded();
    let (entry, file) = store.read(&"efficientnet-lite0".parse().unwrap()).unwrap();
    let entry = Entry { config: serde_json::json!({"input": side}), ..entry.clone() };
    let model = EfficientNet::open(&entry, file).unwrap();
    (entry, model)
}

#[track_caller]
fn agrees(got: &[f32], golden: &Golden, what: &str) {
    let expected = golden.rows().concat();
    assert_eq!((got.len(), expected.len()), (1000, 1000));
    let largest = expected.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    let worst = got.iter().zip(&expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
    assert!(worst <= TOLERANCE * largest, "{what} {}: off by {worst:e} of {largest}", golden.file);
}

#[test]
fn the_plan_agrees_with_onnx_runtime_on_every_isa_and_number_of_threads() {
    for golden in Golden::all("efficientnet-lite0") {
        let side = golden.shape[1];
        let (_, model) = shipped(side);
        for isa in Isa::ALL {
            let Ok(kernels) = Kernels::of(isa) else { continue };
            let packed = Arc::new(Packed::pack(&model.tensors, kernels));
            let alone = Plan::new(packed.clone(), side, 1).run(&golden.pixels());
            agrees(&alone, &golden, &isa.to_string());
            for threads in [2, 5] {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                let mut plan = Plan::new(packed.clone(), side, threads);
                assert!(pool.install(|| plan.run(&golden.pixels())) == alone, "{isa} on {threads} threads");
            }
        }
    }
}

#[test]
fn the_reference_agrees_with_onnx_runtime() {
    let golden = &Golden::all("efficientnet-lite0")[0];
    let side = golden.shape[1];
    let (_, model) = shipped(side);
    let network = Network::load(&model.tensors, model.classes, &candle_core::Device::Cpu).unwrap();
    agrees(&network.run(&golden.pixels(), side).unwrap(), golden, "reference");
}

#[test]
fn the_second_run_of_a_plan_gives_the_same_bits() {
    let all = Golden::all("efficientnet-lite0");
    let [first, other] = [&all[0], &all[1]];
    assert_eq!(first.shape, other.shape);
    let (_, model) = shipped(first.shape[1]);
    let packed = Arc::new(Packed::pack(&model.tensors, Kernels::detect().unwrap()));
    let mut plan = Plan::new(packed, first.shape[1], 1);
    let before = plan.run(&first.pixels());
    plan.run(&other.pixels());
    assert!(plan.run(&first.pixels()) == before, "what ran before left its mark");
}

#[test]
fn inputs_of_another_size_are_refused() {
    let (_, model) = shipped(224);
    let processor = Processor { kernels: Kernels::detect().unwrap(), half: None, pool: None };
    for mut execution in [model.on_cpu(&processor), model.reference(&candle_core::Device::Cpu).unwrap()] {
        let error = execution.run(&ModelInput::black(192)).unwrap_err();
        assert!(matches!(error, Fault::Input { .. }), "{error}");
    }
}

#[test]
fn the_shipped_entry_is_what_an_import_writes() {
    let (entry, model) = shipped(224);
    assert_eq!(import::entry(model.tensors.file()), entry);
}

#[test]
fn a_checkpoint_becomes_our_file_with_batch_norm_folded_in() {
    // Each value a number of its own; variances positive.
    let mut published = Vec::new();
    let mut shapes: Vec<(String, Vec<usize>)> = vec![("_conv_stem".into(), vec![32, 3, 3, 3])];
    for block in arch::blocks() {
        let prefix = format!("_blocks.{}", block.index);
        if block.expands() {
            shapes.push((format!("{prefix}._expand_conv"), vec![block.hidden, block.inputs, 1, 1]));
        }
        shapes.push((format!("{prefix}._depthwise_conv"), vec![block.hidden, 1, block.size, block.size]));
        shapes.push((format!("{prefix}._project_conv"), vec![block.outputs, block.hidden, 1, 1]));
    }
    shapes.push(("_conv_head".into(), vec![1280, 320, 1, 1]));
    let value = |index: usize| (index % 251) as f32 / 251.0;
    let tensor = |shape: &[usize], from: usize| pth::Tensor {
        shape: shape.to_vec(),
        values: (0..shape.iter().product()).map(|index| value(index + from)).collect(),
    };
    let norm_of = |layer: &str| match layer {
        "_conv_stem" => "_bn0".to_owned(),
        "_conv_head" => "_bn1".to_owned(),
        layer => {
            let (block, convolution) = layer.rsplit_once('.').unwrap();
            let number = match convolution {
                "_expand_conv" => 0,
                "_depthwise_conv" => 1,
                _ => 2,
            };
            format!("{block}._bn{number}")
        }
    };
    for (name, shape) in &shapes {
        let norm = norm_of(name);
        published.push((format!("{name}.weight"), tensor(shape, 0)));
        for (from, part) in ["weight", "bias", "running_mean", "running_var"].into_iter().enumerate() {
            published.push((format!("{norm}.{part}"), tensor(&shape[..1], 10 * from)));
        }
    }
    published.push(("_fc.weight".into(), tensor(&[1000, 1280], 0)));
    published.push(("_fc.bias".into(), tensor(&[1000], 0)));
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("efficientnet-lite0-57934424.pth");
    let write = |published: &[(String, pth::Tensor)]| {
        let named: Vec<_> = published.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        std::fs::write(&checkpoint, pth::tests::checkpoint(&named)).unwrap();
    };
    write(&published);
    let converted = folder::convert(folder.path()).unwrap();
    let (entry, file) = &converted.files[0];
    let model = EfficientNet::open(entry, file.clone().into()).unwrap();

    // Channel 7 of block 3's depthwise convolution, row 1 of its windows, column 4.
    let block = arch::blocks()[3];
    let scale = value(7) / (value(7 + 30) + 1e-3).sqrt();
    let weight = model.tensors.values("block3.depthwise.weight")[9 * block.hidden + 7];
    assert!((weight - value(7 * 25 + 9) * scale).abs() < 1e-3 * scale, "{weight}");
    let bias = model.tensors.values("block3.depthwise.bias")[7];
    assert!((bias - (value(17) - value(27) * scale)).abs() < 2e-3, "{bias}");
    // Input channel 5 to output channel 3 of its expand convolution, and of the classifier.
    let scale = value(3) / (value(3 + 30) + 1e-3).sqrt();
    let weight = model.tensors.values("block3.expand.weight")[5 * block.hidden + 3];
    assert!((weight - value(3 * block.inputs + 5) * scale).abs() < 1e-3 * scale, "{weight}");
    let weight = model.tensors.values("classifier.weight")[5 * 1000 + 3];
    assert!((weight - value(3 * 1280 + 5)).abs() < 1e-3, "{weight}");

    published.retain(|(name, _)| name != "_blocks.4._bn1.running_var");
    write(&published);
    let error = folder::convert(folder.path()).unwrap_err().to_string();
    assert!(error.contains("_blocks.4._bn1.running_var"), "{error}");
    assert_eq!(LabelsEntry::imagenet_1k().list().unwrap().len(), 1000);
}
