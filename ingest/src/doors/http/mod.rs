//! `POST /v1/pose`: one image in, its poses or the annotated picture out.

pub(crate) mod body;
mod negotiation;

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use cloudpose_policy::quota::Resource;
use cloudpose_wire::{Caller, Draw, Event, ModelId, StreamName, TraceParent, Want, frame::USUAL_TOP};
use serde::Deserialize;
use tokio::time::Instant;

use self::negotiation::{Media, negotiate};
use crate::{
    auth::Pass,
    config::PHOTO_MODEL,
    doors::{Problem, trace_of},
    listener::Line,
    quotas::Guest,
    seats::Occupied,
    settings::{DEFAULT_QUALITY, check_draw, check_model, check_quality},
    shared::{Shared, token_of},
    still::Still,
};

/// The query of `POST /v1/pose`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PoseQuery {
    /// The model to run, one of `GET /v1/models`.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    model: Option<ModelId>,
    /// How the picture is drawn: `overlay` (default), `skeleton` (on a plain ground), `redacted` (heads are covered) or
    /// `frame` (nothing is drawn).
    #[param(inline)]
    draw: Option<Draw>,
    /// JPEG quality of the annotated picture, 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    quality: Option<u8>,
    /// Persons below this score are not reported, 0 to 1.
    #[param(minimum = 0, maximum = 1)]
    min_score: Option<f32>,
}

/// An image in JSON.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `body::upload` reads")]
pub(crate) struct PoseRequest {
    /// Comes back as `stream`: 1 to 64 letters, digits, `-` or `_`. Made up if absent.
    #[schema(pattern = "^[A-Za-z0-9_-]{1,64}$")]
    id: Option<String>,
    /// The image file (JPEG, PNG or WebP) in base64.
    #[schema(content_encoding = "base64")]
    image: String,
}

/// An image in a form.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `body::upload` reads")]
pub(crate) struct PoseForm {
    /// The image file (JPEG, PNG or WebP).
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
}

/// The bytes of an image file.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "describes raw bodies")]
pub(crate) struct ImageFile(Vec<u8>);

/// An image that a client sent, and whose it is.
pub(crate) struct Received {
    pub(crate) id: StreamName,
    pub(crate) image: Bytes,
    pub(crate) caller: Caller,
    pub(crate) guest: Guest,
    pub(crate) trace: Option<TraceParent>,
    /// Held until the answer is with the client.
    pub(crate) seat: Occupied,
}

/// A request that has its seat.
pub(crate) struct Seated<T> {
    /// Whose quotas it uses.
    pub(crate) guest: Guest,
    /// Held until the answer is with the client.
    pub(crate) seat: Occupied,
    pub(crate) body: T,
}

/// Takes a seat once the body is there, of so many `bytes`: who only begins to send keeps nobody from theirs. If there is
/// none to be had, or its quotas are used up, a body need not be sent.
pub(crate) async fn seated<T>(
    shared: &Shared,
    caller: &Caller,
    line: Option<Line>,
    body: impl Future<Output = Result<T, Problem>>,
    bytes: impl Fn(&T) -> usize,
) -> Result<Seated<T>, Problem> {
    let guest = shared.guest(caller, line.as_ref());
    let now = || Instant::now().into_std();
    guest.may_come(now())?;
    let body = if shared.seats.any() { Some(body.await?) } else { None };
    let sent = body.as_ref().map_or(0, |body| bytes(body) as u64);
    guest.came(now(), sent);
    shared.leftovers.sent(&caller.tenant, sent, now());
    let photo = guest.begin(Resource::Photos)?;
    let seat = shared.seats.take(caller).ok_or_else(Problem::no_room)?.counting(photo);
    let seat = Occupied::new(seat, line);
    body.map(|body| Seated { guest, seat, body }).ok_or_else(Problem::no_room)
}

/// Takes the image of a request, if there is room for it.
pub(crate) async fn receive(shared: &Shared, request: Request) -> Result<Received, Problem> {
    let Pass { caller, .. } = Pass::of(request.extensions());
    let trace = trace_of(request.headers());
    let line = request.extensions().get().cloned();
    let Seated { guest, seat, body: upload } =
        seated(shared, &caller, line, body::upload(request, &body::Bounds::of(shared)), |upload| {
            upload.image.len()
        })
        .await?;
    let body::Upload { id, image } = upload;
    let id = match id {
        Some(id) => StreamName::new(&id).map_err(|error| Problem::bad_id(error.to_string()))?,
        None => token_of("still"),
    };
    Ok(Received { id, image, caller, guest, trace, seat })
}

/// Finds the poses in one image.
///
/// Answers the poses as JSON, or the annotated JPEG for `Accept: image/jpeg`.
#[utoipa::path(
    post, path = "/v1/pose", tag = "pose", params(PoseQuery),
    request_body(
        description = "One JPEG, PNG or WebP image: raw, as field `file` of a form, or in JSON.",
        content(
            (ImageFile = "image/jpeg"), (ImageFile = "image/png"), (ImageFile = "image/webp"),
            (PoseForm = "multipart/form-data"), (PoseRequest = "application/json"),
        ),
    ),
    responses(
        (status = 200, description = "The poses, or the picture with the skeletons drawn on it.",
            content((Event = "application/json"), (ImageFile = "image/jpeg"))),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query or the body was not understood."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No worker serves the model; the problem lists those that are served."),
        (status = 406, body = Problem, content_type = "application/problem+json",
            description = "Neither JSON nor JPEG is accepted."),
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
pub(crate) async fn pose(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<PoseQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let Query(PoseQuery { model, draw, quality, min_score }) = query?;
    let draw = check_draw(draw, shared.config.draw_only)?;
    let quality = quality.unwrap_or(DEFAULT_QUALITY);
    check_quality(quality)?;
    let min_score = min_score.unwrap_or(shared.config.min_score);
    if !(0.0..=1.0).contains(&min_score) {
        return Err(Problem::bad_query(format!("min_score is {min_score}; use 0 to 1")));
    }
    if let Some(model) = &model {
        check_model(model, &shared.models)?;
    }
    let media = negotiate(request.headers())
        .ok_or_else(|| Problem::not_acceptable("accept application/json or image/jpeg"))?;

    let Received { id, image, caller, guest, trace, seat: _seat } = receive(&shared, request).await?;
    let want = match media {
        Media::Json => Want::Pose,
        Media::Jpeg => Want::Overlay,
    };
    let model = model.unwrap_or_else(|| shared.default_model(PHOTO_MODEL));
    let (top, deadline) = (USUAL_TOP, shared.config.still_deadline);
    let still =
        Still { id, image, want, draw, model, quality, min_score, top, deadline, caller, guest, trace };
    let done = still.run(&shared).await?;
    let mut response = match media {
        Media::Json => Json(done.event).into_response(),
        Media::Jpeg => {
            let jpeg = done.overlay.ok_or_else(|| Problem::failed("the worker sent no picture"))?;
            ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response()
        }
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}
