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

use async_nats::Message;
use cloudpose_policy::turns::Turns;
use cloudpose_wire::{Kind, Lane, Stage};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Nats,
    ask::{Answer, Asked, How},
    desk::Desk,
    lanes, metrics,
};
use crate::{Delivery, metrics::Loss};

/// How long requests are left standing when no worker waits: most come back at once.
const LINGER: Duration = Duration::from_millis(5);
/// How often a lane is looked at in its turn while what comes is too old to be begun.
const ROUNDS: usize = 16;
/// Pause after a failure; twice as long after each one that follows it, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Asks the broker for what the workers at one stage want.
pub(super) struct Puller {
    bus: Nats,
    stage: Stage,
    desk: Arc<Desk>,
    asked: [Option<Asked>; 2],
    turns: Turns,
    /// How long to pause after the next failure; [`PAUSE`] while all is well.
    pause: Duration,
    /// How often the lanes had been set up when they were last asked.
    seen: u64,
}

const KINDS: [Kind; 2] = [Kind::Live, Kind::Still];

impl Puller {
    pub(super) fn new(bus: Nats, stage: Stage, desk: Arc<Desk>) -> Self {
        Self { bus, stage, desk, asked: [None, None], turns: Turns::default(), pause: PAUSE, seen: 0 }
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
                Answer::Message(message) => {
                    let frame = self.receive(lane, message).await;
                    if frame.is_some() {
                        self.turns.took(KINDS[lane]);
                    }
                    self.desk.put(frame.into_iter().collect());
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

    async fn open(&self, index: usize) -> Result<Asked, async_nats::Error> {
        let stream = lanes::stream(&self.bus.0.prefix, self.lane(index));
        Asked::open(&self.bus, &stream, lanes::CONSUMER, Some(self.bus.0.turn)).await
    }

    /// Sees to it that as much is asked for as is missing. If nothing is, looks at what waits already, one
    /// lane after the other: asked both at once they would send twice as much as is wanted.
    async fn ask(&mut self) -> Result<(), async_nats::Error> {
        self.seen = self.bus.0.lanes.seen();
        for index in 0..2 {
            if self.asked[index].is_none() {
                self.asked[index] = Some(self.open(index).await?);
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
        for kind in self.turns.order() {
            let index = usize::from(kind == KINDS[1]);
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
                    match &frame {
                        Some(_) => self.turns.took(kind),
                        None => settled = true,
                    }
                    found.extend(frame);
                }
            }
        }
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
