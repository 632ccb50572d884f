//! The loop between a WebSocket and a [`Watcher`].
//!
//! One frame at a time is handed to the socket; the others wait with the watcher, where the newest win.

use std::time::Duration;

use axum::extract::ws::Message;
use cloudpose_wire::{StreamName, Want, watch::WatchMessage, ws::ErrorCode};
use tokio::time::{Instant, sleep_until};

use crate::{
    doors::ws::socket::{Event, Socket},
    shared::Shared,
    watch::{End, Seen, Watcher, Wish},
};

/// Somebody who watches on a WebSocket.
pub(super) struct Connection<'a> {
    shared: &'a Shared,
    socket: &'a mut Socket,
    watcher: Watcher,
    want: Want,
}

impl<'a> Connection<'a> {
    /// Greets the client.
    pub(super) fn open(
        shared: &'a Shared,
        socket: &'a mut Socket,
        watcher: Watcher,
        stream: StreamName,
        Wish { want, draw, fps }: Wish,
    ) -> Self {
        socket.queue(text(&WatchMessage::Hello { stream, want, draw, fps }), None);
        Self { shared, socket, watcher, want }
    }

    /// Shows what there is until somebody ends it; if we do, says why.
    pub(super) async fn run(mut self) -> Option<(ErrorCode, String)> {
        let config = &self.shared.config;
        let (idle, patience) = (config.idle_timeout, config.write_timeout);
        let (mut heard, mut pinged) = (Instant::now(), false);
        loop {
            let stalled = self.socket.stalled_since().map(|since| since + patience);
            let attention = heard + if pinged { idle } else { idle / 2 };
            let wake = stalled.into_iter().fold(attention, Instant::min);
            tokio::select! {
                seen = self.watcher.next(), if stalled.is_none() => match seen {
                    Ok(seen) => self.socket.queue(messages(seen, self.want), None),
                    Err(End::Ended) => return Some((ErrorCode::NoStream, "the stream has ended".into())),
                    Err(End::Slow) => return Some(too_slow(patience)),
                },
                event = self.socket.next(true) => {
                    if !matches!(event, Event::Sent(_)) {
                        (heard, pinged) = (Instant::now(), false);
                    }
                    match event {
                        Event::Sent(_) | Event::Alive => {}
                        Event::Closed => return None,
                        Event::NoRoom => {
                            let message = "too much is being sent at once; connect again later";
                            return Some((ErrorCode::Unavailable, message.into()));
                        }
                        Event::Broken(why) => return Some((ErrorCode::BadMessage, why)),
                        Event::TooLarge(size) => {
                            let message = format!("a message of {size} bytes; nothing is to be sent here");
                            return Some((ErrorCode::TooLarge, message));
                        }
                        Event::Image(_) | Event::Text(_) => {
                            let message = "nothing is to be sent here; send frames on /v1/stream".into();
                            let error = WatchMessage::Error { code: ErrorCode::BadMessage, message };
                            self.socket.queue(text(&error), None);
                        }
                    }
                }
                () = self.shared.stopping.cancelled() => {
                    return Some((ErrorCode::ShuttingDown, "the server is going away; connect again".into()));
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if stalled.is_some_and(|at| now >= at) {
                        return Some(too_slow(patience));
                    }
                    if now >= heard + idle {
                        let time = humantime::format_duration(idle);
                        let message = format!("nothing came for {time}, not even a pong");
                        return Some((ErrorCode::IdleTimeout, message));
                    }
                    if now >= attention && !pinged {
                        pinged = true;
                        self.socket.queue([Message::Ping(bytes::Bytes::new())], None);
                    }
                }
            }
        }
    }
}

fn too_slow(patience: Duration) -> (ErrorCode, String) {
    let time = humantime::format_duration(patience);
    (ErrorCode::SlowReader, format!("no message was taken for {time}"))
}

/// The `result`, then the annotated JPEG.
fn messages(Seen { view, lost }: Seen, want: Want) -> impl Iterator<Item = Message> {
    let result = WatchMessage::Result {
        seq: view.seq,
        event: (want != Want::Overlay).then_some(view.event),
        overlay: view.picture.is_some(),
        lost,
    };
    text(&result).into_iter().chain(view.picture.map(Message::Binary))
}

pub(super) fn text(message: &WatchMessage) -> Option<Message> {
    match serde_json::to_string(message) {
        Ok(json) => Some(Message::text(json)),
        Err(error) => {
            tracing::error!(%error, "a message of ours is no JSON");
            None
        }
    }
}
