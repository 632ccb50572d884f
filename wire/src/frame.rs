//! One image on its way through the stages, and what comes back of it.

use std::{sync::Arc, time::Duration};

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

/// How a picture is drawn.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Draw {
    /// The skeletons on the picture as it came.
    #[default]
    Overlay,
    /// The skeletons on a plain ground: no pixel of the picture is left.
    Skeleton,
    /// The skeletons on the picture, with the heads covered. Where a head cannot be found, and where nobody is, as
    /// [`Skeleton`](Self::Skeleton).
    Redacted,
    /// The picture as it came, with nothing drawn on it: a JPEG byte for byte, anything else as a JPEG.
    Frame,
}

/// Not a way in which pictures are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("use overlay, skeleton, redacted or frame")]
pub struct NoDraw;

impl std::str::FromStr for Draw {
    type Err = NoDraw;

    fn from_str(name: &str) -> Result<Self, NoDraw> {
        let of = |draw: &Self| draw.as_str() == name;
        [Self::Overlay, Self::Skeleton, Self::Redacted, Self::Frame].into_iter().find(of).ok_or(NoDraw)
    }
}

impl std::fmt::Display for Draw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Draw {
    /// As it is written in queries and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Skeleton => "skeleton",
            Self::Redacted => "redacted",
            Self::Frame => "frame",
        }
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A client that waits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The process that holds the client.
    pub gateway: GatewayId,
    /// The client's session there.
    pub session: SessionId,
}

/// Where the result goes: `{"gateway":…,"session":…}` or `{"job":…}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Reply {
    /// To a client that waits for it. It dies with its request.
    Session(Address),
    /// To whoever takes the job's results, now or later.
    Job {
        /// The job.
        job: JobId,
    },
}

/// Which lane a frame goes on, and where its result goes: `"kind":…,"reply":…`.
///
/// A job has a result of each of its frames, so none of them is live: those give way to newer ones.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "reply", rename_all = "lowercase")]
pub enum Route {
    /// A frame of video.
    Live(Address),
    /// A single image, or a frame of a session that loses none.
    Still(Reply),
}

impl Route {
    /// The way to a client and back.
    pub fn to_client(kind: Kind, address: Address) -> Self {
        match kind {
            Kind::Live => Self::Live(address),
            Kind::Still => Self::Still(Reply::Session(address)),
        }
    }

    /// Which lane.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Live(_) => Kind::Live,
            Self::Still(_) => Kind::Still,
        }
    }

    /// Which session it is of; a job's frame is of none.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::Live(address) | Self::Still(Reply::Session(address)) => Some(&address.session),
            Self::Still(Reply::Job { .. }) => None,
        }
    }

    /// Where the result goes.
    pub fn reply(&self) -> Reply {
        match self {
            Self::Live(address) => Reply::Session(address.clone()),
            Self::Still(reply) => reply.clone(),
        }
    }
}

/// What every stage needs to know of a frame. Travels as one JSON header beside the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameHeader {
    /// The stream, or the still's id.
    pub stream: StreamName,
    /// Number of the frame within its session, from 1.
    pub seq: u64,
    /// Which lane it goes on, and where the result goes.
    #[serde(flatten)]
    pub route: Route,
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
    /// How the picture is drawn, if one is wanted.
    #[serde(default, skip_serializing_if = "Draw::is_default")]
    pub draw: Draw,
    /// The pictures that are drawn besides, for those who watch the stream. They go to the session's gateway.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub watched: Vec<Draw>,
    /// The frame is a copy on its way to be drawn for those who watch: its session does not wait for it.
    #[serde(default, skip_serializing_if = "is_false")]
    pub aside: bool,
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

fn is_false(is: &bool) -> bool {
    !is
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

/// What became of a frame, addressed as its `route` says. Travels as one JSON header beside the overlay.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FrameResult {
    /// Copied from the frame.
    pub reply: Reply,
    /// Copied from the frame.
    pub seq: u64,
    /// What was found and the picture, or why there are none.
    pub body: ResultBody,
    /// How the picture was drawn, if there is one. What draws says it, so that nothing is taken for what it is not.
    #[serde(default, skip_serializing_if = "Draw::is_default")]
    pub draw: Draw,
    /// Copied from the frame.
    #[serde(default, skip_serializing_if = "is_false")]
    pub aside: bool,
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
    /// What [`deadline_ms`](Self::deadline_ms) says.
    pub fn budget(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }

    /// What is said of the copies that are drawn for those who watch, one for each way. They may be lost, and none
    /// has longer than `within`.
    pub fn asides(&self, within: Duration) -> Vec<Self> {
        let Reply::Session(address) = self.route.reply() else { return Vec::new() };
        let deadline_ms = self.deadline_ms.min(u32::try_from(within.as_millis()).unwrap_or(u32::MAX));
        let aside = |&draw| Self {
            route: Route::Live(address.clone()),
            deadline_ms,
            want: Want::Overlay,
            prior: None,
            draw,
            watched: Vec::new(),
            aside: true,
            ..self.clone()
        };
        self.watched.iter().map(aside).collect()
    }

    /// The result that says that this frame was not done.
    pub fn dropped(&self, reason: DropReason, detail: impl Into<String>) -> FrameResult {
        FrameResult {
            reply: self.route.reply(),
            seq: self.seq,
            body: ResultBody::Dropped { reason, detail: detail.into() },
            draw: self.draw,
            aside: self.aside,
            trace: self.trace,
        }
    }

    /// The result that says that this frame was done.
    pub fn done(&self, event: SharedEvent, overlay: Option<Bytes>) -> FrameResult {
        FrameResult {
            reply: self.route.reply(),
            seq: self.seq,
            body: ResultBody::Done { event, overlay, tracks: self.prior.clone() },
            draw: self.draw,
            aside: self.aside,
            trace: self.trace,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_to_draw_are_written_alike_everywhere() {
        for draw in [Draw::Overlay, Draw::Skeleton, Draw::Redacted, Draw::Frame] {
            assert_eq!(serde_json::to_string(&draw).unwrap(), format!("\"{draw}\""));
            assert_eq!(draw.to_string().parse(), Ok(draw));
        }
        assert_eq!("blurred".parse::<Draw>(), Err(NoDraw));
    }

    #[test]
    fn somebody_draws_where_a_picture_is_wanted() {
        let drawn = [Want::Pose, Want::Overlay, Want::Both].map(Want::overlay);
        assert_eq!(drawn, [false, true, true]);
    }

    fn address() -> Address {
        Address { gateway: GatewayId::new("g").unwrap(), session: SessionId::new("s").unwrap() }
    }

    #[test]
    fn jobs_have_no_live_frames() {
        for (kind, json) in [(Kind::Live, "live"), (Kind::Still, "still")] {
            let route = Route::to_client(kind, address());
            assert_eq!((route.kind(), route.reply()), (kind, Reply::Session(address())));
            let json = format!(r#"{{"kind":"{json}","reply":{{"gateway":"g","session":"s"}}}}"#);
            assert_eq!(serde_json::to_string(&route).unwrap(), json);
            assert_eq!(serde_json::from_str::<Route>(&json).unwrap(), route);
        }
        let job =
            |kind| serde_json::from_str::<Route>(&format!(r#"{{"kind":"{kind}","reply":{{"job":"j"}}}}"#));
        assert_eq!(job("still").unwrap().reply(), Reply::Job { job: JobId::new("j").unwrap() });
        assert!(job("live").is_err());
    }

    fn usual_header() -> FrameHeader {
        FrameHeader {
            stream: StreamName::new("cam").unwrap(),
            seq: 1,
            route: Route::Still(Reply::Session(address())),
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
            draw: Draw::default(),
            watched: Vec::new(),
            aside: false,
            trace: None,
        }
    }

    #[test]
    fn a_header_says_nothing_of_what_is_as_always() {
        let header = usual_header();
        assert_eq!(header.budget(), Duration::from_millis(3));
        let json = serde_json::to_value(&header).unwrap();
        let silent = ["prior", "retries", "caller", "draw", "watched", "aside", "trace"];
        assert!(silent.iter().all(|name| json.get(name).is_none()), "{json}");
        let again = FrameHeader { retries: 2, ..header };
        assert_eq!(serde_json::to_value(&again).unwrap()["retries"], 2);
    }

    #[test]
    fn a_copy_for_those_who_watch_is_live_and_nobody_waits_for_it() {
        let mut header = usual_header();
        header.watched = vec![Draw::Overlay];
        let [aside] = <[_; 1]>::try_from(header.asides(Duration::from_millis(2))).unwrap();
        assert_eq!(aside.route, Route::Live(address()));
        assert_eq!((aside.deadline_ms, aside.want, aside.aside), (2, Want::Overlay, true));
        assert!(aside.watched.is_empty(), "it is drawn once");
        assert!(
            aside.dropped(DropReason::Expired, "").aside && !header.dropped(DropReason::Expired, "").aside
        );
        header.route = Route::Still(Reply::Job { job: JobId::new("j").unwrap() });
        assert!(header.asides(Duration::from_millis(2)).is_empty(), "nobody watches a job");
    }

    #[test]
    fn a_reply_is_a_session_or_a_job() {
        let session = Reply::Session(address());
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
