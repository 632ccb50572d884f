//! Which streams there are, who watches them, and who gets which frame. No clock: `now` is an argument.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use cloudpose_policy::watch::{Taker, enough};
use cloudpose_wire::{
    Draw, ModelId, News, SessionId, Tenant, View,
    watch::{Claim, Hosted, LiveStream, StreamState, WantedPicture, Watched},
    ws::IfTaken,
};
use tokio_util::sync::CancellationToken;

use super::{
    Bounds, Going, Key, Refused, Taken, Wish,
    elsewhere::{Elsewhere, FORGOTTEN_AFTER},
    mailbox::{End, Mailbox},
};
use crate::meter::Meter;

/// Those who watch a stream that has gone wait so long for it to come back.
const COMES_BACK: Duration = Duration::from_secs(10);
/// Who has asked for the list of streams probably asks again within that time.
const CURIOUS: Duration = Duration::from_secs(10);

/// The streams of one gateway.
#[derive(Debug)]
pub(super) struct Streams {
    bounds: Bounds,
    streams: HashMap<Key, Stream>,
    sessions: HashMap<SessionId, Key>,
    elsewhere: Elsewhere,
    /// Others have last been told of streams that a session here has to itself.
    claimed: bool,
    /// Somebody here wants to know what others hold until then.
    asks: Option<Instant>,
    /// When another gateway has last asked.
    asked: Option<Instant>,
    watchers: usize,
    last_seat: u64,
}

/// A stream that has sessions or watchers here.
#[derive(Debug, Default)]
struct Stream {
    senders: HashMap<SessionId, Sender>,
    watchers: BTreeMap<u64, Seat>,
    /// Which frames are drawn for those who watch.
    drawn: HashMap<Draw, Taker>,
    /// Since when no session sends it, here or elsewhere.
    gone: Option<Instant>,
}

#[derive(Debug)]
struct Seat {
    wish: Wish,
    taker: Taker,
    mailbox: Arc<Mailbox>,
}

/// A session that sends frames.
#[derive(Debug)]
pub(super) struct Sender {
    model: ModelId,
    since: u64,
    size: [u32; 2],
    meter: Meter,
    /// The newest frame whose picture was shown.
    pictured: HashMap<Draw, u64>,
    hold: Hold,
    /// Another has the stream to itself.
    ended: CancellationToken,
}

/// How a session holds its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// As its client asked.
    Asked(IfTaken),
    /// A camera's, which nobody takes over.
    Camera,
}

impl Sender {
    pub(super) fn new((model, since): (ModelId, u64), hold: Hold) -> Self {
        Self {
            model,
            since,
            size: [0, 0],
            meter: Meter::default(),
            pictured: HashMap::new(),
            hold,
            ended: CancellationToken::new(),
        }
    }

    /// Cancelled when another session has the stream to itself.
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    fn is_alone(&self) -> bool {
        matches!(self.hold, Hold::Asked(IfTaken::Refuse | IfTaken::TakeOver))
    }

    fn end(&self) {
        if self.hold != Hold::Camera {
            self.ended.cancel();
        }
    }
}

impl Streams {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            streams: HashMap::new(),
            sessions: HashMap::new(),
            elsewhere: Elsewhere::default(),
            claimed: false,
            asks: None,
            asked: None,
            watchers: 0,
            last_seat: 0,
        }
    }

    /// A session begins, unless its stream is taken. Those that it takes it from are told to end.
    pub(super) fn open(&mut self, key: Key, session: SessionId, sender: Sender) -> Result<(), Taken> {
        let senders = self.streams.get(&key).into_iter().flat_map(|stream| stream.senders.values());
        let others: Vec<&Sender> = senders.filter(|other| !other.ended.is_cancelled()).collect();
        let is_claimed = || others.iter().any(|other| other.is_alone()) || self.elsewhere.claims(&key);
        let taken = match sender.hold {
            Hold::Camera => false,
            Hold::Asked(IfTaken::Share) => is_claimed(),
            Hold::Asked(IfTaken::Refuse) => !others.is_empty() || is_claimed() || self.elsewhere.holds(&key),
            Hold::Asked(IfTaken::TakeOver) => others.iter().any(|other| other.hold == Hold::Camera),
        };
        if taken {
            return Err(Taken);
        }
        if sender.is_alone() {
            others.iter().for_each(|other| other.end());
        }
        self.sessions.insert(session.clone(), key.clone());
        self.streams.entry(key).or_default().senders.insert(session, sender);
        Ok(())
    }

    pub(super) fn close(&mut self, key: &Key, session: &SessionId) {
        self.sessions.remove(session);
        if let Some(stream) = self.streams.get_mut(key) {
            stream.senders.remove(session);
            self.tidy(key);
        }
    }

    pub(super) fn watch(&mut self, key: &Key, wish: Wish, mailbox: Arc<Mailbox>) -> Result<u64, Refused> {
        if self.watchers >= self.bounds.watchers {
            return Err(Refused::Full);
        }
        let is_here = self.streams.contains_key(key);
        if !is_here && !self.elsewhere.holds(key) {
            return Err(Refused::NoStream);
        }
        self.watchers += 1;
        self.last_seat += 1;
        let seat = Seat { wish, taker: Taker::new(wish.fps), mailbox };
        self.streams.entry(key.clone()).or_default().watchers.insert(self.last_seat, seat);
        Ok(self.last_seat)
    }

    /// The watcher of `seat` is gone. One that was shown the door has no seat any more.
    pub(super) fn leave(&mut self, key: &Key, seat: u64) {
        if let Some(stream) = self.streams.get_mut(key)
            && stream.watchers.remove(&seat).is_some()
        {
            self.watchers -= 1;
            self.tidy(key);
        }
    }

    fn tidy(&mut self, key: &Key) {
        if self.streams.get(key).is_some_and(|of| of.senders.is_empty() && of.watchers.is_empty()) {
            self.streams.remove(key);
        }
    }

    pub(super) fn goes(&mut self, key: &Key, session: &SessionId, frame: Going<'_>) {
        let stream = self.streams.get_mut(key);
        let Some(sender) = stream.and_then(|stream| stream.senders.get_mut(session)) else { return };
        sender.size = frame.size;
        if sender.model != *frame.model {
            sender.model = frame.model.clone();
        }
    }

    pub(super) fn wanted(&mut self, now: Instant, key: &Key, own: Option<Draw>) -> Vec<Draw> {
        let Some(stream) = self.streams.get_mut(key) else { return Vec::new() };
        let only = self.bounds.draw_only;
        let mut wanted = stream.wanted(self.elsewhere.watched(key));
        wanted.retain(|draw, _| only.is_none_or(|only| only == *draw));
        stream.drawn.retain(|draw, _| wanted.contains_key(draw));
        let drawn = &mut stream.drawn;
        let takes = |(draw, fps): (Draw, Option<f32>)| {
            let taker = drawn.entry(draw).or_insert_with(|| Taker::new(fps));
            taker.change(fps);
            (Some(draw) != own && taker.takes(now)).then_some(draw)
        };
        wanted.into_iter().filter_map(takes).collect()
    }

    /// A session's frame is done. Whether other gateways want to see it.
    pub(super) fn found(&mut self, now: Instant, key: &Key, session: &SessionId, view: &View) -> bool {
        let Some(stream) = self.streams.get_mut(key) else { return false };
        if let Some(sender) = stream.senders.get_mut(session) {
            sender.meter.count(now, 1);
            if view.picture.is_some() {
                sender.pictured.insert(view.draw, view.seq);
            }
        }
        self.show(now, key, view);
        self.is_wanted_elsewhere(key, view)
    }

    /// A frame's picture was drawn for those who watch. `None` if a later one has been shown, or the session is gone;
    /// otherwise its stream, and whether other gateways want to see it.
    pub(super) fn drawn(&mut self, now: Instant, session: &SessionId, view: &View) -> Option<(Key, bool)> {
        let key = self.sessions.get(session)?.clone();
        let sender = self.streams.get_mut(&key)?.senders.get_mut(session)?;
        let newest = sender.pictured.entry(view.draw).or_default();
        if view.seq <= *newest {
            return None;
        }
        *newest = view.seq;
        self.show(now, &key, view);
        let elsewhere = self.is_wanted_elsewhere(&key, view);
        Some((key, elsewhere))
    }

    /// Gives a frame to those here who take it.
    pub(super) fn show(&mut self, now: Instant, key: &Key, view: &View) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let patience = self.bounds.patience;
        let before = stream.watchers.len();
        stream.watchers.retain(|_, seat| {
            let watches = !seat.takes(now, view) || seat.mailbox.put(now, seat.of(view), patience);
            if !watches {
                seat.mailbox.end(End::Slow);
            }
            watches
        });
        self.watchers -= before - stream.watchers.len();
    }

    fn is_wanted_elsewhere(&self, key: &Key, view: &View) -> bool {
        self.elsewhere.watched(key).any(|watched| {
            let picture = || watched.pictures.iter().any(|wanted| wanted.draw == view.draw);
            (watched.events && !view.again) || (view.picture.is_some() && picture())
        })
    }

    /// Takes in what another gateway says. True if it wants to know at once what there is here.
    pub(super) fn heard(&mut self, now: Instant, news: News) -> bool {
        let at_once = news.asks && !self.is_asked(now);
        if news.asks {
            self.asked = Some(now);
        }
        for claim in &news.claims {
            let stream = self.streams.get(&(claim.tenant.clone(), claim.stream.clone()));
            let here = stream.into_iter().flat_map(|stream| &stream.senders);
            // Of two who have it to themselves the later one.
            here.filter(|(session, sender)| !(sender.is_alone() && **session > claim.session))
                .for_each(|(_, sender)| sender.end());
        }
        self.elsewhere.heard(now, news);
        at_once
    }

    /// Somebody here wants to know what others hold. True if somebody did before.
    pub(super) fn ask(&mut self, now: Instant) -> bool {
        let already = self.asks(now);
        self.asks = Some(now + CURIOUS);
        already
    }

    /// Whether somebody here wants to know what others hold.
    pub(super) fn asks(&self, now: Instant) -> bool {
        self.watchers > 0 || self.asks.is_some_and(|until| now < until)
    }

    /// Whether another gateway wants to know what there is here.
    pub(super) fn is_asked(&self, now: Instant) -> bool {
        self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < FORGOTTEN_AFTER)
    }

    pub(super) fn may_be_shown(&self, draw: Draw) -> bool {
        self.bounds.draw_only.is_none_or(|only| only == draw)
    }

    /// Forgets gateways that say nothing, and lets those go whose stream does not come back.
    pub(super) fn forget(&mut self, now: Instant) {
        self.elsewhere.forget(now);
        for (key, stream) in &mut self.streams {
            if !stream.senders.is_empty() || self.elsewhere.holds(key) {
                stream.gone = None;
                continue;
            }
            let gone = *stream.gone.get_or_insert(now);
            if now.saturating_duration_since(gone) >= COMES_BACK {
                stream.watchers.values().for_each(|seat| seat.mailbox.end(End::Ended));
            }
        }
    }

    /// The streams that a session here has to itself. None if others have heard already that there is none.
    pub(super) fn claims(&mut self) -> Option<Vec<Claim>> {
        let mut claims = Vec::new();
        for ((tenant, stream), of) in &self.streams {
            let alone =
                of.senders.iter().filter(|(_, sender)| sender.is_alone() && !sender.ended.is_cancelled());
            claims.extend(alone.map(|(session, _)| Claim {
                tenant: tenant.clone(),
                stream: stream.clone(),
                session: session.clone(),
            }));
        }
        let before = std::mem::replace(&mut self.claimed, !claims.is_empty());
        (before || self.claimed).then_some(claims)
    }

    /// What others are told.
    pub(super) fn tell(&self, now: Instant) -> (Vec<Hosted>, Vec<Watched>) {
        let (mut streams, mut watched) = (Vec::new(), Vec::new());
        for (key, stream) in &self.streams {
            let tenant = key.0.clone();
            if let Some(live) = stream.live(now, key) {
                streams.push(Hosted { tenant: tenant.clone(), live });
            }
            if !stream.watchers.is_empty() {
                watched.push(stream.watched(tenant, key));
            }
        }
        (streams, watched)
    }

    pub(super) fn list(&self, now: Instant, tenant: &Tenant) -> Vec<LiveStream> {
        let here = self.streams.iter().filter_map(|(key, stream)| Some((key, stream.live(now, key)?)));
        let elsewhere = self.elsewhere.streams().map(|(key, live)| (key, live.clone()));
        let mut list = BTreeMap::<_, LiveStream>::new();
        for (key, live) in here.chain(elsewhere).filter(|(key, _)| key.0 == *tenant) {
            match list.get_mut(key) {
                Some(known) => join(known, live),
                None => {
                    list.insert(key, live);
                }
            }
        }
        for (key, live) in &mut list {
            let here = self.streams.get(key).map_or(0, |stream| stream.watchers.len());
            let elsewhere: u32 = self.elsewhere.watched(key).map(|watched| watched.watchers).sum();
            live.watchers = elsewhere.saturating_add(u32::try_from(here).unwrap_or(u32::MAX));
        }
        list.into_values().collect()
    }

    pub(super) fn watched(&self) -> Vec<Key> {
        let watched = self.streams.iter().filter(|(_, stream)| !stream.watchers.is_empty());
        watched.map(|(key, _)| key.clone()).collect()
    }
}

/// One stream, whose sessions are at two gateways.
fn join(known: &mut LiveStream, other: LiveStream) {
    if other.state == StreamState::Live {
        known.state = StreamState::Live;
    }
    known.since = known.since.min(other.since);
    known.fps += other.fps;
    known.sessions += other.sessions;
}

impl Seat {
    fn takes(&mut self, now: Instant, view: &View) -> bool {
        let suits = match self.wish.want.overlay() {
            true => view.picture.is_some() && view.draw == self.wish.draw,
            false => !view.again,
        };
        suits && self.taker.takes(now)
    }

    /// What it keeps of the frame.
    fn of(&self, view: &View) -> View {
        let picture = view.picture.clone().filter(|_| self.wish.want.overlay());
        View { picture, ..view.clone() }
    }
}

impl Stream {
    /// Each way in which somebody wants pictures, and how many a second are enough.
    fn wanted<'a>(&self, elsewhere: impl Iterator<Item = &'a Watched>) -> BTreeMap<Draw, Option<f32>> {
        let here = self.watchers.values().map(|seat| seat.wish).filter(|wish| wish.want.overlay());
        let here = here.map(|wish| (wish.draw, wish.fps));
        let elsewhere =
            elsewhere.flat_map(|watched| &watched.pictures).map(|wanted| (wanted.draw, wanted.fps));
        let mut wanted = BTreeMap::<Draw, Option<f32>>::new();
        for (draw, fps) in here.chain(elsewhere) {
            let so_far = wanted.get(&draw).copied();
            wanted.insert(draw, enough(so_far.into_iter().chain([fps])).flatten());
        }
        wanted
    }

    fn watched(&self, tenant: Tenant, key: &Key) -> Watched {
        let pictures = self.wanted(std::iter::empty()).into_iter();
        Watched {
            tenant,
            stream: key.1.clone(),
            watchers: u32::try_from(self.watchers.len()).unwrap_or(u32::MAX),
            events: self.watchers.values().any(|seat| !seat.wish.want.overlay()),
            pictures: pictures.map(|(draw, fps)| WantedPicture { draw, fps }).collect(),
        }
    }

    /// What is said of it, if sessions here send it.
    fn live(&self, now: Instant, key: &Key) -> Option<LiveStream> {
        let newest = self.senders.values().max_by_key(|sender| (sender.meter.last(), sender.since))?;
        let [width, height] = newest.size;
        let silent = self.senders.values().all(|sender| sender.meter.is_silent(now));
        Some(LiveStream {
            stream: key.1.clone(),
            state: if silent { StreamState::Silent } else { StreamState::Live },
            model: newest.model.clone(),
            width,
            height,
            since: self.senders.values().map(|sender| sender.since).min()?,
            fps: self.senders.values().map(|sender| sender.meter.fps(now)).sum(),
            sessions: u32::try_from(self.senders.len()).unwrap_or(u32::MAX),
            watchers: 0,
        })
    }
}
