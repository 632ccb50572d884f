//! Messages of the WebSocket `GET /v1/stream`.
//!
//! Client → server: a binary message is one encoded image (JPEG, PNG or WebP), or one access unit of a [`Codec`] behind a
//! [`UnitHead`]; the n-th one has `seq` n, from 1. A text message is a [`ClientMessage`]. Server → client: text messages are
//! [`ServerMessage`]s; a binary message is the annotated JPEG of the `result` just before it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Draw, DropReason, Event, Mode, ModelId, SessionId, SharedEvent, StreamName, Want};

/// Text from the client.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub enum ClientMessage {
    /// Changes what the session gets, from the next frame on. Absent fields stay as they are.
    Configure {
        /// What comes back.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        want: Option<Want>,
        /// How pictures are drawn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        draw: Option<Draw>,
        /// The model.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<ModelId>,
        /// JPEG quality of the overlay, 1 to 100.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quality: Option<u8>,
        /// Whether each dropped frame is told with a `drop` message.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        drops: Option<bool>,
        /// Whether keypoints are smoothed over time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        smooth: Option<bool>,
    },
    /// No more frames will come: deliver what is in flight, then close.
    End,
}

/// Text from the server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ServerMessage {
    /// The first message of a session.
    Hello {
        /// Id of this session, for support and logs.
        session: SessionId,
        /// The stream's name, given or made up.
        stream: StreamName,
        /// How frames come; absent: as images.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        codec: Option<Codec>,
        /// In force for this session.
        mode: Mode,
        /// In force until changed with `configure`.
        want: Want,
        /// In force until changed with `configure`; absent: `overlay`.
        #[serde(default, skip_serializing_if = "Draw::is_default")]
        draw: Draw,
        /// In force until changed with `configure`.
        model: ModelId,
        /// In force until changed with `configure`.
        quality: u8,
        /// In force until changed with `configure`.
        smooth: bool,
        /// What the server takes.
        limits: Allowance,
    },
    /// A frame is done.
    Result {
        /// Which frame.
        seq: u64,
        /// What was found in it. Absent if only the overlay was wanted.
        #[serde(
            default,
            rename = "pose",
            skip_serializing_if = "Option::is_none",
            deserialize_with = "read_event"
        )]
        event: Option<SharedEvent>,
        /// From the frame's arrival at the gateway until now, in milliseconds.
        latency_ms: f32,
        /// True: the next message is binary and holds the annotated JPEG of this frame.
        overlay: bool,
        /// Frames of this session dropped so far, by reason.
        dropped: BTreeMap<DropReason, u64>,
    },
    /// A frame will get no result. Only sent after `configure` with `drops: true`.
    Drop {
        /// Which frame.
        seq: u64,
        /// Why.
        reason: DropReason,
        /// In words; may be empty.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        detail: String,
    },
    /// Frames come faster than they can be worked on. Sending at most this many a second wastes none.
    Hint {
        /// Frames a second.
        fps: f32,
        /// What the tenant or the address has used up, if that is why: `frames`, `bytes`, `megapixels` or `cpu`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        quota: Option<String>,
        /// Bits a second that are enough for them. Only of video.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bitrate: Option<u32>,
    },
    /// The next frame must be a key frame: those that build on others cannot be decoded. Only of video.
    Keyframe,
    /// Something is wrong. If the connection closes, this came before.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: what is wrong and what to do.
        message: String,
    },
}

/// How frames are encoded that are no images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Codec {
    /// H.264 in the byte stream format (ITU-T H.264, Annex B).
    H264,
}

/// What stands before each access unit: 9 bytes. The first is 1 for a key frame and 0 for one that builds on others; the
/// others are `time`, big endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitHead {
    /// A key frame (IDR), which builds on no other.
    pub is_key: bool,
    /// When it was captured, in microseconds from anywhere: `EncodedVideoChunk.timestamp` of WebCodecs.
    pub time: i64,
}

impl UnitHead {
    /// Bytes that it takes.
    pub const LEN: usize = 9;

    /// What the beginning of a message says, if it is one.
    pub fn read(message: &[u8]) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        let time = i64::from_be_bytes(*rest.first_chunk()?);
        (*kind <= 1).then_some(Self { is_key: *kind == 1, time })
    }

    /// As it stands before an access unit.
    pub fn bytes(self) -> [u8; Self::LEN] {
        let mut bytes = [self.is_key.into(); Self::LEN];
        bytes[1..].copy_from_slice(&self.time.to_be_bytes());
        bytes
    }
}

/// Reads an event at once: behind the messages' tag its JSON is not there any more.
pub(crate) fn read_event<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SharedEvent>, D::Error> {
    Ok(Option::<Event>::deserialize(deserializer)?.map(SharedEvent::from))
}

/// What the server takes in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// Largest encoded image, in bytes.
    pub max_image_bytes: usize,
    /// Largest decoded image, in pixels.
    pub max_image_pixels: u64,
    /// Frames of the session in flight at once.
    pub window: usize,
    /// A frame older than this, in milliseconds, is dropped.
    pub max_age_ms: u32,
}

/// What becomes of a session whose stream others send already.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IfTaken {
    /// All send it, unless one of them has it to itself.
    #[default]
    Share,
    /// It is refused. If none sends it, it has the stream to itself.
    Refuse,
    /// The others end. It has the stream to itself.
    TakeOver,
}

/// Codes of [`ServerMessage::Error`]. All but `bad_frame` and `bad_message` are followed by a
/// close; `bad_message` is if the message broke the WebSocket protocol itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The query holds something that we don't understand.
    BadQuery,
    /// A text message that is no [`ClientMessage`].
    BadMessage,
    /// A binary message that is no image that we take. The frame is in the ledger as `undecodable`.
    BadFrame,
    /// A message beyond `max_image_bytes`.
    TooLarge,
    /// The client took too long to read its results.
    SlowReader,
    /// Nothing came for too long.
    IdleTimeout,
    /// The server is going away: connect again.
    ShuttingDown,
    /// The server has not reached its workers for as long as it waits for an idle client: connect again later.
    Unavailable,
    /// The key that opened the session has been revoked, or has expired.
    Unauthorized,
    /// Another session has the stream to itself, or takes it over.
    StreamTaken,
    /// There is no such stream, or no more. Only on `/v1/streams/{stream}/watch`.
    NoStream,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_messages_parse_strictly() {
        let parse = |s| serde_json::from_str::<ClientMessage>(s);
        assert_eq!(parse(r#"{"type":"end"}"#).unwrap(), ClientMessage::End);
        assert_eq!(
            parse(r#"{"type":"configure","drops":true,"want":"both"}"#).unwrap(),
            ClientMessage::Configure {
                want: Some(Want::Both),
                draw: None,
                model: None,
                quality: None,
                drops: Some(true),
                smooth: None,
            }
        );
        for bad in [
            "",
            "{}",
            "[]",
            r#"{"type":"stop"}"#,
            r#"{"type":"configure","model":"yolo v8"}"#,
            r#"{"type":"configure","speed":1}"#,
            r#"{"type":"configure","quality":300}"#,
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn heads_of_units_are_read_as_they_are_written() {
        for head in [
            UnitHead { is_key: true, time: 0 },
            UnitHead { is_key: false, time: -1 },
            UnitHead { is_key: true, time: i64::MAX },
        ] {
            assert_eq!(UnitHead::read(&head.bytes()), Some(head));
        }
        let written = UnitHead { is_key: true, time: 33_000 }.bytes();
        assert_eq!(written, [1, 0, 0, 0, 0, 0, 0, 128, 232]);
        for wrong in [&written[..8], &[], &[2, 0, 0, 0, 0, 0, 0, 0, 0], b"\xff\xd8\xff\xe0\0\x10JFIF"] {
            assert_eq!(UnitHead::read(wrong), None);
        }
    }

    #[test]
    fn a_result_is_read_with_what_was_found() {
        let json = r#"{"type":"result","seq":3,"pose":{"stream":"cam","seq":3,"captured_at":1,"width":4,"height":5,
            "model":"m","device":"cpu","classes":[],
            "timings_ms":{"queue":0,"decode":0,"preprocess":0,"inference":0,"postprocess":0}},
            "latency_ms":1.5,"overlay":false,"dropped":{}}"#;
        let read = |json: &str| match serde_json::from_str(json).unwrap() {
            ServerMessage::Result { event, .. } => event,
            other => panic!("{other:?}"),
        };
        assert_eq!(read(json).unwrap().event().unwrap().width, 4);
        let without = r#"{"type":"result","seq":3,"latency_ms":1.5,"overlay":true,"dropped":{}}"#;
        assert!(read(without).is_none());
    }

    #[test]
    fn server_messages_have_the_documented_shape() {
        let json = serde_json::to_string(&ServerMessage::Drop {
            seq: 3,
            reason: DropReason::Superseded,
            detail: String::new(),
        });
        assert_eq!(json.unwrap(), r#"{"type":"drop","seq":3,"reason":"superseded"}"#);
        let json = serde_json::to_string(&ServerMessage::Hint { fps: 12.5, quota: None, bitrate: None });
        assert_eq!(json.unwrap(), r#"{"type":"hint","fps":12.5}"#);
        assert_eq!(serde_json::to_string(&ServerMessage::Keyframe).unwrap(), r#"{"type":"keyframe"}"#);
        let json =
            serde_json::to_string(&ServerMessage::Error { code: ErrorCode::TooLarge, message: "m".into() });
        assert_eq!(json.unwrap(), r#"{"type":"error","code":"too_large","message":"m"}"#);
    }
}
