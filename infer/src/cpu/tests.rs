//! The engine against TensorFlow's outputs and against the candle reference, on every instruction set.

use std::sync::Arc;

use cloudpose_kernels::{Isa, Kernels};
use cloudpose_testing::golden::Golden;

use super::plans::{MOST_PICTURES, MOST_PLANS};
use super::*;
use crate::contract::Fault;
use crate::models::ModelPose;
use crate::models::movenet::arch::{Head, INPUT_MULTIPLE};
use crate::models::movenet::decoder::Heads;
use crate::models::movenet::{Decoder, embedded};

/// Runs `test` with every instruction set this processor has; `which_instruction_sets_were_tested` says those.
fn on_every_isa(test: impl Fn(Kernels)) {
    for isa in Isa::ALL {
        if let Ok(kernels) = Kernels::of(isa) {
            test(kernels);
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

/// A pose as a row of the golden output.
fn row(pose: &ModelPose) -> Vec<f32> {
    let mut row: Vec<f32> = pose.keypoints.iter().flat_map(|k| [k.y, k.x, k.score]).collect();
    if let Some(b) = pose.bounds {
        row.extend([b.y_min, b.x_min, b.y_max, b.x_max, pose.score]);
    }
    row
}

/// The plans of a model that is built in.
fn plans(model: &str, kernels: Kernels) -> Plans {
    Plans::new(packed(model, kernels), None)
}

fn packed(model: &str, kernels: Kernels) -> Arc<PackedModel> {
    Arc::new(PackedModel::pack(&embedded(model), kernels, None))
}

fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// Runs one picture.
fn one<'a>(plans: &'a mut Plans, [height, width]: [usize; 2], pixels: &[u8]) -> PlanHeads<'a> {
    plans.run(height, width, &[pixels]).unwrap().remove(0)
}

fn matches_golden(model: &str) {
    on_every_isa(|kernels| {
        let decoder = Decoder::new(&embedded(model));
        let isa = kernels.isa();
        let mut plans = plans(model, kernels);
        for golden in Golden::all(model) {
            let [_, height, width, _] = golden.shape;
            let poses = decoder.decode(&mut one(&mut plans, [height, width], &golden.pixels()));
            let expected = golden.rows();
            let tolerance = if model == "multipose" { 5e-5 } else { 2e-5 };
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
    matches_golden("lightning");
}

#[test]
fn thunder_matches_tensorflow_on_every_isa() {
    matches_golden("thunder");
}

#[test]
fn multipose_matches_tensorflow_on_every_isa() {
    matches_golden("multipose");
}

#[test]
fn dense_maps_agree_with_what_is_read_cell_by_cell() {
    on_every_isa(|kernels| {
        let isa = kernels.isa();
        let golden = &Golden::all("multipose")[0];
        let [_, height, width, _] = golden.shape;
        let mut plans = plans("multipose", kernels);
        let mut heads = one(&mut plans, [height, width], &golden.pixels());
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
    let all = Golden::all("multipose");
    let fresh = || plans("multipose", Kernels::detect().unwrap());
    let mut used = fresh();
    let run = |plans: &mut Plans, golden: &Golden| {
        let [_, height, width, _] = golden.shape;
        one(plans, [height, width], &golden.pixels()).keypoints().to_vec()
    };
    let first = run(&mut used, &all[0]);
    for other in &all[1..] {
        run(&mut used, other);
    }
    assert_eq!(first, run(&mut used, &all[0]), "what ran before left its mark");
    assert_eq!(first, run(&mut fresh(), &all[0]));
}

#[test]
fn any_number_of_threads_gives_the_same_numbers() {
    on_every_isa(|kernels| {
        let isa = kernels.isa();
        for (model, height, width) in
            [("lightning", 192, 192), ("multipose", 160, 256), ("multipose", 32, 64)]
        {
            let pixels: Vec<u8> = (0..height * width * 3).map(|i| (i * i / 7 + i) as u8).collect();
            let run = |threads| {
                let mut plans = Plans::new(packed(model, kernels), Some(pool(threads)));
                let heads = one(&mut plans, [height, width], &pixels);
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
fn pictures_at_once_give_the_same_bits_as_one_by_one() {
    on_every_isa(|kernels| {
        let isa = kernels.isa();
        for (model, height, width) in
            [("thunder", 256, 256), ("lightning", 192, 192), ("multipose", 64, 32), ("multipose", 96, 160)]
        {
            let packed = packed(model, kernels);
            let picture =
                |n| (0..height * width * 3).map(|i| (i * i / (7 + n) + i) as u8).collect::<Vec<_>>();
            let pictures: Vec<_> = (0..MOST_PICTURES + 1).map(picture).collect();
            let read = |heads: &mut PlanHeads<'_>| {
                let mut channels = [0.0; 34];
                heads.read(Head::Offset, 5, 0, &mut channels);
                (heads.center().to_vec(), heads.keypoints().to_vec(), channels)
            };
            let mut by_one = Plans::new(packed.clone(), None);
            let alone: Vec<_> =
                pictures.iter().map(|pixels| read(&mut one(&mut by_one, [height, width], pixels))).collect();
            for (threads, most) in [(None, MOST_PICTURES), (Some(2), MOST_PICTURES + 1), (Some(3), 4)] {
                let mut plans = Plans::new(packed.clone(), threads.map(pool));
                // More than before, for which plans are made anew, and fewer.
                for count in [1, most, 2, 3, 0] {
                    let at_once: Vec<&[u8]> = pictures[..count].iter().map(Vec::as_slice).collect();
                    let mut heads = plans.run(height, width, &at_once).unwrap();
                    let together: Vec<_> = heads.iter_mut().map(read).collect();
                    assert!(
                        together == alone[..count],
                        "{isa} {model}, {count} at once on {threads:?} threads"
                    );
                }
                assert_eq!(plans.len(), 1);
            }
        }
    });
}

#[test]
fn more_sizes_than_plans_are_kept_still_run() {
    let mut plans = plans("multipose", Kernels::detect().unwrap());
    for width in (1..=MOST_PLANS + 2).map(|n| n * INPUT_MULTIPLE) {
        let pixels = vec![128; INPUT_MULTIPLE * width * 3];
        let heads = one(&mut plans, [INPUT_MULTIPLE, width], &pixels);
        assert_eq!(heads.center().len(), INPUT_MULTIPLE / 4 * width / 4);
    }
    assert_eq!(plans.len(), MOST_PLANS);
}

#[test]
fn inputs_that_a_model_does_not_take_are_refused() {
    for (model, height, width, bytes) in [
        ("lightning", 192, 256, 192 * 256 * 3),
        ("multipose", 256, 200, 256 * 200 * 3),
        ("multipose", 0, 256, 0),
        ("multipose", 256, 160, 256 * 160 * 3 - 1),
    ] {
        let mut plans = plans(model, Kernels::detect().unwrap());
        let error = plans.run(height, width, &[&vec![0; bytes]]).unwrap_err();
        assert!(matches!(error, Fault::Input { .. }), "{error}");
    }
}

mod reference {
    use candle_core::{Device, Tensor};

    use super::*;
    use crate::models::movenet::MoveNet;

    /// Both executions sum in float32, in different orders: a share of the head's largest value, which says
    /// how large the terms of its sums are. Seen: up to 2e-5, in Thunder's cells without a person.
    const TOLERANCE: f32 = 5e-5;

    #[test]
    fn every_head_agrees_with_the_candle_graph() {
        for model in ["multipose", "lightning", "thunder"] {
            let golden = &Golden::all(model)[0];
            let input = Tensor::from_slice(&golden.pixels(), &golden.shape, &Device::Cpu).unwrap();
            let expected = MoveNet::load(&embedded(model), &Device::Cpu).unwrap().forward(&input).unwrap();

            let model_on_cpu = packed(model, Kernels::detect().unwrap());
            let output = input.apply_op1(DenseHeadsOp::new(model_on_cpu)).unwrap();
            let channels = output.dim(3).unwrap();
            let output: Vec<f32> = output.flatten_all().unwrap().to_vec1().unwrap();
            let mut first = 0;
            for (head, map) in &expected[0].maps {
                let largest = map.iter().fold(1.0, |largest: f32, value| largest.max(value.abs()));
                for (cell, want) in map.chunks_exact(head.channels(17)).enumerate() {
                    let got = &output[cell * channels + first..][..head.channels(17)];
                    let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
                    assert!(worst <= TOLERANCE * largest, "{model} {head:?} cell {cell}: off by {worst:e}");
                }
                first += head.channels(17);
            }
            assert_eq!(first, channels);
        }
    }

    #[test]
    fn the_operation_refuses_other_tensors() {
        let lightning = packed("lightning", Kernels::detect().unwrap());
        let floats = Tensor::zeros((1, 192, 192, 3), candle_core::DType::F32, &Device::Cpu).unwrap();
        let error = floats.apply_op1(DenseHeadsOp::new(lightning)).unwrap_err();
        assert!(error.to_string().contains("uint8"), "{error}");
    }
}
