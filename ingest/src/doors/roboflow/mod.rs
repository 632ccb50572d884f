//! The calls that programs on Roboflow's inference-sdk make, for key points, boxes and classes.
//!
//! Images come in JSON as base64. Each person is a prediction of the class `person`, with its box by its centre. Errors
//! are `{"message": "…"}`, with the status that the native API gives them.

mod answer;
mod request;

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use cloudpose_wire::{ModelInfo, Task, frame::MOST_TOP};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use self::{
    answer::{Answer, Kind},
    request::{Asked, Images, Named},
};
use crate::{
    auth::Denied,
    doors::{Problem, Received, Terms, find_model, http::body, receive},
    shared::Shared,
};

/// Of a body that names a model and no image, in bytes.
const SHORT_BODY: usize = 16 << 10;

/// The addresses.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/info", get(info))
        .route("/model/registry", get(registry))
        .route("/model/add", post(add))
        .route("/model/remove", post(remove))
        .route("/model/clear", post(clear))
        .route("/infer/keypoints_detection", post(keypoints))
        .route("/infer/object_detection", post(objects))
        .route("/infer/classification", post(classes))
}

/// A problem, as clients of these calls read it.
#[derive(Debug)]
pub(crate) struct Refused(Problem);

impl<P: Into<Problem>> From<P> for Refused {
    fn from(problem: P) -> Self {
        Self(problem.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0.respond("application/json", json!({ "message": self.0.detail }).to_string())
    }
}

/// Whether an address is one of these calls'.
pub(crate) fn is_below(path: &str) -> bool {
    ["/model/", "/infer/"].iter().any(|folder| path.starts_with(folder))
}

/// Why somebody is not let in, as one can change it with the SDK, which puts keys into addresses unless told otherwise.
pub(crate) fn about_keys(why: String) -> String {
    if why != Denied::NoKey.to_string() {
        return why;
    }
    why + "; the SDK does with client.configure(InferenceConfiguration(api_key_transport=\"header\"))"
}

/// Describes the server (inference-sdk).
#[utoipa::path(get, path = "/info", tag = "inference-sdk",
    responses((status = 200, body = Object, description = "Name, version and identity.")))]
pub(crate) async fn info(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(json!({ "name": "cloudpose", "version": env!("CARGO_PKG_VERSION"), "uuid": shared.id }))
}

/// Lists the models that workers serve (inference-sdk).
#[utoipa::path(get, path = "/model/registry", tag = "inference-sdk",
    responses((status = 200, body = Object, description = "Their names and tasks.")))]
pub(crate) async fn registry(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let entry = |model: Arc<ModelInfo>| {
        let task = match model.task {
            Task::Pose { .. } => "keypoint-detection",
            Task::Classify { .. } => "classification",
        };
        json!({ "model_id": model.id, "task_type": task, "batch_size": null, "input_height": null, "input_width": null })
    };
    Json(json!({ "models": shared.models.list().into_iter().map(entry).collect::<Vec<_>>() }))
}

/// Asks for a model to be there (inference-sdk).
///
/// Workers load what their folder of models has, by themselves; nothing is loaded by this call.
#[utoipa::path(post, path = "/model/add", operation_id = "add_model", tag = "inference-sdk",
    request_body(description = "`model_id`.", content((Named = "application/json"))),
    responses(
        (status = 200, body = Object, description = "It is there: the list of models."),
        (status = 400, body = Message, description = "The body was not understood."),
        (status = 404, body = Message, description = "It is not: put it into the workers' folder of models."),
        (status = 408, body = Message, description = "The body took too long to arrive."),
        (status = 413, body = Message, description = "The body is too large."),
        (status = 503, body = Message, description = "Too much is being sent, or no worker is there: come again after `Retry-After` seconds."),
    ))]
pub(crate) async fn add(State(shared): State<Arc<Shared>>, request: Request) -> Result<Json<Value>, Refused> {
    let (parts, body) = request.into_parts();
    let body = body::read(&parts.headers, body, SHORT_BODY, &body::Bounds::of(&shared)).await?;
    find_model(&shared, &Named::read(&body)?)?;
    Ok(registry(State(shared)).await)
}

/// Refuses to unload a model (inference-sdk): other clients may use it.
#[utoipa::path(post, path = "/model/remove", operation_id = "remove_model", tag = "inference-sdk",
    responses((status = 409, body = Message, description = "Take it out of the workers' folder of models instead.")))]
pub(crate) async fn remove() -> Refused {
    Problem::kept("models stay until they are taken out of the folder of the workers' --model-dir").into()
}

/// Refuses to unload all models (inference-sdk): other clients may use them.
#[utoipa::path(post, path = "/model/clear", tag = "inference-sdk",
    responses((status = 409, body = Message, description = "Take them out of the workers' folder of models instead.")))]
pub(crate) async fn clear() -> Refused {
    remove().await
}

/// What the three calls answer.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "describes what `infer` answers")]
enum Answers {
    /// What was found.
    #[response(status = 200)]
    Found(Found),
    /// The request was not understood.
    #[response(status = 400)]
    NotUnderstood(Message),
    /// No worker serves the model.
    #[response(status = 404)]
    Unknown(Message),
    /// The body took too long to arrive.
    #[response(status = 408)]
    Slow(Message),
    /// The model finds something else.
    #[response(status = 409)]
    Other(Message),
    /// Too many or too large images.
    #[response(status = 413)]
    Large(Message),
    /// An image cannot be read, or is missing.
    #[response(status = 422)]
    Undecodable(Message),
    /// A quota is used up, or the client's address has too many connections: come again after `Retry-After` seconds.
    #[response(status = 429)]
    OverQuota(Message),
    /// Too much work is waiting: come again after `Retry-After` seconds.
    #[response(status = 503)]
    Busy(Message),
    /// Not done in time.
    #[response(status = 504)]
    Late(Message),
}

/// What was found in an image, or in each of a list of images.
#[derive(Serialize, utoipa::ToSchema)]
#[serde(untagged)]
#[schema(as = InferenceFound)]
pub(crate) enum Found {
    /// The image came alone.
    One(Answer),
    /// They came as a list.
    Many(Vec<Answer>),
}

/// What was wrong, and what to do.
#[derive(utoipa::ToSchema)]
#[schema(as = InferenceMessage)]
#[expect(dead_code, reason = "describes what `Refused` answers")]
pub(crate) struct Message {
    message: String,
}

/// Finds persons and their key points (inference-sdk).
#[utoipa::path(post, path = "/infer/keypoints_detection", tag = "inference-sdk",
    request_body = Images, responses(Answers))]
pub(crate) async fn keypoints(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Found>, Refused> {
    Ok(infer(&shared, request, Kind::Keypoints).await?)
}

/// Finds persons and their boxes (inference-sdk).
#[utoipa::path(post, path = "/infer/object_detection", tag = "inference-sdk",
    request_body = Images, responses(Answers))]
pub(crate) async fn objects(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Found>, Refused> {
    Ok(infer(&shared, request, Kind::Boxes).await?)
}

/// Tells what images show (inference-sdk).
#[utoipa::path(post, path = "/infer/classification", tag = "inference-sdk",
    request_body = Images, responses(Answers))]
pub(crate) async fn classes(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Found>, Refused> {
    Ok(infer(&shared, request, Kind::Classes).await?)
}

async fn infer(shared: &Shared, request: Request, kind: Kind) -> Result<Json<Found>, Problem> {
    let began = Instant::now();
    let Received { body, whose, seat: _seat } = receive(shared, request).await?;
    let largest = shared.config.max_image_bytes;
    let asked = tokio::task::spawn_blocking(move || request::read(&body, largest))
        .await
        .map_err(|_| Problem::failed("the request could not be read"))??;
    let Asked { model, images, one, confidence, keep } = asked;
    let model = find_model(shared, &model)?;
    kind.goes_with(&model)?;
    // Of classes those that are sure enough are kept at the end, and all are told of before.
    let terms = Terms::of(shared, &model, confidence, (kind == Kind::Classes).then_some(MOST_TOP))?;
    let found = terms.run(shared, images, whose).await?;
    let mut answers = Vec::with_capacity(found.len());
    for event in &found {
        let event = event
            .event()
            .map_err(|error| Problem::failed(format!("the worker's answer is none: {error}")))?;
        answers.push(Answer::of(event, kind, &keep, &model, began.elapsed())?);
    }
    Ok(Json(match answers.pop() {
        Some(answer) if one => Found::One(answer),
        last => Found::Many(answers.into_iter().chain(last).collect()),
    }))
}
