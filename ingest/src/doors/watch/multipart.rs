//! Pictures that take each other's place in an `<img>`: `multipart/x-mixed-replace`.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use crate::watch::Watcher;

pub(super) const CONTENT_TYPE: &str = "multipart/x-mixed-replace; boundary=cloudpose-frame";
/// Before the first part, and right behind each picture: browsers show it when they see that it is over.
const BOUNDARY: &[u8] = b"\r\n--cloudpose-frame\r\n";

/// What goes over the wire, until the stream ends or we stop.
pub(super) fn parts(
    watcher: Watcher,
    stopping: CancellationToken,
) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let pictures = stream::unfold((watcher, stopping), async |(mut watcher, stopping)| {
        let picture = loop {
            let seen = tokio::select! {
                seen = watcher.next() => seen.ok()?,
                () = stopping.cancelled() => return None,
            };
            if let Some(picture) = seen.view.picture {
                break picture;
            }
        };
        Some((picture, (watcher, stopping)))
    });
    let parts = pictures.flat_map(|picture| {
        let head = format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len());
        stream::iter([head.into(), picture, Bytes::from_static(BOUNDARY)])
    });
    stream::iter([Bytes::from_static(BOUNDARY)]).chain(parts).map(Ok)
}
