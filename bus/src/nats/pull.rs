//! Pulling frames for the workers of this process, stage by stage.
//!
//! Only as much is asked of the broker as there are workers waiting for it, on both lanes of the stage.
//! One task a stage does the asking, so that a worker which stops waiting loses nothing: what comes for it
//! goes to the next one here, or back.
//!
//! async-nats's own pull streams are not used: they cannot be stopped without losing what is on its way
//! (dropping one unsubscribes at once), keep more in store than there are free workers, and end or stall
//! when the stream is gone (nats.rs issue 557). Here a request is withdrawn by draining its inbox, and a
//! lane that falls silent is set up and asked again.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, Message, StatusCode, Subscriber};
use cloudpose_wire::{Kind, Lane, Stage};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::time::{Instant, sleep_until, timeout};

use super::{Nats, Turn, desk::Desk, lanes, metrics};
use crate::{Delivery, metrics::Loss};

/// How long the broker holds a request that waits.
const EXPIRES: Duration = Duration::from_secs(5);
/// How often the broker says that it still holds it.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// A lane that says nothing for this long is no more.
const SILENCE: Duration = Duration::from_millis(2500);
/// How long the answer to a question may take that does not wait for frames.
const ANSWER: Duration = Duration::from_millis(500);
/// How long the next of several frames may take that wait already.
const GAP: Duration = Duration::from_millis(50);
/// How long requests are left standing when no worker waits: most come back at once.
const LINGER: Duration = Duration::from_millis(5);
/// How often a lane is looked at in its turn while what comes is too old to be begun.
const ROUNDS: usize = 16;
/// Pause after a failure; twice as long after each one that follows it, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What is asked of one lane, and where the answers come.
struct Asked {
    client: Client,
    inbox: String,
    answers: Subscriber,
    /// Where to ask.
    next: String,
    turn: Turn,
    /// Frames asked for that have not come.
    open: usize,
    heard: Instant,
}

/// How to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    /// What waits already.
    AtOnce,
    /// What waits or will come.
    Wait,
}

/// A pull request as the broker reads it; times in nanoseconds, 0 for none (ADR-13 and ADR-42 of
/// nats-architecture-and-design).
#[derive(Debug, Serialize)]
struct Request {
    batch: usize,
    no_wait: bool,
    expires: u128,
    idle_heartbeat: u128,
    group: &'static str,
    priority: u8,
}

/// What a lane answered.
enum Answer {
    Frame(Message),
    /// There is nothing (more) for this request, or it is still held.
    Word,
    /// The lane is gone, or does not answer.
    Gone(String),
}

impl Asked {
    async fn open(bus: &Nats, lane: Lane) -> Result<Self, async_nats::Error> {
        let client = bus.0.client.clone();
        let inbox = client.new_inbox();
        let answers = client.subscribe(inbox.clone()).await?;
        let stream = lanes::stream(&bus.0.prefix, lane);
        let next = format!("{}.CONSUMER.MSG.NEXT.{stream}.{}", bus.0.api, lanes::CONSUMER);
        Ok(Self { client, inbox, answers, next, turn: bus.0.turn, open: 0, heard: Instant::now() })
    }

    async fn ask(&mut self, frames: usize, how: How) -> Result<(), async_nats::Error> {
        let request = Request {
            batch: frames,
            no_wait: how == How::AtOnce,
            expires: if how == How::Wait { EXPIRES.as_nanos() } else { 0 },
            idle_heartbeat: if how == How::Wait { HEARTBEAT.as_nanos() } else { 0 },
            group: lanes::GROUP,
            priority: self.turn.priority(),
        };
        let request = serde_json::to_vec(&request)?.into();
        self.client.publish_with_reply(self.next.clone(), self.inbox.clone(), request).await?;
        self.open += frames;
        self.heard = Instant::now();
        Ok(())
    }

    /// Waits for the next answer to what was asked.
    async fn answer(&mut self) -> Answer {
        let message = tokio::select! {
            message = self.answers.next() => message,
            () = sleep_until(self.heard + SILENCE), if self.open > 0 => {
                return Answer::Gone("it fell silent".into());
            }
        };
        let Some(message) = message else { return Answer::Gone("the inbox is closed".into()) };
        self.heard = Instant::now();
        match message.status {
            None => {
                self.open = self.open.saturating_sub(1);
                Answer::Frame(message)
            }
            Some(StatusCode::IDLE_HEARTBEAT) => Answer::Word,
            // 404: nothing waits. 408: waited long enough.
            Some(StatusCode::NOT_FOUND | StatusCode::TIMEOUT) => {
                let pending = message.headers.as_ref().and_then(|h| h.get("Nats-Pending-Messages"));
                let unmet = pending.and_then(|n| n.as_str().parse().ok()).unwrap_or(self.open);
                self.open = self.open.saturating_sub(unmet);
                Answer::Word
            }
            Some(status) => {
                let why = message.description.unwrap_or_default();
                Answer::Gone(format!("{} {why}", status.as_u16()))
            }
        }
    }

    /// Takes up to `max` frames that wait already.
    async fn look(&mut self, max: usize, found: &mut Vec<Message>) -> Result<(), String> {
        self.ask(max, How::AtOnce).await.map_err(|error| error.to_string())?;
        while self.open > 0 {
            match timeout(if found.is_empty() { ANSWER } else { GAP }, self.answer()).await {
                Ok(Answer::Frame(message)) => {
                    // If fewer wait than we asked for, they come and nothing is said at their end. The first
                    // tells how many come after it.
                    if found.is_empty() {
                        self.open = self.open.min(behind(&message));
                    }
                    found.push(message);
                }
                Ok(Answer::Word) => {}
                Ok(Answer::Gone(why)) => return Err(why),
                Err(_) if found.is_empty() => return Err("it does not answer".into()),
                Err(_) => self.open = 0,
            }
        }
        Ok(())
    }

    /// Withdraws what was asked and returns what was already on its way.
    async fn withdraw(mut self) -> Vec<Message> {
        let mut late = Vec::new();
        if self.answers.drain().await.is_ok() {
            let rest = async {
                while let Some(message) = self.answers.next().await {
                    if message.status.is_none() {
                        late.push(message);
                    }
                }
            };
            // Without a connection the end never comes; then nothing else comes either.
            timeout(ANSWER, rest).await.ok();
        }
        late
    }
}

/// Asks the broker for what the workers at one stage want.
pub(super) struct Puller {
    bus: Nats,
    stage: Stage,
    desk: Arc<Desk>,
    asked: [Option<Asked>; 2],
    /// Which lane is looked at first: each in turn.
    first: usize,
    /// How long to pause after the next failure; [`PAUSE`] while all is well.
    pause: Duration,
    /// How often the lanes had been set up when they were last asked.
    seen: u64,
}

const KINDS: [Kind; 2] = [Kind::Live, Kind::Still];

impl Puller {
    pub(super) fn new(bus: Nats, stage: Stage, desk: Arc<Desk>) -> Self {
        Self { bus, stage, desk, asked: [None, None], first: 0, pause: PAUSE, seen: 0 }
    }

    /// Works until the bus is closed, then gives everything back.
    pub(super) async fn run(mut self) {
        let stop = self.bus.0.stop.clone();
        let mut link = self.bus.0.link.clone();
        let mut idle_since = None;
        loop {
            if !link.borrow_and_update().up {
                // What is asked now would only pile up in the client.
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = self.bus.wait_until(true) => {}
                }
                self.seen = self.bus.0.lanes.seen();
                self.recover("a new connection").await;
                continue;
            }
            if self.desk.nobody_waits() {
                idle_since.get_or_insert_with(Instant::now);
            } else {
                idle_since = None;
                if let Err(error) = self.ask().await {
                    tracing::debug!(%error, stage = self.stage.as_str(), "cannot ask for frames");
                    self.recover(&error.to_string()).await;
                    continue;
                }
            }
            let holds_something = self.holds_something();
            let [live, still] = &mut self.asked;
            let (lane, answer) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = link.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    // The broker has forgotten what was asked on the old connection.
                    self.asked = [None, None];
                    continue;
                }
                () = self.desk.changed() => continue,
                answer = answer(live) => (0, answer),
                answer = answer(still) => (1, answer),
                () = linger(idle_since), if holds_something => {
                    self.let_go().await;
                    continue;
                }
            };
            match answer {
                Answer::Frame(message) => {
                    let frames: Vec<_> = self.receive(lane, message).await.into_iter().collect();
                    self.desk.put(frames);
                }
                Answer::Word => {}
                Answer::Gone(why) => self.recover(&why).await,
            }
        }
        self.let_go().await;
    }

    fn holds_something(&self) -> bool {
        self.asked.iter().any(Option::is_some) || !self.desk.is_empty()
    }

    fn lane(&self, index: usize) -> Lane {
        Lane { stage: self.stage, kind: KINDS[index] }
    }

    /// Sees to it that as much is asked for as is missing. If nothing is, looks at what waits already, one
    /// lane after the other: asked both at once they would send twice as much as is wanted.
    async fn ask(&mut self) -> Result<(), async_nats::Error> {
        self.seen = self.bus.0.lanes.seen();
        for index in 0..2 {
            if self.asked[index].is_none() {
                self.asked[index] = Some(Asked::open(&self.bus, self.lane(index)).await?);
            }
        }
        let missing = self.desk.missing();
        if missing == 0 {
            return Ok(());
        }
        if self.asked.iter().flatten().all(|asked| asked.open == 0) {
            let (found, trouble) = self.look(missing).await;
            if !found.is_empty() || trouble.is_some() {
                self.desk.put(found);
                return trouble.map_or(Ok(()), |why| Err(why.into()));
            }
        }
        for asked in self.asked.iter_mut().flatten() {
            if asked.open < missing {
                asked.ask(missing - asked.open, How::Wait).await?;
            }
        }
        Ok(())
    }

    /// Up to `max` frames that wait already, in the order in which they were published, and what went wrong.
    async fn look(&mut self, max: usize) -> (Vec<Delivery>, Option<String>) {
        let mut found: Vec<Delivery> = Vec::new();
        let mut trouble = None;
        for index in [self.first, 1 - self.first] {
            // Again while frames come that are settled here: they must not cost the lane its turn, nor the other
            // lane its own for long.
            let mut settled = true;
            for _ in 0..ROUNDS {
                if !settled || found.len() >= max {
                    break;
                }
                let Some(asked) = self.asked[index].as_mut() else { break };
                let mut messages = Vec::new();
                trouble = asked.look(max - found.len(), &mut messages).await.err().or(trouble);
                settled = false;
                for message in messages {
                    let frame = self.receive(index, message).await;
                    settled |= frame.is_none();
                    found.extend(frame);
                }
            }
        }
        self.first = 1 - self.first;
        // By when they were published, not by how long they waited: that is read off the clock one by one.
        found.sort_by_key(|delivery| match &delivery.origin {
            crate::Origin::Nats(origin) => origin.since(),
            crate::Origin::Local(_) => None,
        });
        (found, trouble)
    }

    /// Reads a frame's message. What is no frame, too old, or was tried too often is settled here.
    async fn receive(&self, index: usize, message: Message) -> Option<Delivery> {
        match self.bus.receive(self.lane(index), message).await {
            Ok(delivery) => delivery,
            Err(error) => {
                metrics::lost(Loss::Malformed);
                tracing::warn!(%error, lane = %self.lane(index), "dropped a message that is no frame of ours");
                None
            }
        }
    }

    /// Forgets what was asked, and sets the lanes up again: they may be gone.
    async fn recover(&mut self, why: &str) {
        tracing::debug!(why, stage = self.stage.as_str(), "asking again");
        self.asked = [None, None];
        match self.bus.set_up(self.seen).await {
            Ok(()) if self.pause > PAUSE => {
                tracing::info!(stage = self.stage.as_str(), "the work queues on NATS are there again");
                self.pause = PAUSE;
            }
            Ok(()) => {}
            Err(error) => {
                if self.pause == PAUSE {
                    tracing::warn!(%error, "cannot set up the work queues on NATS; trying again");
                }
                let stop = self.bus.0.stop.clone();
                timeout(self.pause, stop.cancelled()).await.ok();
                self.pause = (2 * self.pause).min(LONGEST_PAUSE);
            }
        }
    }

    /// Nobody waits: withdraws what was asked, and hands back what came for it.
    async fn let_go(&mut self) {
        for index in 0..2 {
            if let Some(asked) = self.asked[index].take() {
                for message in asked.withdraw().await {
                    let frames: Vec<_> = self.receive(index, message).await.into_iter().collect();
                    self.desk.put(frames);
                }
            }
        }
        for delivery in self.desk.clear() {
            delivery.hand_back().await;
        }
    }
}

async fn answer(asked: &mut Option<Asked>) -> Answer {
    match asked {
        Some(asked) => asked.answer().await,
        None => std::future::pending().await,
    }
}

async fn linger(idle_since: Option<Instant>) {
    match idle_since {
        Some(since) => sleep_until(since + LINGER).await,
        None => std::future::pending().await,
    }
}

/// How many frames waited on the lane behind this one.
fn behind(message: &Message) -> usize {
    // $JS.ACK.….<frames behind it>, see ADR-15 of nats-architecture-and-design.
    let subject = message.reply.as_ref().map_or("", |reply| reply.as_str());
    let tokens: Vec<&str> = subject.split('.').collect();
    // Nine tokens, or more if there is a domain and an account before the stream.
    let at = if tokens.len() > 9 { 10 } else { 8 };
    tokens.get(at).and_then(|count| count.parse().ok()).unwrap_or(0)
}
