//! What there is to find in a picture, and what was found in a frame, as subscribers and clients see it.
//!
//! Coordinates are pixels of the original image: origin top left, x to the right, y down,
//! the first pixel's centre at (0.5, 0.5). Keypoints have the names and the order of the model's [`Skeleton`].

use std::{
    borrow::Cow,
    sync::{Arc, OnceLock},
};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::value::RawValue;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{KeypointName, ModelId, Skeleton, SkeletonName, StreamName};

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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Keypoint {
    /// Which joint, as the skeleton calls it.
    pub name: KeypointName,
    /// Pixels from the left edge. May lie outside the image.
    pub x: f32,
    /// Pixels from the top edge. May lie outside the image.
    pub y: f32,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// An upright rectangle in pixels: top left corner and size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[schema(as = Box)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct BoundingBox {
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

/// One person in a frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Person {
    /// Stays with a person from frame to frame of a stream. Absent for stills.
    #[serde(default)]
    pub track_id: Option<u32>,
    /// Confidence that this is a person, 0 to 1.
    pub score: f32,
    /// Where the person is.
    #[serde(rename = "box")]
    pub bounding_box: BoundingBox,
    /// All keypoints of the skeleton in its order, those with a low score too.
    pub keypoints: Vec<Keypoint>,
    /// Only the first of the model's stages saw the person: more were there than are looked at closer, or a closer look
    /// showed somebody else. Absent: no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub coarse: bool,
}

/// Where a frame's time went on the infer stage, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TimingsMs {
    /// On the infer lane, until a worker took the frame. What it waited at the gateway before is not in it.
    pub queue: f32,
    /// Encoded image to pixels.
    pub decode: f32,
    /// Pixels to model input.
    pub preprocess: f32,
    /// The model, its heads' decoding included; of a model that looks closer at each person, what finds the persons.
    pub inference: f32,
    /// A closer look at each person. Absent: the model does not do that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refine: Option<f32>,
    /// What the model found to coordinates of the image.
    pub postprocess: f32,
}

/// A class and how sure the model is of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Class {
    /// Its name.
    pub label: String,
    /// Confidence, 0 to 1.
    pub score: f32,
}

/// What a model finds in a picture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "lowercase")]
pub enum Task {
    /// Persons and their keypoints.
    Pose {
        /// Which keypoints.
        skeleton: Arc<Skeleton>,
    },
    /// What the whole picture shows.
    Classify {
        /// The names of the classes, by their number.
        labels: Arc<[String]>,
    },
}

impl Task {
    /// The keypoints of the persons it finds, if it finds persons.
    pub fn skeleton(&self) -> Option<&Arc<Skeleton>> {
        match self {
            Self::Pose { skeleton } => Some(skeleton),
            Self::Classify { .. } => None,
        }
    }
}

/// What a task found in a frame.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Persons and their keypoints.
    Poses {
        /// Whose keypoints they are.
        skeleton: SkeletonName,
        /// By falling score.
        persons: Vec<Person>,
    },
    /// What the whole picture shows, by falling score.
    Classes(Vec<Class>),
}

impl Output {
    /// What the kinds of output are called, as in subjects.
    pub const KINDS: [&str; 2] = ["poses", "classes"];

    /// Which of [`KINDS`](Self::KINDS) it is.
    pub fn kind(&self) -> &'static str {
        let [poses, classes] = Self::KINDS;
        match self {
            Self::Poses { .. } => poses,
            Self::Classes(_) => classes,
        }
    }

    /// Persons, and whose keypoints they have; none from a task that finds no persons.
    pub fn poses(&self) -> Option<(&SkeletonName, &[Person])> {
        match self {
            Self::Poses { skeleton, persons } => Some((skeleton, persons)),
            Self::Classes(_) => None,
        }
    }

    /// The persons; none from a task that finds no persons.
    pub fn persons(&self) -> &[Person] {
        self.poses().map_or(&[], |(_, persons)| persons)
    }
}

/// What was found in one frame: what `cloudpose.poses.<stream>` carries of poses, `cloudpose.classes.<stream>` of
/// classes.
///
/// In JSON the output's fields stand among the others: `persons`, and `skeleton` unless that is COCO's; or `classes`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Event {
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
    pub model: ModelId,
    /// What it ran on: `cpu`, `cuda:0`, ….
    pub device: Arc<str>,
    /// What it found.
    pub output: Output,
    /// Where the time went.
    pub timings_ms: TimingsMs,
}

/// What was found in one frame.
// An event with its output's fields among the others. The line above is what the API's description says.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PoseEvent)]
struct Written {
    /// The stream, or the still's id.
    stream: StreamName,
    /// Number of the frame within its session, from 1.
    seq: u64,
    /// When the gateway received the frame: milliseconds since 1970-01-01T00:00:00Z.
    captured_at: u64,
    /// Width of the original image (upright, after EXIF orientation), in pixels.
    width: u32,
    /// Height of the original image, in pixels.
    height: u32,
    /// The model that ran.
    model: ModelId,
    /// What it ran on: `cpu`, `cuda:0`, ….
    #[schema(value_type = String)]
    device: Arc<str>,
    /// Whose keypoints the persons have. Absent: COCO's 17.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false)]
    skeleton: SkeletonName,
    /// Persons by falling score. Absent if the model tells classes.
    #[schema(nullable = false)]
    persons: Option<Vec<Person>>,
    /// What the picture shows, by falling score, if the model tells classes.
    #[schema(nullable = false)]
    classes: Option<Vec<Class>>,
    /// Where the time went.
    timings_ms: TimingsMs,
}

/// An event that holds the output of no task, or of several.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the event holds neither persons nor classes alone")]
pub struct NoOutput;

impl TryFrom<Written> for Event {
    type Error = NoOutput;

    fn try_from(written: Written) -> Result<Self, NoOutput> {
        let Written { stream, seq, captured_at, width, height, model, device, timings_ms, .. } = written;
        let output = match (written.persons, written.classes) {
            (Some(persons), None) => Output::Poses { skeleton: written.skeleton, persons },
            (None, Some(classes)) => Output::Classes(classes),
            _ => return Err(NoOutput),
        };
        Ok(Self { stream, seq, captured_at, width, height, model, device, output, timings_ms })
    }
}

impl PartialSchema for Event {
    fn schema() -> RefOr<Schema> {
        Written::schema()
    }
}

impl ToSchema for Event {
    fn name() -> Cow<'static, str> {
        Written::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        Written::schemas(schemas);
    }
}

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Event", 10)?;
        fields.serialize_field("stream", &self.stream)?;
        fields.serialize_field("seq", &self.seq)?;
        fields.serialize_field("captured_at", &self.captured_at)?;
        fields.serialize_field("width", &self.width)?;
        fields.serialize_field("height", &self.height)?;
        fields.serialize_field("model", &self.model)?;
        fields.serialize_field("device", &self.device)?;
        match &self.output {
            Output::Poses { skeleton, persons } => {
                if !skeleton.is_default() {
                    fields.serialize_field("skeleton", skeleton)?;
                }
                fields.serialize_field("persons", persons)?;
            }
            Output::Classes(classes) => fields.serialize_field("classes", classes)?,
        }
        fields.serialize_field("timings_ms", &self.timings_ms)?;
        fields.end()
    }
}

/// An event that many read: its JSON is written at most once and read at most once, whoever asks first.
#[derive(Debug, Clone)]
pub struct SharedEvent(Arc<Forms>);

/// One of the two is there from the beginning.
#[derive(Debug, Default)]
struct Forms {
    event: OnceLock<Event>,
    json: OnceLock<Box<RawValue>>,
}

impl SharedEvent {
    /// Its JSON, compact and in one line.
    pub fn json(&self) -> &RawValue {
        let Forms { event, json } = &*self.0;
        json.get_or_init(|| {
            let event = event.get().expect("an event has one form from the beginning");
            serde_json::value::to_raw_value(event).expect("our own types are JSON")
        })
    }

    /// What it says.
    ///
    /// # Errors
    /// If it came as JSON from elsewhere that is no event.
    pub fn event(&self) -> Result<&Event, serde_json::Error> {
        let Forms { event, json } = &*self.0;
        if let Some(event) = event.get() {
            return Ok(event);
        }
        let json = json.get().expect("an event has one form from the beginning");
        let read = serde_json::from_str(json.get())?;
        Ok(event.get_or_init(|| read))
    }
}

impl From<Event> for SharedEvent {
    fn from(event: Event) -> Self {
        Self(Arc::new(Forms { event: event.into(), json: OnceLock::new() }))
    }
}

impl PartialEq for SharedEvent {
    /// By what they say.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.json().get() == other.json().get()
    }
}

impl Serialize for SharedEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedEvent {
    /// Keeps the JSON as it is; only `serde_json` can, and not behind a tag that stands inside.
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let json = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(Arc::new(Forms { event: OnceLock::new(), json: json.into() })))
    }
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

    fn event(output: Output) -> Event {
        Event {
            stream: StreamName::new("cam").unwrap(),
            seq: 7,
            captured_at: 1_700_000_000_000,
            width: 640,
            height: 480,
            model: ModelId::new("multipose").unwrap(),
            device: "cpu".into(),
            output,
            timings_ms: TimingsMs::default(),
        }
    }

    fn poses(skeleton: &str, names: &[&str]) -> Output {
        let keypoint = |name: &&str| Keypoint { name: name.parse().unwrap(), x: 1.5, y: 2.0, score: 0.5 };
        let person = Person {
            track_id: None,
            score: 0.5,
            bounding_box: BoundingBox { x: 1.0, y: 2.0, width: 3.0, height: 4.0 },
            keypoints: names.iter().map(keypoint).collect(),
            coarse: false,
        };
        Output::Poses { skeleton: skeleton.parse().unwrap(), persons: vec![person] }
    }

    const BEFORE: &str = r#"{"stream":"cam","seq":7,"captured_at":1700000000000,"width":640,"height":480,"model":"multipose","device":"cpu","#;
    const AFTER: &str =
        r#","timings_ms":{"queue":0.0,"decode":0.0,"preprocess":0.0,"inference":0.0,"postprocess":0.0}}"#;

    #[test]
    fn events_have_the_documented_shape() {
        let persons = r#""persons":[{"track_id":null,"score":0.5,"box":{"x":1.0,"y":2.0,"width":3.0,"height":4.0},"keypoints":[{"name":"nose","x":1.5,"y":2.0,"score":0.5}]}]"#;
        let classes = Output::Classes(vec![Class { label: "cat".into(), score: 0.75 }]);
        for (output, json) in [
            (poses("coco-17", &["nose"]), persons.to_owned()),
            (poses("two", &["nose"]), format!(r#""skeleton":"two",{persons}"#)),
            (classes, r#""classes":[{"label":"cat","score":0.75}]"#.to_owned()),
        ] {
            let event = event(output);
            let json = format!("{BEFORE}{json}{AFTER}");
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), event);
        }
    }

    #[test]
    fn persons_are_there_where_they_are_what_is_found() {
        let output = poses("two", &["nose"]);
        let (skeleton, persons) = output.poses().unwrap();
        assert_eq!((skeleton.as_str(), persons.len()), ("two", 1));
        assert_eq!(output.persons(), persons);
        let classes = Output::Classes(Vec::new());
        assert!(classes.poses().is_none() && classes.persons().is_empty());
    }

    #[test]
    fn an_event_has_the_output_of_one_task() {
        for output in [r#""seqs":[]"#, r#""persons":[],"classes":[]"#, r#""persons":null"#] {
            let error = serde_json::from_str::<Event>(&format!("{BEFORE}{output}{AFTER}")).unwrap_err();
            assert!(error.to_string().contains("neither"), "{output}: {error}");
        }
    }

    #[test]
    fn a_shared_event_is_the_same_from_either_side() {
        let event = event(poses("coco-17", &["nose", "left_eye"]));
        let written = SharedEvent::from(event.clone());
        let json = serde_json::to_string(&written).unwrap();
        assert_eq!(json, serde_json::to_string(&event).unwrap());
        assert!(std::ptr::eq(written.json(), written.clone().json()), "written once");
        let read: SharedEvent = serde_json::from_str(&json).unwrap();
        assert!(std::ptr::eq(read.event().unwrap(), read.clone().event().unwrap()), "read once");
        assert_eq!(read.json().get(), json);
        assert_eq!(read.event().unwrap(), &event);
        assert_eq!(read, written);
        let other: SharedEvent = serde_json::from_str("{}").unwrap();
        assert!(other.event().is_err() && other != read);
    }
}
