//! The tasks: what models are made to find, what engines find, and what is reported of it. `wire/src/event.rs` has their
//! words for others.

use std::{fmt, sync::Arc};

use cloudpose_wire::{Class, Output, Person, Prior, Skeleton, SkeletonName, Task, skeleton::KeypointKind};
use serde::{Deserialize, Serialize};

use crate::{
    job::{Job, Past},
    models::{ModelPose, Served},
    persons::{self, Thresholds},
    preprocess::{Source, Transform},
    regions::{self, Origin, Region},
    scores::{Calibration, Scores},
};

/// What a manifest's entry lacks that says nothing, or too much.
const WRITE_ONE: &str = "write a `skeleton` or a list of `labels`";
/// What boxes are around.
pub(crate) const PERSON: &str = "person";

/// What a manifest says of what a model finds: one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskEntry {
    /// Whose keypoints it finds, if it finds persons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skeleton: Option<SkeletonEntry>,
    /// The names of the classes, by their number, if it tells classes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelsEntry>,
    /// Whose boxes it finds, and nothing in them: `person`. Of a model that is the first stage of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boxes: Option<String>,
}

impl TaskEntry {
    /// The task, or what to write.
    pub(crate) fn task(&self) -> Result<Task, String> {
        match (&self.skeleton, &self.labels, &self.boxes) {
            (Some(skeleton), None, None) => Ok(Task::Pose { skeleton: skeleton.find()? }),
            (None, Some(labels), None) => Ok(Task::Classify { labels: labels.list()? }),
            (None, None, Some(boxes)) if boxes == PERSON => Err(
                "it finds boxes alone: make a model of it and one that finds poses (`cloudpose models pair`)"
                    .into(),
            ),
            (None, None, Some(boxes)) => Err(format!("boxes of {boxes:?}; use {PERSON:?}")),
            _ => Err(WRITE_ONE.into()),
        }
    }

    /// Whether it finds boxes of persons, and nothing that clients are told.
    pub(crate) fn is_boxes(&self) -> bool {
        (&self.skeleton, &self.labels, self.boxes.as_deref()) == (&None, &None, Some(PERSON))
    }

    /// What the weights must find, or what to write.
    pub(crate) fn finds(&self) -> Result<Finds, String> {
        if self.is_boxes() { Ok(Finds::Boxes) } else { Ok(Finds::from(&self.task()?)) }
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
    /// Boxes of persons.
    Boxes,
}

impl Finds {
    /// Whether it tells classes.
    pub fn are_classes(self) -> bool {
        matches!(self, Self::Classes(_))
    }
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
            Self::Boxes => f.write_str("boxes"),
        }
    }
}

/// What a model finds in one input.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Persons, in coordinates of the input. Those of [`Finds::Boxes`] have boxes and no keypoints.
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

/// What the stages of a pipeline saw.
#[derive(Default)]
pub(crate) struct Seen {
    /// What the last stage found, in each place where it looked.
    pub(crate) views: Vec<View>,
    /// Those places; none if the last stage is the first one.
    pub(crate) regions: Vec<Region>,
    /// Persons whom the last stage did not look at.
    pub(crate) rest: Vec<Person>,
    /// Whether somebody was looked for everywhere.
    pub(crate) is_everywhere: bool,
}

impl View {
    /// The persons found, in pixels of the image, with scores from `least` on.
    fn persons(&self, kinds: &[KeypointKind], least: f32) -> Vec<Person> {
        let poses: &[ModelPose] = match &self.found {
            Found::Poses(poses) => poses,
            Found::Classes(_) => &[],
        };
        let thresholds = Thresholds { person: least, ..Thresholds::default() };
        persons::in_image(kinds, poses, thresholds, |point| self.place(point))
    }

    /// From coordinates of the model input, 0..1, to pixels of the image.
    fn place(&self, [x, y]: [f32; 2]) -> [f32; 2] {
        let [width, height] = self.size.map(|side| side as f32);
        self.image_from_model.apply([x * width, y * height])
    }
}

/// Persons whom one stage finds for the next: as many as COCO counts in a picture. Of a foreign graph nobody knows how many it
/// finds, and each costs a run of the next stage.
const MOST_DETECTED: usize = 100;

/// Everybody with those keypoints in `views`, once, by falling score from `least` on.
pub(crate) fn detected(kinds: &[KeypointKind], views: &[View], least: f32) -> Vec<Person> {
    let persons = views.iter().flat_map(|view| view.persons(kinds, least));
    let mut persons = persons::one_of_each(kinds, by_score(persons.collect()));
    persons.truncate(MOST_DETECTED);
    persons
}

fn by_score(mut persons: Vec<Person>) -> Vec<Person> {
    persons.sort_by(|a, b| b.score.total_cmp(&a.score));
    persons
}

/// From what was seen to what is reported, and who is who.
pub(crate) fn conclude(
    served: &Served,
    seen: Seen,
    job: &Job<'_>,
    source: Source,
) -> (Output, Option<Prior>) {
    let skeleton = match &served.info.task {
        Task::Pose { skeleton } => skeleton,
        Task::Classify { labels } => return (classes(labels, &seen.views, job.top), None),
    };
    let has_stages = served.stages.len() > 1;
    let mut persons = all_scored(served, skeleton, &seen);
    persons.retain(|person| person.score >= job.min_score);
    persons = by_score(persons);
    if has_stages {
        persons = persons::one_of_each(skeleton.keypoints(), persons);
    }
    let (width, height) = (source.width as u32, source.height as u32);
    let tracks = job.past.map(|Past { prior, at, smooth }| {
        let frame = cloudpose_tracks::Frame { at, width, height };
        let tracks = cloudpose_tracks::follow(skeleton, prior, frame, &mut persons, smooth);
        let looked_at = if has_stages && seen.is_everywhere { at } else { prior.looked_at };
        Prior { looked_at, ..tracks }
    });
    (Output::Poses { skeleton: skeleton.name().clone(), persons }, tracks)
}

/// The persons of all stages, with the scores that are reported.
fn all_scored(served: &Served, skeleton: &Skeleton, seen: &Seen) -> Vec<Person> {
    let calibrated = |scores: fn(&Calibration) -> &Scores, mut person: Person| {
        if let Some(calibration) = &served.calibration {
            scores(calibration).calibrate(&mut person);
        }
        person
    };
    let coarse = |person: &Person| {
        calibrated(|calibration| &calibration.detected, Person { coarse: true, ..person.clone() })
    };
    let mut persons: Vec<Person> = seen.rest.iter().map(coarse).collect();
    for (index, view) in seen.views.iter().enumerate() {
        for mut person in view.persons(skeleton.keypoints(), f32::NEG_INFINITY) {
            persons.push(match seen.regions.get(index) {
                None => calibrated(|calibration| &calibration.detected, person),
                Some(region) if !is_expected(served, skeleton, region, &person) => coarse(&region.expected),
                Some(Region { origin: Origin::Track, .. }) => {
                    calibrated(|calibration| &calibration.tracked, person)
                }
                Some(Region { origin: Origin::Detector, expected, .. }) => {
                    if served.calibration.is_some() {
                        person.score = (person.score * expected.score).sqrt();
                    }
                    calibrated(|calibration| &calibration.refined, person)
                }
            });
        }
    }
    persons
}

/// Whether everybody whom the last stage saw is who was expected there.
pub(crate) fn is_as_expected(served: &Served, seen: &Seen) -> bool {
    let Some(skeleton) = served.info.skeleton() else { return true };
    seen.views.iter().zip(&seen.regions).all(|(view, region)| {
        let persons = view.persons(skeleton.keypoints(), f32::NEG_INFINITY);
        !persons.is_empty() && persons.iter().all(|person| is_expected(served, skeleton, region, person))
    })
}

/// Whether it may be the same person. Where people overlap, a closer look at one may show another. Only who has the same
/// keypoints can be compared.
fn is_expected(served: &Served, skeleton: &Skeleton, region: &Region, person: &Person) -> bool {
    let has_same = match (region.origin, &*served.stages) {
        (Origin::Detector, [.., detector, _]) => served.finds_the_same(detector),
        _ => true,
    };
    !has_same || persons::similarity(skeleton.keypoints(), &region.expected, person) >= regions::LIKE
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ModelBox;

    #[test]
    fn of_too_many_boxes_those_with_the_highest_scores_are_looked_at() {
        let boxed = |n: usize| {
            let x_min = n as f32 / 300.0;
            let bounds = ModelBox { x_min, y_min: 0.0, x_max: x_min + 0.001, y_max: 1.0 };
            ModelPose { score: n as f32 / 300.0, keypoints: Vec::new(), bounds: Some(bounds) }
        };
        let found = Found::Poses((0..300).map(boxed).collect());
        let image_from_model = Transform { scale: [1.0; 2], origin: [0.0; 2] };
        let views = [View { found, size: [1000, 1000], image_from_model }];
        let scores: Vec<f32> = detected(&[], &views, 0.5).iter().map(|person| person.score).collect();
        assert_eq!((scores.len(), scores[0], scores[99]), (100, 299.0 / 300.0, 200.0 / 300.0));
        assert_eq!(detected(&[], &views, 0.9).len(), 30);
    }
}
