//! `POST /v1/pose`: one image in, its poses or the annotated picture out.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use cloudpose_wire::{Class, ModelId, Person, StreamName, Want, event::TimingsMs};
use serde::Deserialize;

use crate::{
    body,
    gateway::{App, token_of, trace_of},
    problem::{Problem, unknown_model},
    session::DEFAULT_QUALITY,
    still::Still,
};

/// The query of `POST /v1/pose`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PoseQuery {
    /// The model to run, one of `GET /v1/models`.
    #[param(value_type = Option<String>)]
    model: Option<ModelId>,
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
    id: Option<String>,
    /// The image file (JPEG, PNG or WebP) in base64.
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

/// What was found in one frame.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `Event` writes")]
pub(crate) struct PoseEvent {
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
    device: String,
    /// Whose keypoints the persons have. Absent: COCO's 17.
    #[schema(nullable = false)]
    skeleton: Option<String>,
    /// Persons by falling score. Absent if the model tells classes.
    #[schema(nullable = false)]
    persons: Option<Vec<Person>>,
    /// What the picture shows, by falling score, if the model tells classes.
    #[schema(nullable = false)]
    classes: Option<Vec<Class>>,
    /// Where the time went.
    timings_ms: TimingsMs,
}

/// What the client can be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Json,
    Jpeg,
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
            content((PoseEvent = "application/json"), (ImageFile = "image/jpeg"))),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query or the body was not understood."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No worker serves the model; the problem lists those that are served."),
        (status = 406, body = Problem, content_type = "application/problem+json",
            description = "Neither JSON nor JPEG is accepted."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "The image is larger than the server takes."),
        (status = 415, body = Problem, content_type = "application/problem+json",
            description = "Not a content type for images."),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "The image cannot be read, or is missing."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "Too much work is waiting: come again after `Retry-After` seconds."),
        (status = 504, body = Problem, content_type = "application/problem+json",
            description = "Not done in time."),
    ),
)]
pub(crate) async fn pose(
    State(app): State<Arc<App>>,
    query: Result<Query<PoseQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let query = query.map_err(|rejection| {
        Problem::bad_query(rejection.body_text().replace("Failed to deserialize query string: ", ""))
    })?;
    let Query(PoseQuery { model, quality, min_score }) = query;
    let quality = quality.unwrap_or(DEFAULT_QUALITY);
    if !(1..=100).contains(&quality) {
        return Err(Problem::bad_query(format!("quality is {quality}; use 1 to 100")));
    }
    let min_score = min_score.unwrap_or(app.config.min_score);
    if !(0.0..=1.0).contains(&min_score) {
        return Err(Problem::bad_query(format!("min_score is {min_score}; use 0 to 1")));
    }
    if let Some(model) = model.as_ref().filter(|model| !app.models.may_be_served(model)) {
        return Err(Problem::unknown_model(unknown_model(model, &app.models)));
    }
    let answer = negotiate(request.headers())
        .ok_or_else(|| Problem::not_acceptable("accept application/json or image/jpeg"))?;

    let trace = trace_of(request.headers());
    let _seat = app.seat().ok_or_else(Problem::no_room)?;
    let upload = body::upload(request, app.config.max_image_bytes).await?;
    let id = match upload.id.as_deref() {
        Some(id) => StreamName::new(id).map_err(|error| Problem::bad_id(error.to_string()))?,
        None => token_of("still"),
    };
    let want = match answer {
        Answer::Json => Want::Pose,
        Answer::Jpeg => Want::Overlay,
    };
    let model = model.unwrap_or_else(|| app.config.model.clone());
    let still = Still { id, image: upload.image, want, model, quality, min_score, trace };
    let done = still.answer(&app).await?;
    let mut response = match answer {
        Answer::Json => Json(done.event).into_response(),
        Answer::Jpeg => {
            let jpeg = done.overlay.ok_or_else(|| Problem::failed("the worker sent no picture"))?;
            ([(header::CONTENT_TYPE, "image/jpeg")], jpeg).into_response()
        }
    };
    response.headers_mut().insert(header::VARY, HeaderValue::from_static("accept"));
    Ok(response)
}

/// Chooses by the `Accept` header (RFC 9110, section 12.5.1): the higher weight wins, then the more exact
/// wish, then JSON. `None` if neither is acceptable.
fn negotiate(headers: &HeaderMap) -> Option<Answer> {
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        ranges.extend(value.to_str().ok()?.split(','));
    }
    if ranges.iter().all(|range| range.trim().is_empty()) {
        return Some(Answer::Json);
    }
    let json = weight(&ranges, ["application/json", "application/*", "*/*"]);
    let jpeg = weight(&ranges, ["image/jpeg", "image/*", "*/*"]);
    match (json, jpeg) {
        (None, None) => None,
        (json, jpeg) if jpeg > json => Some(Answer::Jpeg),
        _ => Some(Answer::Json),
    }
}

/// The weight in thousandths that `ranges` give to a type, and how exactly they name it (2, 1 or 0), where
/// `names` are the type's own name and the wildcards that hold it. The most exact name decides. `None` if
/// it is not accepted.
fn weight(ranges: &[&str], names: [&str; 3]) -> Option<(u16, u8)> {
    for (name, exactness) in names.into_iter().zip([2, 1, 0]) {
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            if !parts.next().is_some_and(|range| range.eq_ignore_ascii_case(name)) {
                continue;
            }
            let q = parts.find_map(|p| p.strip_prefix("q=").or(p.strip_prefix("Q=")));
            let q = q.map_or(1.0, |q| q.parse().unwrap_or(0.0f32).clamp(0.0, 1.0));
            return (q > 0.0).then_some(((q * 1000.0) as u16, exactness));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(accept: Option<&str>) -> Option<Answer> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        negotiate(&headers)
    }

    #[test]
    fn accept_header_chooses() {
        use Answer::{Jpeg, Json};
        for (accept, expected) in [
            (None, Some(Json)),
            (Some(""), Some(Json)),
            (Some("*/*"), Some(Json)),
            (Some("image/jpeg"), Some(Jpeg)),
            (Some("IMAGE/JPEG"), Some(Jpeg)),
            (Some("image/*"), Some(Jpeg)),
            (Some("image/jpeg, */*"), Some(Jpeg)),
            (Some("image/jpeg;q=0.5, application/json"), Some(Json)),
            (Some("image/jpeg; q=0.9, application/json;q=0.8"), Some(Jpeg)),
            (Some("application/json, image/jpeg"), Some(Json)),
            (Some("image/jpeg;q=0, */*"), Some(Json)),
            (Some("application/json;q=0, */*"), Some(Jpeg)),
            (Some("text/html, */*;q=0.1"), Some(Json)),
            (Some("text/html"), None),
            (Some("image/png"), None),
            (Some("image/jpeg;q=0"), None),
            (Some("image/jpeg;q=x"), None),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept:?}");
        }
    }
}
