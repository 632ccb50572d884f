//! The bus inside one process.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloudpose_policy::lanes::{Bounds, Full, Lanes, Next, Owner, Queued};
use cloudpose_wire::{
    Frame, FrameResult, GatewayId, Kind, Lane, ModelInfo, News, Reply, SharedEvent, Stage, StreamName,
    Tenant, View, model::Announcement,
};
use tokio::{
    sync::{
        Notify,
        broadcast::{self, error::RecvError},
        mpsc,
    },
    time::Instant,
};

use crate::{
    Attachment, Bound, Delivery, Depth, MAX_DELIVERIES, Models, PublishError, Queue,
    bucket::{LocalBucket, LocalBuckets},
    expired, given_up,
    jobs::LocalResults,
    tickets::LocalTickets,
};

/// Results that may wait for one gateway, and events for one listener.
const RESULT_QUEUE: usize = 1024;
const EVENT_QUEUE: usize = 256;
/// News, and views of a stream, that may wait for one gateway. Views hold pictures.
const NEWS_QUEUE: usize = 64;
const VIEW_QUEUE: usize = 8;

/// Bounds of the lanes.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Frames on a still lane; one more is refused.
    pub still_frames: usize,
    /// Frames on a live lane; one more pushes the oldest out.
    pub live_frames: usize,
    /// The longest time that a live frame can be given; NATS forgets it then.
    pub live_max_age: Duration,
    /// Results of jobs that nobody has acknowledged; one more is refused.
    pub job_results: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        let Bounds { live, still } = Bounds::default();
        let live_max_age = Duration::from_secs(10);
        Self { still_frames: still, live_frames: live, live_max_age, job_results: 10_000 }
    }
}

/// The bus inside this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Local(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    capacity: Capacity,
    state: Mutex<State>,
    arrived: HashMap<Stage, Arrived>,
    events: broadcast::Sender<SharedEvent>,
    news: broadcast::Sender<News>,
    models: Models,
    jobs: LocalResults,
    tickets: LocalTickets,
    buckets: LocalBuckets,
}

/// Wakes who waits for frames of one stage.
#[derive(Debug, Default)]
struct Arrived {
    /// One of those who take anybody's.
    anybodys: Notify,
    /// All who take those of some tenants only: whom it is for shows when they look.
    some: Notify,
}

impl Arrived {
    fn tell(&self) {
        self.anybodys.notify_one();
        self.some.notify_waiters();
    }
}

#[derive(Debug)]
struct State {
    stages: HashMap<Stage, Lanes<Waiting>>,
    /// Frames handed out and not settled.
    in_hand: HashMap<Lane, usize>,
    gateways: HashMap<GatewayId, mpsc::Sender<FrameResult>>,
    /// The streams that somebody listens to, or did.
    views: HashMap<(Tenant, StreamName), broadcast::Sender<View>>,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    attempt: u32,
    attachment: Option<Attachment>,
}

impl Waiting {
    fn queued(self, since: Instant) -> Queued<Self> {
        let header = &self.frame.header;
        let (kind, budget) = (header.route.kind(), header.budget());
        let owner = Owner { tenant: header.caller.tenant.clone(), stream: header.stream.clone() };
        Queued { kind, owner, since: since.into_std(), budget, frame: self }
    }
}

impl State {
    fn lanes(&mut self, stage: Stage) -> &mut Lanes<Waiting> {
        self.stages.get_mut(&stage).expect("every stage has its lanes")
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_back(&self, stage: Stage, since: Instant, waiting: Waiting) {
        self.state().lanes(stage).put_back(waiting.queued(since));
        self.arrived[&stage].tell();
    }
}

impl Local {
    /// An empty bus.
    pub(crate) fn new(capacity: Capacity) -> Self {
        let bounds = Bounds { live: capacity.live_frames, still: capacity.still_frames };
        let stages = [Stage::Infer, Stage::Annotate];
        let state = State {
            stages: stages.map(|stage| (stage, Lanes::new(bounds))).into(),
            in_hand: HashMap::new(),
            gateways: HashMap::new(),
            views: HashMap::new(),
        };
        Self(Arc::new(Shared {
            capacity,
            state: Mutex::new(state),
            arrived: stages.map(|stage| (stage, Arrived::default())).into(),
            events: broadcast::channel(EVENT_QUEUE).0,
            news: broadcast::channel(NEWS_QUEUE).0,
            models: Models::new(false),
            jobs: LocalResults::new(capacity.job_results),
            tickets: LocalTickets::default(),
            buckets: LocalBuckets::default(),
        }))
    }

    pub(crate) fn publish(
        &self,
        stage: Stage,
        frame: Frame,
        attachment: Option<Attachment>,
    ) -> Result<(), PublishError> {
        let lane = Lane { stage, kind: frame.header.route.kind() };
        let waiting = Waiting { frame, attempt: 1, attachment };
        // The live frame that gives way is gone: its gateway's own deadline closes it.
        if let Err(Full) = self.0.state().lanes(stage).push(waiting.queued(Instant::now())) {
            let bound = Bound::Frames(self.0.capacity.still_frames);
            return Err(PublishError::Full { queue: Queue::Lane(lane), bound });
        }
        self.0.arrived[&stage].tell();
        Ok(())
    }

    pub(crate) async fn pull(&self, stage: Stage, max: usize) -> Vec<Delivery> {
        loop {
            // Registered before looking, so that a frame published in between wakes us.
            let arrived = self.0.arrived[&stage].anybodys.notified();
            let taken = self.take(stage, max, Lanes::poll);
            if !taken.is_empty() {
                // One permit may stand for many frames: pass it on if something is left.
                if self.waiting(stage) {
                    self.0.arrived[&stage].anybodys.notify_one();
                }
                return taken;
            }
            arrived.await;
        }
    }

    pub(crate) async fn pull_others(&self, stage: Stage, but: &Tenant) -> Delivery {
        loop {
            let arrived = self.0.arrived[&stage].some.notified();
            if let Some(taken) = self.take(stage, 1, |lanes, now| lanes.poll_others(but, now)).pop() {
                return taken;
            }
            arrived.await;
        }
    }

    fn waiting(&self, stage: Stage) -> bool {
        !self.0.state().lanes(stage).is_empty()
    }

    /// Up to `max` frames that `next` takes of the lanes.
    fn take(
        &self,
        stage: Stage,
        max: usize,
        next: impl Fn(&mut Lanes<Waiting>, std::time::Instant) -> Option<Next<Waiting>>,
    ) -> Vec<Delivery> {
        let now = Instant::now();
        let (mut taken, mut too_late) = (Vec::new(), Vec::new());
        let mut state = self.0.state();
        while taken.len() < max {
            match next(state.lanes(stage), now.into_std()) {
                Some(Next::Begin(Queued { kind, since, frame: waiting, .. })) => {
                    let (lane, since) = (Lane { stage, kind }, Instant::from_std(since));
                    *state.in_hand.entry(lane).or_default() += 1;
                    let Waiting { frame, attempt, attachment } = waiting;
                    let origin = crate::Origin::Local(Origin(Some(Home { bus: self.clone(), lane, since })));
                    taken.push(Delivery { frame, waited: now - since, attempt, attachment, origin });
                }
                Some(Next::Expire(queued)) => too_late.push(expired(&queued.frame.frame.header)),
                None => break,
            }
        }
        drop(state);
        for result in too_late {
            if let Err(error) = self.reply(result) {
                tracing::debug!(%error, "nobody could be told of a live frame that expired");
            }
        }
        taken.sort_by_key(|delivery| std::cmp::Reverse(delivery.waited));
        taken
    }

    pub(crate) fn reply(&self, result: FrameResult) -> Result<(), PublishError> {
        let gateway = match &result.reply {
            Reply::Session(address) => self.0.state().gateways.get(&address.gateway).cloned(),
            Reply::Job { .. } => return self.0.jobs.put(result),
        };
        let sent = gateway.is_some_and(|g| g.try_send(result).is_ok());
        if !sent {
            tracing::debug!("result not taken: the gateway is gone or behind");
        }
        Ok(())
    }

    pub(crate) fn jobs(&self) -> &LocalResults {
        &self.0.jobs
    }

    pub(crate) fn results(&self, gateway: &GatewayId) -> mpsc::Receiver<FrameResult> {
        let (sender, receiver) = mpsc::channel(RESULT_QUEUE);
        self.0.state().gateways.insert(gateway.clone(), sender);
        receiver
    }

    pub(crate) fn publish_event(&self, event: &SharedEvent) {
        // An error means that nobody listens.
        self.0.events.send(event.clone()).ok();
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<SharedEvent> {
        self.0.events.subscribe()
    }

    pub(crate) fn bucket(&self, name: &str) -> LocalBucket {
        self.0.buckets.named(name)
    }

    pub(crate) fn tickets(&self) -> &LocalTickets {
        &self.0.tickets
    }

    pub(crate) fn tell(&self, news: News) {
        // An error means that nobody listens.
        self.0.news.send(news).ok();
    }

    pub(crate) fn news(&self) -> broadcast::Receiver<News> {
        self.0.news.subscribe()
    }

    pub(crate) fn show(&self, tenant: &Tenant, stream: &StreamName, view: View) {
        if let Some(views) = self.0.state().views.get(&(tenant.clone(), stream.clone())) {
            views.send(view).ok();
        }
    }

    pub(crate) fn views(&self, tenant: &Tenant, stream: &StreamName) -> broadcast::Receiver<View> {
        let mut state = self.0.state();
        state.views.retain(|_, views| views.receiver_count() > 0);
        let views = state.views.entry((tenant.clone(), stream.clone()));
        views.or_insert_with(|| broadcast::channel(VIEW_QUEUE).0).subscribe()
    }

    pub(crate) fn announce(&self, models: Vec<ModelInfo>) {
        self.0.models.heard(Announcement { worker: String::new(), models, slots: None, overflow: false });
    }

    pub(crate) fn models(&self) -> Models {
        self.0.models.clone()
    }

    pub(crate) fn depth(&self, lane: Lane) -> Depth {
        let mut state = self.0.state();
        let in_hand = state.in_hand.get(&lane).copied().unwrap_or_default();
        let lanes = state.lanes(lane.stage);
        let oldest =
            lanes.oldest(lane.kind).map_or(Duration::ZERO, |since| Instant::from_std(since).elapsed());
        Depth { frames: lanes.depth(lane.kind), in_hand, oldest }
    }
}

/// Waits for the next of what is told to all. What came faster than it was read is skipped.
pub(crate) async fn next<T: Clone>(told: &mut broadcast::Receiver<T>) -> Option<T> {
    loop {
        match told.recv().await {
            Ok(next) => return Some(next),
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Where a delivery came from; empty once it is settled.
#[derive(Debug)]
pub(crate) struct Origin(Option<Home>);

#[derive(Debug)]
struct Home {
    bus: Local,
    lane: Lane,
    since: Instant,
}

impl Origin {
    fn settle(&mut self) -> Option<Home> {
        let home = self.0.take()?;
        if let Some(in_hand) = home.bus.0.state().in_hand.get_mut(&home.lane) {
            *in_hand -= 1;
        }
        Some(home)
    }

    pub(crate) fn ack(&mut self) {
        self.settle();
    }

    pub(crate) fn hand_back(&mut self, frame: Frame, attempt: u32) {
        if let Some(Home { bus, lane, since }) = self.settle() {
            bus.0.put_back(lane.stage, since, Waiting { frame, attempt, attachment: None });
        }
    }

    /// The worker died with the frame in its hands.
    pub(crate) fn abandon(&mut self, frame: &Frame, attempt: u32) {
        let Some(Home { bus, lane, since }) = self.settle().filter(|home| home.lane.kind == Kind::Still)
        else {
            return;
        };
        if attempt < MAX_DELIVERIES {
            let (frame, attempt) = (frame.clone(), attempt + 1);
            bus.0.put_back(lane.stage, since, Waiting { frame, attempt, attachment: None });
        } else if let Err(error) = bus.reply(given_up(lane.stage, &frame.header)) {
            tracing::debug!(%error, "a job's frame is not given up yet: nobody could be told");
            bus.0.put_back(lane.stage, since, Waiting { frame: frame.clone(), attempt, attachment: None });
        }
    }
}
