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

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_nats::{Message, Subscriber};
use cloudpose_policy::{rota::Rota, turns::Turns};
use cloudpose_wire::{Kind, Lane, Stage, Tenant, subject};
use futures_util::{StreamExt as _, future::select_all};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Nats,
    ask::{Answer, Asked, How},
    desk::{Desk, Missing},
    lanes, metrics, tenants,
};
use crate::{Delivery, metrics::Loss};

/// How long requests are left standing for which no worker waits: most come back at once.
const LINGER: Duration = Duration::from_millis(5);
/// How often a lane is looked at in its turn while what comes is too old to be begun.
const ROUNDS: usize = 16;
/// How often the broker is asked which tenants have frames, while workers wait: nobody may have said so.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// Pause after a failure; twice as long after each one that follows it, up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// What one asks for: a tenant's frames of a kind.
type Source = (Tenant, Kind);

/// Asks the broker for what the workers at one stage want.
pub(super) struct Puller {
    bus: Nats,
    stage: Stage,
    desk: Arc<Desk>,
    asked: HashMap<Source, Asked>,
    /// The tenants of which something may come: the default one always, others with when they were last heard of.
    rota: Rota<Tenant>,
    heard: HashMap<Tenant, Instant>,
    turns: HashMap<Tenant, Turns>,
    news: Option<Subscriber>,
    /// When the broker is asked again which tenants there are; never, while there is nothing of other tenants.
    look_again: Option<Instant>,
    /// How long to pause after the next failure; [`PAUSE`] while all is well.
    pause: Duration,
    /// How often the lanes had been set up when they were last asked.
    seen: u64,
}

/// What happens next.
enum Event {
    Stop,
    /// The connection came or went.
    Link,
    /// The workers want something else than before, or it is time to look again.
    Look,
    /// A tenant has frames.
    News(Message),
    Answer(Source, Answer),
    /// Nobody has waited for a while for something that was asked, or came.
    LetGo,
}

impl Puller {
    pub(super) fn new(bus: Nats, stage: Stage, desk: Arc<Desk>) -> Self {
        let mut rota = Rota::default();
        rota.join(Tenant::default());
        Self {
            bus,
            stage,
            desk,
            asked: HashMap::new(),
            rota,
            heard: HashMap::new(),
            turns: HashMap::new(),
            news: None,
            look_again: None,
            pause: PAUSE,
            seen: 0,
        }
    }

    /// Works until the bus is closed, then gives everything back.
    pub(super) async fn run(mut self) {
        let stop = self.bus.0.stop.clone();
        let mut link = self.bus.0.link.clone();
        let mut unwanted_since = None;
        self.listen().await;
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
            let nobody_waits = self.desk.nobody_waits();
            if !nobody_waits && let Err(error) = self.ask().await {
                tracing::debug!(%error, stage = self.stage.as_str(), "cannot ask for frames");
                self.recover(&error.to_string()).await;
                continue;
            }
            unwanted_since = match self.holds_unwanted() {
                true => unwanted_since.or_else(|| Some(Instant::now())),
                false => None,
            };
            let look_again = self.look_again.filter(|_| !nobody_waits);
            let event = tokio::select! {
                biased;
                () = stop.cancelled() => Event::Stop,
                changed = link.changed() => if changed.is_ok() { Event::Link } else { Event::Stop },
                () = self.desk.changed() => Event::Look,
                (source, answer) = answer(&mut self.asked) => Event::Answer(source, answer),
                news = told(&mut self.news) => Event::News(news),
                () = until(look_again) => Event::Look,
                () = until(unwanted_since.map(|since| since + LINGER)) => Event::LetGo,
            };
            match event {
                Event::Stop => break,
                // The broker has forgotten what was asked on the old connection.
                Event::Link => self.asked.clear(),
                Event::Look => {}
                Event::News(message) => {
                    if let Some(tenant) =
                        std::str::from_utf8(&message.payload).ok().and_then(|t| t.parse().ok())
                    {
                        self.hear_of(tenant);
                    }
                }
                Event::LetGo => self.let_go(Desk::wants).await,
                Event::Answer(source, Answer::Message(message)) => {
                    let frame = self.receive(source.1, message).await;
                    if frame.is_some() {
                        self.took(source);
                    }
                    self.desk.put(frame.into_iter().collect());
                }
                Event::Answer(_, Answer::Word) => {}
                Event::Answer(_, Answer::Gone(why)) => self.recover(&why).await,
            }
        }
        self.let_go(|_, _| false).await;
    }

    /// Whether something was asked, or has come, for which nobody waits.
    fn holds_unwanted(&self) -> bool {
        let mut open = self.asked.iter().filter(|(_, asked)| asked.open > 0);
        open.any(|((tenant, _), _)| !self.desk.wants(tenant)) || self.desk.has_unwanted()
    }

    fn lane(&self, kind: Kind) -> Lane {
        Lane { stage: self.stage, kind }
    }

    /// Hears from now on of tenants that have frames, and asks the broker of those that have some already.
    async fn listen(&mut self) {
        match self.bus.0.client.subscribe(subject::lanes_news(&self.bus.0.prefix)).await {
            Ok(news) => self.news = Some(news),
            Err(error) => tracing::error!(%error, "cannot hear which tenants have frames"),
        }
        for (_, tenant) in self.bus.tenants_at(self.stage).await {
            self.hear_of(tenant);
        }
    }

    fn hear_of(&mut self, tenant: Tenant) {
        self.look_again.get_or_insert_with(|| Instant::now() + LOOK_AGAIN);
        if !tenant.is_default() && self.heard.insert(tenant.clone(), Instant::now()).is_none() {
            self.rota.join(tenant);
        }
    }

    /// A frame of `source` goes to a worker.
    fn took(&mut self, (tenant, kind): Source) {
        self.turns.entry(tenant.clone()).or_default().took(kind);
        self.rota.put_last(tenant);
    }

    /// Forgets tenants of which nothing was heard for long. What they have comes when they are heard of again.
    async fn forget(&mut self) {
        let long_ago = |at: &Instant| at.elapsed() >= tenants::FORGOTTEN;
        let gone: Vec<Tenant> =
            self.heard.iter().filter(|(_, at)| long_ago(at)).map(|(tenant, _)| tenant.clone()).collect();
        for tenant in gone {
            self.heard.remove(&tenant);
            self.turns.remove(&tenant);
            self.rota.leave(&tenant);
            for kind in [Kind::Live, Kind::Still] {
                self.withdraw(&(tenant.clone(), kind)).await;
            }
        }
    }

    async fn open(&mut self, source: &Source) -> Result<&mut Asked, async_nats::Error> {
        if !self.asked.contains_key(source) {
            let (tenant, kind) = source;
            let lane = self.lane(*kind);
            let asked = if tenant.is_default() {
                let stream = lanes::stream(&self.bus.0.prefix, lane);
                Asked::open(&self.bus, &stream, lanes::CONSUMER, Some(self.bus.0.turn)).await?
            } else {
                self.bus.set_up_tenant(lane, tenant).await?;
                let stream = lanes::tenant_stream(&self.bus.0.prefix, lane);
                Asked::open(&self.bus, &stream, tenant.as_str(), Some(self.bus.0.turn)).await?
            };
            self.asked.insert(source.clone(), asked);
        }
        Ok(self.asked.get_mut(source).expect("it is there now"))
    }

    /// Sees to it that as much is asked for as is missing. If nothing is, looks at what waits already, one
    /// lane after the other: asked both at once they would send twice as much as is wanted.
    async fn ask(&mut self) -> Result<(), async_nats::Error> {
        self.seen = self.bus.0.lanes.seen();
        let missing = self.desk.missing();
        if missing.frames() == 0 {
            return Ok(());
        }
        let waiting = self.waiting(&missing).await?;
        if !waiting.is_empty() {
            let (found, trouble) = self.look(missing.frames(), waiting).await;
            if !found.is_empty() || trouble.is_some() {
                self.desk.put(found);
                return trouble.map_or(Ok(()), |why| Err(why.into()));
            }
        }
        self.forget().await;
        let missing = self.desk.missing();
        let tenants = self.rota.order().filter(|tenant| missing.takes(tenant));
        let sources = tenants.flat_map(|t| [Kind::Live, Kind::Still].map(|kind| (t.clone(), kind)));
        for source in sources.collect::<Vec<_>>() {
            // Of stills one: what is asked for stands while this process does not run, and a still that was sent in vain
            // so often would be given up.
            let missing = if source.1 == Kind::Still { 1 } else { missing.frames() };
            let asked = self.open(&source).await?;
            if asked.open < missing {
                asked.ask(missing - asked.open, How::Wait).await?;
            }
        }
        Ok(())
    }

    /// The lanes on which something may wait of what is missing: not those that would have sent it already. Those of the default
    /// tenant both or none, those of the others if the broker says so.
    async fn waiting(&mut self, missing: &Missing) -> Result<Vec<Source>, async_nats::Error> {
        let both = [Kind::Live, Kind::Still].map(|kind| (Tenant::default(), kind));
        if missing.takes(&both[0].0) {
            for source in &both {
                self.open(source).await?;
            }
        }
        let is_silent = |source: &Source| self.asked.get(source).is_none_or(|asked| asked.open == 0);
        let mut waiting: Vec<Source> = Vec::new();
        if missing.takes(&both[0].0) && both.iter().all(is_silent) {
            waiting.extend(both);
        }
        let Some(at) = self.look_again else { return Ok(waiting) };
        let is_time = Instant::now() >= at;
        if is_time
            || self
                .heard
                .keys()
                .filter(|tenant| missing.takes(tenant))
                .any(|t| [Kind::Live, Kind::Still].iter().any(|k| is_silent(&(t.clone(), *k))))
        {
            let there = self.bus.tenants_at(self.stage).await;
            self.look_again = Some(Instant::now() + LOOK_AGAIN);
            let sources = there.iter().map(|(kind, tenant)| (tenant.clone(), *kind));
            waiting.extend(sources.filter(|source| missing.takes(&source.0) && is_silent(source)));
            there.into_iter().for_each(|(_, tenant)| self.hear_of(tenant));
        }
        Ok(waiting)
    }

    /// Up to `max` of the frames that wait on these lanes already, in the order in which they were published, and what
    /// went wrong. Tenants have turns, and of a tenant the kinds.
    async fn look(&mut self, max: usize, mut waiting: Vec<Source>) -> (Vec<Delivery>, Option<String>) {
        let mut found: Vec<Delivery> = Vec::new();
        let mut trouble = None;
        while found.len() < max && !waiting.is_empty() {
            let tenants: Vec<Tenant> = self
                .rota
                .order()
                .filter(|tenant| waiting.iter().any(|(of, _)| of == *tenant))
                .cloned()
                .collect();
            for (before, tenant) in tenants.iter().enumerate() {
                // As much for each of those that are left.
                let share = (max - found.len()).div_ceil(tenants.len() - before);
                let had = found.len();
                for kind in self.turns.get(tenant).copied().unwrap_or_default().order() {
                    let source = (tenant.clone(), kind);
                    let wanted = share - (found.len() - had);
                    if wanted == 0 || !waiting.contains(&source) {
                        continue;
                    }
                    let frames = self.look_at(&source, wanted).await.unwrap_or_else(|why| {
                        trouble.get_or_insert(why);
                        Vec::new()
                    });
                    if frames.len() < wanted {
                        waiting.retain(|other| *other != source);
                    }
                    found.extend(frames);
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

    /// Up to `max` frames that wait on a lane.
    async fn look_at(&mut self, source: &Source, max: usize) -> Result<Vec<Delivery>, String> {
        let mut found = Vec::new();
        // Again while frames come that are settled here: they must not cost the lane its turn, nor the other
        // lane its own for long.
        for _ in 0..ROUNDS {
            let asked = self.open(source).await.map_err(|error| error.to_string())?;
            let mut messages = Vec::new();
            let looked = asked.look(max - found.len(), &mut messages).await;
            let mut settled = false;
            for message in messages {
                match self.receive(source.1, message).await {
                    Some(frame) => {
                        self.took(source.clone());
                        found.push(frame);
                    }
                    None => settled = true,
                }
            }
            if let Err(why) = looked {
                return if found.is_empty() { Err(why) } else { Ok(found) };
            }
            if !settled || found.len() >= max {
                break;
            }
        }
        Ok(found)
    }

    /// Reads a frame's message. What is no frame, too old, or was tried too often is settled here.
    async fn receive(&self, kind: Kind, message: Message) -> Option<Delivery> {
        match self.bus.receive(self.lane(kind), message).await {
            Ok(delivery) => delivery,
            Err(error) => {
                metrics::lost(Loss::Malformed);
                tracing::warn!(%error, lane = %self.lane(kind), "dropped a message that is no frame of ours");
                None
            }
        }
    }

    /// Forgets what was asked, and sets the lanes up again: they may be gone.
    async fn recover(&mut self, why: &str) {
        tracing::debug!(why, stage = self.stage.as_str(), "asking again");
        self.asked.clear();
        let mut set_up = Box::pin(self.bus.set_up(self.seen)).await;
        if !self.heard.is_empty() {
            let tenants = self.bus.set_up_tenants(self.bus.0.tenant_lanes.seen());
            set_up = set_up.and(Box::pin(tenants).await);
        }
        match set_up {
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

    /// Withdraws what was asked of tenants whose frames are not `wanted`, and hands back what came and nobody waits for.
    async fn let_go(&mut self, wanted: impl Fn(&Desk, &Tenant) -> bool) {
        let open =
            self.asked.iter().filter(|((tenant, _), asked)| asked.open > 0 && !wanted(&self.desk, tenant));
        for source in open.map(|(source, _)| source.clone()).collect::<Vec<_>>() {
            self.withdraw(&source).await;
        }
        for delivery in self.desk.clear() {
            delivery.hand_back().await;
        }
    }

    async fn withdraw(&mut self, source: &Source) {
        let Some(asked) = self.asked.remove(source) else { return };
        for message in asked.withdraw().await {
            let frames: Vec<_> = self.receive(source.1, message).await.into_iter().collect();
            self.desk.put(frames);
        }
    }
}

/// The next answer to anything that was asked.
async fn answer(asked: &mut HashMap<Source, Asked>) -> (Source, Answer) {
    if asked.is_empty() {
        return std::future::pending().await;
    }
    let next =
        asked.iter_mut().map(|(source, asked)| Box::pin(async { (source.clone(), asked.answer().await) }));
    select_all(next).await.0
}

async fn told(news: &mut Option<Subscriber>) -> Message {
    match news {
        Some(subscriber) => match subscriber.next().await {
            Some(message) => message,
            None => std::future::pending().await,
        },
        None => std::future::pending().await,
    }
}

/// Waits for ever if there is no such time.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
