//! The video of a job, taken from its request and put into the store piece by piece.

use axum::{
    body::BodyDataStream,
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use cloudpose_store::{Store, Writer};
use cloudpose_wire::JobId;
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::form::{DISCARD, LAST, LONGEST, PAUSE, slow};
use crate::{
    doors::{
        Problem,
        http::body::{self, Bounds},
        jobs::of_store,
    },
    jobs::document::{Video, video_key},
};

/// A video.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
#[expect(dead_code, reason = "describes what `upload` reads")]
pub(crate) struct VideoFile(Vec<u8>);

/// Whether a request says that its body is a video.
pub(super) fn is_one(headers: &HeaderMap) -> bool {
    body::content_type(headers).is_some_and(|kind| is_kind(&kind))
}

/// Whether it is a content type of videos.
pub(super) fn is_kind(content_type: &str) -> bool {
    content_type.to_ascii_lowercase().starts_with("video/")
}

/// Takes a video of at most `limit` bytes into the store. Whatever is wrong with it shows when it is looked at.
pub(super) async fn upload(
    request: Request,
    store: &Store,
    upload: &JobId,
    limit: u64,
    bounds: &Bounds,
) -> Result<(Video, Sha256), Problem> {
    let (parts, body) = request.into_parts();
    let announced = body::announced(&parts.headers);
    // A client that waits for our go-ahead, or has very much to send, is told at once.
    let waits = parts.headers.contains_key(header::EXPECT);
    if announced.is_some_and(|length| length > limit && (waits || length > DISCARD as u64)) {
        return Err(too_large(limit));
    }
    let mut body = body.into_data_stream();
    let broken = |error| Problem::bad_body(format!("the body broke off: {error}"));
    let taken = tokio::select! {
        taken = timeout(LONGEST, take((&mut body).map_err(broken), store, upload, limit)) => {
            taken.unwrap_or_else(|_| Err(slow("not complete", LONGEST)))
        }
        () = bounds.stopping.cancelled() => Err(Problem::shutting_down()),
    };
    if taken.is_err() {
        // Whether it ends or not, it is answered.
        timeout(LAST, discard(&mut body)).await.ok();
    }
    taken
}

/// Takes the pieces of a video of at most `limit` bytes into the store.
pub(super) async fn take(
    mut pieces: impl Stream<Item = Result<Bytes, Problem>> + Unpin,
    store: &Store,
    upload: &JobId,
    limit: u64,
) -> Result<(Video, Sha256), Problem> {
    let mut writer: Writer = store.writer(&video_key(upload)).await.map_err(|error| of_store(&error))?;
    let (mut bytes, mut digest) = (0, Sha256::new());
    while let Some(piece) = timeout(PAUSE, pieces.next()).await.map_err(|_| slow("nothing came", PAUSE))? {
        let piece = piece?;
        bytes += piece.len() as u64;
        if bytes > limit {
            return Err(too_large(limit));
        }
        digest.update(&piece);
        writer.write(&piece).await.map_err(|error| of_store(&error))?;
    }
    if bytes == 0 {
        return Err(Problem::missing_image("nothing was sent where a video is said to be"));
    }
    writer.finish().await.map_err(|error| of_store(&error))?;
    Ok((Video { bytes, fps: None }, digest))
}

async fn discard(body: &mut BodyDataStream) {
    let mut discarded = 0;
    while let Some(Ok(piece)) = body.next().await {
        discarded += piece.len();
        if discarded > DISCARD {
            return;
        }
    }
}

fn too_large(limit: u64) -> Problem {
    Problem::too_large(format!("a video has more than {limit} bytes; cut it, or compress it more"))
}
