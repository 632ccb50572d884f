//! The existing CloudPose API, kept for its clients: `POST /api/pose_detection` and
//! `POST /api/pose_detection_annotation`.
//!
//! Same fields in the same order, keypoints normalised to 0..1, boxes in pixels, any string as id, and
//! errors under `detail` as that service (FastAPI) has them: a list for a body of the wrong shape, a
//! string otherwise. The string comes with the other members of problem details beside it. Unlike
//! FastAPI's, our lists do not repeat the input: it may hold megabytes.

use std::{borrow::Cow, sync::Arc};

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use cloudpose_wire::{Event, Output, SkeletonName, Want, frame::USUAL_TOP};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    auth::Pass,
    config::LEGACY_MODEL,
    doors::{
        Problem,
        http::{Seated, body, seated},
        trace_of,
    },
    shared::{Shared, token_of},
    still::{Finished, Still},
};

/// What OpenCV's encoder, which the existing service used, takes by default.
const QUALITY: u8 = 95;

/// An image, for the existing API.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `Fields` reads")]
pub(crate) struct ImageRequest {
    /// Any string; comes back.
    id: String,
    /// The image file (JPEG, PNG or WebP) in base64.
    #[schema(content_encoding = "base64")]
    image: String,
}

/// An [`ImageRequest`], left where the body is: the image is megabytes.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    id: Cow<'a, str>,
    #[serde(borrow)]
    image: Cow<'a, str>,
}

/// The poses, as the existing API answers them.
#[derive(Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = PoseDetection)]
pub(crate) struct Detection {
    /// As it was sent.
    id: String,
    /// Number of persons.
    count: usize,
    /// One per person.
    boxes: Vec<LegacyBox>,
    /// One list of 17 per person: x and y from 0 to 1 of the image's width and height, and the score.
    keypoints: Vec<Vec<[f32; 3]>>,
    /// Decoding and scaling, in milliseconds.
    speed_preprocess: f32,
    /// The network, in milliseconds.
    speed_inference: f32,
    /// From the network's output to poses, in milliseconds.
    speed_postprocess: f32,
}

/// A person's box in pixels: top left corner and size.
#[derive(Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = PoseDetectionBox)]
pub(crate) struct LegacyBox {
    x: f32,
    y: f32,
    width: f32,
    height: f32,
    probability: f32,
}

/// The annotated picture, as the existing API answers it.
#[derive(utoipa::ToSchema)]
#[schema(as = PoseAnnotation)]
#[expect(dead_code, reason = "describes what `annotation` writes")]
pub(crate) struct Annotation {
    /// As it was sent.
    id: String,
    /// The annotated JPEG in base64.
    image: String,
}

/// What FastAPI says of a body of the wrong shape.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ImageRequestErrors)]
pub(crate) struct Invalid {
    detail: Vec<Flaw>,
}

/// One thing that is wrong with the body.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ImageRequestError)]
pub(crate) struct Flaw {
    /// A word for programs.
    #[serde(rename = "type")]
    kind: &'static str,
    /// Where: `body`, then the field's name or the offset in bytes.
    loc: Vec<Value>,
    /// In words.
    msg: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctx: Option<Context>,
}

/// What the JSON parser says.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ImageRequestErrorContext)]
pub(crate) struct Context {
    error: String,
}

/// How the existing API says that something is wrong.
#[derive(Debug)]
pub(crate) enum Rejection {
    /// The body has the wrong shape: 422, `detail` is a list.
    Invalid(Vec<Flaw>),
    /// Anything else: `detail` is a string.
    Problem(Problem),
}

/// Finds the poses in one image (the existing API).
#[utoipa::path(
    post, path = "/api/pose_detection", tag = "existing API", request_body = ImageRequest,
    responses(
        (status = 200, body = Detection, description = "The poses."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "Not an image in base64."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The server's model finds something else than COCO's 17 keypoints."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The image is larger than the server takes."),
        (status = 422, body = Invalid, description = "The body has the wrong shape; `detail` lists why."),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "A quota is used up, as the problem says: come again after `Retry-After` seconds. Or the \
                client's address has too many connections."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "Too much work is waiting: come again after `Retry-After` seconds."),
        (status = 504, body = Problem, content_type = "application/problem+json",
            description = "Not done in time."),
    ),
)]
pub(crate) async fn pose_detection(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Detection>, Rejection> {
    let (id, finished) = detect(&shared, request, Want::Pose).await?;
    Ok(Json(Detection::new(id, coco_17(&finished)?)))
}

/// Draws the poses on one image (the existing API).
#[utoipa::path(
    post, path = "/api/pose_detection_annotation", tag = "existing API", request_body = ImageRequest,
    responses(
        (status = 200, body = Annotation, description = "The annotated picture."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "Not an image in base64."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The server's model finds something else than COCO's 17 keypoints."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The image is larger than the server takes."),
        (status = 422, body = Invalid, description = "The body has the wrong shape; `detail` lists why."),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "A quota is used up, as the problem says: come again after `Retry-After` seconds. Or the \
                client's address has too many connections."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "Too much work is waiting: come again after `Retry-After` seconds."),
        (status = 504, body = Problem, content_type = "application/problem+json",
            description = "Not done in time."),
    ),
)]
pub(crate) async fn pose_detection_annotation(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Rejection> {
    let (id, finished) = detect(&shared, request, Want::Overlay).await?;
    coco_17(&finished)?;
    let jpeg = finished.overlay.ok_or_else(|| Problem::failed("the worker sent no picture"))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], annotation(&id, &jpeg)).into_response())
}

/// Writes an [`Annotation`]. Base64 needs no escaping: a JSON encoder would look through a megabyte for
/// nothing, and copy it.
fn annotation(id: &str, jpeg: &[u8]) -> String {
    let id = Value::from(id).to_string();
    let mut json = String::with_capacity(id.len() + jpeg.len().div_ceil(3) * 4 + 20);
    json.push_str("{\"id\":");
    json.push_str(&id);
    json.push_str(",\"image\":\"");
    body::encode_base64(jpeg, &mut json);
    json.push_str("\"}");
    json
}

async fn detect(shared: &Shared, request: Request, want: Want) -> Result<(String, Finished), Rejection> {
    let (parts, body) = request.into_parts();
    let Pass { caller, .. } = Pass::of(&parts.extensions);
    let limit = body::json_limit(shared.config.max_image_bytes);
    let bounds = body::Bounds::of(shared);
    let line = parts.extensions.get().cloned();
    let Seated { guest, seat: _seat, body } =
        seated(shared, &caller, line, body::read(&parts.headers, body, limit, &bounds), |body| body.len())
            .await?;
    let json = body::content_type(&parts.headers)
        .is_none_or(|kind| kind == "application/json" || kind.ends_with("+json"));
    let Fields { id, image } = match serde_json::from_slice(&body) {
        Ok(request) if json => request,
        _ => parse(&body, json).map_err(Rejection::Invalid)?,
    };
    let still = Still {
        id: token_of("still"),
        image: body::decode_base64(&image).map_err(|_| invalid_image())?,
        want,
        draw: shared.config.draw_only.unwrap_or_default(),
        model: shared.default_model(LEGACY_MODEL),
        quality: QUALITY,
        min_score: shared.config.min_score,
        top: USUAL_TOP,
        deadline: shared.config.still_deadline,
        caller,
        guest,
        trace: trace_of(&parts.headers),
    };
    let finished = still.run(shared).await.map_err(|refusal| match Problem::from(refusal) {
        problem if problem.status == StatusCode::UNPROCESSABLE_ENTITY => invalid_image(),
        problem => problem,
    })?;
    Ok((id.into_owned(), finished))
}

/// What was found, if it is what this API can tell: persons whose keypoints are COCO's.
fn coco_17(finished: &Finished) -> Result<&Event, Problem> {
    let event = finished.event.event();
    let event = event.map_err(|error| Problem::failed(format!("the worker sent no poses: {error}")))?;
    let found = match &event.output {
        Output::Poses { skeleton, .. } if *skeleton == SkeletonName::default() => return Ok(event),
        Output::Poses { skeleton, .. } => format!("keypoints of the skeleton {skeleton}"),
        other => other.kind().to_owned(),
    };
    Err(Problem::other_skeleton(format!(
        "the server's model {} finds {found}, not COCO's 17 keypoints; use POST /v1/pose",
        event.model
    )))
}

/// The existing service does not tell broken base64 from a broken image.
fn invalid_image() -> Problem {
    Problem::bad_base64("Invalid base64 image")
}

/// Reads a body that is not plainly [`Fields`] as FastAPI does, or says what it says.
fn parse(body: &[u8], json: bool) -> Result<Fields<'static>, Vec<Flaw>> {
    if body.is_empty() {
        return Err(vec![Flaw::at(["body"], "missing", "Field required")]);
    }
    let value = if json {
        serde_json::from_slice(body).map_err(|error| {
            let mut flaw = Flaw::at(["body"], "json_invalid", "JSON decode error");
            flaw.loc.push(offset(body, error.line(), error.column()).into());
            flaw.ctx = Some(Context { error: error.to_string() });
            vec![flaw]
        })?
    } else {
        Value::Null
    };
    let Value::Object(mut fields) = value else {
        let message = "Input should be a valid dictionary or object to extract fields from";
        return Err(vec![Flaw::at(["body"], "model_attributes_type", message)]);
    };
    let mut flaws = Vec::new();
    let mut take = |name| match fields.remove(name) {
        Some(Value::String(text)) => text,
        Some(_) => {
            flaws.push(Flaw::at(["body", name], "string_type", "Input should be a valid string"));
            String::new()
        }
        None => {
            flaws.push(Flaw::at(["body", name], "missing", "Field required"));
            String::new()
        }
    };
    let request = Fields { id: take("id").into(), image: take("image").into() };
    if flaws.is_empty() { Ok(request) } else { Err(flaws) }
}

impl Flaw {
    fn at<const N: usize>(loc: [&'static str; N], kind: &'static str, msg: &'static str) -> Self {
        Self { kind, loc: loc.map(Value::from).to_vec(), msg, ctx: None }
    }
}

/// Where `line` and `column`, both from 1, are in `body`, in bytes from 0.
fn offset(body: &[u8], line: usize, column: usize) -> usize {
    let before: usize =
        body.split_inclusive(|&byte| byte == b'\n').take(line.saturating_sub(1)).map(<[u8]>::len).sum();
    before + column.saturating_sub(1)
}

impl Detection {
    fn new(id: String, event: &Event) -> Self {
        let (width, height) = (event.width.max(1) as f32, event.height.max(1) as f32);
        let timings = &event.timings_ms;
        let boxes = event.output.persons().iter().map(|person| {
            let b = person.bounding_box;
            LegacyBox { x: b.x, y: b.y, width: b.width, height: b.height, probability: person.score }
        });
        let keypoints = event.output.persons().iter().map(|person| {
            person.keypoints.iter().map(|k| [k.x / width, k.y / height, k.score]).collect::<Vec<_>>()
        });
        Self {
            id,
            count: event.output.persons().len(),
            boxes: boxes.collect(),
            keypoints: keypoints.collect(),
            speed_preprocess: timings.decode + timings.preprocess,
            speed_inference: timings.inference + timings.refine.unwrap_or_default(),
            speed_postprocess: timings.postprocess,
        }
    }
}

impl From<Problem> for Rejection {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        match self {
            Self::Invalid(detail) => {
                (StatusCode::UNPROCESSABLE_ENTITY, Json(Invalid { detail })).into_response()
            }
            Self::Problem(problem) => problem.into_response(),
        }
    }
}
