//! What a score means: calibrated, it is how often what has it is right.

use cloudpose_wire::Person;
use serde::{Deserialize, Serialize};

/// How often a person, or a keypoint, of some score is right, by how it was found. Fitted to labelled photos:
/// `docs/accuracy.md`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Of the first stage alone.
    pub detected: Scores,
    /// Of the last stage, of whom the first one detected. A person's score before is the geometric mean of both.
    pub refined: Scores,
    /// Of the last stage, of whom the stream's tracks led to.
    pub tracked: Scores,
}

/// Those of a person and of their keypoints.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// A person is right if their keypoints' similarity (OKS) to a labelled person's is at least 0.5.
    pub person: Logistic,
    /// A keypoint is right if it alone has that similarity; one that is not labelled, because it is out of sight, is not.
    pub keypoint: Logistic,
}

/// `1 / (1 + exp(−(slope · score + intercept)))`: Platt, "Probabilistic Outputs for Support Vector Machines", 1999.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// More than 0: the order stays.
    pub slope: f32,
    /// Of a score of 0.
    pub intercept: f32,
}

impl Logistic {
    fn of(self, score: f32) -> f32 {
        1.0 / (1.0 + (-(self.slope * score + self.intercept)).exp())
    }
}

impl Scores {
    /// Makes the person's scores mean something.
    pub(crate) fn calibrate(&self, person: &mut Person) {
        person.score = self.person.of(person.score);
        for keypoint in &mut person.keypoints {
            keypoint.score = self.keypoint.of(keypoint.score);
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{Keypoint, event::BoundingBox};

    use super::*;

    #[test]
    fn a_calibrated_score_is_a_share_and_keeps_the_order() {
        let logistic = Logistic { slope: 20.0, intercept: -4.0 };
        assert_eq!(logistic.of(0.2), 0.5);
        assert!((logistic.of(0.3) - 0.880_797).abs() < 1e-6);
        let scores = Scores { person: logistic, keypoint: Logistic { slope: 9.0, intercept: -2.4 } };
        let keypoint = Keypoint { name: "nose".parse().unwrap(), x: 1.0, y: 2.0, score: 0.0 };
        let bounding_box = BoundingBox::default();
        let mut person =
            Person { track_id: None, score: 0.0, bounding_box, keypoints: vec![keypoint], coarse: false };
        scores.calibrate(&mut person);
        assert!((person.score - 0.017_986).abs() < 1e-6, "{}", person.score);
        assert!((person.keypoints[0].score - 0.083_173).abs() < 1e-6);
        assert_eq!((person.keypoints[0].x, person.keypoints[0].y), (1.0, 2.0));
    }
}
