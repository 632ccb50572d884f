//! One image on its way through the stages, and what comes back of it.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    Caller, DropReason, GatewayId, JobId, Kind, ModelId, Payload, Prior, SessionId, SharedEvent, StreamName,
    TraceParent,
};

/// What the client wants back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// The poses.
    #[default]
    Pose,
    /// The picture with the skeletons drawn on it.
    Overlay,
    /// Both.
    Both,
}

impl Want {
    /// True if somebody has to draw.
    pub const fn overlay(self) -> bool {
        matches!(self, Self::Overlay | Self::Both)
    }
}

/// Where the result goes: `{"gateway":…,"session":…}` or `{"job":…}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// To a client that waits for it. It dies with its request.
    Session {
        /// The process that holds the client.
        gateway: GatewayId,
        /// The client's session there.
        session: SessionId,
    },
    /// To whoever takes the job's results, now or later. The frames of jobs are stills.
    Job {
        /// The job.
        job: JobId,
    },
}

/// What every stage needs to know of a frame. Travels as one JSON header beside the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameHeader {
    /// The stream, or the still's id.
    pub stream: StreamName,
    /// Number of the frame within its session, from 1.
    pub seq: u64,
    /// Which lane it goes on.
    pub kind: Kind,
    /// Where the result goes.
    pub reply: Reply,
    /// When the gateway received it: milliseconds since 1970-01-01T00:00:00Z.
    pub received_at: u64,
    /// Milliseconds, counted from when the bus took the frame, within which a stage must have begun.
    pub deadline_ms: u32,
    /// What the client wants back.
    pub want: Want,
    /// The model to run.
    pub model: ModelId,
    /// JPEG quality of the overlay, 1 to 100.
    pub quality: u8,
    /// Persons below this score are not reported, 0 to 1.
    pub min_score: f32,
    /// How many classes are reported at most, by a model that tells classes.
    #[serde(default = "usual_top", skip_serializing_if = "is_usual_top")]
    pub top: u16,
    /// Whether keypoints are smoothed over time. Only with `prior`.
    #[serde(default)]
    pub smooth: bool,
    /// The stream's tracks before this frame; from the infer stage on, after it. Absent for single images,
    /// whose persons get no ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prior: Option<Arc<Prior>>,
    /// How often its gateway has published it again, because the broker may have forgotten it or its result was
    /// lost. It is another frame to the broker then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retries: u32,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Caller::is_default")]
    pub caller: Caller,
    /// The client's trace. Not in JSON: travels as a header of its own.
    #[serde(skip)]
    pub trace: Option<TraceParent>,
}

/// How many classes are reported unless somebody asks for more or fewer.
pub const USUAL_TOP: u16 = 5;

/// The most classes that can be asked for: an event has to pass everywhere.
pub const MOST_TOP: u16 = 1000;

const fn usual_top() -> u16 {
    USUAL_TOP
}

fn is_usual_top(top: &u16) -> bool {
    *top == USUAL_TOP
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

/// A frame on a lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Frame {
    /// What to do with it.
    pub header: FrameHeader,
    /// What was found in it, once that is known: always there on the annotate lanes.
    pub event: Option<SharedEvent>,
    /// What it shows.
    pub image: Payload,
}

/// What became of a frame, addressed as its `reply` says. Travels as one JSON header beside the overlay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameResult {
    /// Copied from the frame.
    pub reply: Reply,
    /// Copied from the frame.
    pub seq: u64,
    /// What was found and the picture, or why there are none.
    pub body: ResultBody,
    /// Copied from the frame. Not in JSON: travels as a header of its own.
    #[serde(skip)]
    pub trace: Option<TraceParent>,
}

/// The good or the bad end of a frame's work.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultBody {
    /// Done.
    Done {
        /// What was found.
        #[serde(rename = "pose")]
        event: SharedEvent,
        /// The annotated JPEG, if one was wanted. Not in JSON: bytes travel beside it.
        #[serde(skip)]
        overlay: Option<Bytes>,
        /// The stream's tracks after this frame.
        tracks: Option<Arc<Prior>>,
    },
    /// Not done.
    Dropped {
        /// Why.
        reason: DropReason,
        /// In words for the client: what was wrong, what to do.
        detail: String,
    },
}

impl FrameHeader {
    /// The result that says that this frame was not done.
    pub fn dropped(&self, reason: DropReason, detail: impl Into<String>) -> FrameResult {
        FrameResult {
            reply: self.reply.clone(),
            seq: self.seq,
            body: ResultBody::Dropped { reason, detail: detail.into() },
            trace: self.trace,
        }
    }

    /// The result that says that this frame was done.
    pub fn done(&self, event: SharedEvent, overlay: Option<Bytes>) -> FrameResult {
        FrameResult {
            reply: self.reply.clone(),
            seq: self.seq,
            body: ResultBody::Done { event, overlay, tracks: self.prior.clone() },
            trace: self.trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_draws_where_a_picture_is_wanted() {
        let drawn = [Want::Pose, Want::Overlay, Want::Both].map(Want::overlay);
        assert_eq!(drawn, [false, true, true]);
    }

    #[test]
    fn a_header_says_nothing_of_what_is_as_always() {
        let header = FrameHeader {
            stream: StreamName::new("cam").unwrap(),
            seq: 1,
            kind: Kind::Live,
            reply: Reply::Job { job: JobId::new("j").unwrap() },
            received_at: 2,
            deadline_ms: 3,
            want: Want::Pose,
            model: ModelId::new("m").unwrap(),
            quality: 4,
            min_score: 0.5,
            top: USUAL_TOP,
            smooth: false,
            prior: None,
            retries: 0,
            caller: Caller::default(),
            trace: None,
        };
        let json = serde_json::to_value(&header).unwrap();
        let silent = ["prior", "retries", "caller", "trace"];
        assert!(silent.iter().all(|name| json.get(name).is_none()), "{json}");
        let again = FrameHeader { retries: 2, ..header };
        assert_eq!(serde_json::to_value(&again).unwrap()["retries"], 2);
    }

    #[test]
    fn a_reply_is_a_session_or_a_job() {
        let session =
            Reply::Session { gateway: GatewayId::new("g").unwrap(), session: SessionId::new("s").unwrap() };
        let job = Reply::Job { job: JobId::new("j").unwrap() };
        for (reply, json) in [(session, r#"{"gateway":"g","session":"s"}"#), (job, r#"{"job":"j"}"#)] {
            assert_eq!(serde_json::to_string(&reply).unwrap(), json);
            assert_eq!(serde_json::from_str::<Reply>(json).unwrap(), reply);
        }
        for bad in ["{}", r#"{"gateway":"g"}"#, r#"{"job":"a.b"}"#, r#"{"job":""}"#, "null", "[]"] {
            assert!(serde_json::from_str::<Reply>(bad).is_err(), "{bad}");
        }
    }
}
