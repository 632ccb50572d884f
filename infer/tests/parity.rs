//! The reference network and the decoder against TensorFlow's outputs of the published graphs.
//!
//! `golden/` holds input tensors and what TensorFlow's float32 kernels answered; see its README. The
//! tolerances leave room for another order of summation (TensorFlow itself differs from a
//! double-precision run by up to 3.5e-6) and for nothing else: a keypoint that lands in another cell is
//! off by 1e-2.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

use candle_core::{Device, Tensor};
use cloudpose_infer::models::movenet::decoder::Grid;
use cloudpose_infer::models::movenet::{Decoder, MoveNet, MoveNetModel, Weights};
use cloudpose_infer::models::{ModelPose, ModelStore};
use cloudpose_testing::golden::Golden;

/// Every number of a SinglePose output.
const SINGLE_TOLERANCE: f32 = 2e-5;
/// Every number of a MultiPose row that is a person.
const MULTI_TOLERANCE: f32 = 5e-5;
/// MultiPose rows below this score are noise, in which near-ties make other cells win.
const MULTI_MIN_SCORE: f32 = 0.2;

/// The input of `golden` as the network takes it.
fn input(golden: &Golden) -> Tensor {
    Tensor::from_slice(&golden.pixels(), &golden.shape, &Device::Cpu).unwrap()
}

fn weights(model: &str) -> Weights {
    let store = ModelStore::embedded();
    let (entry, file) = store.read(&model.parse().unwrap()).unwrap();
    MoveNetModel::open(entry, file).unwrap().weights().clone()
}

/// Runs the network on a batch and decodes each image.
fn detect(network: &MoveNet, decoder: &Decoder, batch: &Tensor) -> Vec<Vec<ModelPose>> {
    let heads = network.forward(batch).unwrap();
    heads.into_iter().map(|mut heads| decoder.decode(&mut heads)).collect()
}

fn rows(poses: &[ModelPose]) -> Vec<Vec<f32>> {
    let row = |pose: &ModelPose| {
        let mut row: Vec<f32> = pose.keypoints.iter().flat_map(|k| [k.y, k.x, k.score]).collect();
        if let Some(b) = pose.bounds {
            row.extend([b.y_min, b.x_min, b.y_max, b.x_max, pose.score]);
        }
        row
    };
    poses.iter().map(row).collect()
}

/// Asserts that the rows that matter agree, and that there are some.
fn compare(model: &str, what: &str, got: &[Vec<f32>], expected: &[Vec<f32>]) {
    assert_eq!(got.len(), expected.len());
    let mut compared = 0;
    for (row, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.len(), expected.len());
        let tolerance = match model {
            "multipose" if expected[55] < MULTI_MIN_SCORE => continue,
            "multipose" => MULTI_TOLERANCE,
            _ => SINGLE_TOLERANCE,
        };
        for (column, (g, e)) in got.iter().zip(expected).enumerate() {
            assert!((g - e).abs() <= tolerance, "{model} {what}: row {row} column {column} is {g}, not {e}");
        }
        compared += 1;
    }
    assert!(compared > 0, "{model} {what}: the golden output shows a person");
}

fn matches_golden(model: &str) {
    let weights = weights(model);
    let network = MoveNet::load(&weights, &Device::Cpu).unwrap();
    let decoder = Decoder::new(&weights);
    for golden in Golden::all(model) {
        let poses = detect(&network, &decoder, &input(&golden));
        compare(model, &golden.file, &rows(&poses[0]), &golden.rows());
    }
}

#[test]
fn lightning_matches_tensorflow() {
    matches_golden("lightning");
}

#[test]
fn thunder_matches_tensorflow() {
    matches_golden("thunder");
}

#[test]
fn multipose_matches_tensorflow() {
    matches_golden("multipose");
}

#[test]
fn a_batch_gives_each_image_its_own_poses() {
    for model in ["lightning", "multipose"] {
        let weights = weights(model);
        let network = MoveNet::load(&weights, &Device::Cpu).unwrap();
        let all = Golden::all(model);
        let golden: Vec<&Golden> = all.iter().filter(|g| g.shape == all[0].shape).take(3).collect();
        let inputs: Vec<Tensor> = golden.iter().map(|golden| input(golden)).collect();
        let batch = Tensor::cat(&inputs, 0).unwrap();
        let poses = detect(&network, &Decoder::new(&weights), &batch);
        assert_eq!(poses.len(), golden.len());
        for (poses, golden) in poses.iter().zip(golden) {
            compare(model, &golden.file, &rows(poses), &golden.rows());
        }
    }
}

#[test]
fn inputs_of_another_size_are_refused() {
    let network = MoveNet::load(&weights("multipose"), &Device::Cpu).unwrap();
    let odd = Tensor::zeros((1, 256, 200, 3), candle_core::DType::U8, &Device::Cpu).unwrap();
    let error = network.forward(&odd).expect_err("200 is no multiple of 32").to_string();
    assert!(error.contains("256×200"), "{error}");
}

#[test]
fn golden_inputs_have_the_grid_the_heads_have() {
    let golden = &Golden::all("multipose")[0];
    let network = MoveNet::load(&weights("multipose"), &Device::Cpu).unwrap();
    let heads = network.forward(&input(golden)).unwrap();
    let [_, height, width, _] = golden.shape;
    assert_eq!(heads[0].grid, Grid { height: height / 4, width: width / 4 });
}
