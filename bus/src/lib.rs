//! What flows between the roles: frames on lanes, results to gateways, pose events to whoever listens.
//!
//! The roles see one [`Bus`]; which kind it is decides the composition root. All kinds keep the same
//! promises, and one conformance suite (`tests/conformance.rs`) holds them to it:
//!
//! - A **lane** is a work queue: each frame goes to one worker. Order is kept while nobody hands back.
//! - **live** lanes are bounded; when full the oldest frame gives way, silently: the gateway's own
//!   deadline closes that frame. A frame older than the lane's maximum age is not handed out. A worker
//!   that dies takes its frames with it.
//! - **still** lanes are bounded; when full, publishing is refused at once. A frame is gone only when it
//!   is acknowledged: a delivery that is dropped unacknowledged (the worker died) comes again,
//!   [`MAX_DELIVERIES`] times in all.
//! - **Results** reach the gateway they are addressed to, or are lost if it is gone or does not read.
//! - **Pose events** reach everyone who listens at that moment. A slow listener loses events, and slows
//!   nobody.
//! - An [`Attachment`] spares the next stage work that this process has done already. It is never promised:
//!   it leaves no process, and a frame that comes again comes without.
//!
//! The bus knows nothing of roles and of what the bytes mean.

mod attachment;
mod local;
mod work;

use std::time::Duration;

use cloudpose_wire::{Frame, FrameResult, GatewayId, Lane, PoseEvent, Stage};

pub use attachment::Attachment;
pub use local::{Limits, Local};
pub use work::work;

/// How often a still frame is handed out before it is given up.
pub const MAX_DELIVERIES: u32 = 3;

/// A frame could not be put on its lane.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The still lane is full: tell the client to come again later.
    #[error("the {lane} lane holds {limit} frames and takes no more")]
    Full {
        /// Which lane.
        lane: Lane,
        /// Its bound, in frames.
        limit: usize,
    },
}

/// The bus between the roles of this process, or of many.
#[derive(Debug, Clone)]
pub enum Bus {
    /// In this process: no broker.
    Local(Local),
}

impl Bus {
    /// A bus inside this process.
    pub fn local(limits: Limits) -> Self {
        Self::Local(Local::new(limits))
    }

    /// Puts `frame` on the lane of `stage` and of the frame's own kind.
    ///
    /// # Errors
    /// [`PublishError::Full`] on a still lane at its bound; the frame is not taken.
    #[expect(clippy::unused_async, reason = "a broker's acknowledgement is awaited here")]
    pub async fn publish(&self, stage: Stage, frame: Frame) -> Result<(), PublishError> {
        match self {
            Self::Local(bus) => bus.publish(stage, frame, None),
        }
    }

    /// Publishes a frame as [`publish`](Self::publish) does, with an attachment for whoever is handed it
    /// first, if that is in this process.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    #[expect(clippy::unused_async, reason = "a broker's acknowledgement is awaited here")]
    pub async fn publish_with(
        &self,
        stage: Stage,
        frame: Frame,
        attachment: Attachment,
    ) -> Result<(), PublishError> {
        match self {
            Self::Local(bus) => bus.publish(stage, frame, Some(attachment)),
        }
    }

    /// Waits for work at `stage`, of either kind, and takes up to `max` frames, oldest first.
    ///
    /// Never returns an empty list. Dropping the future loses no frame.
    pub async fn pull(&self, stage: Stage, max: usize) -> Vec<Delivery> {
        match self {
            Self::Local(bus) => bus.pull(stage, max).await,
        }
    }

    /// Sends a result to the gateway in its `reply`.
    ///
    /// A gateway that is gone, or too slow to read, does not get it: its own deadline tells it.
    #[expect(clippy::unused_async, reason = "a broker's connection is awaited here")]
    pub async fn reply(&self, result: FrameResult) {
        match self {
            Self::Local(bus) => bus.reply(result),
        }
    }

    /// The results addressed to `gateway` from now on.
    #[expect(clippy::unused_async, reason = "a broker's subscription is awaited here")]
    pub async fn results(&self, gateway: &GatewayId) -> Results {
        match self {
            Self::Local(bus) => Results(bus.results(gateway)),
        }
    }

    /// Tells everyone who listens of a frame's poses.
    #[expect(clippy::unused_async, reason = "a broker's connection is awaited here")]
    pub async fn publish_pose(&self, event: &PoseEvent) {
        match self {
            Self::Local(bus) => bus.publish_pose(event),
        }
    }

    /// The pose events of all streams from now on.
    #[expect(clippy::unused_async, reason = "a broker's subscription is awaited here")]
    pub async fn poses(&self) -> PoseEvents {
        match self {
            Self::Local(bus) => PoseEvents(bus.poses()),
        }
    }

    /// Frames waiting on `lane`, and how long the oldest has.
    pub fn depth(&self, lane: Lane) -> Depth {
        match self {
            Self::Local(bus) => bus.depth(lane),
        }
    }
}

/// How much waits on a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Frames waiting, those handed out not counted.
    pub frames: usize,
    /// Age of the oldest one; zero if there is none.
    pub oldest: Duration,
}

/// A frame handed to a worker. It must end in [`ack`](Self::ack) or [`hand_back`](Self::hand_back);
/// dropped without, it counts as the worker's death.
#[derive(Debug)]
pub struct Delivery {
    /// The frame.
    pub frame: Frame,
    /// How long it has been on the lane.
    pub waited: Duration,
    /// 1 the first time it is handed out.
    pub attempt: u32,
    /// What the publisher attached, if the frame has not left its process and was not handed out before.
    pub attachment: Option<Attachment>,
    origin: local::Origin,
}

impl Delivery {
    /// The frame is done with, well or badly: it will not come again.
    #[expect(clippy::unused_async, reason = "a broker is told here")]
    pub async fn ack(mut self) {
        self.origin.ack();
    }

    /// The worker is leaving and has not begun: the frame goes back to where it was, as if never taken.
    #[expect(clippy::unused_async, reason = "a broker is told here")]
    pub async fn hand_back(mut self) {
        self.origin.hand_back(self.frame.clone(), self.attempt);
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.origin.abandon(&self.frame, self.attempt);
    }
}

/// Results addressed to one gateway.
#[derive(Debug)]
pub struct Results(tokio::sync::mpsc::Receiver<FrameResult>);

impl Results {
    /// Waits for the next result. `None`: another subscription took this gateway's place.
    pub async fn next(&mut self) -> Option<FrameResult> {
        self.0.recv().await
    }
}

/// Pose events as they happen.
#[derive(Debug)]
pub struct PoseEvents(tokio::sync::broadcast::Receiver<PoseEvent>);

impl PoseEvents {
    /// Waits for the next event. Events that came faster than they were read are skipped.
    /// `None`: the bus is gone.
    pub async fn next(&mut self) -> Option<PoseEvent> {
        use tokio::sync::broadcast::error::RecvError;
        loop {
            match self.0.recv().await {
                Ok(event) => return Some(event),
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        }
    }
}
