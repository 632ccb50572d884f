//! Live streams, and those who watch them. Speaks no protocol.
//!
//! A session shows what it finds through its [`Source`]; a door that has a client who watches takes it from a
//! [`Watcher`]. Pictures are drawn only while somebody watches them: a session's frame says which are wanted besides
//! its own ([`Source::wanted`]), and they come back beside its result ([`Hub::drawn`]), which never waits for them. So
//! each frame is drawn once for all who watch it drawn in the same way.
//!
//! A watcher keeps no more than a few frames: when it is slow the oldest gives way, and is counted. Nobody waits for it.
//!
//! | module | what |
//! |---|---|
//! | `streams` | which streams there are, who watches them, who gets which frame |
//! | `mailbox` | the frames that wait for one watcher |
//! | `elsewhere` | what other gateways hold and watch |
//! | `exchange` | telling them, and showing them what they watch |

mod elsewhere;
mod exchange;
mod mailbox;
mod streams;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use cloudpose_bus::Bus;
use cloudpose_wire::{
    Draw, FrameResult, GatewayId, ModelId, News, Reply, SessionId, SharedEvent, StreamName, Tenant, View,
    Want, frame::ResultBody, watch::LiveStream, ws::IfTaken,
};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

pub(crate) use self::{
    exchange::Exchange,
    mailbox::{End, Seen, Watcher},
};
use self::{
    mailbox::Mailbox,
    streams::{Hold, Sender, Streams},
};
use crate::metrics;

/// Frames on their way to other gateways.
const OUTGOING: usize = 32;
/// How long others may take to say what they hold.
const ANSWERS: Duration = Duration::from_millis(250);

/// A tenant's stream.
type Key = (Tenant, StreamName);

/// What somebody who watches wants to see.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Wish {
    pub(crate) want: Want,
    /// How pictures are drawn.
    pub(crate) draw: Draw,
    /// So many frames a second, more than 0; all if absent.
    pub(crate) fps: Option<f32>,
}

/// What is known of a frame that goes out to be worked on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Going<'a> {
    pub(crate) model: &'a ModelId,
    /// Width and height in pixels; zeros if they are not known.
    pub(crate) size: [u32; 2],
    /// How the session's own picture is drawn, if it wants one.
    pub(crate) own: Option<Draw>,
}

/// Why a stream cannot be watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// No session sends it, here or at another gateway.
    NoStream,
    /// There are as many watchers as there may be.
    Full,
}

/// Another session has the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another session sends this stream")]
pub(crate) struct Taken;

/// Bounds of watching.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Watchers of this gateway at once.
    pub(crate) watchers: usize,
    /// Who takes nothing for so long watches no more.
    pub(crate) patience: Duration,
    /// No pictures are shown but those that are drawn so, if it is said.
    pub(crate) draw_only: Option<Draw>,
}

/// The live streams, and who watches them. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Hub(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    id: GatewayId,
    streams: Mutex<Streams>,
    /// Others are to be told of something.
    changed: Notify,
    outgoing: mpsc::Sender<(Key, View)>,
}

impl Hub {
    /// No streams yet. The [`Exchange`] is to be run with the bus.
    pub(crate) fn new(id: GatewayId, bounds: Bounds) -> (Self, Exchange) {
        let (outgoing, waiting) = mpsc::channel(OUTGOING);
        let streams = Mutex::new(Streams::new(bounds));
        let hub = Self(Arc::new(Shared { id, streams, changed: Notify::new(), outgoing }));
        (hub.clone(), Exchange::new(hub, waiting))
    }

    /// A session that sends frames of a stream begins at `since`, milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`Taken`] if another has the stream, and does not share it or was not to.
    pub(crate) fn open(
        &self,
        stream: (Tenant, StreamName),
        session: SessionId,
        runs: (ModelId, u64),
        if_taken: IfTaken,
    ) -> Result<Source, Taken> {
        self.begin(stream, session, Sender::new(runs, Hold::Asked(if_taken)))
    }

    /// A camera's session begins at `since`. Nobody takes its stream over.
    pub(crate) fn open_camera(
        &self,
        stream: (Tenant, StreamName),
        session: SessionId,
        runs: (ModelId, u64),
    ) -> Source {
        let begun = self.begin(stream, session, Sender::new(runs, Hold::Camera));
        begun.expect("a camera's stream is never taken")
    }

    fn begin(&self, key: Key, session: SessionId, sender: Sender) -> Result<Source, Taken> {
        let ended = sender.ended();
        self.streams().open(key.clone(), session.clone(), sender)?;
        self.0.changed.notify_one();
        Ok(Source { hub: self.clone(), key, session, ended })
    }

    /// Watches a stream.
    pub(crate) fn watch(&self, tenant: &Tenant, stream: &StreamName, wish: Wish) -> Result<Watcher, Refused> {
        let key = (tenant.clone(), stream.clone());
        let mailbox = Arc::new(Mailbox::default());
        let seat = self.streams().watch(&key, wish, mailbox.clone());
        match seat {
            Ok(seat) => {
                metrics::watcher_came();
                self.0.changed.notify_one();
                Ok(Watcher::new(self.clone(), key, seat, mailbox))
            }
            Err(refused) => {
                if refused == Refused::Full {
                    metrics::watcher_refused();
                }
                Err(refused)
            }
        }
    }

    /// A picture that was drawn for those who watch, or why it was not.
    pub(crate) fn drawn(&self, now: Instant, result: FrameResult) {
        let FrameResult { reply: Reply::Session(address), seq, body, draw, .. } = result else { return };
        match body {
            ResultBody::Done { event, overlay: Some(picture), .. } => {
                let gateway = self.0.id.clone();
                let view = View { gateway, seq, event, draw, again: true, picture: Some(picture) };
                let mut streams = self.streams();
                if !streams.may_be_shown(draw) {
                    return metrics::watched_picture("annotate_failed");
                }
                let shown = streams.drawn(now, &address.session, &view);
                drop(streams);
                metrics::watched_picture(if shown.is_some() { "drawn" } else { "late" });
                if let Some((key, true)) = shown {
                    self.show_others(key, view);
                }
            }
            ResultBody::Done { overlay: None, .. } => metrics::watched_picture("annotate_failed"),
            ResultBody::Dropped { reason, .. } => metrics::watched_picture(reason.as_str()),
        }
    }

    /// Asks other gateways what they hold, and for a while to go on saying it. If nobody has asked of late, waits for
    /// their answers, as long as those may take.
    pub(crate) async fn ask(&self, bus: &Bus) {
        if !self.begin_to_ask() {
            self.answers(bus).await;
        }
    }

    /// The same, and waits though they were asked of late: of a stream that has begun a moment ago they may be about to say so.
    pub(crate) async fn ask_again(&self, bus: &Bus) {
        self.begin_to_ask();
        self.answers(bus).await;
    }

    /// Whether others were asked already.
    fn begin_to_ask(&self) -> bool {
        let now = tokio::time::Instant::now().into_std();
        self.streams().ask(now)
    }

    async fn answers(&self, bus: &Bus) {
        if matches!(bus, Bus::Nats(_)) {
            self.0.changed.notify_one();
            tokio::time::sleep(ANSWERS).await;
        }
    }

    /// A tenant's live streams, by name, wherever their sessions are.
    pub(crate) fn list(&self, now: Instant, tenant: &Tenant) -> Vec<LiveStream> {
        self.streams().list(now, tenant)
    }

    /// What another gateway says.
    fn heard(&self, now: Instant, news: News) {
        if news.gateway != self.0.id && self.streams().heard(now, news) {
            self.0.changed.notify_one();
        }
    }

    /// What another gateway shows.
    fn shown(&self, now: Instant, key: &Key, view: &View) {
        if view.gateway != self.0.id {
            self.streams().show(now, key, view);
        }
    }

    /// Lets those go whose stream has ended, and says what there is, if anybody wants to know.
    fn news(&self, now: Instant) -> Option<News> {
        let mut streams = self.streams();
        streams.forget(now);
        let (asks, claims) = (streams.asks(now), streams.claims());
        let somebody_asks = asks || streams.is_asked(now);
        if !somebody_asks && claims.is_none() {
            return None;
        }
        let (streams, watched) = if somebody_asks { streams.tell(now) } else { Default::default() };
        let claims = claims.unwrap_or_default();
        Some(News { gateway: self.0.id.clone(), asks, streams, watched, claims })
    }

    /// Those that clients here watch.
    fn watched(&self) -> Vec<Key> {
        self.streams().watched()
    }

    fn leave(&self, key: &Key, seat: u64) {
        self.streams().leave(key, seat);
        metrics::watcher_left();
        self.0.changed.notify_one();
    }

    fn show_others(&self, key: Key, view: View) {
        if self.0.outgoing.try_send((key, view)).is_err() {
            metrics::shown_elsewhere("queue_full");
        }
    }

    fn streams(&self) -> MutexGuard<'_, Streams> {
        // What a panic elsewhere leaves half done is one frame for one watcher.
        self.0.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a session shows. Dropping it ends its part of the stream.
#[derive(Debug)]
pub(crate) struct Source {
    hub: Hub,
    key: Key,
    session: SessionId,
    ended: CancellationToken,
}

impl Source {
    /// Cancelled when another session has the stream to itself.
    pub(crate) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// A frame goes out now. Which pictures of it those who watch want, besides the session's own.
    pub(crate) fn goes(&self, now: Instant, frame: Going<'_>) -> Vec<Draw> {
        let mut streams = self.hub.streams();
        streams.goes(&self.key, &self.session, frame);
        streams.wanted(now, &self.key, frame.own)
    }

    /// What was found in frame `seq`, and the session's own picture of it.
    pub(crate) fn found(
        &self,
        now: Instant,
        seq: u64,
        event: &SharedEvent,
        (draw, picture): (Draw, Option<&Bytes>),
    ) {
        let (gateway, event, picture) = (self.hub.0.id.clone(), event.clone(), picture.cloned());
        let view = View { gateway, seq, event, draw, again: false, picture };
        let for_others = self.hub.streams().found(now, &self.key, &self.session, &view);
        if for_others {
            self.hub.show_others(self.key.clone(), view);
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.hub.streams().close(&self.key, &self.session);
        self.hub.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests;
