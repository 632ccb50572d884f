//! The bus on a NATS server: lanes are JetStream work queues, results, events and announcements core NATS.
//!
//! - `connection`: settings, and whether there is a connection
//! - `lanes`: streams and consumers
//! - `jobs`: results that are kept
//! - `records`: events that are kept
//! - `set_up`: making what is missing, once
//! - `store`: what the broker keeps, and what it says to that
//! - `pull`: frames for the workers of this process, with `desk` and `ask`
//! - `tenants`: which tenants have frames
//! - `delivery`: acknowledging, handing back
//! - `announce`: which models are served
//! - `gateways`: what gateways tell and show each other
//! - `tickets`: what one gateway asks of another's tickets
//! - `bucket`: documents that gateways change together
//! - `message`: what goes over the wire
//! - `clock`: ages by the broker's clock

mod announce;
mod ask;
mod bucket;
mod clock;
mod cloudevents;
mod connection;
mod delivery;
mod desk;
mod gateways;
mod jobs;
mod lanes;
mod message;
mod pull;
mod records;
mod set_up;
mod store;
mod tenants;
mod tickets;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use async_nats::{
    Client, Subscriber,
    jetstream::{self, AckKind, consumer::PullConsumer},
};
use cloudpose_policy::deadline;
use cloudpose_wire::{
    Address, DropReason, FrameResult, GatewayId, Kind, Lane, Prefix, Reply, SessionId, SharedEvent, Stage,
    Tenant, TraceParent, frame::ResultBody, model::Announcement, subject,
};
use futures_util::{StreamExt as _, stream::SelectAll};
use serde::Deserialize;
use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::{
    bucket::{Bucket, Changes},
    delivery::Origin,
    jobs::Kept,
    tickets::{AllShown, Asker},
};
use self::{
    clock::BrokerClock, connection::Link, desk::Desk, message::Malformed, pull::Puller, set_up::SetUp,
    store::Place,
};
pub use self::{
    connection::{Config, ConnectError, Login, Role, Turn, log_in},
    records::{Batch, Recorded, Records, RecordsError},
};
use crate::{
    Capacity, Delivery, Depth, MAX_DELIVERIES, Models, PublishError, expired, given_up, metrics,
    metrics::Loss,
};

/// How long the broker may take to say that it has a frame, or knows that one is done.
const CONFIRMATION: Duration = Duration::from_secs(2);
/// How long a result waits for a connection that has just been lost.
const RECONNECTION: Duration = Duration::from_secs(2);
/// Bytes of a message that are kept for headers: six persons' poses and tracks are about 30 kB of JSON.
const HEADERS: usize = 64 << 10;

/// The bus on a NATS server. Clones share the connection.
#[derive(Clone)]
pub struct Nats(Arc<Shared>);

struct Shared {
    client: Client,
    jetstream: jetstream::Context,
    link: watch::Receiver<Link>,
    prefix: Prefix,
    /// Tells this process from others where it announces its models.
    name: String,
    announced: watch::Sender<Option<Announcement>>,
    models: OnceLock<Models>,
    /// First tokens of the subjects on which JetStream is asked.
    api: String,
    turn: Turn,
    role: Option<Role>,
    /// Copies of each queue.
    replicas: usize,
    /// Whether events have the headers of CloudEvents.
    cloudevents: bool,
    capacity: Capacity,
    clock: BrokerClock,
    desks: Mutex<HashMap<Stage, Arc<Desk>>>,
    /// Where to acknowledge the stills, and the results of jobs, that this process holds.
    in_hand: Mutex<HashSet<String>>,
    lanes: SetUp,
    tenant_lanes: SetUp,
    jobs: SetUp,
    /// Of which tenants workers have been told, and when.
    told: Mutex<HashMap<Tenant, Instant>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl std::fmt::Debug for Nats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Nats").field("prefix", &self.0.prefix).finish_non_exhaustive()
    }
}

impl Shared {
    fn in_hand(&self) -> MutexGuard<'_, HashSet<String>> {
        // Insert and remove leave the set whole, so a panic elsewhere does not spoil it.
        self.in_hand.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nats {
    pub(crate) async fn connect(config: &Config, capacity: Capacity) -> Result<Self, ConnectError> {
        let (client, link) = connection::connect(config).await?;
        let mut jetstream = match &config.domain {
            Some(domain) => jetstream::with_domain(client.clone(), domain.as_str()),
            None => jetstream::new(client.clone()),
        };
        jetstream.set_timeout(CONFIRMATION);
        let bus = Self(Arc::new(Shared {
            name: client.new_inbox(),
            announced: watch::channel(None).0,
            models: OnceLock::new(),
            client,
            jetstream,
            link,
            prefix: config.prefix.clone(),
            api: config.domain.as_ref().map_or("$JS.API".into(), |domain| format!("$JS.{domain}.API")),
            turn: config.turn,
            role: config.role,
            replicas: config.replicas.unwrap_or(1),
            cloudevents: config.cloudevents,
            capacity,
            clock: BrokerClock::new(Instant::now()),
            desks: Mutex::default(),
            in_hand: Mutex::default(),
            lanes: SetUp::default(),
            tenant_lanes: SetUp::default(),
            jobs: SetUp::default(),
            told: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        }));
        bus.set_up(bus.0.lanes.seen()).await.map_err(ConnectError::Lanes)?;
        bus.0.tasks.spawn(bus.clone().keep());
        Ok(bus)
    }

    /// Keeps what is ours on the broker until the bus is closed.
    async fn keep(self) {
        let mut sign_of_life = tokio::time::interval(lanes::ACK_WAIT / 4);
        let mut look_at_clock = tokio::time::interval(Duration::from_secs(60));
        let mut link = self.0.link.clone();
        link.mark_unchanged();
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => break,
                _ = sign_of_life.tick(), if self.0.link.borrow().up => self.keep_stills().await,
                _ = look_at_clock.tick(), if self.0.link.borrow().up && self.has_lanes() => self.read_clock().await,
                changed = link.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    if link.borrow_and_update().up
                        && let Err(error) = self.set_up(self.0.lanes.seen()).await
                    {
                        tracing::warn!(%error, "cannot set up the work queues on NATS");
                    }
                }
            }
        }
    }

    /// Whether this process has to do with lanes.
    fn has_lanes(&self) -> bool {
        self.0.role != Some(Role::Recorder)
    }

    /// Makes the lanes where they are missing, unless somebody has since `seen`.
    async fn set_up(&self, seen: u64) -> Result<(), async_nats::Error> {
        if !self.has_lanes() {
            return Ok(());
        }
        let make = async {
            let Shared { jetstream, prefix, capacity, replicas, role, .. } = &*self.0;
            lanes::set_up(jetstream, prefix, capacity, *replicas, *role).await?;
            self.read_clock().await;
            Ok(())
        };
        self.0.lanes.once(seen, make).await
    }

    async fn read_clock(&self) {
        /// The broker's time in an answer of its API.
        #[derive(Deserialize)]
        struct Stamped {
            ts: String,
        }
        let lane = Lane { stage: Stage::Infer, kind: Kind::Live };
        let question = format!("STREAM.INFO.{}", lanes::stream(&self.0.prefix, lane));
        let asked = Instant::now();
        let answer: Result<Stamped, _> = self.0.jetstream.request(question, &()).await;
        let answered = Instant::now();
        let told = answer.ok().and_then(|answer| async_nats::datetime::parse_rfc3339(&answer.ts).ok());
        match told {
            Some(brokers) => self.0.clock.set(asked, brokers.unix_timestamp_nanos(), answered),
            None => tracing::debug!("the broker did not tell its time"),
        }
    }

    pub(crate) async fn pull(&self, stage: Stage, max: usize) -> Vec<Delivery> {
        self.desk(stage).take(max).await
    }

    pub(crate) async fn pull_others(&self, stage: Stage, but: &Tenant) -> Delivery {
        self.desk(stage).take_others(but).await
    }

    /// The desk of `stage`, with its puller at work.
    fn desk(&self, stage: Stage) -> Arc<Desk> {
        let mut desks = self.0.desks.lock().unwrap_or_else(PoisonError::into_inner);
        desks
            .entry(stage)
            .or_insert_with(|| {
                let desk = Arc::<Desk>::default();
                self.0.tasks.spawn(Puller::new(self.clone(), stage, desk.clone()).run());
                desk
            })
            .clone()
    }

    /// Makes a delivery of what came from `lane`. `None`: it was settled here.
    async fn receive(&self, lane: Lane, message: async_nats::Message) -> Result<Option<Delivery>, Malformed> {
        let message = jetstream::Message { message, context: self.0.jetstream.clone() };
        let info = message.info().map_err(Malformed::NotFromALane)?;
        let (deliveries, published) = (info.delivered, info.published.unix_timestamp_nanos());
        let Some(ack) = message.reply.clone() else { return Ok(None) };
        let (frame, past) = match message::frame(&message.message) {
            Ok(frame) => frame,
            Err(error) => {
                // Nobody will ever understand it.
                self.0.client.publish(ack, AckKind::Term.into()).await.ok();
                return Err(error);
            }
        };
        let since = past.map_or(published, |past| past.since);
        let attempt = match lane.kind {
            // Only what was handed back comes again, and that does not count.
            Kind::Live => 1,
            Kind::Still => {
                let earlier = past.map_or(0, |past| past.attempt.saturating_sub(1));
                earlier.saturating_add(u32::try_from(deliveries).unwrap_or(u32::MAX))
            }
        };
        let waited = self.0.clock.age(since, Instant::now());
        let mut origin = Origin::new(self.clone(), lane, ack, since);
        let header = &frame.header;
        let end = if attempt > MAX_DELIVERIES {
            given_up(lane.stage, header)
        } else if !deadline::worth_beginning(lane.kind, header.budget(), waited) {
            expired(header)
        } else {
            let origin = crate::Origin::Nats(origin);
            return Ok(Some(Delivery { frame, waited, attempt, attachment: None, origin }));
        };
        match self.reply(end).await {
            Ok(()) => origin.ack().await,
            Err(error) => {
                tracing::debug!(%error, %lane, "a job's frame is not given up yet: nobody could be told");
                origin.leave();
            }
        }
        Ok(None)
    }

    pub(crate) async fn reply(&self, mut result: FrameResult) -> Result<(), PublishError> {
        let limit = self.0.client.max_payload();
        let (mut headers, mut overlay) = message::of_result(&result);
        let size = message::size(&headers, &overlay);
        if size > limit {
            let detail = PublishError::TooLarge { size, limit }.to_string();
            result.body = ResultBody::Dropped { reason: DropReason::TooLarge, detail };
            (headers, overlay) = message::of_result(&result);
        }
        let to = match &result.reply {
            Reply::Session(Address { gateway, session }) => {
                subject::results(&self.0.prefix, gateway, session)
            }
            Reply::Job { job } => {
                let to = subject::job_result(&self.0.prefix, job, result.seq);
                return self.store(Place::Jobs, to, headers, overlay).await;
            }
        };
        let mut link = self.0.link.clone();
        let up = timeout(RECONNECTION, link.wait_for(|link| link.up)).await.is_ok();
        if !up || self.0.client.publish_with_headers(to, headers, overlay).await.is_err() {
            metrics::lost(Loss::Disconnected);
        }
        Ok(())
    }

    pub(crate) async fn results(&self, gateway: &GatewayId) -> Inbox<FrameResult> {
        let subject = subject::all_results(&self.0.prefix, gateway);
        Inbox { answers: self.subscribe([subject]).await, read: message::result }
    }

    pub(crate) async fn publish_event(
        &self,
        shared: &SharedEvent,
        tenant: &Tenant,
        session: Option<&SessionId>,
        trace: Option<TraceParent>,
    ) {
        let event = match shared.event() {
            Ok(event) => event,
            Err(error) => return tracing::error!(%error, "an event that is none was to be published"),
        };
        let to = subject::event(&self.0.prefix, tenant, &event.stream, &event.output);
        let up = self.0.link.borrow().up;
        let (mut headers, payload) = (message::event_headers(session, trace), message::event_payload(shared));
        if self.0.cloudevents {
            cloudevents::mark(&mut headers, event, &self.0.prefix, tenant, trace);
        }
        if !up || self.0.client.publish_with_headers(to, headers, payload).await.is_err() {
            metrics::lost(Loss::Disconnected);
        }
    }

    pub(crate) async fn events(&self) -> Inbox<SharedEvent> {
        let subjects = subject::all_events(&self.0.prefix);
        Inbox { answers: self.subscribe(subjects).await, read: message::event }
    }

    async fn subscribe(&self, subjects: impl IntoIterator<Item = String>) -> SelectAll<Subscriber> {
        let mut answers = SelectAll::new();
        for subject in subjects {
            match self.0.client.subscribe(subject).await {
                Ok(subscriber) => answers.push(subscriber),
                Err(error) => tracing::error!(%error, "cannot subscribe"),
            }
        }
        // What others publish from now on comes here too.
        self.0.client.flush().await.ok();
        answers
    }

    pub(crate) async fn depth(&self, lane: Lane) -> Option<Depth> {
        let told = self.ask_depth(lane).await;
        told.inspect_err(|error| tracing::debug!(%error, %lane, "the broker does not tell how much waits"))
            .ok()
    }

    async fn ask_depth(&self, lane: Lane) -> Result<Depth, async_nats::Error> {
        let stream = self.0.jetstream.get_stream(lanes::stream(&self.0.prefix, lane)).await?;
        let count = |frames: u64| usize::try_from(frames).unwrap_or(usize::MAX);
        let state = &stream.cached_info().state;
        let (frames, in_hand) = if state.consumer_count == 0 {
            // No worker has ever come.
            (count(state.messages), 0)
        } else {
            let consumer: PullConsumer = stream.get_consumer(lanes::CONSUMER).await?;
            (count(consumer.cached_info().num_pending), consumer.cached_info().num_ack_pending)
        };
        let first = stream.cached_info().state.first_timestamp.unix_timestamp_nanos();
        let oldest = if frames == 0 { Duration::ZERO } else { self.0.clock.age(first, Instant::now()) };
        let of_tenants = self.tenants_depth(lane).await;
        Ok(Depth {
            frames: frames + of_tenants.frames,
            in_hand: in_hand + of_tenants.in_hand,
            oldest: oldest.max(of_tenants.oldest),
        })
    }

    pub(crate) async fn wait_until(&self, there: bool) {
        let mut link = self.0.link.clone();
        if link.wait_for(|link| link.up == there).await.is_err() {
            // The connection's task has ended: nothing changes any more.
            std::future::pending::<()>().await;
        }
    }

    pub(crate) fn is_there(&self) -> bool {
        self.0.link.borrow().up
    }

    pub(crate) fn connection(&self) -> u64 {
        self.0.link.borrow().epoch
    }

    pub(crate) async fn later_connection(&self, than: u64) -> u64 {
        let mut link = self.0.link.clone();
        let later = link.wait_for(|link| link.up && link.epoch > than).await.map(|link| link.epoch);
        match later {
            Ok(epoch) => epoch,
            // The connection's task has ended: nothing changes any more.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn max_image_bytes(&self) -> usize {
        self.0.client.max_payload().saturating_sub(HEADERS)
    }

    pub(crate) async fn close(&self, within: Duration) {
        self.0.stop.cancel();
        self.0.tasks.close();
        let closing = async {
            self.0.tasks.wait().await;
            self.0.client.flush().await
        };
        if timeout(within, closing).await.is_err() {
            tracing::warn!("not everything was handed back to NATS in time: it comes again by itself");
        }
    }
}

/// A subscription whose messages are of one kind.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    /// Without a subscription nothing ever comes.
    answers: SelectAll<Subscriber>,
    read: fn(async_nats::Message) -> Result<T, Malformed>,
}

impl<T> Inbox<T> {
    /// Waits for the next one. `None`: the bus is closed.
    pub(crate) async fn next(&mut self) -> Option<T> {
        loop {
            let message = self.answers.next().await?;
            match (self.read)(message) {
                Ok(read) => return Some(read),
                Err(error) => {
                    metrics::lost(Loss::Malformed);
                    tracing::warn!(%error, "dropped a message that is none of ours");
                }
            }
        }
    }
}
