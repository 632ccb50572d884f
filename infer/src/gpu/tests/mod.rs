//! The batched engine against TensorFlow's outputs, against the other engine, and its kernels against their
//! references.
//!
//! `CLOUDPOSE_TEST_DEVICE=cuda:0` runs all but the kernels' suite on a GPU.

mod kernels;
mod memory;
mod renewal;

use std::sync::Arc;

use candle_core::{Device, Tensor};
use cloudpose_testing::golden::Golden;
use cloudpose_wire::ModelId;

use super::*;
use crate::contract::{Fault, Found};
use crate::models::movenet::arch::CELL_PX;
use crate::models::movenet::embedded as weights;
use crate::models::{FAMILIES, ModelPose, ModelStore, Models};
use crate::preprocess::ModelInput;

fn place() -> Place {
    match std::env::var("CLOUDPOSE_TEST_DEVICE").as_deref().unwrap_or("cpu").parse().unwrap() {
        DeviceChoice::Cuda(number) => Place::Cuda(number),
        _ => Place::Host,
    }
}

fn models() -> Arc<Models> {
    Arc::new(Models::new(ModelStore::embedded(), FAMILIES).unwrap())
}

fn engine(precision: Precision) -> GpuEngine {
    GpuEngine::open(place(), precision, models()).unwrap()
}

fn id(model: &str) -> ModelId {
    model.parse().unwrap()
}

/// A pose as a row of the golden output.
fn row(pose: &ModelPose) -> Vec<f32> {
    let mut row: Vec<f32> = pose.keypoints.iter().flat_map(|k| [k.y, k.x, k.score]).collect();
    if let Some(b) = pose.bounds {
        row.extend([b.y_min, b.x_min, b.y_max, b.x_max, pose.score]);
    }
    row
}

/// The poses that a batch found, by input.
fn poses_of(done: Done) -> Vec<Vec<ModelPose>> {
    let poses = |found| match found {
        Found::Poses(poses) => poses,
        Found::Classes(_) => panic!("{found:?}"),
    };
    done.found.into_iter().map(poses).collect()
}

/// What `engine` makes of a batch of RGB images of one size.
fn run_rgb(
    engine: &mut GpuEngine,
    model: &str,
    images: &[Vec<u8>],
    [height, width]: [usize; 2],
) -> Vec<Vec<ModelPose>> {
    let input =
        |pixels: &Vec<u8>| ModelInput { width, height, pixels: pixels.clone(), ..ModelInput::default() };
    let batch: Vec<_> = images.iter().map(input).collect();
    poses_of(engine.run_batch(&id(model), &batch).unwrap())
}

/// Runs all golden inputs of one shape together, and calls `compare` with each person's row and the expected one.
fn on_golden(model: &str, precision: Precision, mut compare: impl FnMut(&Golden, &[f32], &[f32])) {
    let mut engine = engine(precision);
    let mut rest = Golden::all(model);
    while let Some(first) = rest.first() {
        let shape = first.shape;
        let (batch, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|golden| golden.shape == shape);
        rest = others;
        let images: Vec<_> = batch.iter().map(Golden::pixels).collect();
        let poses = run_rgb(&mut engine, model, &images, [shape[1], shape[2]]);
        for (golden, poses) in batch.iter().zip(&poses) {
            let rows = golden.rows();
            assert_eq!(poses.len(), rows.len());
            let mut persons = 0;
            for (pose, expected) in poses.iter().zip(&rows) {
                // MultiPose rows below this score are noise, in which near-ties make other cells win.
                if model != "multipose" || expected[55] >= 0.2 {
                    compare(golden, &row(pose), expected);
                    persons += 1;
                }
            }
            assert!(persons > 0, "{}: the golden output shows a person", golden.file);
        }
    }
}

#[test]
fn float32_matches_tensorflow() {
    for model in ["multipose", "lightning", "thunder"] {
        on_golden(model, Precision::F32, |golden, got, expected| {
            assert_eq!(got.len(), expected.len());
            let worst = got.iter().zip(expected).map(|(g, e)| (g - e).abs()).fold(0.0, f32::max);
            assert!(worst <= 1e-3, "{model} {}: off by {worst:e}", golden.file);
        });
    }
}

#[test]
fn float16_stays_within_a_hundredth_of_the_image() {
    for model in ["multipose", "lightning", "thunder"] {
        let (mut seen, mut worst) = (0, 0f32);
        on_golden(model, Precision::F16, |golden, got, expected| {
            for (got, expected) in got.chunks_exact(3).zip(expected.chunks_exact(3)).take(17) {
                if expected[2] < 0.3 {
                    continue;
                }
                let off = (got[0] - expected[0]).hypot(got[1] - expected[1]);
                assert!(
                    off <= 0.01,
                    "{model} {}: a keypoint of {} is off by {off}",
                    golden.file,
                    expected[2]
                );
                (seen, worst) = (seen + 1, worst.max(off));
            }
        });
        println!("{model}: {seen} keypoints, off by {worst} of the image at most");
        assert!(seen > 50, "{model}: {seen} keypoints");
    }
}

/// Pixels that differ everywhere.
fn noise(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i + 7 * seed) * (i + seed) / 7 + i * seed) as u8).collect()
}

/// How far apart two numbers of the same picture may be in batches of different sizes: matrix products sum in
/// another order.
const BATCH_TOLERANCE: f32 = 2e-5;

fn assert_same(a: &[ModelPose], b: &[ModelPose], what: &str) {
    let rows = |poses: &[ModelPose]| poses.iter().flat_map(row).collect::<Vec<_>>();
    let (a, b) = (rows(a), rows(b));
    assert_eq!(a.len(), b.len());
    let worst = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(worst <= BATCH_TOLERANCE, "{what}: off by {worst:e}");
}

#[test]
fn batches_of_all_sizes_give_each_picture_its_poses_and_use_the_same_memory() {
    let mut engine = engine(Precision::F32);
    let model = "lightning";
    let golden = Golden::all(model);
    let pictures: Vec<_> = golden.iter().map(Golden::pixels).collect();
    let alone: Vec<_> =
        pictures.iter().map(|p| run_rgb(&mut engine, model, std::slice::from_ref(p), [192; 2])).collect();
    let batch = |size: usize| (0..size).map(|i| pictures[i % pictures.len()].clone()).collect::<Vec<_>>();
    let mut largest = None;
    for size in [64, 1, 2, 3, 7, 32, 33, 64] {
        let poses = run_rgb(&mut engine, model, &batch(size), [192; 2]);
        assert_eq!(poses.len(), size);
        for (index, poses) in poses.iter().enumerate() {
            assert_same(poses, &alone[index % alone.len()][0], &format!("picture {index} of {size}"));
        }
        assert_eq!(*largest.get_or_insert(engine.allocations()), engine.allocations(), "at {size}");
    }
}

#[test]
fn what_ran_before_leaves_no_mark() {
    let golden = Golden::all("multipose");
    let [_, height, width, _] = golden[0].shape;
    let input = [golden[0].pixels()];
    for precision in [Precision::F32, Precision::F16] {
        let mut engine = engine(precision);
        let first = run_rgb(&mut engine, "multipose", &input, [height, width]);
        let other = [noise(256 * 256 * 3, 1), noise(256 * 256 * 3, 2)];
        run_rgb(&mut engine, "multipose", &other, [256; 2]);
        run_rgb(&mut engine, "thunder", &other[..1], [256; 2]);
        let again = run_rgb(&mut engine, "multipose", &input, [height, width]);
        assert_eq!(first, again, "{precision:?}");
    }
}

#[test]
fn two_engines_at_once_do_not_disturb_one_another() {
    let golden = Golden::all("lightning");
    let images: Vec<_> = golden.iter().map(Golden::pixels).collect();
    let expected = run_rgb(&mut engine(Precision::F16), "lightning", &images, [192; 2]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut engine = engine(Precision::F16);
                for _ in 0..3 {
                    let poses = run_rgb(&mut engine, "lightning", &images, [192; 2]);
                    assert_eq!(poses, expected);
                    let other = run_rgb(&mut engine, "multipose", &[noise(256 * 256 * 3, 1)], [256; 2]);
                    assert_eq!(other[0].len(), 6);
                }
            });
        }
    });
}

#[test]
fn the_grid_follows_the_input() {
    let mut engine = engine(Precision::F32);
    for [height, width] in [[32, 32], [32, 96], [160, 256], [256, 128]] {
        let images = [noise(height * width * 3, 3), vec![0; height * width * 3]];
        let batch = run_rgb(&mut engine, "multipose", &images, [height, width]);
        let reference = crate::models::movenet::MoveNet::load(&weights("multipose"), &Device::Cpu).unwrap();
        let input = Tensor::from_vec(images.concat(), (2, height, width, 3), &Device::Cpu).unwrap();
        let decoder = crate::models::movenet::Decoder::new(&weights("multipose"));
        for (poses, mut heads) in batch.iter().zip(reference.forward(&input).unwrap()) {
            assert_eq!(heads.grid.cells(), height / CELL_PX * width / CELL_PX);
            let expected = decoder.decode(&mut heads);
            // The person seen best. The others are noise, where near-ties make other cells win.
            assert_same(&poses[..1], &expected[..1], &format!("{height}×{width}"));
        }
    }
}

#[test]
fn inputs_that_do_not_fit_together_are_refused() {
    let input = |width, height| ModelInput {
        width,
        height,
        pixels: vec![0; 3 * width * height],
        ..ModelInput::default()
    };
    let mut engine = engine(Precision::F32);
    let mixed = [input(64, 64), input(64, 32)];
    let short = [ModelInput { pixels: Vec::new(), ..input(64, 32) }];
    let mut run = |model, batch: &[ModelInput]| engine.run_batch(&id(model), batch);
    assert!(matches!(run("multipose", &mixed), Err(Fault::Input { .. })));
    assert!(matches!(run("multipose", &short), Err(Fault::Input { .. })));
    assert!(matches!(run("lightning", &mixed[..1]), Err(Fault::Input { .. })));
    assert!(run("multipose", &[]).unwrap().found.is_empty());
    assert_eq!(run("multipose", &mixed[1..]).unwrap().found.len(), 1);
}

#[test]
fn device_errors_say_what_to_do() {
    let says = |problem: &str| DeviceError::says(Place::Cuda(1), problem).to_string();
    let message = says("DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")\n   0: a backtrace");
    assert!(message.starts_with("cuda:1: DriverError(CUDA_ERROR_OUT_OF_MEMORY"), "{message}");
    assert!(message.contains("--max-batch") && !message.contains("backtrace"), "{message}");
    assert!(says("DriverError(CUDA_ERROR_NO_DEVICE, …)").contains("no NVIDIA GPU"));
    assert_eq!(says("something else"), "cuda:1: something else");
}

#[test]
fn a_machine_without_a_gpu_says_so() {
    let error = GpuEngine::open(Place::Cuda(4000), Precision::F32, models()).unwrap_err().to_string();
    assert!(error.starts_with("cuda:4000: ") && error.contains("nvidia-smi"), "{error}");
}
