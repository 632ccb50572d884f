//! What is answered: predictions.

use std::time::Duration;

use cloudpose_wire::{Class, Event, ModelInfo, Output, Person, Task};
use serde::Serialize;

use crate::doors::Problem;

/// The class of every person.
const PERSON: &str = "person";

/// What a call tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Keypoints,
    Boxes,
    Classes,
}

/// Which predictions are told of.
#[derive(Debug)]
pub(super) struct Keep {
    pub(super) keypoint_confidence: f32,
    /// Classes below this are left out. Of persons they are already.
    pub(super) confidence: f32,
    /// At most so many of an image.
    pub(super) most: usize,
    /// Only of these classes.
    pub(super) classes: Option<Vec<String>>,
}

/// What was found in an image.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = InferenceAnswer)]
pub(crate) struct Answer {
    inference_id: String,
    /// Seconds, of the whole request.
    time: f64,
    image: Size,
    predictions: Vec<Prediction>,
    /// The class that is likeliest; empty if none is sure enough. Absent of persons.
    #[serde(skip_serializing_if = "Option::is_none")]
    top: Option<String>,
    /// That one's. Absent of persons.
    #[serde(skip_serializing_if = "Option::is_none")]
    confidence: Option<f32>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = InferenceSize)]
struct Size {
    width: u32,
    height: u32,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = InferencePrediction)]
#[serde(untagged)]
enum Prediction {
    Person(Detection),
    Class(Named),
}

/// In pixels of the image.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = InferencePerson)]
struct Detection {
    /// Of the middle of the box.
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    confidence: f32,
    class: &'static str,
    class_id: usize,
    detection_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    keypoints: Option<Vec<Point>>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = InferenceKeypoint)]
struct Point {
    x: f32,
    y: f32,
    confidence: f32,
    /// Its number in the skeleton.
    class_id: usize,
    class: String,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = InferenceClass)]
struct Named {
    class: String,
    class_id: usize,
    confidence: f32,
}

impl Kind {
    /// Whether the model finds that.
    pub(super) fn goes_with(self, model: &ModelInfo) -> Result<(), Problem> {
        match (self, &model.task) {
            (Self::Keypoints | Self::Boxes, Task::Pose { .. }) | (Self::Classes, Task::Classify { .. }) => {
                Ok(())
            }
            (_, Task::Pose { .. }) => {
                Err(Problem::other_task(format!("{} finds poses; use /infer/keypoints_detection", model.id)))
            }
            (_, Task::Classify { .. }) => {
                Err(Problem::other_task(format!("{} tells classes; use /infer/classification", model.id)))
            }
        }
    }
}

fn id() -> String {
    uuid::Uuid::now_v7().to_string()
}

impl Answer {
    /// What an event of the model says.
    pub(super) fn of(
        event: &Event,
        kind: Kind,
        keep: &Keep,
        model: &ModelInfo,
        took: Duration,
    ) -> Result<Self, Problem> {
        let (predictions, first) = match (&event.output, &model.task) {
            (Output::Poses { persons, .. }, Task::Pose { .. }) => {
                let persons = persons.iter().filter(|_| keep.wants(PERSON)).take(keep.most);
                let found = persons.map(|person| Prediction::Person(Detection::of(person, kind, keep)));
                (found.collect(), None)
            }
            (Output::Classes(classes), Task::Classify { labels }) => {
                let sure = |class: &&Class| class.score >= keep.confidence && keep.wants(&class.label);
                let classes: Vec<&Class> = classes.iter().filter(sure).take(keep.most).collect();
                let first =
                    classes.first().map_or_else(Default::default, |top| (top.label.clone(), top.score));
                (
                    classes.into_iter().map(|class| Prediction::Class(Named::of(class, labels))).collect(),
                    Some(first),
                )
            }
            _ => return Err(Problem::failed("the model was changed meanwhile; try again")),
        };
        let image = Size { width: event.width, height: event.height };
        let (top, confidence) = first.unzip();
        Ok(Self { inference_id: id(), time: took.as_secs_f64(), image, predictions, top, confidence })
    }
}

impl Keep {
    fn wants(&self, class: &str) -> bool {
        self.classes.as_ref().is_none_or(|classes| classes.iter().any(|wanted| wanted == class))
    }
}

impl Named {
    fn of(class: &Class, labels: &[String]) -> Self {
        Self {
            class: class.label.clone(),
            class_id: labels.iter().position(|label| *label == class.label).unwrap_or(labels.len()),
            confidence: class.score,
        }
    }
}

impl Detection {
    fn of(person: &Person, kind: Kind, keep: &Keep) -> Self {
        let area = person.bounding_box;
        let keypoints = (kind == Kind::Keypoints).then(|| {
            let points = person.keypoints.iter().enumerate();
            let sure = points.filter(|(_, point)| point.score >= keep.keypoint_confidence);
            let point = |(class_id, point): (usize, &cloudpose_wire::Keypoint)| Point {
                x: point.x,
                y: point.y,
                confidence: point.score,
                class_id,
                class: point.name.to_string(),
            };
            sure.map(point).collect()
        });
        Self {
            x: area.x + area.width / 2.0,
            y: area.y + area.height / 2.0,
            width: area.width,
            height: area.height,
            confidence: person.score,
            class: PERSON,
            class_id: 0,
            detection_id: id(),
            keypoints,
        }
    }
}
