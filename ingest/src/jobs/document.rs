//! What is written down of a job.
//!
//! ```text
//! documents/<tenant>.<job>        State: what changes, and what a list of jobs needs
//! jobs/<upload>/about             About: what was handed in
//! jobs/<upload>/items/<n>         the images, n from 1
//! jobs/<upload>/results/<n>       Line: what became of image n, written once
//! jobs/<upload>/overlays/<n>      its annotated JPEG, written before the result
//! jobs/<upload>/video             in the place of images: a video, whose frames are the items
//! jobs/<upload>/thumbnails/<n>    a small picture of frame n, written before the result
//! ```
//! The upload has a name of its own: a job with an idempotency key has a name that follows from it, and two clients
//! may hand it in at the same time. The bus knows the job by its upload.

use bytes::Bytes;
use cloudpose_policy::lease::Lease;
use cloudpose_tracks::Registry;
use cloudpose_wire::{Caller, Draw, DropReason, JobId, ModelId, SharedEvent, Tenant, Want};
use serde::{Deserialize, Serialize};

use super::callbacks::Callback;

/// How many failures stand in a job's state. All of them stand in its results.
pub(crate) const MOST_FAILURES: usize = 100;

/// What changes about a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) upload: JobId,
    /// Milliseconds since 1970-01-01T00:00:00Z, as all times here.
    pub(crate) created_at: u64,
    pub(crate) expires_at: u64,
    /// Of what was handed in, where two clients might mean the same job.
    pub(crate) digest: Option<String>,
    pub(crate) items: u32,
    /// Of what was handed in; 0 of jobs from before it was counted.
    #[serde(default)]
    pub(crate) bytes: u64,
    /// Items that have a result, good or bad.
    pub(crate) ended: u32,
    pub(crate) failed: u32,
    /// The first of them.
    pub(crate) failures: Vec<ItemFailure>,
    pub(crate) began_at: Option<u64>,
    pub(crate) finished_at: Option<u64>,
    /// Which gateway works on it, or sends its callback.
    pub(crate) lease: Option<Lease>,
    /// Who is to be called when it is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) callback: Option<Callback>,
    /// Of a video only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seen: Option<Seen>,
}

/// How far a video was looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// So many frames have results, from the first on.
    pub(crate) frames: u32,
    /// Who was there then.
    pub(crate) tracks: Registry,
}

/// What was handed in. It never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) job: JobId,
    pub(crate) caller: Caller,
    pub(crate) settings: Settings,
    pub(crate) items: Vec<Item>,
    /// In the place of images.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) video: Option<Video>,
}

/// A video whose frames are the items of a job.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = JobVideo)]
pub(crate) struct Video {
    pub(crate) bytes: u64,
    /// Frames a second that are looked at; all, if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fps: Option<f64>,
}

/// What is wanted of each image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) model: ModelId,
    pub(crate) want: Want,
    pub(crate) draw: Draw,
    pub(crate) quality: u8,
    pub(crate) min_score: f32,
}

/// An image of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// What its sender calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    pub(crate) bytes: u64,
}

/// Why there is no result of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = JobFailure)]
pub(crate) struct Failure {
    /// A word for programs.
    pub(crate) reason: DropReason,
    /// In words.
    pub(crate) detail: String,
}

/// Which image failed, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ItemFailure {
    pub(crate) item: u32,
    #[serde(flatten)]
    pub(crate) failure: Failure,
}

/// What became of an image: a line of the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = JobResult)]
pub(crate) struct Line {
    /// Which image, from 1.
    pub(crate) item: u32,
    /// What its sender calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// When the frame is shown, in seconds from the beginning of its video.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<f64>,
    /// What was found: as `POST /v1/pose` answers it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) event: Option<SharedEvent>,
    /// Why nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<Failure>,
}

/// Where a job's state lies.
pub(crate) fn state_name(tenant: &Tenant, job: &JobId) -> String {
    format!("{tenant}.{job}")
}

/// What the names of all states of a tenant begin with.
pub(crate) fn of_tenant(tenant: &Tenant) -> String {
    format!("{tenant}.")
}

/// Where all that was handed in with an upload lies.
pub(crate) fn folder(upload: &JobId) -> String {
    format!("jobs/{upload}")
}

pub(crate) fn about_key(upload: &JobId) -> String {
    format!("jobs/{upload}/about")
}

pub(crate) fn item_key(upload: &JobId, item: u32) -> String {
    format!("jobs/{upload}/items/{item}")
}

pub(crate) fn results(upload: &JobId) -> String {
    format!("jobs/{upload}/results")
}

pub(crate) fn result_key(upload: &JobId, item: u32) -> String {
    format!("jobs/{upload}/results/{item}")
}

pub(crate) fn overlay_key(upload: &JobId, item: u32) -> String {
    format!("jobs/{upload}/overlays/{item}")
}

pub(crate) fn video_key(upload: &JobId) -> String {
    format!("jobs/{upload}/video")
}

pub(crate) fn thumbnail_key(upload: &JobId, item: u32) -> String {
    format!("jobs/{upload}/thumbnails/{item}")
}

/// As it is written down.
pub(crate) fn written(what: &impl Serialize) -> Bytes {
    serde_json::to_vec(what).expect("strings, numbers and lists are JSON").into()
}

impl State {
    /// Whether nothing is left to do.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }
}

impl About {
    /// Bytes of what was handed in.
    pub(crate) fn bytes(&self) -> u64 {
        let items: u64 = self.items.iter().map(|item| item.bytes).sum();
        items + self.video.map_or(0, |video| video.bytes)
    }

    /// What the sender of an image calls it.
    pub(crate) fn name(&self, item: u32) -> Option<String> {
        let at = usize::try_from(item).ok()?.checked_sub(1)?;
        self.items.get(at)?.name.clone()
    }
}
