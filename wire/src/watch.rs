//! Watching: what gateways tell each other of live streams, what they send to those who watch, and the messages of
//! the WebSocket `/v1/streams/{stream}/watch`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Draw, GatewayId, ModelId, SessionId, SharedEvent, StreamName, Tenant, Want,
    ws::{ErrorCode, read_event},
};

/// What a gateway says of itself while some gateway asks: once a second, and when something changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct News {
    /// Who says it.
    pub gateway: GatewayId,
    /// Clients of it want to know what others say. Nothing is said for four seconds after nobody asks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub asks: bool,
    /// The streams whose sessions it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<Hosted>,
    /// The streams that clients of it watch, wherever their sessions are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<Watched>,
    /// The streams that one session of it has to itself. This is said whether some gateway asks or not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

/// A session has a stream to itself: all others that send it end, unless one has claimed it since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose stream.
    #[serde(default, skip_serializing_if = "Tenant::is_default")]
    pub tenant: Tenant,
    /// Which.
    pub stream: StreamName,
    /// The session. Names of later ones are greater.
    pub session: SessionId,
}

/// A tenant's stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hosted {
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Tenant::is_default")]
    pub tenant: Tenant,
    /// What is said of it.
    #[serde(flatten)]
    pub live: LiveStream,
}

/// What is said of a live stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct LiveStream {
    /// Its name.
    #[schema(value_type = String)]
    pub stream: StreamName,
    /// Whether frames come.
    #[schema(inline)]
    pub state: StreamState,
    /// The model that its newest session runs.
    #[schema(value_type = String)]
    pub model: ModelId,
    /// Width of its newest frame in pixels; 0 before the first one has come.
    pub width: u32,
    /// Height of its newest frame in pixels; 0 before the first one has come.
    pub height: u32,
    /// When its oldest session began: milliseconds since 1970-01-01T00:00:00Z.
    pub since: u64,
    /// Frames done a second, of late.
    pub fps: f32,
    /// Sessions that send frames of it.
    pub sessions: u32,
    /// Clients that watch it.
    pub watchers: u32,
}

/// Whether frames of a stream come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum StreamState {
    /// One was done in the last two seconds.
    Live,
    /// None was.
    Silent,
}

/// That clients of a gateway watch a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Whose stream.
    #[serde(default, skip_serializing_if = "Tenant::is_default")]
    pub tenant: Tenant,
    /// Which.
    pub stream: StreamName,
    /// How many clients.
    pub watchers: u32,
    /// Whether any of them wants events without pictures.
    pub events: bool,
    /// The pictures that they want, each way of drawing once.
    pub pictures: Vec<WantedPicture>,
}

/// Pictures that somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct WantedPicture {
    /// How they are drawn.
    pub draw: Draw,
    /// So many a second are enough; absent: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fps: Option<f32>,
}

/// A frame of a stream as those who watch see it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// Who holds the session that sent the frame.
    pub gateway: GatewayId,
    /// Number of the frame within that session.
    pub seq: u64,
    /// What was found in it.
    #[serde(rename = "pose")]
    pub event: SharedEvent,
    /// How the picture is drawn.
    #[serde(default, skip_serializing_if = "Draw::is_default")]
    pub draw: Draw,
    /// Shown already without its picture.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub again: bool,
    /// The picture, a JPEG. Not in JSON: bytes travel beside it.
    #[serde(skip)]
    pub picture: Option<Bytes>,
}

/// Text from the server on `/v1/streams/{stream}/watch`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum WatchMessage {
    /// The first message.
    Hello {
        /// The stream that is watched.
        stream: StreamName,
        /// What comes.
        want: Want,
        /// How pictures are drawn.
        draw: Draw,
        /// At most so many frames a second; absent: all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fps: Option<f32>,
    },
    /// A frame of the stream.
    Result {
        /// Which frame of its session.
        seq: u64,
        /// What was found in it. Absent if only the picture is wanted.
        #[serde(
            default,
            rename = "pose",
            skip_serializing_if = "Option::is_none",
            deserialize_with = "read_event"
        )]
        event: Option<SharedEvent>,
        /// True: the next message is binary and holds the annotated JPEG of this frame.
        overlay: bool,
        /// Frames that this watcher was too slow to take, so far.
        lost: u64,
    },
    /// Something is wrong. If the connection closes, this came before.
    Error {
        /// For programs.
        code: ErrorCode,
        /// For people: what is wrong and what to do.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_the_documented_shape() {
        let stream = StreamName::new("door").unwrap();
        let hello = WatchMessage::Hello {
            stream: stream.clone(),
            want: Want::Both,
            draw: Draw::Overlay,
            fps: Some(5.0),
        };
        let json = r#"{"type":"hello","stream":"door","want":"both","draw":"overlay","fps":5.0}"#;
        assert_eq!(serde_json::to_string(&hello).unwrap(), json);
        let result = WatchMessage::Result { seq: 3, event: None, overlay: true, lost: 2 };
        let json = r#"{"type":"result","seq":3,"overlay":true,"lost":2}"#;
        assert_eq!(serde_json::to_string(&result).unwrap(), json);
        assert_eq!(serde_json::from_str::<WatchMessage>(json).unwrap(), result);
    }

    #[test]
    fn news_say_nothing_of_what_is_as_always() {
        let watched = Watched {
            tenant: Tenant::default(),
            stream: StreamName::new("door").unwrap(),
            watchers: 2,
            events: false,
            pictures: vec![WantedPicture { draw: Draw::Overlay, fps: None }],
        };
        let news = News {
            gateway: GatewayId::new("g").unwrap(),
            asks: true,
            streams: Vec::new(),
            watched: vec![watched],
            claims: Vec::new(),
        };
        let json = r#"{"gateway":"g","asks":true,"watched":[{"stream":"door","watchers":2,"events":false,"pictures":[{"draw":"overlay"}]}]}"#;
        assert_eq!(serde_json::to_string(&news).unwrap(), json);
        assert_eq!(serde_json::from_str::<News>(json).unwrap(), news);
    }
}
