//! A session's events as messages of the WebSocket, and the client's messages as what a session takes.

use axum::extract::ws::Message;
use cloudpose_wire::{
    DropReason,
    ws::{Allowance, ClientMessage, Codec, ErrorCode, ServerMessage},
};

use crate::session::{Change, Delivered, Settings, Terms};

/// What a text message asks for.
#[derive(Debug)]
pub(super) enum Asked {
    Configure {
        change: Change,
        /// Whether each dropped frame is told.
        drops: Option<bool>,
    },
    End,
}

/// Reads a text message, or says why it is none of ours.
pub(super) fn asked(text: &str) -> Result<Asked, String> {
    match serde_json::from_str(text) {
        Ok(ClientMessage::End) => Ok(Asked::End),
        Ok(ClientMessage::Configure { want, draw, model, quality, drops, smooth }) => {
            Ok(Asked::Configure { change: Change { want, draw, model, quality, smooth }, drops })
        }
        Err(error) => Err(format!("not a message that we know: {error}; send images as binary messages")),
    }
}

/// The first message of a session.
pub(super) fn hello(
    terms: &Terms,
    settings: &Settings,
    codec: Option<Codec>,
    max_image_bytes: usize,
) -> ServerMessage {
    ServerMessage::Hello {
        session: terms.address.session.clone(),
        stream: terms.stream.clone(),
        codec,
        mode: terms.mode,
        want: settings.want,
        draw: settings.draw,
        model: settings.model.clone(),
        quality: settings.quality,
        smooth: settings.smooth,
        limits: Allowance {
            max_image_bytes,
            max_image_pixels: terms.max_image_pixels,
            window: terms.window,
            max_age_ms: u32::try_from(terms.max_age.as_millis()).unwrap_or(u32::MAX),
        },
    }
}

/// The `result`, then the annotated JPEG.
pub(super) fn delivered(delivered: Delivered) -> impl Iterator<Item = Message> {
    let Delivered { seq, event, overlay, latency, dropped } = delivered;
    let result = ServerMessage::Result {
        seq,
        event,
        latency_ms: latency.as_secs_f32() * 1000.0,
        overlay: overlay.is_some(),
        dropped,
    };
    text(&result).into_iter().chain(overlay.map(Message::Binary))
}

/// What is said of a frame without a result: of one that is no image why it is none, if there are words for it; of all if the
/// client wants to know.
pub(super) fn dropped(
    (seq, reason, detail): (u64, DropReason, String),
    tell: bool,
) -> impl Iterator<Item = ServerMessage> {
    let is_said = reason == DropReason::Undecodable && !detail.is_empty();
    let unreadable = is_said.then(|| ServerMessage::Error {
        code: ErrorCode::BadFrame,
        message: format!("frame {seq}: {detail}"),
    });
    unreadable.into_iter().chain(tell.then_some(ServerMessage::Drop { seq, reason, detail }))
}

/// A message as it goes over the socket.
pub(super) fn text(message: &ServerMessage) -> Option<Message> {
    match serde_json::to_string(message) {
        Ok(json) => Some(Message::text(json)),
        Err(error) => {
            tracing::error!(%error, "a message of ours is no JSON");
            None
        }
    }
}
