//! The images of a job, or its video, taken from its request and put into the store one after the other.

use std::time::Duration;

use axum::{
    extract::{FromRequest as _, Multipart, Request, multipart::Field},
    http::StatusCode,
};
use bytes::{Bytes, BytesMut};
use cloudpose_store::Store;
use cloudpose_wire::JobId;
use futures_util::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::{
    doors::{
        Problem,
        http::body::{self, Bounds},
        jobs::{of_store, video},
    },
    jobs::{
        Config,
        document::{Item, Video, item_key},
    },
};

/// How long nothing may come of an upload.
pub(super) const PAUSE: Duration = Duration::from_secs(15);
/// How long a whole upload may take.
pub(super) const LONGEST: Duration = Duration::from_secs(30 * 60);
/// How long, and how much, a client may go on sending that is told that it need not. One that is cut off while it
/// sends does not see the answer.
pub(super) const LAST: Duration = Duration::from_secs(5);
pub(super) const DISCARD: usize = 64 << 20;
/// Longest name of an image that is kept, in characters.
const NAME: usize = 200;

/// Images in a form.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "describes what `upload` reads")]
pub(crate) struct JobForm {
    /// The image files (JPEG, PNG or WebP), each a field of this name; or one video.
    #[schema(value_type = Vec<String>, format = Binary)]
    file: Vec<Vec<u8>>,
}

/// What was uploaded.
#[derive(Debug)]
pub(super) struct Uploaded {
    pub(super) items: Vec<Item>,
    /// In the place of images.
    pub(super) video: Option<Video>,
    /// Of all that came.
    pub(super) digest: Sha256,
}

/// Takes the images of a request into the store: fields `file` of a form, or a raw one; or the video in
/// such a field, of which `fps` frames a second are asked for.
pub(super) async fn upload(
    request: Request,
    store: &Store,
    upload: &JobId,
    (config, fps): (&Config, Option<f64>),
    bounds: &Bounds,
) -> Result<Uploaded, Problem> {
    let mut taking = Taking {
        store,
        upload,
        config,
        fps,
        bounds,
        uploaded: Uploaded { items: Vec::new(), video: None, digest: Sha256::new() },
        bytes: 0,
    };
    let (parts, body) = request.into_parts();
    match body::content_type(&parts.headers).as_deref() {
        Some("image/jpeg" | "image/jpg" | "image/png" | "image/webp") => {
            let image = body::read(&parts.headers, body, bounds.max_image_bytes, bounds).await?;
            taking.take(None, image).await?;
        }
        Some("multipart/form-data") => {
            let form = Multipart::from_request(Request::from_parts(parts, body), &()).await;
            let mut form = form.map_err(|rejection| Problem::bad_body(rejection.body_text()))?;
            let stopping = bounds.stopping.clone();
            let taken = tokio::select! {
                taken = timeout(LONGEST, taking.take_all(&mut form)) => {
                    taken.unwrap_or_else(|_| Err(slow("not complete", LONGEST)))
                }
                () = stopping.cancelled() => Err(Problem::shutting_down()),
            };
            if let Err(problem) = taken {
                // Whether it ends or not, it is answered.
                timeout(LAST, discard(form)).await.ok();
                return Err(problem);
            }
        }
        other => {
            return Err(Problem::unsupported_content_type(format!(
                "content type is {}; use multipart/form-data with a field `file` for each image, image/jpeg, image/png or \
                 image/webp for one, or video/mp4 for a video",
                other.unwrap_or("missing")
            )));
        }
    }
    if taking.uploaded.items.is_empty() && taking.uploaded.video.is_none() {
        return Err(Problem::missing_image("the form has no field `file`"));
    }
    Ok(taking.uploaded)
}

struct Taking<'a> {
    store: &'a Store,
    upload: &'a JobId,
    config: &'a Config,
    fps: Option<f64>,
    bounds: &'a Bounds,
    uploaded: Uploaded,
    bytes: u64,
}

impl Taking<'_> {
    async fn take_all(&mut self, form: &mut Multipart) -> Result<(), Problem> {
        loop {
            let field = timeout(PAUSE, form.next_field()).await.map_err(|_| slow("nothing came", PAUSE))?;
            let Some(field) = field.map_err(|error| broken(&error))? else { return Ok(()) };
            if field.name() != Some("file") {
                // A word or two: more of it than of an image is refused.
                self.read(field).await?;
                continue;
            }
            let is_video = field.content_type().is_some_and(video::is_kind);
            if self.uploaded.video.is_some() || is_video && !self.uploaded.items.is_empty() {
                return Err(Problem::bad_body(
                    "a video is a job of its own; hand in one at a time, or images",
                ));
            }
            if is_video {
                let pieces = field.map_err(|error| broken(&error));
                let (video, digest) =
                    video::take(pieces, self.store, self.upload, self.config.max_video_bytes).await?;
                (self.uploaded.video, self.uploaded.digest) = (Some(video), digest);
                continue;
            }
            if self.uploaded.items.len() >= self.config.max_job_items as usize {
                return Err(Problem::too_large(format!(
                    "more than {} images; hand them in as several jobs",
                    self.config.max_job_items
                )));
            }
            let name = field.file_name().filter(|name| !name.is_empty());
            let name = name.map(|name| name.chars().take(NAME).collect());
            let image = timeout(self.bounds.patience, self.read(field)).await;
            let image = image.map_err(|_| slow("an image was not complete", self.bounds.patience))??;
            self.take(name, image).await?;
        }
    }

    async fn read(&self, mut field: Field<'_>) -> Result<Bytes, Problem> {
        let mut share = self.bounds.unfinished.share();
        let mut whole = BytesMut::new();
        loop {
            let chunk = timeout(PAUSE, field.chunk()).await.map_err(|_| slow("nothing came", PAUSE))?;
            let Some(chunk) = chunk.map_err(|error| broken(&error))? else { return Ok(whole.freeze()) };
            if whole.len() + chunk.len() > self.bounds.max_image_bytes {
                return Err(Problem::too_large(format!(
                    "an image has more than {} bytes; scale it down or compress it more",
                    self.bounds.max_image_bytes
                )));
            }
            if !share.hold((whole.len() + chunk.len()) as u64) {
                return Err(Problem::unavailable("too much is being sent at once; try again in a moment"));
            }
            whole.extend_from_slice(&chunk);
        }
    }

    async fn take(&mut self, name: Option<String>, image: Bytes) -> Result<(), Problem> {
        if self.fps.is_some() {
            return Err(Problem::bad_query(
                "fps is for videos, which are handed in as video/mp4 and the like",
            ));
        }
        let bytes = image.len() as u64;
        self.bytes += bytes;
        if self.bytes > self.config.max_job_bytes {
            return Err(Problem::too_large(format!(
                "more than {} bytes of images; hand them in as several jobs",
                self.config.max_job_bytes
            )));
        }
        self.uploaded.digest.update(bytes.to_le_bytes());
        self.uploaded.digest.update(&image);
        self.uploaded.items.push(Item { name, bytes });
        let item = u32::try_from(self.uploaded.items.len()).unwrap_or(u32::MAX);
        self.store.put(&item_key(self.upload, item), image).await.map_err(|error| of_store(&error))
    }
}

async fn discard(mut form: Multipart) {
    let mut discarded = 0;
    while let Ok(Some(mut field)) = form.next_field().await {
        while let Ok(Some(chunk)) = field.chunk().await {
            discarded += chunk.len();
            if discarded > DISCARD {
                return;
            }
        }
    }
}

pub(super) fn slow(what: &str, after: Duration) -> Problem {
    Problem::slow_body(format!("{what} after {} s", after.as_secs()))
}

fn broken(error: &axum::extract::multipart::MultipartError) -> Problem {
    debug_assert_ne!(error.status(), StatusCode::PAYLOAD_TOO_LARGE, "bodies have no other limit than ours");
    Problem::bad_body(error.body_text())
}
