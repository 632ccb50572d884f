//! `POST /v1/classify`: one image in, what it shows out; and `POST /predict`, the same for clients of the existing call.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
};
use cloudpose_wire::{
    Class, Event, ModelId, Output, SharedEvent, Task, Want,
    frame::{MOST_TOP, USUAL_TOP},
};
use serde::{Deserialize, Serialize};

use crate::{
    doors::{
        Problem,
        http::{ImageFile, PoseForm, PoseRequest, Received, receive},
    },
    settings::{DEFAULT_QUALITY, check_model},
    shared::Shared,
    still::Still,
};

/// The query of `POST /v1/classify`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ClassifyQuery {
    /// The model to run, one of `GET /v1/models` that tells classes. Absent: the first of them.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    model: Option<ModelId>,
    /// How many classes to tell, those with the highest scores; 5 if absent.
    #[param(minimum = 1, maximum = 1000)]
    top: Option<u16>,
}

/// What the existing call answers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Prediction {
    /// The class with the highest score.
    predict: String,
}

/// Tells what an image shows.
#[utoipa::path(
    post, path = "/v1/classify", tag = "classify", params(ClassifyQuery),
    request_body(
        description = "One JPEG, PNG or WebP image: raw, as field `file` of a form, or in JSON.",
        content(
            (ImageFile = "image/jpeg"), (ImageFile = "image/png"), (ImageFile = "image/webp"),
            (PoseForm = "multipart/form-data"), (PoseRequest = "application/json"),
        ),
    ),
    responses(
        (status = 200, body = Event, description = "The classes by falling score, from 0 to 1."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query or the body was not understood."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No worker serves the model, or one that tells classes."),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The model finds something else than classes."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The image is larger than the server takes."),
        (status = 415, body = Problem, content_type = "application/problem+json",
            description = "Not a content type for images."),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "The image cannot be read, or is missing."),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "A quota is used up, as the problem says: come again after `Retry-After` seconds. Or the \
                client's address has too many connections."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "Too much work is waiting: come again after `Retry-After` seconds."),
        (status = 504, body = Problem, content_type = "application/problem+json",
            description = "Not done in time."),
    ),
)]
pub(crate) async fn classify(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<ClassifyQuery>, QueryRejection>,
    request: Request,
) -> Result<Json<SharedEvent>, Problem> {
    let Query(ClassifyQuery { model, top }) = query?;
    let top = top.unwrap_or(USUAL_TOP);
    if !(1..=MOST_TOP).contains(&top) {
        return Err(Problem::bad_query(format!("top is {top}; use 1 to {MOST_TOP}")));
    }
    let model = classifier(&shared, model)?;
    let (event, _) = run(&shared, model, top, request).await?;
    Ok(Json(event))
}

/// Tells the class that an image shows (the existing call).
#[utoipa::path(
    post, path = "/predict", tag = "existing API",
    request_body(description = "One JPEG, PNG or WebP image as field `file`.",
        content((PoseForm = "multipart/form-data"))),
    responses(
        (status = 200, body = Prediction, description = "The class with the highest score."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The body was not understood."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No worker serves a model that tells classes."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The image is larger than the server takes."),
        (status = 415, body = Problem, content_type = "application/problem+json",
            description = "Not a content type for images."),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "The image cannot be read, or is missing."),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "A quota is used up, as the problem says: come again after `Retry-After` seconds. Or the \
                client's address has too many connections."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "Too much work is waiting: come again after `Retry-After` seconds."),
        (status = 504, body = Problem, content_type = "application/problem+json",
            description = "Not done in time."),
    ),
)]
pub(crate) async fn predict(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Json<Prediction>, Problem> {
    let model = classifier(&shared, None)?;
    let (_, classes) = run(&shared, model, 1, request).await?;
    let first = classes.into_iter().next().ok_or_else(|| Problem::failed("the model told no class"))?;
    Ok(Json(Prediction { predict: first.label }))
}

/// The model that is asked for, if it tells classes; that of the settings, or else the first one that does, if none is
/// asked for.
fn classifier(shared: &Shared, asked: Option<ModelId>) -> Result<ModelId, Problem> {
    let served = shared.models.list();
    let tells_classes = |id: &ModelId| {
        let known = served.iter().find(|model| model.id == *id);
        known.map(|model| matches!(model.task, Task::Classify { .. }))
    };
    if let Some(model) = asked {
        check_model(&model, &shared.models)?;
        return match tells_classes(&model) {
            Some(false) => Err(Problem::other_task(format!("{model} finds poses; use POST /v1/pose"))),
            // What is not known yet may tell them; if it does not, its event says so.
            Some(true) | None => Ok(model),
        };
    }
    if let Some(configured) = &shared.config.model
        && tells_classes(configured) == Some(true)
    {
        return Ok(configured.clone());
    }
    let first = served.iter().find(|model| matches!(model.task, Task::Classify { .. }));
    let none = || Problem::unknown_model("no worker serves a model that tells classes");
    first.map(|model| model.id.clone()).ok_or_else(none)
}

/// Has the image of a request looked at, and says what it shows.
async fn run(
    shared: &Shared,
    model: ModelId,
    top: u16,
    request: Request,
) -> Result<(SharedEvent, Vec<Class>), Problem> {
    let Received { id, image, caller, guest, trace, seat: _seat } = receive(shared, request).await?;
    let still = Still {
        id,
        image,
        want: Want::Pose,
        draw: shared.config.draw_only.unwrap_or_default(),
        model,
        quality: DEFAULT_QUALITY,
        min_score: shared.config.min_score,
        top,
        deadline: shared.config.still_deadline,
        caller,
        guest,
        trace,
    };
    let event = still.run(shared).await?.event;
    let found =
        event.event().map_err(|error| Problem::failed(format!("the worker's answer is none: {error}")))?;
    let classes = match &found.output {
        Output::Classes(classes) => classes.clone(),
        Output::Poses { .. } => {
            return Err(Problem::other_task(format!("{} finds poses; use POST /v1/pose", found.model)));
        }
    };
    Ok((event, classes))
}
