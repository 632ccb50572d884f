//! The bus inside one process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloudpose_wire::{Frame, FrameResult, GatewayId, Kind, Lane, PoseEvent, Reply, Stage};
use tokio::{
    sync::{Notify, broadcast, mpsc},
    time::Instant,
};

use crate::{
    Attachment, Bound, Delivery, Depth, MAX_DELIVERIES, PublishError, Queue, expired, given_up,
    jobs::LocalResults, worth_beginning,
};

/// Results that may wait for one gateway, and pose events for one listener.
const RESULT_QUEUE: usize = 1024;
const POSE_QUEUE: usize = 256;

/// Bounds of the lanes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Frames on a still lane; one more is refused.
    pub still_frames: usize,
    /// Frames on a live lane; one more pushes the oldest out.
    pub live_frames: usize,
    /// The longest time that a live frame can be given; NATS forgets it then.
    pub live_max_age: Duration,
    /// Results of jobs that nobody has acknowledged; one more is refused.
    pub job_results: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            still_frames: 256,
            live_frames: 2048,
            live_max_age: Duration::from_secs(10),
            job_results: 10_000,
        }
    }
}

/// The bus inside this process. Clones share it.
#[derive(Debug, Clone)]
pub struct Local(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    state: Mutex<State>,
    arrived: HashMap<Stage, Notify>,
    poses: broadcast::Sender<PoseEvent>,
    jobs: LocalResults,
}

#[derive(Debug, Default)]
struct State {
    lanes: HashMap<Lane, VecDeque<Waiting>>,
    /// Frames handed out and not settled.
    in_hand: HashMap<Lane, usize>,
    /// The kind of which the last frame was handed out.
    last: HashMap<Stage, Kind>,
    gateways: HashMap<GatewayId, mpsc::Sender<FrameResult>>,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    since: Instant,
    attempt: u32,
    attachment: Option<Attachment>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every critical section leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put_first(&self, lane: Lane, waiting: Waiting) {
        self.state().lanes.entry(lane).or_default().push_front(waiting);
        self.arrived[&lane.stage].notify_one();
    }
}

impl Local {
    /// An empty bus.
    pub(crate) fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            state: Mutex::default(),
            arrived: [Stage::Infer, Stage::Annotate].map(|s| (s, Notify::new())).into(),
            poses: broadcast::channel(POSE_QUEUE).0,
            jobs: LocalResults::new(limits.job_results),
        }))
    }

    pub(crate) fn publish(
        &self,
        stage: Stage,
        frame: Frame,
        attachment: Option<Attachment>,
    ) -> Result<(), PublishError> {
        let lane = Lane { stage, kind: frame.header.kind };
        let mut state = self.0.state();
        let queue = state.lanes.entry(lane).or_default();
        match lane.kind {
            Kind::Still if queue.len() >= self.0.limits.still_frames => {
                let bound = Bound::Frames(self.0.limits.still_frames);
                return Err(PublishError::Full { queue: Queue::Lane(lane), bound });
            }
            Kind::Live if queue.len() >= self.0.limits.live_frames => {
                queue.pop_front();
            }
            _ => {}
        }
        queue.push_back(Waiting { frame, since: Instant::now(), attempt: 1, attachment });
        drop(state);
        self.0.arrived[&stage].notify_one();
        Ok(())
    }

    pub(crate) async fn pull(&self, stage: Stage, max: usize) -> Vec<Delivery> {
        loop {
            // Registered before looking, so that a frame published in between wakes us.
            let arrived = self.0.arrived[&stage].notified();
            let taken = self.take(stage, max);
            if !taken.is_empty() {
                // One permit may stand for many frames: pass it on if something is left.
                if self.waiting(stage) {
                    self.0.arrived[&stage].notify_one();
                }
                return taken;
            }
            arrived.await;
        }
    }

    fn waiting(&self, stage: Stage) -> bool {
        self.0.state().lanes.iter().any(|(lane, queue)| lane.stage == stage && !queue.is_empty())
    }

    fn take(&self, stage: Stage, max: usize) -> Vec<Delivery> {
        let now = Instant::now();
        let (mut taken, mut too_late) = (Vec::new(), Vec::new());
        let mut state = self.0.state();
        while taken.len() < max {
            let turn = match state.last.get(&stage) {
                Some(Kind::Live) => [Kind::Still, Kind::Live],
                Some(Kind::Still) | None => [Kind::Live, Kind::Still],
            };
            let mut next = turn.into_iter().map(|kind| Lane { stage, kind });
            let Some((lane, waiting)) =
                next.find_map(|lane| Some((lane, state.lanes.get_mut(&lane)?.pop_front()?)))
            else {
                break;
            };
            let Waiting { frame, since, attempt, attachment } = waiting;
            let waited = now - since;
            if !worth_beginning(&frame.header, waited) {
                too_late.push(expired(&frame.header));
                continue;
            }
            state.last.insert(stage, lane.kind);
            *state.in_hand.entry(lane).or_default() += 1;
            let origin = crate::Origin::Local(Origin(Some(Home { bus: self.clone(), lane, since })));
            taken.push(Delivery { frame, waited, attempt, attachment, origin });
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
            Reply::Session { gateway, .. } => self.0.state().gateways.get(gateway).cloned(),
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

    pub(crate) fn publish_pose(&self, event: &PoseEvent) {
        if self.0.poses.receiver_count() > 0 {
            // An error means that the last listener left meanwhile.
            self.0.poses.send(event.clone()).ok();
        }
    }

    pub(crate) fn poses(&self) -> broadcast::Receiver<PoseEvent> {
        self.0.poses.subscribe()
    }

    pub(crate) fn depth(&self, lane: Lane) -> Depth {
        let state = self.0.state();
        let queue = state.lanes.get(&lane);
        Depth {
            frames: queue.map_or(0, VecDeque::len),
            in_hand: state.in_hand.get(&lane).copied().unwrap_or_default(),
            oldest: queue.and_then(VecDeque::front).map_or(Duration::ZERO, |w| w.since.elapsed()),
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
            bus.0.put_first(lane, Waiting { frame, since, attempt, attachment: None });
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
            bus.0.put_first(lane, Waiting { frame, since, attempt, attachment: None });
        } else if let Err(error) = bus.reply(given_up(lane.stage, &frame.header)) {
            tracing::debug!(%error, "a job's frame is not given up yet: nobody could be told");
            bus.0.put_first(lane, Waiting { frame: frame.clone(), since, attempt, attachment: None });
        }
    }
}
