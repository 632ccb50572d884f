//! From what a model reports to persons in pixels of the original image.

use cloudpose_wire::{Keypoint, Person, event::BoundingBox, skeleton::KeypointKind};

use crate::models::{ModelBox, ModelPose};

/// The scores below which something is taken for noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Thresholds {
    /// A person with a lower score is not reported. 0 to 1.
    pub person: f32,
    /// A keypoint with a lower score does not shape the box that is drawn around a SinglePose. It is
    /// reported all the same, with its score; whoever draws leaves it out. 0 to 1.
    pub keypoint: f32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { person: 0.2, keypoint: 0.3 }
    }
}

/// The persons among `poses`, whose keypoints are of those `kinds`, by falling score, in pixels of the original
/// image.
///
/// `image_from_model` maps `[x, y]` from coordinates of the model input, 0..1, to pixels of the image; it
/// must keep the axes and their directions. Keypoints and boxes may reach beyond the image. A SinglePose
/// has no box of its own: it gets the smallest one around its keypoints that reach the threshold, or
/// around all of them if none does.
pub fn in_image(
    kinds: &[KeypointKind],
    poses: &[ModelPose],
    thresholds: Thresholds,
    image_from_model: impl Fn([f32; 2]) -> [f32; 2],
) -> Vec<Person> {
    let mut persons: Vec<Person> = poses
        .iter()
        .filter(|pose| pose.score >= thresholds.person)
        .map(|pose| person(kinds, pose, thresholds.keypoint, &image_from_model))
        .collect();
    persons.sort_by(|a, b| b.score.total_cmp(&a.score));
    persons
}

/// From this similarity (OKS) on two persons are the same one.
const SAME: f32 = 0.7;

/// Keeps one of each that looks closer than one found, by falling score: a detector may see somebody twice, and the squares
/// around people who stand together may show the same one best.
pub(crate) fn one_of_each(kinds: &[KeypointKind], persons: Vec<Person>) -> Vec<Person> {
    let mut kept: Vec<Person> = Vec::with_capacity(persons.len());
    for person in persons {
        if kept.iter().all(|other| similarity(kinds, other, &person) < SAME) {
            kept.push(person);
        }
    }
    kept
}

/// The object keypoint similarity of two persons, in the size of the first one; keypoints count as much as the less certain
/// of the two. Without keypoints, the intersection over the union of their boxes. 0 to 1.
pub(crate) fn similarity(kinds: &[KeypointKind], one: &Person, other: &Person) -> f32 {
    let area = (one.bounding_box.width * one.bounding_box.height).max(1.0);
    let (mut sum, mut weights) = (0.0, 0.0);
    for ((a, b), kind) in one.keypoints.iter().zip(&other.keypoints).zip(kinds) {
        let (dx, dy, weight) = (a.x - b.x, a.y - b.y, a.score.min(b.score));
        sum += weight * (-(dx * dx + dy * dy) / (2.0 * area * (2.0 * kind.sigma).powi(2))).exp();
        weights += weight;
    }
    if weights > 0.0 { sum / weights } else { overlap(&one.bounding_box, &other.bounding_box) }
}

/// Intersection over union. 0 to 1.
fn overlap(one: &BoundingBox, other: &BoundingBox) -> f32 {
    let along = |start: f32, len: f32, other: f32, other_len: f32| {
        ((start + len).min(other + other_len) - start.max(other)).max(0.0)
    };
    let shared =
        along(one.x, one.width, other.x, other.width) * along(one.y, one.height, other.y, other.height);
    let all = one.width * one.height + other.width * other.height - shared;
    if all > 0.0 { shared / all } else { 0.0 }
}

fn person(
    kinds: &[KeypointKind],
    pose: &ModelPose,
    keypoint_threshold: f32,
    image_from_model: impl Fn([f32; 2]) -> [f32; 2],
) -> Person {
    debug_assert_eq!(kinds.len(), pose.keypoints.len(), "checked when the model was opened");
    let keypoints: Vec<Keypoint> = kinds
        .iter()
        .zip(&pose.keypoints)
        .map(|(kind, keypoint)| {
            let [x, y] = image_from_model([keypoint.x, keypoint.y]);
            Keypoint { name: kind.name.clone(), x, y, score: keypoint.score }
        })
        .collect();
    let [[x, y], [x_max, y_max]] = match pose.bounds {
        Some(ModelBox { x_min, y_min, x_max, y_max }) => {
            [image_from_model([x_min, y_min]), image_from_model([x_max, y_max])]
        }
        None => bounds(&keypoints, keypoint_threshold),
    };
    let bounding_box = BoundingBox { x, y, width: x_max - x, height: y_max - y };
    Person { track_id: None, score: pose.score, bounding_box, keypoints, coarse: false }
}

/// The least and greatest x and y of `[x, y]`; none of none.
pub(crate) fn extent(points: &[[f32; 2]]) -> Option<[[f32; 2]; 2]> {
    let first = *points.first()?;
    Some(points.iter().fold([first; 2], |[least, greatest], &[x, y]| {
        [[least[0].min(x), least[1].min(y)], [greatest[0].max(x), greatest[1].max(y)]]
    }))
}

/// The extent of the keypoints that reach `threshold`; of all if none does.
fn bounds(keypoints: &[Keypoint], threshold: f32) -> [[f32; 2]; 2] {
    let any = keypoints.iter().any(|keypoint| keypoint.score >= threshold);
    let counted = keypoints.iter().filter(|keypoint| !any || keypoint.score >= threshold);
    let counted: Vec<_> = counted.map(|keypoint| [keypoint.x, keypoint.y]).collect();
    extent(&counted).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::Skeleton;

    use super::*;
    use crate::models::ModelKeypoint;

    const KEYPOINTS: usize = 17;

    fn in_image(
        poses: &[ModelPose],
        thresholds: Thresholds,
        image_from_model: impl Fn([f32; 2]) -> [f32; 2],
    ) -> Vec<Person> {
        super::in_image(Skeleton::coco_17().keypoints(), poses, thresholds, image_from_model)
    }

    fn pose(score: f32) -> ModelPose {
        let mut keypoints = vec![ModelKeypoint { x: 0.5, y: 0.5, score: 0.1 }; KEYPOINTS];
        keypoints[0] = ModelKeypoint { x: 0.25, y: 0.5, score: 0.9 };
        keypoints[1] = ModelKeypoint { x: 0.75, y: 1.0, score: 0.3 };
        keypoints[2] = ModelKeypoint { x: 0.0, y: 0.0, score: 0.29 };
        ModelPose { score, keypoints, bounds: None }
    }

    fn image_from_model([x, y]: [f32; 2]) -> [f32; 2] {
        [200.0 * x, 100.0 * y - 10.0]
    }

    #[test]
    fn of_persons_who_are_the_same_the_first_stays() {
        let seen_at = |x: f32, score: f32| {
            let moved = |[u, v]: [f32; 2]| [200.0 * u + x, 100.0 * v];
            in_image(&[ModelPose { score, ..pose(score) }], Thresholds::default(), moved).remove(0)
        };
        let scores = |persons: Vec<Person>| {
            let kept = one_of_each(Skeleton::coco_17().keypoints(), persons);
            kept.iter().map(|person| person.score).collect::<Vec<_>>()
        };
        // A pixel apart, and ten times their box.
        assert_eq!(scores(vec![seen_at(0.0, 0.9), seen_at(1.0, 0.8), seen_at(1000.0, 0.7)]), [0.9, 0.7]);
        // Half a box apart.
        assert_eq!(scores(vec![seen_at(0.0, 0.9), seen_at(40.0, 0.8)]), [0.9, 0.8]);
        assert!(scores(Vec::new()).is_empty());
    }

    #[test]
    fn persons_below_the_threshold_are_left_out_and_the_rest_sorted() {
        let poses = [pose(0.3), pose(0.19), pose(0.2), pose(0.9)];
        let persons = in_image(&poses, Thresholds::default(), image_from_model);
        assert_eq!(persons.iter().map(|p| p.score).collect::<Vec<_>>(), [0.9, 0.3, 0.2]);
    }

    #[test]
    fn single_pose_box_surrounds_the_confident_keypoints() {
        let persons = in_image(&[pose(0.5)], Thresholds::default(), image_from_model);
        let expected = BoundingBox { x: 50.0, y: 40.0, width: 100.0, height: 50.0 };
        assert_eq!(persons[0].bounding_box, expected);
        assert_eq!(persons[0].keypoints.len(), KEYPOINTS, "faint keypoints are reported too");
        assert_eq!(persons[0].keypoints[2].score, 0.29);
        assert_eq!((persons[0].keypoints[1].x, persons[0].keypoints[1].y), (150.0, 90.0));
    }

    #[test]
    fn single_pose_box_surrounds_all_keypoints_when_none_is_confident() {
        let thresholds = Thresholds { keypoint: 0.95, ..Thresholds::default() };
        let persons = in_image(&[pose(0.5)], thresholds, image_from_model);
        let expected = BoundingBox { x: 0.0, y: -10.0, width: 150.0, height: 100.0 };
        assert_eq!(persons[0].bounding_box, expected);
    }

    #[test]
    fn multi_pose_keeps_its_own_box() {
        let bounds = ModelBox { x_min: 0.1, y_min: 0.2, x_max: 0.6, y_max: 0.7 };
        let pose = ModelPose { bounds: Some(bounds), ..pose(0.5) };
        let bounding_box = in_image(&[pose], Thresholds::default(), image_from_model)[0].bounding_box;
        assert!((bounding_box.x - 20.0).abs() < 1e-4 && (bounding_box.width - 100.0).abs() < 1e-4);
        assert!((bounding_box.y - 10.0).abs() < 1e-4 && (bounding_box.height - 50.0).abs() < 1e-4);
    }
}
