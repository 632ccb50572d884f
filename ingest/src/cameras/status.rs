//! How a camera is doing.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use cloudpose_wire::{ModelId, StreamName, Want};
use serde::{Deserialize, Serialize};

use super::{Address, Wishes};
use crate::outbound::Trouble;
use crate::{config::STREAM_MODEL, meter::Meter, metrics, shared::Shared};

/// Whether a camera is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CameraState {
    /// For the first time.
    Connecting,
    /// Frames come.
    Live,
    /// It could not be reached, or has gone, and is tried again every second.
    Waiting,
    /// Somebody has to do something; it is tried again all the same, twice a minute.
    Error,
}

impl CameraState {
    pub(crate) const ALL: [Self; 4] = [Self::Connecting, Self::Live, Self::Waiting, Self::Error];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Waiting => "waiting",
            Self::Error => "error",
        }
    }
}

/// A camera as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, utoipa::ToSchema)]
pub(crate) struct Report {
    /// The stream that its frames are of.
    #[schema(value_type = String)]
    pub(super) stream: StreamName,
    /// Its address, without password.
    #[schema(example = "rtsp://joe:***@cam.example.com/stream1")]
    url: String,
    /// The model that is run.
    #[schema(value_type = String)]
    model: ModelId,
    /// At most so many frames a second are worked on; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fps: Option<f32>,
    /// What is made of each frame though nobody watches: `pose`, `overlay` or `both`.
    #[schema(inline)]
    want: Want,
    /// Whether it is fetched.
    #[schema(inline)]
    state: CameraState,
    /// Since when it is in that state: milliseconds since 1970-01-01T00:00:00Z.
    since: u64,
    /// Frames that it sends a second, of late.
    received_fps: f32,
    /// What was wrong lately, in words; absent if nothing is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// True: it is from the gateway's command line, and cannot be changed here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    fixed: bool,
}

impl Report {
    /// The camera as another gateway reports on it, which may not know yet what is wanted of it now.
    pub(super) fn of(self, of: Of<'_>) -> Self {
        let Of { stream, url, model, fps, want } = of;
        Self { stream: stream.clone(), url, model, fps, want, ..self }
    }

    /// A camera on which nobody reports now.
    pub(super) fn unknown(
        of: Of<'_>,
        fixed: bool,
        (state, since): (CameraState, u64),
        why: Option<&str>,
    ) -> Self {
        let Of { stream, url, model, fps, want } = of;
        let (stream, error) = (stream.clone(), why.map(str::to_owned));
        Self { stream, url, model, fps, want, state, since, received_fps: 0.0, error, fixed }
    }
}

/// What is known of a camera whatever it does.
pub(super) struct Of<'a> {
    stream: &'a StreamName,
    url: String,
    model: ModelId,
    fps: Option<f32>,
    want: Want,
}

impl<'a> Of<'a> {
    pub(super) fn new(stream: &'a StreamName, address: &Address, wishes: Wishes, shared: &Shared) -> Self {
        let Wishes { model, fps, want } = wishes;
        let model = model.unwrap_or_else(|| shared.default_model(STREAM_MODEL));
        Self { stream, url: address.shown(), model, fps, want }
    }
}

/// How a camera is doing. Counted, by its state, while it is there.
#[derive(Debug)]
pub(super) struct Status {
    state: CameraState,
    since: u64,
    error: Option<String>,
    meter: Meter,
}

impl Status {
    pub(super) fn new() -> Self {
        metrics::camera_state(CameraState::Connecting.as_str(), 1.0);
        Self { state: CameraState::Connecting, since: wall_ms(), error: None, meter: Meter::default() }
    }

    /// So many frames came.
    pub(super) fn came(&mut self, now: Instant, frames: u32) {
        self.meter.count(now, frames);
        if self.state != CameraState::Live {
            self.error = None;
            self.change(CameraState::Live);
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.state == CameraState::Live
    }

    /// Whether this was said already.
    pub(super) fn says(&self, why: &str) -> bool {
        !self.is_live() && self.error.as_deref() == Some(why)
    }

    /// It is not fetched for now.
    pub(super) fn failed(&mut self, trouble: Trouble) {
        let (state, why) = match trouble {
            Trouble::Gone(why) => (CameraState::Waiting, why),
            Trouble::Wrong(why) => (CameraState::Error, why),
        };
        self.error = Some(why);
        self.change(state);
    }

    /// Something is wrong with what comes.
    pub(super) fn note(&mut self, why: String) {
        self.error = Some(why);
    }

    pub(super) fn report(&self, now: Instant, of: Of<'_>, fixed: bool) -> Report {
        let Of { stream, url, model, fps, want } = of;
        let received_fps = self.meter.fps(now);
        let (state, since, error) = (self.state, self.since, self.error.clone());
        Report { stream: stream.clone(), url, model, fps, want, state, since, received_fps, error, fixed }
    }

    fn change(&mut self, state: CameraState) {
        if state != self.state {
            metrics::camera_state(self.state.as_str(), -1.0);
            metrics::camera_state(state.as_str(), 1.0);
            (self.state, self.since) = (state, wall_ms());
        }
    }
}

impl Drop for Status {
    fn drop(&mut self) {
        metrics::camera_state(self.state.as_str(), -1.0);
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z.
pub(super) fn wall_ms() -> u64 {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)
}
