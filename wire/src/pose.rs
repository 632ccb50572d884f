//! Poses as subscribers and clients see them.
//!
//! Coordinates are pixels of the original image: origin top left, x to the right, y down,
//! the first pixel's centre at (0.5, 0.5). Keypoints follow COCO-17 in name and order.

use serde::{Deserialize, Serialize};

use crate::{ModelName, StreamName};

/// Keypoints of a person.
pub const KEYPOINTS: usize = 17;

/// The COCO-17 keypoints, in their order.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum KeypointName {
    Nose,
    LeftEye,
    RightEye,
    LeftEar,
    RightEar,
    LeftShoulder,
    RightShoulder,
    LeftElbow,
    RightElbow,
    LeftWrist,
    RightWrist,
    LeftHip,
    RightHip,
    LeftKnee,
    RightKnee,
    LeftAnkle,
    RightAnkle,
}

impl KeypointName {
    /// All 17, in COCO's order: `ALL[i] as usize == i`.
    pub const ALL: [KeypointName; KEYPOINTS] = [
        Self::Nose,
        Self::LeftEye,
        Self::RightEye,
        Self::LeftEar,
        Self::RightEar,
        Self::LeftShoulder,
        Self::RightShoulder,
        Self::LeftElbow,
        Self::RightElbow,
        Self::LeftWrist,
        Self::RightWrist,
        Self::LeftHip,
        Self::RightHip,
        Self::LeftKnee,
        Self::RightKnee,
        Self::LeftAnkle,
        Self::RightAnkle,
    ];
}

/// The skeleton: pairs of keypoints that a limb joins.
pub const LIMBS: [(KeypointName, KeypointName); 18] = {
    use KeypointName::*;
    [
        (Nose, LeftEye),
        (Nose, RightEye),
        (LeftEye, LeftEar),
        (RightEye, RightEar),
        (Nose, LeftShoulder),
        (Nose, RightShoulder),
        (LeftShoulder, LeftElbow),
        (LeftElbow, LeftWrist),
        (RightShoulder, RightElbow),
        (RightElbow, RightWrist),
        (LeftShoulder, RightShoulder),
        (LeftShoulder, LeftHip),
        (RightShoulder, RightHip),
        (LeftHip, RightHip),
        (LeftHip, LeftKnee),
        (LeftKnee, LeftAnkle),
        (RightHip, RightKnee),
        (RightKnee, RightAnkle),
    ]
};

/// Reads a confidence, as people write it.
///
/// # Errors
/// What to write instead, if it is no number from 0 to 1.
pub fn parse_score(text: &str) -> Result<f32, &'static str> {
    match text.parse() {
        Ok(score) if (0.0..=1.0).contains(&score) => Ok(score),
        _ => Err("expected a number from 0 to 1"),
    }
}

/// One joint of one person.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Keypoint {
    /// Which joint.
    pub name: KeypointName,
    /// Pixels from the left edge. May lie outside the image.
    pub x: f32,
    /// Pixels from the top edge. May lie outside the image.
    pub y: f32,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// An upright rectangle in pixels: top left corner and size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = Box)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct BoundingBox {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

/// One person in a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Person {
    /// Stays with a person from frame to frame of a stream. Absent for stills.
    #[serde(default)]
    pub track_id: Option<u32>,
    /// Confidence that this is a person, 0 to 1.
    pub score: f32,
    /// Where the person is.
    #[serde(rename = "box")]
    pub bounding_box: BoundingBox,
    /// All 17 keypoints in COCO's order, those with a low score too.
    #[schema(min_items = 17, max_items = 17)]
    pub keypoints: Vec<Keypoint>,
}

/// Where a frame's time went on the infer stage, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TimingsMs {
    /// On the infer lane, until a worker took the frame. What it waited at the gateway before is not in it.
    pub queue: f32,
    /// Encoded image to pixels.
    pub decode: f32,
    /// Pixels to model input.
    pub preprocess: f32,
    /// The network.
    pub inference: f32,
    /// Heads to poses.
    pub postprocess: f32,
}

/// The poses of one frame: what `cloudpose.poses.<stream>` carries.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct PoseEvent {
    /// The stream, or the still's id.
    pub stream: StreamName,
    /// Number of the frame within its session, from 1.
    pub seq: u64,
    /// When the gateway received the frame: milliseconds since 1970-01-01T00:00:00Z.
    pub captured_at: u64,
    /// Width of the original image (upright, after EXIF orientation), in pixels.
    pub width: u32,
    /// Height of the original image, in pixels.
    pub height: u32,
    /// The model that ran.
    pub model: ModelName,
    /// What it ran on: `cpu`, `cuda:0`, ….
    pub device: String,
    /// Persons by falling score.
    pub persons: Vec<Person>,
    /// Where the time went.
    pub timings_ms: TimingsMs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_numbers_from_0_to_1() {
        assert_eq!(["0", "1", "0.25"].map(parse_score), [Ok(0.0), Ok(1.0), Ok(0.25)]);
        assert!(
            ["", "1.01", "-0.1", "NaN", "inf", "half"].into_iter().all(|text| parse_score(text).is_err())
        );
    }

    #[test]
    fn keypoint_order_is_cocos() {
        for (i, name) in KeypointName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, i);
        }
        assert_eq!(serde_json::to_string(&KeypointName::LeftHip).unwrap(), "\"left_hip\"");
    }

    #[test]
    fn event_has_the_documented_shape() {
        let keypoints = KeypointName::ALL.map(|name| Keypoint { name, x: 1.5, y: 2.0, score: 0.5 }).to_vec();
        let event = PoseEvent {
            stream: StreamName::new("cam").unwrap(),
            seq: 7,
            captured_at: 1_700_000_000_000,
            width: 640,
            height: 480,
            model: ModelName::MultiPose,
            device: "cpu".into(),
            persons: vec![Person {
                track_id: None,
                score: 0.5,
                bounding_box: BoundingBox { x: 1.0, y: 2.0, width: 3.0, height: 4.0 },
                keypoints,
            }],
            timings_ms: TimingsMs::default(),
        };
        let json = serde_json::to_value(&event).unwrap();
        assert_eq!(json["persons"][0]["box"]["width"], 3.0);
        assert_eq!(json["persons"][0]["track_id"], serde_json::Value::Null);
        assert_eq!(json["persons"][0]["keypoints"][16]["name"], "right_ankle");
        assert_eq!(json["timings_ms"]["queue"], 0.0);
        assert_eq!(serde_json::from_value::<PoseEvent>(json).unwrap(), event);
    }
}
