//! What flows between the roles: frames on lanes, results to gateways, events to whoever listens.
//!
//! The roles see one [`Bus`]; which kind it is decides the composition root. All kinds keep the same
//! promises, and one conformance suite (`tests/conformance/`) holds them to it:
//!
//! - A **lane** is a work queue: each frame goes to one worker. Order is kept while nobody hands back. Workers
//!   are handed live and still frames in turn while there are both.
//! - **live** lanes are bounded; when full the oldest frame gives way, silently: the gateway's own
//!   deadline closes that frame. A worker that dies takes its frames with it.
//! - **still** lanes are bounded; when full, publishing is refused at once. A frame is gone only when it
//!   is acknowledged: a delivery that is dropped unacknowledged (the worker died) comes again,
//!   [`MAX_DELIVERIES`] times in all, and [`work()`] does it alone then. After that its gateway is told that it was given up.
//! - A frame that is no longer **worth beginning** is not handed out, and its gateway is told: a live one that has
//!   used up half of its time, a still that has used up all of it. Workers need not look at the clock again.
//! - **Results** reach the gateway they are addressed to, or are lost if it is gone or does not read.
//! - **Events** reach everyone who listens at that moment. A slow listener loses events, and slows
//!   nobody.
//! - **Results of jobs** are kept: one that [`reply`](Bus::reply) returned `Ok` for is handed out until it is
//!   acknowledged ([`Bus::job_results`]), also when whoever asks comes later, or dies with it. In one process they
//!   live as long as it does; a NATS server with files has them again after a restart. They are bounded; when
//!   full, `reply` refuses, and the frame stays with its worker ([`Delivery::finish`]).
//! - **Models**: what workers [announce](Bus::announce) is known to everyone who [looks](Bus::models), soon, and
//!   forgotten some time after they are gone.
//! - **News** of gateways and **views** of streams reach every gateway that listens at that moment, or are lost: like
//!   events. Views travel only to who listens to their stream.
//! - **Tickets**: a gateway that is [shown](Bus::redeem) another's asks that one, and gets its answer or none.
//! - **Buckets** keep small documents: of several who write over the same revision of one, one does.
//! - An [`Attachment`] spares the next stage work that this process has done already. It is never promised:
//!   it leaves no process, and a frame that comes again comes without.
//!
//! The bus knows nothing of roles and of what the bytes mean.

mod attachment;
mod bucket;
mod ends;
mod error;
mod hand;
mod heard;
mod jobs;
mod local;
pub mod metrics;
mod models;
pub mod nats;
mod tickets;
pub mod trace;
mod work;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use cloudpose_wire::{
    Frame, FrameResult, GatewayId, Lane, ModelInfo, News, SessionId, SharedEvent, Stage, StreamName, Tenant,
    TraceParent, View,
};
use tokio::time::MissedTickBehavior;

pub use attachment::Attachment;
pub use bucket::{Bucket, BucketError, Changes, Document, Over};
use ends::{expired, given_up};
pub use error::{Bound, PublishError, Queue};
pub use hand::Hand;
use heard::Source;
pub use heard::{Events, Heard, Results};
pub use jobs::JobResult;
pub use local::{Capacity, Local};
pub use models::Models;
pub use nats::Nats;
pub use tickets::{AllShown, Shown};
pub use work::work;

/// How often a still frame is handed out before it is given up.
pub const MAX_DELIVERIES: u32 = 2;

/// How often the lanes' metrics are brought up to date: more often than anyone asks for them.
const LOOK_AT_LANES: Duration = Duration::from_secs(2);
/// Pause before a job's result is offered again to a bus that cannot keep it now.
const OFFER_AGAIN: Duration = Duration::from_millis(500);

/// The bus between the roles of this process, or of many.
#[derive(Debug, Clone)]
pub enum Bus {
    /// In this process: no broker.
    Local(Local),
    /// On a NATS server, for roles in many processes.
    Nats(Nats),
}

impl Bus {
    /// A bus inside this process.
    pub fn local(capacity: Capacity) -> Self {
        Self::Local(Local::new(capacity))
    }

    /// A bus on the NATS server that `config` names. Makes the lanes there if they are missing, and keeps to
    /// them when the server is lost and comes back.
    ///
    /// # Errors
    /// [`nats::ConnectError`] if no server answers within 10 s, or it does not let us work.
    pub async fn nats(config: &nats::Config, capacity: Capacity) -> Result<Self, nats::ConnectError> {
        Nats::connect(config, capacity).await.map(Self::Nats)
    }

    /// Puts `frame` on the lane of `stage` and of the frame's own kind. A still that is published again with
    /// the same number of `retries`, because the broker did not confirm that it has it, is worked on once.
    ///
    /// # Errors
    /// [`PublishError::Full`] on a still lane at its bound. On NATS also [`PublishError::TooLarge`] and
    /// [`PublishError::Unreachable`]. The frame is not taken; if the server's confirmation was lost it may
    /// have been all the same.
    pub async fn publish(&self, stage: Stage, frame: Frame) -> Result<(), PublishError> {
        match self {
            Self::Local(bus) => bus.publish(stage, frame, None),
            Self::Nats(bus) => bus.publish(stage, frame).await,
        }
    }

    /// Publishes a frame as [`publish`](Self::publish) does, with an attachment for whoever is handed it
    /// first, if that is in this process.
    ///
    /// # Errors
    /// Those of [`publish`](Self::publish).
    pub async fn publish_with(
        &self,
        stage: Stage,
        frame: Frame,
        attachment: Attachment,
    ) -> Result<(), PublishError> {
        match self {
            Self::Local(bus) => bus.publish(stage, frame, Some(attachment)),
            // Dropped here: it has no meaning in another process.
            Self::Nats(bus) => bus.publish(stage, frame).await,
        }
    }

    /// Waits for work at `stage` and takes up to `max` frames, live and still in turn. Those that it takes are
    /// in the order in which they were published.
    ///
    /// Never returns an empty list. Dropping the future loses no frame.
    pub async fn pull(&self, stage: Stage, max: usize) -> Vec<Delivery> {
        match self {
            Self::Local(bus) => bus.pull(stage, max).await,
            Self::Nats(bus) => bus.pull(stage, max).await,
        }
    }

    /// Waits for a frame at `stage` of any tenant but one, whoever's turn it is. Dropping the future loses no frame.
    pub async fn pull_others(&self, stage: Stage, but: &Tenant) -> Delivery {
        match self {
            Self::Local(bus) => bus.pull_others(stage, but).await,
            Self::Nats(bus) => bus.pull_others(stage, but).await,
        }
    }

    /// Whether attachments reach anybody: only inside one process.
    pub fn carries_attachments(&self) -> bool {
        matches!(self, Self::Local(_))
    }

    /// Sends a result to where its `reply` says.
    ///
    /// A gateway that is gone, or too slow to read, does not get it: its own deadline tells it. A job's result is
    /// kept from here on; the same one may be kept twice, if it is sent again because this failed.
    ///
    /// # Errors
    /// Only for a job's result, which is not kept then: [`PublishError::Full`], on NATS also
    /// [`PublishError::Unreachable`].
    pub async fn reply(&self, result: FrameResult) -> Result<(), PublishError> {
        match self {
            Self::Local(bus) => bus.reply(result),
            Self::Nats(bus) => bus.reply(result).await,
        }
    }

    /// Waits for results of jobs and takes up to `max`, those of all jobs together, the oldest first. Several may
    /// ask: each result goes to one of them at a time.
    ///
    /// Never returns an empty list. Dropping the future loses no result; on NATS one may come 2 s late then.
    pub async fn job_results(&self, max: usize) -> Vec<JobResult> {
        match self {
            Self::Local(bus) => bus.jobs().take(max).await,
            Self::Nats(bus) => bus.job_results(max).await,
        }
    }

    /// The results addressed to `gateway` from now on.
    pub async fn results(&self, gateway: &GatewayId) -> Results {
        match self {
            Self::Local(bus) => Results(Source::Local(bus.results(gateway))),
            Self::Nats(bus) => Results(Source::Nats(bus.results(gateway).await)),
        }
    }

    /// On how many frames workers work at once, as far as they say, where a lane serves a tenant's frames in the order in which
    /// they came. None where its streams have turns.
    pub fn first_come_slots(&self) -> Option<usize> {
        match self {
            Self::Local(_) => None,
            Self::Nats(_) => {
                let slots = self.models().slots();
                Some(slots.first.saturating_add(slots.overflow)).filter(|slots| *slots > 0)
            }
        }
    }

    /// Tells everyone who listens what was found in a frame of `tenant`. On NATS, where a tenant's events can be listened
    /// to alone, the message says of which `session` and which `trace` it comes from.
    pub async fn publish_event(
        &self,
        event: &SharedEvent,
        tenant: &Tenant,
        session: Option<&SessionId>,
        trace: Option<TraceParent>,
    ) {
        match self {
            Self::Local(bus) => bus.publish_event(event),
            Self::Nats(bus) => bus.publish_event(event, tenant, session, trace).await,
        }
    }

    /// The events of all streams from now on.
    pub async fn events(&self) -> Events {
        match self {
            Self::Local(bus) => Events(Source::Local(bus.events())),
            Self::Nats(bus) => Events(Source::Nats(bus.events().await)),
        }
    }

    /// Tells all gateways what one of them holds and watches.
    ///
    /// # Errors
    /// On NATS [`PublishError::TooLarge`] and [`PublishError::Unreachable`]: nobody was told.
    pub async fn tell(&self, news: News) -> Result<(), PublishError> {
        match self {
            Self::Local(bus) => bus.tell(news),
            Self::Nats(bus) => return bus.tell(&news).await,
        }
        Ok(())
    }

    /// What gateways tell from now on, this one too.
    pub async fn news(&self) -> Heard<News> {
        match self {
            Self::Local(bus) => Heard(Source::Local(bus.news())),
            Self::Nats(bus) => Heard(Source::Nats(bus.news().await)),
        }
    }

    /// Shows a frame of a tenant's stream to the gateways whose clients watch it.
    ///
    /// # Errors
    /// On NATS [`PublishError::TooLarge`] and [`PublishError::Unreachable`]: nobody sees it.
    pub async fn show(&self, tenant: &Tenant, stream: &StreamName, view: View) -> Result<(), PublishError> {
        match self {
            Self::Local(bus) => bus.show(tenant, stream, view),
            Self::Nats(bus) => return bus.show(tenant, stream, &view).await,
        }
        Ok(())
    }

    /// What is shown of a tenant's stream from now on, also by this gateway.
    pub async fn views(&self, tenant: &Tenant, stream: &StreamName) -> Heard<View> {
        match self {
            Self::Local(bus) => Heard(Source::Local(bus.views(tenant, stream))),
            Self::Nats(bus) => Heard(Source::Nats(bus.views(tenant, stream).await)),
        }
    }

    /// Asks a gateway what a ticket of its is good for. `None` if it does not answer; it may take its time.
    pub async fn redeem(&self, gateway: &GatewayId, ticket: Bytes) -> Option<Bytes> {
        match self {
            Self::Local(bus) => bus.tickets().redeem(gateway, ticket).await,
            Self::Nats(bus) => bus.redeem(gateway, ticket).await,
        }
    }

    /// The tickets of a gateway that others are shown from now on.
    pub async fn tickets_shown(&self, gateway: &GatewayId) -> AllShown {
        AllShown(match self {
            Self::Local(bus) => tickets::Source::Local(bus.tickets().of(gateway)),
            Self::Nats(bus) => tickets::Source::Nats(bus.tickets_shown(gateway).await),
        })
    }

    /// Says that this process's workers serve `models`, instead of what was said before.
    pub fn announce(&self, models: Vec<ModelInfo>) {
        match self {
            Self::Local(bus) => bus.announce(models),
            Self::Nats(bus) => bus.announce(models),
        }
    }

    /// Says on how many frames this process's workers of `stage` work at once from now on.
    fn at_work(&self, stage: Stage, slots: usize) {
        metrics::slots(stage, slots);
        if stage == Stage::Infer {
            match self {
                Self::Local(bus) => bus.models().at_work(slots),
                Self::Nats(bus) => bus.announce_slots(slots),
            }
        }
    }

    /// What all workers serve. Who wants to know it at once asks early: on NATS it is heard from the first call on.
    pub fn models(&self) -> Models {
        match self {
            Self::Local(bus) => bus.models(),
            Self::Nats(bus) => bus.models(),
        }
    }

    /// Frames waiting on `lane`, and how long the oldest has. On NATS, where it has to be asked for, nothing
    /// while the server is gone.
    pub async fn depth(&self, lane: Lane) -> Depth {
        match self {
            Self::Local(bus) => bus.depth(lane),
            Self::Nats(bus) => bus.depth(lane).await.unwrap_or_default(),
        }
    }

    /// Keeps the metrics of all lanes up to date: what waits, what is in hand, how old the oldest is. They stay
    /// as they are while the broker does not tell: a lane that nobody sees is not an empty one.
    pub async fn watch_lanes(&self) -> Infallible {
        let mut every = tokio::time::interval(LOOK_AT_LANES);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            every.tick().await;
            for lane in Lane::ALL {
                let depth = match self {
                    Self::Local(bus) => Some(bus.depth(lane)),
                    Self::Nats(bus) => bus.depth(lane).await,
                };
                if let Some(depth) = depth {
                    metrics::lane(lane, depth);
                }
            }
            let kept = match self {
                Self::Local(bus) => Some(bus.jobs().kept()),
                Self::Nats(bus) => bus.kept_results().await,
            };
            if let Some(kept) = kept {
                metrics::job_results(kept);
            }
            metrics::announced(self.models().slots());
        }
    }

    /// Waits until the bus is there (`true`) or gone (`false`). A bus inside this process is always there.
    pub async fn wait_until(&self, there: bool) {
        match self {
            Self::Local(_) if there => {}
            Self::Local(_) => std::future::pending().await,
            Self::Nats(bus) => bus.wait_until(there).await,
        }
    }

    /// Whether the bus is there. A bus inside this process always is.
    pub fn is_there(&self) -> bool {
        match self {
            Self::Local(_) => true,
            Self::Nats(bus) => bus.is_there(),
        }
    }

    /// Which connection this is, counted from the first; 0 for a bus inside this process.
    pub fn connection(&self) -> u64 {
        match self {
            Self::Local(_) => 0,
            Self::Nats(bus) => bus.connection(),
        }
    }

    /// Waits until there is a later connection than `than`, and answers which. The broker behind it may have
    /// forgotten what it was given before, and results may have been lost meanwhile. A bus inside this process
    /// forgets nothing.
    pub async fn later_connection(&self, than: u64) -> u64 {
        match self {
            Self::Local(_) => std::future::pending().await,
            Self::Nats(bus) => bus.later_connection(than).await,
        }
    }

    /// The largest image that fits into a message of this bus, in bytes, if there is a bound. Headers take
    /// part of what the server's `max_payload` allows; room for those of a frame with six persons is kept.
    pub fn max_image_bytes(&self) -> Option<usize> {
        match self {
            Self::Local(_) => None,
            Self::Nats(bus) => Some(bus.max_image_bytes()),
        }
    }

    /// Hands back what was pulled for nobody and says goodbye, or stops trying after `within`. Roles that use the
    /// bus must have ended.
    pub async fn close(&self, within: Duration) {
        match self {
            Self::Local(_) => {}
            Self::Nats(bus) => bus.close(within).await,
        }
    }
}

/// How much waits on a lane.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Depth {
    /// Frames waiting, those handed out not counted.
    pub frames: usize,
    /// Frames handed out and not settled.
    pub in_hand: usize,
    /// Age of the oldest frame waiting, on NATS of the oldest on the lane; zero if none waits.
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
    origin: Origin,
}

/// Where a delivery came from, and is settled.
#[derive(Debug)]
enum Origin {
    Local(local::Origin),
    Nats(nats::Origin),
}

impl Delivery {
    /// The frame is done with, well or badly: it will not come again.
    pub async fn ack(mut self) {
        match &mut self.origin {
            Origin::Local(origin) => origin.ack(),
            Origin::Nats(origin) => origin.ack().await,
        }
    }

    /// Sends the frame's result, and is done with the frame. A job's result is offered again until the bus can keep
    /// it: so long the frame stays in this worker's hands.
    pub async fn finish(self, bus: &Bus, result: FrameResult) {
        let mut told = false;
        while let Err(error) = bus.reply(result.clone()).await {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(%error, "the job's result cannot be kept now; trying again");
            }
            tokio::time::sleep(OFFER_AGAIN).await;
        }
        self.ack().await;
    }

    /// The worker is leaving and has not begun: the frame goes back to where it was, as if never taken.
    pub async fn hand_back(mut self) {
        match &mut self.origin {
            Origin::Local(origin) => origin.hand_back(self.frame.clone(), self.attempt),
            Origin::Nats(origin) => origin.hand_back(&self.frame, self.attempt).await,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        match &mut self.origin {
            Origin::Local(origin) => origin.abandon(&self.frame, self.attempt),
            Origin::Nats(origin) => origin.abandon(),
        }
    }
}
