//! The tasks: what models are made to find, what engines find, and what is reported of it. `wire/src/event.rs` has their
//! words for others.

use std::{fmt, sync::Arc};

use cloudpose_wire::{Class, Output, Person, Prior, Skeleton, SkeletonName, Task};
use serde::{Deserialize, Serialize};

use crate::{
    models::ModelPose,
    persons::{self, Thresholds},
    pipeline::{Job, Past},
    preprocess::{Source, Square, Transform},
};

/// How far the square around a person that the next stage looks at reaches beyond their box: the side is this many
/// times the box's longer one.
const PERSON_MARGIN: f32 = 1.25;

/// What a manifest's entry lacks that says nothing, or too much.
const WRITE_ONE: &str = "write a `skeleton` or a list of `labels`";

/// What a manifest says of what a model finds: one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// Whose keypoints it finds, if it finds persons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<SkeletonEntry>,
    /// The names of the classes, by their number, if it tells classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelsEntry>,
}

impl TaskEntry {
    /// The task, or what to write.
    pub(crate) fn task(&self) -> Result<Task, String> {
        match (&self.skeleton, &self.labels) {
            (Some(skeleton), None) => Ok(Task::Pose { skeleton: skeleton.find()? }),
            (None, Some(labels)) => Ok(Task::Classify { labels: labels.list()? }),
            _ => Err(WRITE_ONE.into()),
        }
    }
}

/// A skeleton, by its name if it is built in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SkeletonEntry {
    /// One that is built in.
    Named(SkeletonName),
    /// Any other.
    Described(Arc<Skeleton>),
}

impl SkeletonEntry {
    fn find(&self) -> Result<Arc<Skeleton>, String> {
        match self {
            Self::Named(name) => Skeleton::built_in(name)
                .ok_or_else(|| format!("skeleton {name} is not built in: write out its keypoints")),
            // Others take an event without a name for the built-in one.
            Self::Described(skeleton)
                if Skeleton::built_in(skeleton.name()).is_some_and(|own| own != *skeleton) =>
            {
                Err(format!("its skeleton has another one's name, {}", skeleton.name()))
            }
            Self::Described(skeleton) => Ok(skeleton.clone()),
        }
    }
}

/// The names of classes, by their name if they are built in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LabelsEntry {
    /// Those that are built in: `imagenet-1k`.
    Named(String),
    /// Any others.
    Listed(Arc<[String]>),
}

impl LabelsEntry {
    const IMAGENET_1K: &str = "imagenet-1k";

    /// The thousand classes of ImageNet's challenge of 2012, in their usual order.
    pub fn imagenet_1k() -> Self {
        Self::Named(Self::IMAGENET_1K.to_owned())
    }

    /// The list, or what to write.
    pub(crate) fn list(&self) -> Result<Arc<[String]>, String> {
        match self {
            Self::Named(name) if name == Self::IMAGENET_1K => {
                let lines =
                    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/imagenet-1k.txt")).lines();
                Ok(lines.map(str::to_owned).collect())
            }
            Self::Named(name) => {
                Err(format!("labels {name} are not built in: write out the list, or {:?}", Self::IMAGENET_1K))
            }
            Self::Listed(labels) if labels.is_empty() => Err(WRITE_ONE.into()),
            Self::Listed(labels) => Ok(labels.clone()),
        }
    }
}

/// What a model's weights are made to find. The manifest has a name for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finds {
    /// Persons of so many keypoints.
    Keypoints(usize),
    /// So many classes.
    Classes(usize),
}

impl From<&Task> for Finds {
    fn from(task: &Task) -> Self {
        match task {
            Task::Pose { skeleton } => Self::Keypoints(skeleton.keypoints().len()),
            Task::Classify { labels } => Self::Classes(labels.len()),
        }
    }
}

impl fmt::Display for Finds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keypoints(count) => write!(f, "{count} keypoints"),
            Self::Classes(count) => write!(f, "{count} classes"),
        }
    }
}

/// What a model finds in one input.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Persons, in coordinates of the input.
    Poses(Vec<ModelPose>),
    /// A score from 0 to 1 for each of the model's labels.
    Classes(Vec<f32>),
}

/// What a model found in one region.
pub(crate) struct View {
    pub(crate) found: Found,
    /// Width and height of the model input, in pixels.
    pub(crate) size: [usize; 2],
    pub(crate) image_from_model: Transform,
}

impl View {
    /// The persons found, in pixels of the image.
    fn persons(&self, skeleton: &Skeleton, thresholds: Thresholds) -> Vec<Person> {
        let poses: &[ModelPose] = match &self.found {
            Found::Poses(poses) => poses,
            Found::Classes(_) => &[],
        };
        persons::in_image(skeleton, poses, thresholds, |point| self.place(point))
    }

    /// From coordinates of the model input, 0..1, to pixels of the image.
    fn place(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [width, height] = self.size.map(|side| side as f32);
        self.image_from_model.apply([x * width, y * height])
    }
}

/// A square around each person, for the next stage.
pub(crate) fn next_regions(views: &[View], source: Source, min_score: f32) -> Vec<Option<Square>> {
    let (width, height) = (source.width as f32, source.height as f32);
    let around = |view: &View, pose: &ModelPose| {
        let corners = match pose.bounds {
            Some(bounds) => [[bounds.x_min, bounds.y_min], [bounds.x_max, bounds.y_max]],
            None => persons::extent(pose),
        };
        let [[left, top], [right, bottom]] = corners.map(|corner| view.place(corner));
        let side = PERSON_MARGIN * (right - left).max(bottom - top);
        let (x, y) = ((left + right - side) / 2.0, (top + bottom - side) / 2.0);
        // Not a number fails this too.
        let is_useful = side >= 1.0 && x < width && y < height && x + side > 0.0 && y + side > 0.0;
        is_useful.then_some(Square { x, y, side })
    };
    let poses = views.iter().flat_map(|view| match &view.found {
        Found::Poses(poses) => poses.iter().map(|pose| (view, pose)).collect(),
        Found::Classes(_) => Vec::new(),
    });
    let certain = poses.filter(|(_, pose)| pose.score >= min_score);
    certain.filter_map(|(view, pose)| around(view, pose)).map(Some).collect()
}

/// From what the last stage found to what is reported, and who is who.
pub(crate) fn conclude(
    task: &Task,
    views: &[View],
    job: &Job<'_>,
    source: Source,
) -> (Output, Option<Prior>) {
    let skeleton = match task {
        Task::Pose { skeleton } => skeleton,
        Task::Classify { labels } => return (classes(labels, views, job.top), None),
    };
    let thresholds = Thresholds { person: job.min_score, ..Thresholds::default() };
    let mut persons: Vec<Person> = views.iter().flat_map(|view| view.persons(skeleton, thresholds)).collect();
    persons.sort_by(|a, b| b.score.total_cmp(&a.score));
    if views.len() > 1 {
        persons = persons::one_of_each(skeleton, persons);
    }
    let (width, height) = (source.width as u32, source.height as u32);
    let tracks = job.past.map(|Past { prior, at, smooth }| {
        let frame = cloudpose_tracks::Frame { at, width, height };
        cloudpose_tracks::follow(skeleton, prior, frame, &mut persons, smooth)
    });
    (Output::Poses { skeleton: skeleton.name().clone(), persons }, tracks)
}

/// Scores from 0 to 1 that sum to 1, of any numbers.
pub fn softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = logits.iter().map(|logit| (logit - largest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

/// The classes with the highest scores.
fn classes(labels: &[String], views: &[View], top: u16) -> Output {
    let scores: &[f32] = match views.first().map(|view| &view.found) {
        Some(Found::Classes(scores)) => scores,
        Some(Found::Poses(_)) | None => &[],
    };
    let named = labels.iter().zip(scores);
    let mut classes: Vec<Class> =
        named.map(|(label, &score)| Class { label: label.clone(), score }).collect();
    classes.sort_by(|a, b| b.score.total_cmp(&a.score));
    classes.truncate(top.into());
    Output::Classes(classes)
}
