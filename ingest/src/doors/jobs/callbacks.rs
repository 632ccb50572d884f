//! Callbacks of jobs, as clients ask for them and see them.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};

use super::{JobStatus, asked_for, no_job, of, of_store};
use crate::{
    auth::Pass,
    doors::Problem,
    jobs::{Callback, CallbackState, Jobs, document},
    shared::Shared,
};

/// What has become of a job's callback.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobCallback)]
pub(crate) struct CallbackStatus {
    /// Whether it is waiting to be sent or sent again, delivered, or given up.
    #[schema(inline)]
    state: CallbackState,
    /// How often it was tried.
    tries: u32,
    /// Why the last try was none.
    last_error: Option<String>,
    /// When it is tried next, if that is known, in milliseconds since 1970-01-01T00:00:00Z.
    next_try_at: Option<u64>,
}

impl CallbackStatus {
    pub(super) fn new(state: &document::State) -> Option<Self> {
        let Callback { state: is, tries, last_error, .. } = state.callback.as_ref()?;
        let next_try_at = state.callback_due();
        Some(Self { state: *is, tries: *tries, last_error: last_error.clone(), next_try_at })
    }
}

/// The query of `GET /v1/jobs`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListQuery {
    /// Only jobs whose callback is so.
    #[param(inline)]
    callback: Option<CallbackState>,
}

/// Jobs.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct JobList {
    /// The newest first.
    jobs: Vec<JobStatus>,
}

/// Lists jobs: the newest hundred, or the newest hundred whose callback is so.
#[utoipa::path(
    get, path = "/v1/jobs", tag = "jobs", operation_id = "list_jobs", params(ListQuery),
    responses(
        (status = 200, body = JobList, description = "Those of who asks."),
        (status = 400, body = Problem, content_type = "application/problem+json",
            description = "The query was not understood."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
    ),
)]
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    query: Result<Query<ListQuery>, QueryRejection>,
    Extension(pass): Extension<Pass>,
) -> Result<Json<JobList>, Problem> {
    let Query(ListQuery { callback: wanted }) = query?;
    let is_wanted = |state: &document::State| {
        wanted.is_none_or(|wanted| state.callback.as_ref().is_some_and(|callback| callback.state == wanted))
    };
    let found = of(&shared)?.list(&pass.caller.tenant, is_wanted).await.map_err(|error| of_store(&error))?;
    Ok(Json(JobList { jobs: found.iter().map(|found| JobStatus::new(&found.state, &found.about)).collect() }))
}

/// Sends a job's callback again, whatever has become of it.
///
/// The receiver sees the same `webhook-id`.
#[utoipa::path(
    post, path = "/v1/jobs/{job}/callback", tag = "jobs", operation_id = "call_again",
    params(("job" = String, Path, description = "The job.")),
    responses(
        (status = 202, body = JobStatus, description = "It is tried at once, and again as if it had never been."),
        (status = 404, body = Problem, content_type = "application/problem+json",
            description = "There is no such job, or its time is over."),
        (status = 409, body = Problem, content_type = "application/problem+json",
            description = "The job is not done yet, or was handed in without a callback."),
        (status = 501, body = Problem, content_type = "application/problem+json",
            description = "The server was started without a store, or without a secret for callbacks."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "The store cannot be used now: come again after `Retry-After` seconds."),
    ),
)]
pub(crate) async fn again(
    State(shared): State<Arc<Shared>>,
    Path(job): Path<String>,
    Extension(pass): Extension<Pass>,
) -> Result<(StatusCode, Json<JobStatus>), Problem> {
    let found = asked_for(&shared, &job, &pass.caller).await?;
    let jobs = of(&shared)?;
    if found.state.callback.is_none() {
        return Err(Problem::no_callback("the job was handed in without ?callback="));
    }
    if !found.state.is_finished() {
        return Err(Problem::no_callback("the job is not done; its callback is sent when it is"));
    }
    let callbacks = jobs.callbacks().ok_or_else(none_are_sent)?;
    let found = callbacks.again(jobs, found).await.map_err(|error| of_store(&error))?.ok_or_else(no_job)?;
    Ok((StatusCode::ACCEPTED, Json(JobStatus::new(&found.state, &found.about))))
}

/// The callback that a job is handed in with.
pub(super) fn asked(jobs: &Jobs, url: Option<&str>) -> Result<Option<Callback>, Problem> {
    let Some(url) = url else { return Ok(None) };
    let callbacks = jobs.callbacks().ok_or_else(none_are_sent)?;
    callbacks.to(url).map(Some).map_err(Problem::bad_callback)
}

fn none_are_sent() -> Problem {
    Problem::no_callbacks("this server sends no callbacks; start it with --callback-secret-file FILE")
}
