//! From the JPEG to the persons, against TensorFlow's output on the same frame.
//!
//! The golden inputs were resized from the frames before these were compressed to JPEG, by another
//! program, in RGB rather than in planes. So inputs differ by about one grey level, and keypoints move.
//! Typically that is a quarter of a model pixel. A keypoint that the model is unsure of, or that lies
//! between two cells of the grid of 4 pixels, can move more: hence a tolerance of 1.5 model pixels (0.6 % of
//! the input), for keypoints of score 0.3 or more. Lightning, which sees two people in some frames and decides
//! by a hair to whom a keypoint belongs, is allowed one in ten that goes to the other.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::{num::NonZeroUsize, path::Path, sync::Arc};

use cloudpose_infer::{Detail, Job, Models, Pipeline, StoreConfig};
use cloudpose_wire::Person;
use serde::Deserialize;

/// In model pixels.
const TOLERANCE: f32 = 1.5;
const TYPICAL: f32 = 0.5;

#[derive(Deserialize)]
struct Golden {
    name: String,
    mode: String,
    shape: [usize; 4],
    #[serde(default)]
    x0: usize,
    #[serde(default)]
    y0: usize,
    output_f32: Vec<Vec<f32>>,
}

/// Keypoints as (x, y, score), in model pixels.
type Pose = Vec<[f32; 3]>;

fn read(file: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(file)).unwrap()
}

impl Golden {
    /// The poses of persons with a score of 0.2 or more.
    fn poses(&self, model: &str) -> Vec<Pose> {
        let [_, height, width, _] = self.shape.map(|side| side as f32);
        let pose = |row: &[f32]| {
            row.chunks_exact(3).take(17).map(|k| [k[1] * width, k[0] * height, k[2]]).collect::<Pose>()
        };
        match model {
            "multipose" => self.output_f32.iter().filter(|row| row[55] >= 0.2).map(|r| pose(r)).collect(),
            _ => vec![pose(&self.output_f32.concat())],
        }
    }

    /// A person's keypoints, from pixels of an image whose longer side is `longer`.
    fn to_model(&self, person: &Person, longer: u32) -> Vec<[f32; 2]> {
        let scale = longer as f32 / self.shape[1].max(self.shape[2]) as f32;
        let [x0, y0] = [self.x0, self.y0].map(|origin| origin as f32);
        person.keypoints.iter().map(|k| [k.x / scale + x0, k.y / scale + y0]).collect()
    }
}

#[test]
fn keypoints_are_where_tensorflow_has_them() {
    let models = Arc::new(Models::open(&StoreConfig::default()).unwrap());
    let mut pipeline = Pipeline::on_cpu(models, NonZeroUsize::MIN).unwrap();
    for model in ["multipose", "lightning", "thunder"] {
        let mode = if model == "multipose" { "aspect" } else { "letterbox" };
        let rows: Vec<Golden> = serde_json::from_slice(&read(&format!("{model}.json"))).unwrap();
        let mut moved = Vec::new();
        for row in rows.iter().filter(|row| row.mode == mode) {
            let image = read(&format!("images/{}.jpg", row.name));
            let id = model.parse().unwrap();
            let job = Job {
                image: &image,
                detail: Detail::Full,
                model: &id,
                min_score: 0.0,
                past: None,
                stream: None,
                pictures: None,
            };
            let poses = pipeline.detect(job).unwrap();
            let found: Vec<_> = poses
                .output
                .persons()
                .iter()
                .map(|p| row.to_model(p, poses.width.max(poses.height)))
                .collect();
            for expected in row.poses(model) {
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
