//! The engine against TensorFlow's outputs and against the candle reference, on every instruction set.

use std::path::Path;

use serde::Deserialize;

use super::*;
use crate::model::arch::{Head, INPUT_MULTIPLE};
use crate::postprocess::{Decoder, Heads, ModelPose};

/// Runs `test` with every instruction set this processor has; `which_instruction_sets_were_tested` says those.
fn on_every_isa(test: impl Fn(Arc<Engines>)) {
    for isa in Isa::ALL {
        if let Ok(kernels) = Kernels::of(isa) {
            test(Arc::new(Engines::with(ModelStore::embedded(), kernels)));
        }
    }
}

/// A run ends with what this says (`.config/nextest.toml`): what was left out must not look tested.
#[test]
fn which_instruction_sets_were_tested() {
    let (tested, lacking): (Vec<Isa>, Vec<Isa>) = Isa::ALL.into_iter().partition(|isa| isa.is_supported());
    println!("CPU engine: tested on {tested:?}; NOT TESTED, for this processor lacks them: {lacking:?}");
    assert!(tested.contains(&Isa::Portable));
}

#[test]
fn a_model_is_read_once_however_many_ask_for_it_at_once() {
    let engines = Arc::new(Engines::new(ModelStore::embedded()).unwrap());
    let at_once = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                at_once.wait();
                let mut engine = Engine::new(engines.clone());
                engine.run(ModelName::Lightning, 192, 192, &[0; 192 * 192 * 3]).unwrap();
                engines.decoder(ModelName::Lightning).unwrap();
            });
        }
    });
    assert_eq!(engines.reads.load(Ordering::Relaxed), 1);
}

/// An entry of `tests/golden/*.json`; its README says what is in it.
#[derive(Deserialize)]
struct Golden {
    file: String,
    /// N, H, W, C of the input.
    shape: [usize; 4],
    output_f32: Vec<Vec<f32>>,
}

impl Golden {
    fn all(model: ModelName) -> Vec<Self> {
        serde_json::from_slice(&Self::read(&format!("{model}.json"))).unwrap()
    }

    fn read(file: &str) -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)).unwrap()
    }

    /// uint8 RGB, NHWC: a NumPy file without its header, whose length stands at byte 8.
    fn pixels(&self) -> Vec<u8> {
        let file = Self::read(&self.file);
        file[10 + usize::from(u16::from_le_bytes([file[8], file[9]]))..].to_vec()
    }
}

/// A pose as a row of the golden output.
fn row(pose: &ModelPose) -> Vec<f32> {
    let mut row: Vec<f32> = pose.keypoints.iter().flat_map(|k| [k.y, k.x, k.score]).collect();
    if let Some(b) = pose.bounds {
        row.extend([b.y_min, b.x_min, b.y_max, b.x_max, pose.score]);
    }
    row
}

fn matches_golden(model: ModelName) {
    on_every_isa(|engines| {
        let decoder = Decoder::new(&engines.weights(model).unwrap());
        let isa = engines.isa();
        let mut engine = Engine::new(engines);
        for golden in Golden::all(model) {
            let [_, height, width, _] = golden.shape;
            let poses = decoder.decode(&mut engine.run(model, height, width, &golden.pixels()).unwrap());
            let (expected, tolerance): (Vec<Vec<f32>>, f32) = match model {
                ModelName::MultiPose => (golden.output_f32, 5e-5),
                _ => (vec![golden.output_f32.concat()], 2e-5),
            };
            assert_eq!(poses.len(), expected.len());
            // MultiPose rows below this score are noise, in which near-ties make other cells win.
            let persons = poses.iter().map(row).zip(&expected).filter(|(_, e)| e.len() == 51 || e[55] >= 0.2);
            let mut compared = 0;
            for (got, expected) in persons {
                assert_eq!(got.len(), expected.len());
                let worst = got.iter().zip(expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
                assert!(worst <= tolerance, "{isa} {model} {}: off by {worst:e}", golden.file);
                compared += 1;
            }
            assert!(compared > 0, "{}: the golden output shows a person", golden.file);
        }
    });
}

#[test]
fn lightning_matches_tensorflow_on_every_isa() {
    matches_golden(ModelName::Lightning);
}

#[test]
fn thunder_matches_tensorflow_on_every_isa() {
    matches_golden(ModelName::Thunder);
}

#[test]
fn multipose_matches_tensorflow_on_every_isa() {
    matches_golden(ModelName::MultiPose);
}

#[test]
fn dense_maps_agree_with_what_is_read_cell_by_cell() {
    on_every_isa(|engines| {
        let isa = engines.isa();
        let golden = &Golden::all(ModelName::MultiPose)[0];
        let [_, height, width, _] = golden.shape;
        let mut engine = Engine::new(engines);
        let mut heads = engine.run(ModelName::MultiPose, height, width, &golden.pixels()).unwrap();
        for cell in 0..heads.grid().cells() {
            let (mut center, mut keypoints) = ([0.0], [0.0; 17]);
            heads.read(Head::Center, cell, 0, &mut center);
            heads.read(Head::Keypoints, cell, 0, &mut keypoints);
            assert_eq!(heads.center()[cell], center[0], "{isa}");
            assert_eq!(heads.keypoints()[17 * cell..][..17], keypoints, "{isa}");
        }
    });
}

#[test]
fn the_second_run_of_a_plan_gives_the_same_bits() {
    let engines = Arc::new(Engines::new(ModelStore::embedded()).unwrap());
    let all = Golden::all(ModelName::MultiPose);
    let mut engine = Engine::new(engines.clone());
    let run = |engine: &mut Engine, golden: &Golden| {
        let [_, height, width, _] = golden.shape;
        engine.run(ModelName::MultiPose, height, width, &golden.pixels()).unwrap().keypoints().to_vec()
    };
    let first = run(&mut engine, &all[0]);
    for other in &all[1..] {
        run(&mut engine, other);
    }
    assert_eq!(first, run(&mut engine, &all[0]), "what ran before left its mark");
    assert_eq!(first, run(&mut Engine::new(engines), &all[0]));
}

#[test]
fn any_number_of_threads_gives_the_same_numbers() {
    on_every_isa(|engines| {
        let isa = engines.isa();
        for (model, height, width) in [
            (ModelName::Lightning, 192, 192),
            (ModelName::MultiPose, 160, 256),
            (ModelName::MultiPose, 32, 64),
        ] {
            let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i * i / 7 + i) as u8).collect();
            let run = |threads| {
                let threads = NonZeroUsize::new(threads).unwrap();
                let mut engine = Engine::with_threads(engines.clone(), threads).unwrap();
                let heads = engine.run(model, height, width, &pixels).unwrap();
                [heads.center().to_vec(), heads.keypoints().to_vec()]
            };
            let alone = run(1);
            for threads in [2, 3, 5, 16] {
                assert!(run(threads) == alone, "{isa} {model} {height}×{width} on {threads} threads");
            }
        }
    });
}

#[test]
fn more_sizes_than_plans_are_kept_still_run() {
    let engines = Arc::new(Engines::new(ModelStore::embedded()).unwrap());
    let mut engine = Engine::new(engines);
    for width in (1..=MOST_PLANS + 2).map(|n| n * INPUT_MULTIPLE) {
        let pixels = vec![128; INPUT_MULTIPLE * width * 3];
        let heads = engine.run(ModelName::MultiPose, INPUT_MULTIPLE, width, &pixels).unwrap();
        assert_eq!(heads.center().len(), INPUT_MULTIPLE / 4 * width / 4);
    }
    assert_eq!(engine.plans.len(), MOST_PLANS);
}

#[test]
fn inputs_that_a_model_does_not_take_are_refused() {
    let engines = Arc::new(Engines::new(ModelStore::embedded()).unwrap());
    let mut engine = Engine::new(engines);
    for (model, height, width, bytes) in [
        (ModelName::Lightning, 192, 256, 192 * 256 * 3),
        (ModelName::MultiPose, 256, 200, 256 * 200 * 3),
        (ModelName::MultiPose, 0, 256, 0),
        (ModelName::MultiPose, 256, 160, 256 * 160 * 3 - 1),
    ] {
        let error = engine.run(model, height, width, &vec![0; bytes]).unwrap_err();
        assert!(matches!(error, Error::Input { .. }), "{error}");
    }
}

mod reference {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::model::MoveNet;

    /// Both executions sum in float32, in different orders: a share of the head's largest value, which says
    /// how large the terms of its sums are. Seen: up to 2e-5, in Thunder's cells without a person.
    const TOLERANCE: f32 = 5e-5;

    #[test]
    fn every_head_agrees_with_the_candle_graph() {
        for model in ModelName::ALL {
            let golden = &Golden::all(model)[0];
            let input = Tensor::from_slice(&golden.pixels(), &golden.shape, &Device::Cpu).unwrap();
            let weights = ModelStore::embedded().load(model).unwrap();
            let expected = MoveNet::load(&weights, &Device::Cpu).unwrap().forward(&input).unwrap();

            let engines = Arc::new(Engines::new(ModelStore::embedded()).unwrap());
            let output = input.apply_op1(DenseHeadsOp::new(engines, model)).unwrap();
            let channels = output.dim(3).unwrap();
            let output: Vec<f32> = output.flatten_all().unwrap().to_vec1().unwrap();
            let mut first = 0;
            for (head, map) in &expected[0].maps {
                let largest = map.iter().fold(1.0, |largest: f32, value| largest.max(value.abs()));
                for (cell, want) in map.chunks_exact(head.channels()).enumerate() {
                    let got = &output[cell * channels + first..][..head.channels()];
                    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
                    assert!(worst <= TOLERANCE * largest, "{model} {head:?} cell {cell}: off by {worst:e}");
                }
                first += head.channels();
            }
            assert_eq!(first, channels);
        }
    }

    #[test]
    fn the_operation_refuses_other_tensors() {
        let engines = Arc::new(Engines::new(ModelStore::embedded()).unwrap());
        let floats = Tensor::zeros((1, 192, 192, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = floats.apply_op1(DenseHeadsOp::new(engines, ModelName::Lightning)).unwrap_err();
        assert!(error.to_string().contains("uint8"), "{error}");
    }
}
