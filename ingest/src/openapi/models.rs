//! Models as JSON has them: that what they find is one of two things cannot be said there so that generated clients know it.
#![expect(dead_code, reason = "describes what `cloudpose_wire::ModelInfo` is written as")]

use cloudpose_wire::skeleton::{Part, Side};
use utoipa::ToSchema;

/// A model that workers serve.
#[derive(ToSchema)]
pub(crate) struct Model {
    /// The name used in queries, events and metrics.
    id: String,
    /// What its authors call it.
    title: String,
    /// What it is good for, in a few words.
    #[schema(nullable = false)]
    summary: Option<String>,
    #[schema(inline)]
    task: Task,
    /// The keypoints of persons; of `pose`.
    #[schema(nullable = false)]
    skeleton: Option<Skeleton>,
    /// The names of the classes, by their number; of `classify`.
    #[schema(nullable = false)]
    labels: Option<Vec<String>>,
    /// The input sizes it takes, in words.
    input: String,
    /// Package, version and file that the weights come from.
    source: String,
    /// SPDX identifier of the weights' licence.
    licence: String,
}

/// What it finds.
#[derive(ToSchema)]
#[serde(rename_all = "lowercase")]
enum Task {
    /// Persons and their keypoints.
    Pose,
    /// What the whole picture shows.
    Classify,
}

/// The keypoints that a model reports of a person, in its order, and how they hang together.
#[derive(ToSchema)]
struct Skeleton {
    name: String,
    keypoints: Vec<KeypointKind>,
    /// Pairs of keypoints' names.
    limbs: Vec<Vec<String>>,
}

/// What is known of a keypoint before it is found.
#[derive(ToSchema)]
struct KeypointKind {
    /// The name that events use.
    name: String,
    /// How far annotators differ on it, as a share of the person's size (COCO's object keypoint similarity).
    sigma: f32,
    /// Which part of the body it belongs to, if that matters.
    #[schema(nullable = false, inline)]
    part: Option<Part>,
    /// Which side of the body it is on, as the person sees it.
    #[schema(nullable = false, inline)]
    side: Option<Side>,
}
