//! From the JPEG to the persons, against TensorFlow's output on the same frame.
//!
//! The golden inputs were resized from the frames before these were compressed to JPEG, by another
//! program, in RGB rather than in planes. So inputs differ by about one grey level, and keypoints move.
//! Typically that is a quarter of a model pixel. A keypoint that the model is unsure of, or that lies
//! between two cells of the grid of 4 pixels, can move more: hence a tolerance of 1.5 model pixels (0.6 % of
//! the input), for keypoints of score 0.3 or more. Lightning, which sees two people in some frames and decides
//! by a hair to whom a keypoint belongs, is allowed one in ten that goes to the other.

use std::{num::NonZeroUsize, sync::Arc};

use cloudpose_infer::{Detail, Image, Job, Models, Pipeline, StoreConfig};
use cloudpose_testing::golden::{self, Golden};
use cloudpose_wire::Person;

/// In model pixels.
const TOLERANCE: f32 = 1.5;
const TYPICAL: f32 = 0.5;

/// Keypoints as (x, y, score), in model pixels.
type Pose = Vec<[f32; 3]>;

/// The poses of persons with a score of 0.2 or more.
fn poses_of(golden: &Golden) -> Vec<Pose> {
    let [_, height, width, _] = golden.shape.map(|side| side as f32);
    let pose = |row: &[f32]| {
        row.chunks_exact(3).take(17).map(|k| [k[1] * width, k[0] * height, k[2]]).collect::<Pose>()
    };
    // Only MultiPose gives a person's score.
    golden
        .rows()
        .iter()
        .filter(|row| row.get(55).is_none_or(|score| *score >= 0.2))
        .map(|r| pose(r))
        .collect()
}

/// A person's keypoints, from pixels of an image whose longer side is `longer`.
fn to_model(golden: &Golden, person: &Person, longer: u32) -> Vec<[f32; 2]> {
    let scale = longer as f32 / golden.shape[1].max(golden.shape[2]) as f32;
    let [x0, y0] = [golden.x0, golden.y0].map(|origin| origin as f32);
    person.keypoints.iter().map(|k| [k.x / scale + x0, k.y / scale + y0]).collect()
}

#[test]
fn keypoints_are_where_tensorflow_has_them() {
    let models = Arc::new(Models::open(&StoreConfig::default()).unwrap());
    let mut pipeline = Pipeline::on_cpu(models, NonZeroUsize::MIN).unwrap();
    for model in ["multipose", "lightning", "thunder"] {
        let mode = if model == "multipose" { "aspect" } else { "letterbox" };
        let rows = Golden::all(model);
        let mut moved = Vec::new();
        for row in rows.iter().filter(|row| row.mode == mode) {
            let image = golden::jpeg(&row.name);
            let id = model.parse().unwrap();
            let job = Job {
                image: Image::Encoded(&image),
                detail: Detail::Full,
                model: &id,
                min_score: 0.0,
                top: cloudpose_wire::frame::USUAL_TOP,
                past: None,
                stream: None,
                pictures: None,
            };
            let poses = pipeline.detect(job).unwrap();
            let longer = poses.width.max(poses.height);
            let found: Vec<_> = poses.output.persons().iter().map(|p| to_model(row, p, longer)).collect();
            for expected in poses_of(row) {
                let distances = |pose: &Vec<[f32; 2]>| -> Vec<f32> {
                    let pairs = expected.iter().zip(pose).filter(|([_, _, score], _)| *score >= 0.3);
                    pairs.map(|([x, y, _], got)| (x - got[0]).hypot(y - got[1])).collect()
                };
                let sum = |pose: &&Vec<[f32; 2]>| distances(pose).iter().sum::<f32>();
                let nearest = found.iter().min_by(|a, b| sum(a).total_cmp(&sum(b))).unwrap();
                moved.extend(distances(nearest));
            }
        }
        moved.sort_by(f32::total_cmp);
        let within =
            moved.iter().filter(|distance| **distance <= TOLERANCE).count() as f32 / moved.len() as f32;
        let least = if model == "lightning" { 0.9 } else { 1.0 };
        assert!(within >= least, "{model}: only {within} within {TOLERANCE} px: {moved:?}");
        assert!(moved.len() > 10, "{model}: {} keypoints", moved.len());
        let typical = moved[moved.len() / 2];
        assert!(typical <= TYPICAL, "{model}: typically off by {typical} px");
        println!(
            "{model}: {} keypoints, typically {typical:.2} px, {:.0} % within {TOLERANCE} px",
            moved.len(),
            100.0 * within
        );
    }
}
