//! `/v1/jobs`: images, or a video, that are handed in, and whose results are fetched later.

pub(crate) mod callbacks;
mod form;
pub(super) mod room;
mod shown;
mod video;

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::{Bytes, BytesMut};
use cloudpose_store::Error;
use cloudpose_wire::{Caller, Draw, JobId, ModelId, Tenant, Want};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

pub(crate) use self::{form::JobForm, shown::JobStatus, video::VideoFile};
use crate::{
    auth::Pass,
    config::PHOTO_MODEL,
    doors::{
        Problem,
        http::{
            ImageFile,
            body::{self, Bounds},
        },
    },
    jobs::{
        Callback, Found, HandedIn, Jobs, Thumbnail,
        document::{About, Line, Settings, State as JobState, Video, item_key, overlay_key, thumbnail_key},
    },
    metrics,
    settings::{DEFAULT_QUALITY, check_draw, check_model, check_quality},
    shared::{Shared, token_of},
};

/// Two requests with the same value hand in one job.
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// Longest value of it, in characters.
const LONGEST_KEY: usize = 255;
/// Lines of results in one answer, unless fewer are asked for.
const MOST_LINES: u32 = 100;
/// An answer ends with the line that makes it so long.
const MOST_BYTES: usize = 8 << 20;

/// The query of `POST /v1/jobs`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobQuery {
    /// The model to run, one of `GET /v1/models`.
    #[param(value_type = Option<String>, pattern = "^[A-Za-z0-9_-]{1,64}$")]
    model: Option<ModelId>,
    /// What is wanted of each image: `pose` (default), `overlay` (the annotated picture) or `both`.
    #[param(inline)]
    want: Option<Want>,
    /// How pictures are drawn: `overlay` (default), `skeleton` (on a plain ground), `redacted` (heads are covered) or
    /// `frame` (nothing is drawn).
    #[param(inline)]
    draw: Option<Draw>,
    /// JPEG quality of annotated pictures, 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    quality: Option<u8>,
    /// Persons below this score are not reported, 0 to 1.
    #[param(minimum = 0, maximum = 1)]
    min_score: Option<f32>,
    /// An address (http or https) that is called with `POST` when the job is done, as Standard Webhooks have it.
    #[param(max_length = 2048)]
    callback: Option<String>,
    /// Frames a second of a video that are looked at, 0.01 to 120; all, if absent. Not for images.
    #[param(minimum = 0.01, maximum = 120)]
    fps: Option<f64>,
}

/// The query of `GET /v1/jobs/{job}/results`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ResultsQuery {
    /// Tell of images after this one; 0 if absent.
    #[param(value_type = u64)]
    after: u32,
    /// Tell of at most so many; 100 if absent, which is the most.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
}

/// Hands in a job: one or many images, or a video.
///
/// The frames of a video are the items of its job. Once it is answered with 202 no death of a process loses it. `Location` says where it is told of.
#[utoipa::path(
    post, path = "/v1/jobs", tag = "jobs",
    params(JobQuery, ("Idempotency-Key" = Option<String>, Header, pattern = "^[!-~]{1,255}$",
        description = "Requests with the same value and the same images hand in one job, so that one whose answer was lost can be sent again.")),
    request_body(
        description = "JPEG, PNG or WebP images, each a field `file` of a form; or one of them raw. Or a video, in such a field whose type is `video/…`, or raw.",
        content(
            (JobForm = "multipart/form-data"), (ImageFile = "image/jpeg"), (ImageFile = "image/png"),
            (ImageFile = "image/webp"), (VideoFile = "video/mp4"),
        ),
    ),
    responses(
        (status = 202, body = JobStatus, description = "Handed in.",
            headers(("Location" = String, description = "Where the job is told of."))),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query or the body was not understood, or the callback's address may not be called."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "No worker serves the model; the problem lists those that are served."),
        (status = 408, body = Problem, content_type = "application/problem+json",
            description = "The body took too long to arrive."),
        (status = 413, body = Problem, content_type = "application/problem+json",
            description = "Too many images, or too large ones, or too large a video."),
        (status = 415, body = Problem, content_type = "application/problem+json",
            description = "Not a content type for images or videos."),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "There is no image, or the idempotency key is that of another job."),
        (status = 429, body = Problem, content_type = "application/problem+json",
            description = "There are as many jobs, or bytes of them, as a tenant may have, or the client's address has too many connections."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store, or without a secret for callbacks."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
        (status = 507, body = Problem, content_type = "application/problem+json",
            description = "The store has no room left."),
    ),
)]
pub(crate) async fn hand_in(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<JobQuery>, QueryRejection>,
    request: Request,
) -> Result<Response, Problem> {
    let jobs = of(&shared)?;
    let Query(query) = query?;
    let wanted = Wanted { fps: query.fps, callback: callbacks::asked(jobs, query.callback.as_deref())? };
    let settings = settings(&shared, query)?;
    let Pass { caller, .. } = Pass::of(request.extensions());
    let key = idempotency_key(request.headers())?;
    let (about, state) = take(&shared, jobs, &caller, (settings, wanted), key, request).await?;
    let location = format!("/v1/jobs/{}", about.job);
    let status = JobStatus::new(&state, &about);
    Ok((StatusCode::ACCEPTED, [(header::LOCATION, location)], Json(status)).into_response())
}

/// What is wanted of a job as a whole.
struct Wanted {
    fps: Option<f64>,
    callback: Option<Callback>,
}

/// Puts the images of a request, or its video, into the store, and makes a job of them.
async fn take(
    shared: &Shared,
    jobs: &Jobs,
    caller: &Caller,
    (settings, Wanted { fps, callback }): (Settings, Wanted),
    key: Option<String>,
    request: Request,
) -> Result<(Arc<About>, JobState), Problem> {
    let job = match &key {
        Some(key) => named_by(&caller.tenant, key),
        None => token_of("job"),
    };
    // One that is there already takes no more room.
    let is_known = key.is_some() && find(jobs, &caller.tenant, &job).await?.is_some();
    let is_video = video::is_one(request.headers());
    let guest = shared.guest(caller, None);
    if !is_known {
        // The form around images is longer than they are.
        let announced = body::announced(request.headers()).filter(|_| is_video);
        room::check(jobs, &guest, announced.unwrap_or_default()).await?;
    }
    let mut upload = room::begin(jobs)?;
    let (store, bounds) = (jobs.store(), Bounds::of(shared));
    let (items, video, digest) = if is_video {
        let (video, digest) =
            video::upload(request, store, upload.name(), jobs.config().max_video_bytes, &bounds).await?;
        (Vec::new(), Some(video), digest)
    } else {
        let form::Uploaded { items, video, digest } =
            form::upload(request, store, upload.name(), (jobs.config(), fps), &bounds).await?;
        (items, video, digest)
    };
    let video = video.map(|video| Video { fps, ..video });
    let digest = key.is_some().then(|| {
        let wanted = match &video {
            Some(video) => serde_json::to_vec(&(&settings, video)),
            None => serde_json::to_vec(&settings),
        };
        let callback = callback.as_ref().map_or("", |callback| &callback.url);
        hex(&digest.chain_update(wanted.unwrap_or_default()).chain_update(callback).finalize())
    });
    let about = Arc::new(About { job: job.clone(), caller: caller.clone(), settings, items, video });
    if !is_known {
        upload.has(room::hold(jobs, &guest, about.bytes()).await?);
    }
    let handed_in = jobs.hand_in(about, upload, digest.clone(), callback).await;
    let handed_in = handed_in.map_err(|error| of_store(&error))?;
    let Found { state, about } = match handed_in {
        HandedIn::New(made) => made,
        HandedIn::Known(known) if known.digest != digest => {
            return Err(Problem::key_reused(
                "this Idempotency-Key is that of another job; use a new one for other images or settings",
            ));
        }
        HandedIn::Known(_) => find(jobs, &caller.tenant, &job).await?.ok_or_else(no_job)?,
    };
    Ok((about, state))
}

/// Tells how far a job is.
#[utoipa::path(
    get, path = "/v1/jobs/{job}", tag = "jobs", params(("job" = String, Path, description = "The job.")),
    responses(
        (status = 200, body = JobStatus, description = "How far it is."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "There is no such job, or its time is over."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
    ),
)]
pub(crate) async fn status(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
    Extension(pass): Extension<Pass>,
) -> Result<Json<JobStatus>, Problem> {
    let Found { state, about } = asked_for(&shared, &job, &pass.caller).await?;
    Ok(Json(JobStatus::new(&state, &about)))
}

/// Removes a job with its images and results. What is not done is not begun.
#[utoipa::path(
    delete, path = "/v1/jobs/{job}", tag = "jobs", params(("job" = String, Path, description = "The job.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "There is no such job, or its time is over."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
    ),
)]
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
    Extension(pass): Extension<Pass>,
) -> Result<StatusCode, Problem> {
    let jobs = of(&shared)?;
    let job = JobId::new(&job).map_err(|_| no_job())?;
    match jobs.delete(&pass.caller.tenant, &job).await {
        Ok(true) => Ok(StatusCode::NO_CONTENT),
        Ok(false) => Err(no_job()),
        Err(error) => Err(of_store(&error)),
    }
}

/// Tells what became of the images, or of the frames of a video: lines of JSON.
///
/// They are in their order, up to the first that is not done. `Link` says where to go on.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/results", tag = "jobs",
    params(("job" = String, Path, description = "The job."), ResultsQuery),
    responses(
        (status = 200, content((Line = "application/jsonl")), description = "A line for each image.",
            headers(("Link" = String, description = "With `rel=\"next\"`: where to go on. Absent when nothing follows."))),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query was not understood."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "There is no such job, or its time is over."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
    ),
)]
pub(crate) async fn results(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
    query: Result<Query<ResultsQuery>, QueryRejection>,
    Extension(pass): Extension<Pass>,
) -> Result<Response, Problem> {
    let Query(ResultsQuery { after, limit }) = query?;
    let limit = limit.unwrap_or(MOST_LINES);
    if !(1..=MOST_LINES).contains(&limit) {
        return Err(Problem::bad_query(format!("limit is {limit}; use 1 to {MOST_LINES}")));
    }
    let Found { state, about } = asked_for(&shared, &job, &pass.caller).await?;
    let jobs = of(&shared)?;
    let (mut lines, mut told) = (BytesMut::new(), after);
    while told < state.items && told - after < limit && lines.len() < MOST_BYTES {
        let line = jobs.result(&state.upload, told + 1).await.map_err(|error| of_store(&error))?;
        let Some(line) = line else { break };
        lines.extend_from_slice(&line);
        lines.extend_from_slice(b"\n");
        told += 1;
    }
    let mut response =
        ([(header::CONTENT_TYPE, "application/jsonl")], Body::from(lines.freeze())).into_response();
    // How many frames a video has is known at its end.
    if told < state.items || about.video.is_some() && !state.is_finished() {
        let next = format!("</v1/jobs/{}/results?after={told}&limit={limit}>; rel=\"next\"", about.job);
        let next = HeaderValue::from_str(&next).expect("letters, digits and signs make a header");
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

/// An image of a job with the skeletons drawn on it.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/items/{item}/overlay", tag = "jobs",
    params(("job" = String, Path, description = "The job."), ("item" = u32, Path, description = "The image, from 1.")),
    responses(
        (status = 200, content((ImageFile = "image/jpeg")), description = "The annotated picture."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "There is no such job or image, it is not done, or no picture was wanted."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
    ),
)]
pub(crate) async fn overlay(
    State(shared): State<Arc<Shared>>,
    Path((job, item)): Path<(String, String)>,
    Extension(pass): Extension<Pass>,
) -> Result<Response, Problem> {
    let Found { state, about } = asked_for(&shared, &job, &pass.caller).await?;
    let item = item_of(&item, &state)?;
    if !about.settings.want.overlay() {
        return Err(Problem::no_picture(
            "no pictures were wanted of this job; hand it in with want=overlay or both",
        ));
    }
    if shared.config.draw_only.is_some_and(|only| about.settings.draw != only) {
        return Err(drawn_otherwise());
    }
    let jobs = of(&shared)?;
    // Its result is written last: without one the picture is not told of.
    let picture = match jobs.result(&state.upload, item).await {
        Ok(Some(_)) => jobs.store().get(&overlay_key(&state.upload, item)).await,
        not_done => not_done,
    };
    let picture: Option<Bytes> = picture.map_err(|error| of_store(&error))?;
    let picture = picture
        .ok_or_else(|| Problem::no_picture(format!("there is no picture of image {item}: see its result")))?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], picture).into_response())
}

/// A small picture of an image of a job: at most 200×200 pixels.
#[utoipa::path(
    get, path = "/v1/jobs/{job}/items/{item}/thumbnail", tag = "jobs",
    params(("job" = String, Path, description = "The job."), ("item" = u32, Path, description = "The image, from 1.")),
    responses(
        (status = 200, content((ImageFile = "image/jpeg")), description = "The picture."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "There is no such job or image, or no picture of it may be shown yet."),
        (status = 422, body = Problem, content_type = "application/problem+json",
            description = "The image cannot be read."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
    ),
)]
pub(crate) async fn thumbnail(
    State(shared): State<Arc<Shared>>,
    Path((job, item)): Path<(String, String)>,
    Extension(pass): Extension<Pass>,
) -> Result<Response, Problem> {
    let found = asked_for(&shared, &job, &pass.caller).await?;
    let item = item_of(&item, &found.state)?;
    let thumbnail = thumbnail_of(&shared, of(&shared)?, &found, item).await?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg")], thumbnail.jpeg).into_response())
}

/// Makes a thumbnail: of the image, or where images may only be shown as they are drawn, of that picture.
pub(super) async fn thumbnail_of(
    shared: &Shared,
    jobs: &Jobs,
    Found { state, about }: &Found,
    item: u32,
) -> Result<Thumbnail, Problem> {
    let key = match shared.config.draw_only {
        None if about.video.is_some() => thumbnail_key(&state.upload, item),
        None => item_key(&state.upload, item),
        Some(only) if about.settings.draw == only => overlay_key(&state.upload, item),
        Some(_) => return Err(drawn_otherwise()),
    };
    let image = jobs.store().get(&key).await.map_err(|error| of_store(&error))?;
    let none = || Problem::no_picture(format!("there is no picture of image {item} that may be shown"));
    let image = image.ok_or_else(none)?;
    let made = jobs.thumbnail(image).await;
    made.map_err(|error| Problem::undecodable(error.to_string()))
}

/// What a query asks for, if it is to be had.
fn settings(shared: &Shared, query: JobQuery) -> Result<Settings, Problem> {
    let JobQuery { model, want, draw, quality, min_score, fps, callback: _ } = query;
    let draw = check_draw(draw, shared.config.draw_only)?;
    let quality = quality.unwrap_or(DEFAULT_QUALITY);
    check_quality(quality)?;
    let min_score = min_score.unwrap_or(shared.config.min_score);
    if !(0.0..=1.0).contains(&min_score) {
        return Err(Problem::bad_query(format!("min_score is {min_score}; use 0 to 1")));
    }
    if let Some(fps) = fps.filter(|fps| !(0.01..=120.0).contains(fps)) {
        return Err(Problem::bad_query(format!("fps is {fps}; use 0.01 to 120")));
    }
    if let Some(model) = &model {
        check_model(model, &shared.models)?;
    }
    let model = model.unwrap_or_else(|| shared.default_model(PHOTO_MODEL));
    Ok(Settings { model, want: want.unwrap_or_default(), draw, quality, min_score })
}

/// The jobs of this gateway, if it has a store.
pub(super) fn of(shared: &Shared) -> Result<&Jobs, Problem> {
    let none =
        || Problem::no_store("this server keeps no jobs; start it with --store DIR, a folder for them");
    shared.jobs.as_ref().ok_or_else(none)
}

async fn find(jobs: &Jobs, tenant: &Tenant, job: &JobId) -> Result<Option<Found>, Problem> {
    jobs.find(tenant, job).await.map_err(|error| of_store(&error))
}

/// The job in a request's address, if it is one of who asks.
async fn asked_for(shared: &Shared, job: &str, caller: &Caller) -> Result<Found, Problem> {
    let jobs = of(shared)?;
    let job = JobId::new(job).map_err(|_| no_job())?;
    find(jobs, &caller.tenant, &job).await?.ok_or_else(no_job)
}

fn item_of(text: &str, state: &JobState) -> Result<u32, Problem> {
    let item = text.parse().ok().filter(|item| (1..=state.items).contains(item));
    item.ok_or_else(|| Problem::no_job(format!("the job has images 1 to {}", state.items)))
}

/// The job may be older than the rule.
fn drawn_otherwise() -> Problem {
    Problem::no_picture("this gateway shows no picture that is drawn so")
}

fn no_job() -> Problem {
    Problem::no_job("there is no job of this name, or its time is over")
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(value) = headers.get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = value.to_str().ok().filter(|key| (1..=LONGEST_KEY).contains(&key.len()));
    let bad =
        || Problem::bad_query(format!("Idempotency-Key must be 1 to {LONGEST_KEY} visible ASCII characters"));
    key.map(|key| Some(key.to_owned())).ok_or_else(bad)
}

/// The job that a tenant means by an idempotency key.
fn named_by(tenant: &Tenant, key: &str) -> JobId {
    let digest = Sha256::new().chain_update(tenant.as_str()).chain_update([0]).chain_update(key).finalize();
    JobId::new(&format!("job-{}", &hex(&digest)[..32])).expect("hexadecimal digits make a token")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How a client is told that the store failed. The path stays here.
pub(super) fn of_store(error: &Error) -> Problem {
    metrics::store_failed();
    tracing::warn!(%error, "a client's job could not be read or written");
    if error.is_full() {
        Problem::no_room_for_jobs()
    } else {
        Problem::store_unavailable("the store of jobs cannot be used now; try again in a moment")
    }
}
