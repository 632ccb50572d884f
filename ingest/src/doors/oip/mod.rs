//! The Open Inference Protocol, version 2, over HTTP, as clients of KServe and Triton speak it: `/v2/…`.
//!
//! The models are those of `GET /v1/models`. Their input is `image`, BYTES [n] of image files or UINT8 [n, height, width,
//! 3] of RGB; each of the n goes its way as a single image does. What was found comes back as tensors. Errors are
//! `{"error": "…"}`, with the status that the native API gives them.

mod answer;
mod data;
mod inflate;
pub(crate) mod models;
mod png;
mod request;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use cloudpose_wire::{
    Caller, Class, ModelInfo, Output, Person, SharedEvent, Task, TraceParent, Want,
    frame::{MOST_TOP, USUAL_TOP},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use self::{
    inflate::Packing,
    models::Named,
    request::{Asked, Image},
};
use crate::{
    auth::Pass,
    doors::{
        Problem,
        http::{body, seated},
        trace_of,
    },
    settings::DEFAULT_QUALITY,
    shared::{Shared, token_of},
    still::Still,
};

/// How much of a body is JSON, in bytes.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
/// A body may be as large as so many of the largest images.
const IMAGES_OF_A_BODY: usize = 4;
/// Images of one request that are worked on at once: enough for a GPU's batch, and others get their turn.
const AT_ONCE: usize = 8;

/// The addresses.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let of_a_model = |at: &str| {
        Router::new()
            .route(at, get(models::metadata))
            .route(&format!("{at}/ready"), get(models::model_ready))
            .route(&format!("{at}/config"), get(models::config))
            .route(&format!("{at}/infer"), post(infer))
    };
    Router::new()
        .route("/v2", get(models::server))
        .route("/v2/health/live", get(models::live))
        .route("/v2/health/ready", get(models::ready))
        .route("/v2/repository/index", post(models::index))
        .route("/v2/repository/models/{model}/load", post(models::load))
        .route("/v2/repository/models/{model}/unload", post(models::unload))
        .merge(of_a_model("/v2/models/{model}"))
        .merge(of_a_model("/v2/models/{model}/versions/{version}"))
}

/// A problem, as clients of this protocol read it.
#[derive(Debug)]
pub(crate) struct Refused(Problem);

impl<P: Into<Problem>> From<P> for Refused {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.respond("application/json", json!({ "error": self.0.detail }).to_string())
    }
}

/// Finds what is in images (Open Inference Protocol).
///
/// The body is the protocol's JSON, or JSON and binary tensors behind it; it may be packed by gzip or deflate.
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "One of `GET /v1/models`."),
        ("Inference-Header-Content-Length" = Option<usize>, Header, description = "How much of the body is JSON, in bytes."),
    ),
    request_body(description = "The input `image`: BYTES [n] of image files (base64 in JSON), or UINT8 [n, height, width, 3].",
        content((Object = "application/json"), (Object = "application/octet-stream"))),
    responses(
        (status = 200, body = Object, description = "`keypoints`, `boxes`, `scores` and `count`, or `classes` and `scores`."),
        (status = 400, body = Object, description = "The request was not understood."),
        (status = 404, body = Object, description = "No worker serves the model."),
        (status = 408, body = Object, description = "The body took too long to arrive."),
        (status = 413, body = Object, description = "Too many or too large images."),
        (status = 415, body = Object, description = "The body is packed in an unknown way."),
        (status = 422, body = Object, description = "An image cannot be read, or is missing."),
        (status = 429, body = Object, description = "The client's address has too many connections."),
        (status = 503, body = Object, description = "Too much work is waiting: come again after `Retry-After` seconds."),
        (status = 504, body = Object, description = "Not done in time."),
    ),
)]
pub(crate) async fn infer(
    State(shared): State<Arc<Shared>>,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Response, Refused> {
    let Pass { caller, .. } = Pass::of(request.extensions());
    let trace = trace_of(request.headers());
    let line = request.extensions().get().cloned();
    let (parts, body) = request.into_parts();
    let model = named.find(&shared)?;
    let packing = Packing::of(&parts.headers)?;
    let json = json_length(&parts.headers)?;
    let limit = body::json_limit(shared.config.max_image_bytes.saturating_mul(IMAGES_OF_A_BODY));
    let bounds = body::Bounds::of(&shared);
    let (_seat, whole) =
        seated(&shared, &caller, line, body::read(&parts.headers, body, limit, &bounds)).await?;
    let largest = shared.config.max_image_bytes;
    let (asked, files) = tokio::task::spawn_blocking(move || {
        let mut asked = request::read(&packing.unpack(whole, limit)?, json)?;
        let images = std::mem::take(&mut asked.images);
        let files: Vec<Bytes> =
            images.into_iter().map(|image| file(image, largest)).collect::<Result<_, _>>()?;
        Ok::<_, Problem>((asked, files))
    })
    .await
    .map_err(|_| Problem::failed("the request could not be read"))??;
    let terms = Terms::of(&asked, &shared, model)?;
    let found = terms.run(&shared, files, caller, trace).await?;
    let (body, json) = answer(&terms.model, &asked, &found)?;
    Ok(respond(body, json))
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_body("Inference-Header-Content-Length is no number"))
}

/// The image as a file, if it is not too large.
fn file(image: Image, largest: usize) -> Result<Bytes, Problem> {
    let too_large = |size| {
        let detail = format!(
            "an image has {size} bytes, at most {largest} may come; send it as a JPEG, or scale it down"
        );
        Problem::too_large(detail)
    };
    match image {
        Image::File(file) if file.len() > largest => Err(too_large(file.len())),
        Image::File(file) => Ok(file),
        Image::Pixels { rgb, .. } if rgb.len() > largest => Err(too_large(rgb.len())),
        Image::Pixels { width, height, rgb } => Ok(png::png(width, height, &rgb)),
    }
}

/// How the images of a request are worked on.
struct Terms {
    model: Arc<ModelInfo>,
    min_score: f32,
    top: u16,
}

impl Terms {
    fn of(asked: &Asked, shared: &Shared, model: Arc<ModelInfo>) -> Result<Self, Problem> {
        let min_score = asked.min_score.unwrap_or(shared.config.min_score);
        if !(0.0..=1.0).contains(&min_score) {
            return Err(Problem::bad_body(format!("min_score is {min_score}; use 0 to 1")));
        }
        let top = asked.top.unwrap_or(USUAL_TOP);
        if !(1..=MOST_TOP).contains(&top) {
            return Err(Problem::bad_body(format!("top is {top}; use 1 to {MOST_TOP}")));
        }
        Ok(Self { model, min_score, top })
    }

    /// Has all images worked on, and answers what was found in each. The first that fails ends the others.
    async fn run(
        &self,
        shared: &Shared,
        files: Vec<Bytes>,
        caller: Caller,
        trace: Option<TraceParent>,
    ) -> Result<Vec<SharedEvent>, Problem> {
        let many = files.len() > 1;
        let stills: Vec<Still> = files
            .into_iter()
            .map(|image| Still {
                id: token_of("still"),
                image,
                want: Want::Pose,
                draw: shared.config.draw_only.unwrap_or_default(),
                model: self.model.id.clone(),
                quality: DEFAULT_QUALITY,
                min_score: self.min_score,
                top: self.top,
                caller: caller.clone(),
                trace,
            })
            .collect();
        let runs = stills.into_iter().enumerate().map(|(n, still)| async move {
            still.run(shared).await.map(|done| done.event).map_err(|refusal| {
                let mut problem = Problem::from(refusal);
                if many {
                    problem.detail = format!("image {n}: {}", problem.detail);
                }
                problem
            })
        });
        stream::iter(runs).buffered(AT_ONCE).try_collect().await
    }
}

fn answer(
    model: &ModelInfo,
    asked: &Asked,
    found: &[SharedEvent],
) -> Result<(Bytes, Option<usize>), Problem> {
    let (mut persons, mut classes): (Vec<Vec<Person>>, Vec<Vec<Class>>) = (Vec::new(), Vec::new());
    for event in found {
        let event = event
            .event()
            .map_err(|error| Problem::failed(format!("the worker's answer is none: {error}")))?;
        match &event.output {
            Output::Poses { persons: found, .. } => persons.push(found.clone()),
            Output::Classes(found) => classes.push(found.clone()),
        }
    }
    let (tensors, whole) = match &model.task {
        Task::Pose { skeleton } => (answer::of_persons(&persons, skeleton.keypoints().len()), persons.len()),
        Task::Classify { .. } => (answer::of_classes(&classes), classes.len()),
    };
    if whole != found.len() {
        return Err(Problem::failed("the model was changed meanwhile; try again"));
    }
    answer::write(model.id.as_str(), asked.id.as_deref(), &tensors, &asked.outputs)
}

fn respond(body: Bytes, json: Option<usize>) -> Response {
    match json {
        None => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Some(length) => {
            let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
            response.headers_mut().insert(JSON_LENGTH, HeaderValue::from(length));
            response
        }
    }
}
