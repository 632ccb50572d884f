//! The calls of the existing image service, kept for its clients: `POST /upload` and `GET /status/{image_id}`.
//!
//! An upload is a job of one image ([`jobs`]), which `/v1/jobs` tells of too. Errors are `{"error": …}`: 404 for what
//! is not there, 400 for what is wrong with a request.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use cloudpose_wire::{JobId, Want};
use serde::Serialize;

use crate::{
    auth::Pass,
    config::PHOTO_MODEL,
    doors::{
        Problem,
        http::{PoseForm, body},
        jobs::{self, of_store, room},
    },
    jobs::{
        Found, Jobs,
        document::{About, Item, Line, Settings, item_key},
    },
    settings::DEFAULT_QUALITY,
    shared::{Shared, token_of},
};

/// An image was taken.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ImageUploaded)]
pub(crate) struct Uploaded {
    message: &'static str,
    /// Under this name it is asked for.
    image_id: String,
    /// What taking it took, in seconds.
    duration: f64,
}

/// How far an image is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ImageStatus)]
pub(crate) struct Status {
    image_id: String,
    /// `processing`, `completed` or `failed`.
    status: &'static str,
    /// Null while it is processed.
    result: Option<Outcome>,
    /// When that was over, as RFC 3339 writes times; null before.
    processed_at: Option<String>,
}

/// What became of an image.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ImageOutcome)]
pub(crate) struct Outcome {
    success: bool,
    /// A JPEG of at most 200×200 pixels in base64; null without success.
    thumbnail: Option<String>,
    /// Width and height in pixels.
    original_size: Option<[usize; 2]>,
    /// Width and height in pixels.
    thumbnail_size: Option<[usize; 2]>,
}

/// How the existing service says that something is wrong.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = ImageError)]
pub(crate) struct Rejection {
    #[serde(skip)]
    status: u16,
    /// What is wrong, in words.
    error: String,
}

/// Takes an image (the existing image service).
#[utoipa::path(
    post, path = "/upload", tag = "existing API",
    request_body(description = "One JPEG, PNG or WebP image as field `file`.",
        content((PoseForm = "multipart/form-data"))),
    responses(
        (status = 200, body = Uploaded, description = "It is taken, and no death of a process loses it."),
        (status = 400, body = Rejection, description = "There is no image, or it cannot be read."),
        (status = 429, body = Rejection, description = "There are as many jobs, or bytes of them, as a tenant may have."),
        (status = 501, body = Rejection, description = "The server was started without a store."),
        (status = 503, body = Rejection, description = "It cannot be taken now."),
        (status = 507, body = Rejection, description = "The store has no room left."),
    ),
)]
pub(crate) async fn upload(
    State(shared): State<Arc<Shared>>,
    Extension(Pass { caller, .. }): Extension<Pass>,
    request: Request,
) -> Result<Json<Uploaded>, Rejection> {
    let begun = Instant::now();
    let jobs = jobs::of(&shared)?;
    let guest = shared.guest(&caller, None);
    room::check(jobs, &guest, 0).await?;
    let body::Upload { image, .. } = body::upload(request, &body::Bounds::of(&shared)).await?;
    cloudpose_pixels::probe(&image, cloudpose_pixels::Limits::default())
        .map_err(|error| Problem::undecodable(error.to_string()))?;
    let draw_only = shared.config.draw_only;
    let about = About {
        job: token_of("job"),
        caller,
        settings: Settings {
            model: shared.default_model(PHOTO_MODEL),
            // Where images may only be shown as they are drawn, the thumbnail is one of that.
            want: if draw_only.is_some() { Want::Overlay } else { Want::Pose },
            draw: draw_only.unwrap_or_default(),
            quality: DEFAULT_QUALITY,
            min_score: shared.config.min_score,
        },
        items: vec![Item { name: None, bytes: image.len() as u64 }],
        video: None,
    };
    let image_id = about.job.to_string();
    let mut upload = room::begin(jobs)?;
    upload.has(room::hold(jobs, &guest, about.bytes()).await?);
    let handed_in = async {
        jobs.store().put(&item_key(upload.name(), 1), image).await?;
        jobs.hand_in(Arc::new(about), upload, None, None).await
    };
    handed_in.await.map_err(|error| of_store(&error))?;
    let message = "Image uploaded";
    Ok(Json(Uploaded { message, image_id, duration: begun.elapsed().as_secs_f64() }))
}

/// Tells how far an image is (the existing image service).
#[utoipa::path(
    get, path = "/status/{image_id}", operation_id = "image_status", tag = "existing API",
    params(("image_id" = String, Path, description = "As `POST /upload` told it.")),
    responses(
        (status = 200, body = Status, description = "How far it is, and its thumbnail."),
        (status = 404, body = Rejection, description = "There is no such image, or its time is over."),
        (status = 501, body = Rejection, description = "The server was started without a store."),
        (status = 503, body = Rejection, description = "The store cannot be used now."),
    ),
)]
pub(crate) async fn status(
    State(shared): State<Arc<Shared>>,
    Extension(Pass { caller, .. }): Extension<Pass>,
    Path(image_id): Path<String>,
) -> Result<Json<Status>, Rejection> {
    let jobs = jobs::of(&shared)?;
    let found = match JobId::new(&image_id) {
        Ok(job) => jobs.find(&caller.tenant, &job).await.map_err(|error| of_store(&error))?,
        Err(_) => None,
    };
    let found = found.ok_or_else(|| Problem::no_job("there is no image of this id, or its time is over"))?;
    let Some(finished_at) = found.state.finished_at else {
        return Ok(Json(Status { image_id, status: "processing", result: None, processed_at: None }));
    };
    let outcome = outcome(&shared, jobs, &found).await?;
    let processed_at = SystemTime::UNIX_EPOCH + Duration::from_millis(finished_at);
    Ok(Json(Status {
        image_id,
        status: if outcome.success { "completed" } else { "failed" },
        result: Some(outcome),
        processed_at: Some(humantime::format_rfc3339_millis(processed_at).to_string()),
    }))
}

async fn outcome(shared: &Shared, jobs: &Jobs, found: &Found) -> Result<Outcome, Problem> {
    let result = jobs.result(&found.state.upload, 1).await.map_err(|error| of_store(&error))?;
    let line: Option<Line> = result.and_then(|line| serde_json::from_slice(&line).ok());
    if line.is_none_or(|line| line.error.is_some()) {
        return Ok(Outcome { success: false, thumbnail: None, original_size: None, thumbnail_size: None });
    }
    let thumbnail = jobs::thumbnail_of(shared, jobs, found, 1).await?;
    let mut text = String::new();
    body::encode_base64(&thumbnail.jpeg, &mut text);
    Ok(Outcome {
        success: true,
        thumbnail: Some(text),
        original_size: Some(thumbnail.original),
        thumbnail_size: Some(thumbnail.size),
    })
}

impl From<Problem> for Rejection {
    fn from(Problem { status, detail, .. }: Problem) -> Self {
        // It knows no other status for what clients do wrong.
        let status = if matches!(status, 402 | 405..=428) { 400 } else { status };
        Self { status, error: detail }
    }
}

impl IntoResponse for Rejection {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, Json(self)).into_response()
    }
}
