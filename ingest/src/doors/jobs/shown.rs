//! A job as clients see it.

use cloudpose_wire::{Draw, DropReason, ModelId, Want};
use serde::Serialize;

use super::callbacks::CallbackStatus;
use crate::jobs::document::{About, ItemFailure, State, Video};

/// How far a job is.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct JobStatus {
    /// Its name.
    #[schema(value_type = String)]
    id: String,
    /// Whether it is begun, or done.
    #[schema(inline)]
    state: Progress,
    /// Images that were handed in; frames of a video that are looked at, as many as its file says until all are known.
    items: u32,
    /// Images that have a result.
    done: u32,
    /// Those of them of which nothing could be made.
    failed: u32,
    /// From 0 to 1.
    progress: f64,
    /// The first 100 images of which nothing could be made, in order. All of them are among the results.
    errors: Vec<ItemError>,
    #[schema(value_type = String)]
    model: ModelId,
    #[schema(inline)]
    want: Want,
    #[schema(inline)]
    draw: Draw,
    /// The video, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    video: Option<Video>,
    /// Milliseconds since 1970-01-01T00:00:00Z, as all times here.
    created_at: u64,
    /// When it was begun.
    began_at: Option<u64>,
    /// When the last image had its result.
    finished_at: Option<u64>,
    /// When it is removed, with all that belongs to it.
    expires_at: u64,
    /// What has become of its callback, if it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    callback: Option<CallbackStatus>,
}

/// Whether a job is begun, or done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Progress {
    /// Nobody works on it yet.
    Waiting,
    /// Some images have no result.
    Running,
    /// All images have results.
    Done,
}

/// An image of which nothing could be made.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = JobItemError)]
pub(crate) struct ItemError {
    /// Which image, from 1.
    item: u32,
    /// What its sender calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// A word for programs.
    reason: DropReason,
    /// In words.
    detail: String,
}

impl JobStatus {
    pub(crate) fn new(state: &State, about: &About) -> Self {
        let error = |ItemFailure { item, failure }: &ItemFailure| ItemError {
            item: *item,
            name: about.name(*item),
            reason: failure.reason,
            detail: failure.detail.clone(),
        };
        Self {
            id: about.job.to_string(),
            state: match (state.began_at, state.finished_at) {
                (_, Some(_)) => Progress::Done,
                (Some(_), None) => Progress::Running,
                (None, None) => Progress::Waiting,
            },
            items: state.items,
            done: state.ended,
            failed: state.failed,
            progress: f64::from(state.ended) / f64::from(state.items.max(1)),
            errors: state.failures.iter().map(error).collect(),
            model: about.settings.model.clone(),
            want: about.settings.want,
            draw: about.settings.draw,
            video: about.video,
            created_at: state.created_at,
            began_at: state.began_at,
            finished_at: state.finished_at,
            expires_at: state.expires_at,
            callback: CallbackStatus::new(state),
        }
    }
}
