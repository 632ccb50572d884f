//! Frames, results and events as NATS messages.
//!
//! | message | payload | headers |
//! |---|---|---|
//! | frame | the encoded image as it came | `Cloudpose-Frame`: [`FrameHeader`] as JSON; `Cloudpose-Pose`: the [`SharedEvent`], on the annotate lanes |
//! | a frame handed back | the same | besides: `Cloudpose-Attempt`, `Cloudpose-Since` (nanoseconds since 1970, the broker's clock) |
//! | event | [`SharedEvent`] as JSON | of a session's frame: `Cloudpose-Session` |
//! | news of a gateway | [`News`] as JSON | |
//! | view of a watched stream | the annotated JPEG, or nothing | `Cloudpose-View`: [`View`] as JSON |
//! | announcement of models | [`Announcement`] as JSON | |
//! | result, also of a job | the annotated JPEG, or nothing | `Cloudpose-Result`: [`FrameResult`] as JSON |
//!
//! Stills have the header `Nats-Msg-Id` besides, by which the broker knows one that it has already.
//! All of them have the header `traceparent` besides, if the client's request had it or the gateway sends traces.

use async_nats::{HeaderMap, Message, header::NATS_MESSAGE_ID};
use bytes::Bytes;
use cloudpose_wire::{
    Address, Frame, FrameHeader, FrameResult, Kind, News, Reply, SessionId, SharedEvent, TraceParent, View,
    frame::ResultBody, model::Announcement, trace::TRACEPARENT,
};
use serde::{Serialize, de::DeserializeOwned};

const FRAME: &str = "Cloudpose-Frame";
const POSE: &str = "Cloudpose-Pose";
const RESULT: &str = "Cloudpose-Result";
const SESSION: &str = "Cloudpose-Session";
const VIEW: &str = "Cloudpose-View";
const ATTEMPT: &str = "Cloudpose-Attempt";
const SINCE: &str = "Cloudpose-Since";

/// Why a message is not one of ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("it has no header {0}")]
    Missing(&'static str),
    #[error("its header {name} is not what it should be: {source}")]
    Header { name: &'static str, source: serde_json::Error },
    #[error("its payload is not what it should be: {0}")]
    Payload(#[source] serde_json::Error),
    #[error("it does not come from a lane: {0}")]
    NotFromALane(async_nats::Error),
}

/// What a frame that was handed back had been through before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Past {
    /// The attempt it was at.
    pub(super) attempt: u32,
    /// When it first came on the lane: nanoseconds since 1970 on the broker's clock.
    pub(super) since: i128,
}

fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("our own types are JSON")
}

pub(super) fn frame_headers(frame: &Frame, past: Option<Past>) -> HeaderMap {
    let mut headers = trace_headers(frame.header.trace);
    headers.insert(FRAME, json(&frame.header));
    if let Some(event) = &frame.event {
        headers.insert(POSE, event.json().get());
    }
    if frame.header.route.kind() == Kind::Still && past.is_none() {
        headers.insert(NATS_MESSAGE_ID, still_id(&frame.header));
    }
    if let Some(Past { attempt, since }) = past {
        headers.insert(ATTEMPT, attempt.to_string());
        headers.insert(SINCE, since.to_string());
    }
    headers
}

/// By this the broker knows on each lane a still that it was given before, and may not have confirmed. One that its
/// gateway has published again is another: its result may have been lost, and it has to go all the way again.
fn still_id(header: &FrameHeader) -> String {
    let FrameHeader { route, seq, retries, .. } = header;
    match route.reply() {
        Reply::Session(Address { session, .. }) => format!("{session}.{seq}.{retries}"),
        Reply::Job { job } => format!("job.{job}.{seq}.{retries}"),
    }
}

pub(super) fn frame(message: &Message) -> Result<(Frame, Option<Past>), Malformed> {
    let headers = message.headers.as_ref().ok_or(Malformed::Missing(FRAME))?;
    let header = FrameHeader { trace: trace(headers), ..required(headers, FRAME)? };
    let event = optional(headers, POSE)?;
    let past = match (optional(headers, ATTEMPT)?, optional(headers, SINCE)?) {
        (Some(attempt), Some(since)) => Some(Past { attempt, since }),
        _ => None,
    };
    Ok((Frame { header, event, image: message.payload.clone().into() }, past))
}

/// The headers of a result and its payload, which is empty if there is no overlay. (A JPEG is never empty.)
pub(super) fn of_result(result: &FrameResult) -> (HeaderMap, Bytes) {
    let mut headers = trace_headers(result.trace);
    headers.insert(RESULT, json(result));
    let overlay = match &result.body {
        ResultBody::Done { overlay: Some(overlay), .. } => overlay.clone(),
        _ => Bytes::new(),
    };
    (headers, overlay)
}

pub(super) fn result(message: Message) -> Result<FrameResult, Malformed> {
    let headers = message.headers.as_ref().ok_or(Malformed::Missing(RESULT))?;
    let mut result = FrameResult { trace: trace(headers), ..required(headers, RESULT)? };
    if let ResultBody::Done { overlay, .. } = &mut result.body {
        *overlay = (!message.payload.is_empty()).then_some(message.payload);
    }
    Ok(result)
}

/// Of whose session's frame an event is, as its `hello` named it, and the trace.
pub(super) fn event_headers(session: Option<&SessionId>, trace: Option<TraceParent>) -> HeaderMap {
    let mut headers = trace_headers(trace);
    if let Some(session) = session {
        headers.insert(SESSION, session.as_str());
    }
    headers
}

/// Of whose session's frame an event is, if it says so.
pub(super) fn session(message: &Message) -> Option<SessionId> {
    message.headers.as_ref()?.get(SESSION)?.as_str().parse().ok()
}

pub(super) fn event_payload(event: &SharedEvent) -> Bytes {
    event.json().get().to_owned().into()
}

pub(super) fn event(message: Message) -> Result<SharedEvent, Malformed> {
    let event: SharedEvent = serde_json::from_slice(&message.payload).map_err(Malformed::Payload)?;
    event.event().map_err(Malformed::Payload)?;
    Ok(event)
}

pub(super) fn of_news(news: &News) -> Bytes {
    json(news).into()
}

pub(super) fn news(message: Message) -> Result<News, Malformed> {
    serde_json::from_slice(&message.payload).map_err(Malformed::Payload)
}

/// The headers of a view and its payload, which is empty if there is no picture. (A JPEG is never empty.)
pub(super) fn of_view(view: &View) -> (HeaderMap, Bytes) {
    let mut headers = HeaderMap::new();
    headers.insert(VIEW, json(view));
    (headers, view.picture.clone().unwrap_or_default())
}

pub(super) fn view(message: Message) -> Result<View, Malformed> {
    let headers = message.headers.as_ref().ok_or(Malformed::Missing(VIEW))?;
    let view: View = required(headers, VIEW)?;
    Ok(View { picture: (!message.payload.is_empty()).then_some(message.payload), ..view })
}

pub(super) fn announcement(announcement: Option<&Announcement>) -> Bytes {
    announcement.map_or_else(Bytes::new, |announcement| json(announcement).into())
}

pub(super) fn read_announcement(message: &Message) -> Result<Announcement, Malformed> {
    serde_json::from_slice(&message.payload).map_err(Malformed::Payload)
}

/// Headers that hold the trace and nothing else yet.
pub(super) fn trace_headers(trace: Option<TraceParent>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Some(trace) = trace {
        headers.insert(TRACEPARENT, trace.to_string());
    }
    headers
}

fn trace(headers: &HeaderMap) -> Option<TraceParent> {
    headers.get(TRACEPARENT)?.as_str().parse().ok()
}

/// Bytes that `headers` and `payload` take on the wire, as `max_payload` counts them.
pub(super) fn size(headers: &HeaderMap, payload: &Bytes) -> usize {
    let lines = headers.iter().flat_map(|(name, values)| {
        values.iter().map(|value| AsRef::<str>::as_ref(name).len() + value.as_str().len() + ": \r\n".len())
    });
    "NATS/1.0\r\n\r\n".len() + lines.sum::<usize>() + payload.len()
}

fn required<T: DeserializeOwned>(headers: &HeaderMap, name: &'static str) -> Result<T, Malformed> {
    optional(headers, name)?.ok_or(Malformed::Missing(name))
}

fn optional<T: DeserializeOwned>(headers: &HeaderMap, name: &'static str) -> Result<Option<T>, Malformed> {
    let parse = |value: &async_nats::HeaderValue| serde_json::from_str(value.as_str());
    headers.get(name).map(parse).transpose().map_err(|source| Malformed::Header { name, source })
}
