//! The Open Inference Protocol, version 2, over HTTP, as clients of KServe and Triton speak it: `/v2/…`.
//!
//! The models are those of `GET /v1/models`. Their input is `image`, BYTES [n] of image files or UINT8 [n, height, width,
//! 3] of RGB; each of the n goes its way as a single image does. What was found comes back as tensors. Errors are
//! `{"error": "…"}`, with the status that the native API gives them.

mod answer;
mod data;
mod described;
mod inflate;
pub(crate) mod models;
mod parameters;
mod png;
mod request;
mod statistics;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Path, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use cloudpose_wire::{Class, ModelInfo, Output, Person, SharedEvent, Task};
use serde_json::json;
use tokio::time::Instant;

use self::{
    described::{TensorAnswer, TensorError, TensorRequest},
    inflate::Packing,
    models::Named,
    parameters::MOST_TIMEOUT,
    request::{Asked, Image},
    statistics::Statistics,
};
use crate::{
    doors::{Problem, Received, Terms, body_limit, http::ImageFile, receive},
    shared::Shared,
};

/// How much of a body is JSON, in bytes.
const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The addresses.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let of_a_model = |at: &str| {
        Router::new()
            .route(at, get(models::metadata))
            .route(&format!("{at}/ready"), get(models::model_ready))
            .route(&format!("{at}/config"), get(models::config))
            .route(&format!("{at}/stats"), get(models::stats))
            .route(&format!("{at}/infer"), post(infer))
    };
    Router::new()
        .route("/v2", get(models::server))
        .route("/v2/", get(models::server))
        .route("/v2/health/live", get(models::live))
        .route("/v2/health/ready", get(models::ready))
        .route("/v2/models/stats", get(models::all_stats))
        .route("/v2/repository/index", post(models::index))
        .route("/v2/repository/models/{model}/load", post(models::load))
        .route("/v2/repository/models/{model}/unload", post(models::unload))
        .merge(of_a_model("/v2/models/{model}"))
        .merge(of_a_model("/v2/models/{model}/versions/{version}"))
        .layer(Extension(Arc::new(Statistics::default())))
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

/// Whether an address is one of this protocol's.
pub(crate) fn is_below(path: &str) -> bool {
    path.strip_prefix("/v2").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// There is nothing at an address below `/v2`.
pub(crate) fn not_found() -> Problem {
    Problem::not_found(format!(
        "there is nothing here; of the protocol's extensions there are {}",
        models::EXTENSIONS.join(", ")
    ))
}

/// Finds what is in images (Open Inference Protocol).
///
/// The body is the protocol's JSON, or JSON and binary tensors behind it; it may be packed by gzip or deflate.
#[utoipa::path(
    post, path = "/v2/models/{model}/infer", tag = "Open Inference Protocol",
    params(
        ("model" = String, Path, description = "One of `GET /v1/models`."),
        ("Inference-Header-Content-Length" = Option<usize>, Header, nullable = false, description = "How much of the body is JSON, in bytes."),
    ),
    request_body(description = "The input `image`: BYTES [n] of image files (base64 in JSON), or UINT8 [n, height, width, 3].",
        content((TensorRequest = "application/json"), (ImageFile = "application/octet-stream"))),
    responses(
        (status = 200, description = "`keypoints`, `boxes`, `scores` and `count`, or `classes` and `scores`.",
            content((TensorAnswer = "application/json"), (ImageFile = "application/octet-stream"))),
        (status = 400, body = TensorError, description = "The request was not understood."),
        (status = 404, body = TensorError, description = "No worker serves the model."),
        (status = 408, body = TensorError, description = "The body took too long to arrive."),
        (status = 413, body = TensorError, description = "Too many or too large images."),
        (status = 415, body = TensorError, description = "The body is packed in an unknown way."),
        (status = 422, body = TensorError, description = "An image cannot be read, or is missing."),
        (status = 429, body = TensorError, description = "The client's address has too many connections."),
        (status = 503, body = TensorError, description = "Too much work is waiting: come again after `Retry-After` seconds."),
        (status = 504, body = TensorError, description = "Not done in time."),
    ),
)]
pub(crate) async fn infer(
    State(shared): State<Arc<Shared>>,
    Extension(statistics): Extension<Arc<Statistics>>,
    Path(named): Path<Named>,
    request: Request,
) -> Result<Response, Refused> {
    let model = named.find(&shared)?;
    let began = Instant::now();
    let done = work(&shared, &model, request).await;
    let found = done.as_ref().ok().map(|(_, found)| &found[..]);
    statistics.record(&model.id, began.elapsed(), found);
    let (asked, found) = done?;
    let (body, json) = answer(&model, &asked, &found)?;
    Ok(respond(body, json))
}

/// Has everything done that a request asks for.
async fn work(
    shared: &Shared,
    model: &Arc<ModelInfo>,
    request: Request,
) -> Result<(Asked, Vec<SharedEvent>), Problem> {
    let packing = Packing::of(request.headers())?;
    let json = json_length(request.headers())?;
    let (largest, limit) = (shared.config.max_image_bytes, body_limit(shared));
    let received = receive(shared, request).await.map_err(|problem| match problem.status {
        413 => Problem::too_large(format!(
            "the body has more than {limit} bytes; send fewer images in a request, or files as BYTES"
        )),
        _ => problem,
    });
    let Received { body, whose, seat: _seat } = received?;
    let mut room = shared.unfinished.share();
    let outputs = models::output_names(&model.task);
    let (asked, files) = tokio::task::spawn_blocking(move || {
        let mut asked = request::read(&packing.unpack(body, limit, &mut room)?, json, &outputs)?;
        let images = std::mem::take(&mut asked.images);
        let files: Vec<Bytes> =
            images.into_iter().map(|image| file(image, largest)).collect::<Result<_, _>>()?;
        Ok::<_, Problem>((asked, files))
    })
    .await
    .map_err(|_| Problem::failed("the request could not be read"))??;
    let deadline = asked.timeout.unwrap_or(shared.config.still_deadline);
    let terms = Terms::of(shared, model, asked.min_score, asked.top)?.within(deadline);
    let found = terms.run(shared, files, whose).await.map_err(|mut problem| {
        if problem.status == 504 && deadline < MOST_TIMEOUT {
            problem.detail.push_str("; the parameter `timeout`, in microseconds, gives it more time");
        }
        problem
    })?;
    Ok((asked, found))
}

fn json_length(headers: &HeaderMap) -> Result<Option<usize>, Problem> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|value| value.trim().parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_body("Inference-Header-Content-Length is no number"))
}

/// The image as a file, if it is not too large.
fn file(image: Image, largest: usize) -> Result<Bytes, Problem> {
    let (what, size) = match &image {
        Image::File(file) => ("bytes".to_owned(), file.len()),
        Image::Pixels { width, height, rgb } => (format!("bytes ({width}×{height}×3)"), rgb.len()),
    };
    if size > largest {
        let detail = format!(
            "an image has {size} {what}, at most {largest} may come; send it as a JPEG, or scale it down"
        );
        return Err(Problem::too_large(detail));
    }
    // As a PNG, pixels may be a little larger.
    Ok(match image {
        Image::File(file) => file,
        Image::Pixels { width, height, rgb } => png::png(width, height, &rgb),
    })
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
    Ok(answer::write(model.id.as_str(), asked.id.as_deref(), &tensors, &asked.outputs))
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
