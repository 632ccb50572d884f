//! Cameras that the gateway fetches: `GET` and `POST /v1/cameras`, `GET`, `PATCH` and `DELETE /v1/cameras/{stream}`.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Extension, Path, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use cloudpose_wire::{ModelId, StreamName, Want};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned};
use tokio::time::timeout;

use crate::{
    auth::Pass,
    cameras::{Address, Change, Refused, Report, Wishes},
    doors::Problem,
    settings::check_model,
    shared::Shared,
};

/// Of a body, in bytes.
const MOST_BYTES: usize = 16 << 10;
/// Frames a second that can be asked for.
const RATES: std::ops::RangeInclusive<f32> = 0.1..=120.0;

/// A camera that is to be fetched.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewCamera {
    /// The stream that its frames are of: 1 to 64 letters, digits, `-`, `_`.
    #[schema(value_type = String, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    stream: StreamName,
    /// `rtsp://`, `http://` or `https://`, with user and password if the camera asks for them.
    #[schema(example = "rtsp://user:password@cam.example.com/stream1", min_length = 1)]
    url: String,
    /// The model to run, one of `GET /v1/models`; the server's if absent.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    model: Option<ModelId>,
    /// At most so many frames a second are worked on; all if absent.
    #[schema(minimum = 0.1, maximum = 120)]
    fps: Option<f32>,
    /// What is made of each frame though nobody watches: `pose` (default), `overlay` or `both`.
    #[serde(default)]
    #[schema(inline)]
    want: Want,
}

/// What is to be changed; what is absent stays as it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CameraChange {
    /// Another address, whole: passwords are not taken over from the one before.
    #[schema(min_length = 1)]
    url: Option<String>,
    /// Another model.
    #[schema(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    model: Option<ModelId>,
    /// Another rate; `null`: all frames.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<f32>, minimum = 0.1, maximum = 120)]
    fps: Option<Option<f32>>,
    /// Something else is to be made of each frame.
    #[schema(inline)]
    want: Option<Want>,
}

/// What is `null` is there all the same.
fn given<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Option<f32>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// The cameras that are fetched.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CameraList {
    /// By the names of their streams.
    cameras: Vec<Report>,
}

/// Lists the cameras that are fetched, and how they are doing.
#[utoipa::path(get, path = "/v1/cameras", tag = "cameras",
    responses((status = 200, body = CameraList, description = "The cameras, without their passwords.")))]
pub(crate) async fn list(State(shared): State<Arc<Shared>>, Extension(pass): Extension<Pass>) -> Response {
    let cameras = shared.cameras.list(&shared, &pass.caller.tenant).await;
    ([(header::CACHE_CONTROL, "no-store")], Json(CameraList { cameras })).into_response()
}

/// Fetches another camera from now on.
#[utoipa::path(post, path = "/v1/cameras", tag = "cameras", request_body = NewCamera,
    responses(
        (status = 201, body = Report, description = "It is fetched from now on.",
            headers(("location" = String, description = "Where to ask how it is doing."))),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The body was not understood, or the address may not be fetched."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No worker serves this model."),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The stream has a camera already, or there are as many as there may be."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too large."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The server is going away, or cannot tell the others of the camera now."),
    ))]
pub(crate) async fn add(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
    body: Body,
) -> Result<Response, Problem> {
    let NewCamera { stream, url, model, fps, want } = read(&shared, body).await?;
    if shared.stopping.is_cancelled() {
        return Err(Problem::shutting_down());
    }
    let address: Address = url.parse().map_err(Problem::bad_address)?;
    model.as_ref().map_or(Ok(()), |model| check_model(model, &shared.models))?;
    check_rate(fps)?;
    let wishes = Wishes { model, fps, want };
    let location = format!("/v1/cameras/{stream}");
    let camera = shared.cameras.add(&shared, pass.caller, stream, (address, wishes)).await?;
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(camera)).into_response())
}

/// Tells how a camera is doing.
#[utoipa::path(get, path = "/v1/cameras/{stream}", tag = "cameras",
    params(("stream" = String, Path, description = "Name of the stream.")),
    responses(
        (status = 200, body = Report, description = "The camera, without its password."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No camera is fetched for this stream."),
    ))]
pub(crate) async fn get(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
    Path(stream): Path<String>,
) -> Result<Response, Problem> {
    let camera = shared.cameras.get(&shared, &pass.caller.tenant, &named(&stream)?).await?;
    Ok(([(header::CACHE_CONTROL, "no-store")], Json(camera)).into_response())
}

/// Changes a camera, from the next frame on. With another address it is connected to anew.
#[utoipa::path(patch, path = "/v1/cameras/{stream}", tag = "cameras", request_body = CameraChange,
    params(("stream" = String, Path, description = "Name of the stream.")),
    responses(
        (status = 200, body = Report, description = "The camera as it is now."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The body was not understood, or the address may not be fetched."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No camera is fetched for this stream, or no worker serves this model."),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The camera is from the gateway's command line."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The body is too large."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The server is going away, or cannot tell the others of the camera now."),
    ))]
pub(crate) async fn change(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
    Path(stream): Path<String>,
    body: Body,
) -> Result<Response, Problem> {
    let stream = named(&stream)?;
    let CameraChange { url, model, fps, want } = read(&shared, body).await?;
    let address = url.map(|url| url.parse()).transpose().map_err(|why: String| Problem::bad_address(why))?;
    model.as_ref().map_or(Ok(()), |model| check_model(model, &shared.models))?;
    check_rate(fps.flatten())?;
    let change = Change { address, model, fps, want };
    let camera = shared.cameras.change(&shared, (&pass.caller.tenant, &stream), change).await?;
    Ok(Json(camera).into_response())
}

/// Fetches a camera no more.
#[utoipa::path(delete, path = "/v1/cameras/{stream}", tag = "cameras",
    params(("stream" = String, Path, description = "Name of the stream.")),
    responses(
        (status = 204, description = "It is fetched no more."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No camera is fetched for this stream."),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The camera is from the gateway's command line."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The other gateways cannot be told now: come again later."),
    ))]
pub(crate) async fn remove(
    State(shared): State<Arc<Shared>>,
    Extension(pass): Extension<Pass>,
    Path(stream): Path<String>,
) -> Result<StatusCode, Problem> {
    shared.cameras.remove(&shared, &pass.caller.tenant, &named(&stream)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn named(stream: &str) -> Result<StreamName, Problem> {
    StreamName::new(stream).map_err(|error| Problem::no_camera(error.to_string()))
}

fn check_rate(fps: Option<f32>) -> Result<(), Problem> {
    match fps {
        Some(fps) if !RATES.contains(&fps) => {
            Err(Problem::bad_body(format!("fps is {fps}; use {} to {}", RATES.start(), RATES.end())))
        }
        _ => Ok(()),
    }
}

/// Reads a body. What is wrong with it is said by the names of fields: values may be secret.
async fn read<T: DeserializeOwned>(shared: &Shared, body: Body) -> Result<T, Problem> {
    let whole = timeout(shared.config.receive_timeout, to_bytes(body, MOST_BYTES)).await;
    let whole = whole.map_err(|_| Problem::slow_body("the body was not complete in time"))?;
    let whole = whole.map_err(|_| {
        Problem::too_large(format!("the body has more than {MOST_BYTES} bytes, or breaks off"))
    })?;
    serde_json::from_slice(&whole).map_err(|error| {
        Problem::bad_body(format!(
            "{error}; send JSON like {{\"stream\":\"door\",\"url\":\"rtsp://user:password@host/path\"}}"
        ))
    })
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let detail = refused.to_string();
        match refused {
            Refused::Exists(_) => Self::camera_exists(detail),
            Refused::Address(_) => Self::bad_address(detail),
            Refused::TooMany(_) => Self::too_many_cameras(detail),
            Refused::Unknown(_) => Self::no_camera(detail),
            Refused::Operators(_) => Self::fixed_camera(detail),
            Refused::NotKept(_) => Self::unavailable(detail),
        }
    }
}
