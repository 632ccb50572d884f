//! From a graph's outputs to what was found: one file a kind of outputs, each of them pure.
//!
//! Coordinates that graphs answer are pixels of their input, unless a file says otherwise.

mod centerface;
mod classes;
mod heatmaps;
pub(super) mod nanodet;
mod rows;
mod simcc;
mod yolo;
pub(super) mod yolox;

use super::config::{Config, Kind};
use super::graph::Output;
use crate::models::{ModelBox, ModelKeypoint, ModelPose};
use crate::task::{Finds, Found};

/// Boxes with a lower score are left out before anything else is done with them.
const LEAST_SCORE: f32 = 0.05;

/// What was found.
///
/// # Errors
/// In words, if the outputs are not those of the kind.
pub(super) fn decode(config: &Config, outputs: &[Output]) -> Result<Found, String> {
    let found = match config.kind {
        Kind::Simcc => simcc::decode(config.input, outputs),
        Kind::Heatmaps => heatmaps::decode(outputs),
        Kind::YoloPose => yolo::poses(config.input, outputs),
        Kind::Yolo => yolo::boxes(config.input, config.person, outputs),
        Kind::Yolox => yolox::decode(config.input, config.person, outputs),
        Kind::Nanodet => nanodet::decode(config.input, config.person, outputs),
        Kind::Rtmo => rows::poses(config.input, outputs),
        Kind::Rtmdet => rows::boxes(config.input, config.person, outputs),
        Kind::Centerface => centerface::decode(config.input, outputs),
        Kind::Classes => classes::decode(outputs),
    };
    match found? {
        Found::Poses(mut poses) => {
            poses.retain(are_numbers);
            Ok(Found::Poses(poses))
        }
        Found::Classes(scores) if scores.iter().all(|score| score.is_finite()) => Ok(Found::Classes(scores)),
        Found::Classes(_) => Err("scores that are no numbers".into()),
    }
}

/// Whether a person can be told to others.
fn are_numbers(pose: &ModelPose) -> bool {
    let bounds = pose.bounds.map_or([0.0; 4], |b| [b.x_min, b.y_min, b.x_max, b.y_max]);
    let of_keypoints = pose.keypoints.iter().flat_map(|k| [k.x, k.y, k.score]);
    pose.score.is_finite() && of_keypoints.chain(bounds).all(f32::is_finite)
}

/// What a graph is made to find, by outputs that were decoded.
pub(super) fn finds(kind: Kind, outputs: &[Output]) -> Finds {
    let size = |output: usize, axis: usize| {
        outputs.get(output).and_then(|o| o.shape.get(axis)).copied().unwrap_or(0)
    };
    match kind {
        Kind::Simcc | Kind::Heatmaps => Finds::Keypoints(size(0, 1)),
        Kind::YoloPose => Finds::Keypoints(yolo::keypoints_of(&outputs[0])),
        Kind::Rtmo => Finds::Keypoints(outputs.iter().find(|o| o.shape.len() == 4).map_or(0, |o| o.shape[2])),
        Kind::Centerface => Finds::Keypoints(centerface::LANDMARKS),
        Kind::Classes => Finds::Classes(outputs[0].values.len()),
        Kind::Yolox | Kind::Nanodet | Kind::Rtmdet | Kind::Yolo => Finds::Boxes,
    }
}

/// Corners of a box, in pixels of the input.
#[derive(Clone, Copy, Debug)]
struct Corners {
    x_min: f32,
    y_min: f32,
    x_max: f32,
    y_max: f32,
}

impl Corners {
    /// Of a box with that middle and size.
    fn around([x, y]: [f32; 2], [width, height]: [f32; 2]) -> Self {
        let (across, down) = (width / 2.0, height / 2.0);
        Self { x_min: x - across, y_min: y - down, x_max: x + across, y_max: y + down }
    }

    fn in_input(self, [width, height]: [usize; 2]) -> ModelBox {
        let (width, height) = (width as f32, height as f32);
        ModelBox {
            x_min: self.x_min / width,
            y_min: self.y_min / height,
            x_max: self.x_max / width,
            y_max: self.y_max / height,
        }
    }
}

/// A keypoint at a pixel of an input of that size.
fn keypoint([x, y, score]: [f32; 3], [width, height]: [usize; 2]) -> ModelKeypoint {
    ModelKeypoint { x: x / width as f32, y: y / height as f32, score: score.clamp(0.0, 1.0) }
}

/// Keypoints that are numbers in threes: x, y, score.
fn keypoints(numbers: &[f32], input: [usize; 2]) -> Vec<ModelKeypoint> {
    let (threes, _) = numbers.as_chunks();
    threes.iter().map(|&three| keypoint(three, input)).collect()
}

/// One person whose keypoints are all that is known.
fn one_person(keypoints: Vec<ModelKeypoint>) -> Found {
    let sum: f32 = keypoints.iter().map(|keypoint| keypoint.score).sum();
    let score = sum / keypoints.len().max(1) as f32;
    Found::Poses(vec![ModelPose { score, keypoints, bounds: None }])
}

/// Leaves out what overlaps by more than `overlap`, as intersection over union, with something of a higher score.
fn suppress(mut poses: Vec<ModelPose>, overlap: f32) -> Vec<ModelPose> {
    poses.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<ModelPose> = Vec::new();
    for pose in poses {
        let is_new = |other: &ModelPose| match (other.bounds, pose.bounds) {
            (Some(a), Some(b)) => shared(a, b) <= overlap,
            _ => true,
        };
        if kept.iter().all(is_new) {
            kept.push(pose);
        }
    }
    kept
}

/// Intersection over union.
fn shared(a: ModelBox, b: ModelBox) -> f32 {
    let across = a.x_max.min(b.x_max) - a.x_min.max(b.x_min);
    let down = a.y_max.min(b.y_max) - a.y_min.max(b.y_min);
    let both = across.max(0.0) * down.max(0.0);
    let area = |of: ModelBox| (of.x_max - of.x_min).max(0.0) * (of.y_max - of.y_min).max(0.0);
    let either = area(a) + area(b) - both;
    if either > 0.0 { both / either } else { 0.0 }
}

/// The place and the value of the largest number; the first place if none is larger than another.
fn largest(numbers: &[f32]) -> (usize, f32) {
    let start = (0, f32::NEG_INFINITY);
    numbers
        .iter()
        .enumerate()
        .fold(start, |best, (at, &value)| if value > best.1 { (at, value) } else { best })
}

/// The error for outputs that are of another kind.
fn unlike(expected: &str, outputs: &[Output]) -> String {
    let shapes: Vec<String> = outputs.iter().map(|o| format!("{} {:?}", o.name, o.shape)).collect();
    format!("outputs {}, where {expected} is expected", shapes.join(", "))
}

#[cfg(test)]
fn output(name: &str, shape: &[usize], values: Vec<f32>) -> Output {
    assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
    Output { name: name.into(), shape: shape.to_vec(), values }
}

#[cfg(test)]
fn persons(found: Result<Found, String>) -> Vec<ModelPose> {
    match found.unwrap() {
        Found::Poses(poses) => poses,
        Found::Classes(classes) => panic!("expected persons, got {classes:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boxed(score: f32, x_min: f32, x_max: f32) -> ModelPose {
        let bounds = Some(ModelBox { x_min, y_min: 0.0, x_max, y_max: 1.0 });
        ModelPose { score, keypoints: Vec::new(), bounds }
    }

    #[test]
    fn of_two_that_overlap_the_surer_one_is_kept() {
        // They share 3 of 5 parts; the third shares nothing.
        let all = vec![boxed(0.5, 0.0, 0.4), boxed(0.9, 0.1, 0.5), boxed(0.4, 0.6, 1.0)];
        let scores =
            |overlap| suppress(all.clone(), overlap).iter().map(|pose| pose.score).collect::<Vec<_>>();
        assert_eq!(scores(0.59), [0.9, 0.4]);
        assert_eq!(scores(0.61), [0.9, 0.5, 0.4]);
        assert_eq!(shared(boxed(1.0, 0.0, 0.0).bounds.unwrap(), boxed(1.0, 0.0, 0.0).bounds.unwrap()), 0.0);
    }

    #[test]
    fn who_is_somewhere_that_is_no_number_is_nobody() {
        let rows = [[1.0, 1.0, 9.0, 9.0, 0.5, 0.0], [1.0, f32::NAN, 9.0, 9.0, 0.5, 0.0]].concat();
        let config = Config::usual(Kind::Yolo, [16, 16]);
        assert_eq!(persons(decode(&config, &[output("o", &[1, 2, 6], rows)])).len(), 1);
        let config = Config::usual(Kind::Classes, [16, 16]);
        assert!(decode(&config, &[output("o", &[1, 2], vec![f32::NAN, 1.0])]).is_err());
    }

    #[test]
    fn numbers_that_are_none_are_never_the_largest() {
        assert_eq!(largest(&[f32::NAN, 1.0, 3.0, 3.0]), (2, 3.0));
        assert_eq!(largest(&[]), (0, f32::NEG_INFINITY));
    }
}
