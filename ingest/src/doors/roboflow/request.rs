//! What is asked: JSON that names a model and holds images.

use std::{borrow::Cow, fmt, marker::PhantomData};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{
        self, MapAccess, SeqAccess, Unexpected, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};

use super::answer::Keep;
use crate::doors::{Few, MOST_IMAGES, Problem, http::body::decode_base64};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) model: String,
    /// Image files.
    pub(super) images: Vec<Bytes>,
    /// There is one, and it came alone: so does its answer.
    pub(super) one: bool,
    pub(super) confidence: Option<f32>,
    pub(super) keep: Keep,
}

/// Images, and what is wanted of them.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `read` reads")]
pub(super) struct Images {
    /// One of `GET /model/registry`.
    model_id: String,
    image: ImageOrImages,
    /// Predictions below this confidence are left out.
    confidence: Option<ConfidenceOrWord>,
    /// Key points below this confidence are left out, 0 to 1.
    keypoint_confidence: Option<f32>,
    /// At most so many predictions of an image.
    max_detections: Option<usize>,
}

/// An image, or a list of them.
#[derive(utoipa::ToSchema)]
#[schema(as = InferenceImages)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what `read` reads")]
enum ImageOrImages {
    One(ImageInBase64),
    Many(Vec<ImageInBase64>),
}

/// A confidence from 0 to 1, or a word for what is usual.
#[derive(utoipa::ToSchema)]
#[schema(as = InferenceConfidence)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes what `read` reads")]
enum ConfidenceOrWord {
    Number(f32),
    Word(Usual),
}

/// What is usual.
#[derive(utoipa::ToSchema)]
#[schema(as = InferenceUsual)]
#[serde(rename_all = "lowercase")]
#[expect(dead_code, reason = "describes what `read` reads")]
enum Usual {
    Best,
    Default,
}

/// An image.
#[derive(utoipa::ToSchema)]
#[schema(as = InferenceImage)]
#[expect(dead_code, reason = "describes what `read` reads")]
struct ImageInBase64 {
    /// `base64`.
    #[schema(rename = "type", pattern = "^base64$")]
    kind: String,
    /// The image file (JPEG, PNG or WebP) in base64.
    #[schema(content_encoding = "base64")]
    value: String,
}

#[derive(Deserialize)]
struct Request<'a> {
    model_id: Option<String>,
    #[serde(borrow)]
    image: Option<OneOrMany<'a>>,
    #[serde(default, deserialize_with = "confidence")]
    confidence: Option<f32>,
    keypoint_confidence: Option<f32>,
    max_detections: Option<usize>,
    class_filter: Option<Few<String, 64>>,
    visualize_predictions: Option<bool>,
}

/// A model by its name alone.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = InferenceModel)]
pub(super) struct Named {
    /// One of `GET /model/registry`.
    model_id: String,
}

impl Named {
    /// The name in a body.
    pub(super) fn read(body: &[u8]) -> Result<String, Problem> {
        let Self { model_id } = serde_json::from_slice(body).map_err(not_understood)?;
        Ok(model_id)
    }
}

enum OneOrMany<'a> {
    One(Image<'a>),
    Many(Few<Image<'a>, MOST_IMAGES>),
}

// `untagged` would hold everything in a tree of values before it looks.
impl<'de: 'a, 'a> Deserialize<'de> for OneOrMany<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either(PhantomData))
    }
}

struct Either<'a>(PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for Either<'a> {
    type Value = OneOrMany<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an image, or a list of them")
    }

    fn visit_map<A: MapAccess<'de>>(self, image: A) -> Result<OneOrMany<'a>, A::Error> {
        Image::deserialize(MapAccessDeserializer::new(image)).map(OneOrMany::One)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, images: A) -> Result<OneOrMany<'a>, A::Error> {
        Few::deserialize(SeqAccessDeserializer::new(images)).map(OneOrMany::Many)
    }
}

#[derive(Deserialize)]
struct Image<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    value: Cow<'a, str>,
}

/// A confidence, or a word for what is usual.
struct Confidence;

impl Visitor<'_> for Confidence {
    type Value = Option<f32>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number from 0 to 1, \"best\" or \"default\"")
    }

    fn visit_f64<E>(self, number: f64) -> Result<Option<f32>, E> {
        Ok(Some(number as f32))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Option<f32>, E> {
        Ok(Some(number as f32))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<Option<f32>, E> {
        match word {
            "best" | "default" => Ok(None),
            _ => Err(E::invalid_value(Unexpected::Str(word), &self)),
        }
    }

    fn visit_unit<E>(self) -> Result<Option<f32>, E> {
        Ok(None)
    }
}

fn confidence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f32>, D::Error> {
    deserializer.deserialize_any(Confidence)
}

fn not_understood(error: serde_json::Error) -> Problem {
    Problem::bad_body(format!("the JSON is not understood: {error}"))
}

/// Reads a body. An image has at most `largest` bytes.
///
/// # Errors
/// What is wrong with it, and what to send instead.
pub(super) fn read(body: &[u8], largest: usize) -> Result<Asked, Problem> {
    let request: Request<'_> = serde_json::from_slice(body).map_err(not_understood)?;
    let model = request.model_id.ok_or_else(|| Problem::bad_body("there is no model_id"))?;
    if request.visualize_predictions == Some(true) {
        let detail = "visualize_predictions is not there; POST /v1/pose draws, for Accept: image/jpeg";
        return Err(Problem::bad_body(detail));
    }
    let (images, one) = match request.image {
        None => return Err(Problem::missing_image("there is no image")),
        Some(OneOrMany::One(image)) => (vec![image], true),
        Some(OneOrMany::Many(Few(images))) => (images, false),
    };
    if images.is_empty() {
        return Err(Problem::missing_image("the list has no image"));
    }
    let images =
        images.into_iter().zip(1..).map(|(image, n)| file(image, n, largest)).collect::<Result<_, _>>()?;
    let keep = Keep {
        confidence: request.confidence.unwrap_or(0.0),
        keypoint_confidence: request.keypoint_confidence.unwrap_or(0.0),
        most: request.max_detections.unwrap_or(usize::MAX),
        // None are all, as at an inference server of theirs.
        classes: request.class_filter.map(|Few(classes)| classes).filter(|classes| !classes.is_empty()),
    };
    Ok(Asked { model, images, one, confidence: request.confidence, keep })
}

/// The file of image `n`.
fn file(Image { kind, value }: Image<'_>, n: usize, largest: usize) -> Result<Bytes, Problem> {
    if kind != "base64" {
        return Err(Problem::bad_body(format!(
            "an image is of type {kind:?}; send the file, as \"base64\": addresses are not fetched for clients"
        )));
    }
    let file = decode_base64(&value).map_err(|problem| {
        let why = problem.detail;
        Problem::bad_base64(format!(
            "image {n} is no base64 ({why}); a path of which there is no file is sent by the SDK as if it were"
        ))
    })?;
    if file.len() > largest {
        return Err(Problem::too_large(format!(
            "image {n} has {} bytes, at most {largest} may come",
            file.len()
        )));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ask(json: &str) -> Result<Asked, Problem> {
        read(json.as_bytes(), 100)
    }

    #[test]
    fn one_image_and_many_are_read() {
        let one = ask(
            r#"{"model_id":"fast","image":{"type":"base64","value":"b25l"},"api_key":null,"confidence":"best"}"#,
        );
        let one = one.unwrap();
        assert_eq!((one.images, one.one, one.confidence), (vec![Bytes::from_static(b"one")], true, None));
        let many = ask(
            r#"{"model_id":"fast","image":[{"type":"base64","value":"b25l"},{"type":"base64","value":"dHdv"}],
                "confidence":0.5,"keypoint_confidence":0.25,"max_detections":3,"class_filter":["person"]}"#,
        );
        let many = many.unwrap();
        assert_eq!((many.images.len(), many.one, many.confidence), (2, false, Some(0.5)));
        assert_eq!((many.keep.keypoint_confidence, many.keep.most), (0.25, 3));
        assert_eq!(many.keep.classes.unwrap(), ["person"]);
        let all = r#"{"model_id":"m","image":{"type":"base64","value":"b25l"},"class_filter":[]}"#;
        assert_eq!(ask(all).unwrap().keep.classes, None);
    }

    #[test]
    fn what_is_not_there_is_refused() {
        let image = r#""image":{"type":"base64","value":"b25l"}"#;
        let too_large =
            format!(r#"{{"model_id":"m","image":{{"type":"base64","value":"{}"}}}}"#, "AAAA".repeat(40));
        let many = format!(r#"{{"model_id":"m","image":[{}]}}"#, vec![&image[8..]; 33].join(","));
        for (json, status) in [
            ("{", 400),
            (&format!("{{{image}}}"), 400),
            (r#"{"model_id":"m"}"#, 422),
            (r#"{"model_id":"m","image":[]}"#, 422),
            (r#"{"model_id":"m","image":"b25l"}"#, 400),
            (r#"{"model_id":"m","image":{"type":"url","value":"http://169.254.169.254/"}}"#, 400),
            (r#"{"model_id":"m","image":{"type":"base64","value":"*"}}"#, 400),
            (&format!(r#"{{"model_id":"m",{image},"visualize_predictions":true}}"#), 400),
            (&too_large, 413),
            (&many, 400),
        ] {
            assert_eq!(ask(json).unwrap_err().status, status, "{json}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_taken_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&body, 100).is_err());
        }
    }
}
