//! One streaming session without its socket, bus and clock: what comes in goes to [`Session`] with the
//! time, what is to be done comes out of [`Session::next_output`].
//!
//! A frame holds its credit from when it goes on the bus until the client has taken its result. So a
//! client that does not read fills its window with results and gets no further: what it makes us keep is
//! bounded by the window and the outbox.
//!
//! The caller's loop: hand in what happened, call [`Session::advance`], carry out all outputs, sleep
//! until [`Session::next_deadline`] or until something happens.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cloudpose_bus::Models;
use cloudpose_policy::{
    admit::{Admit, Next, Rules},
    deadline::{self, GRACE},
    order::{Arrival, Order},
    pace::Pace,
    retry::{self, Retry},
};
use cloudpose_tracks::Registry;
use cloudpose_wire::{
    DropReason, Frame, FrameHeader, FrameResult, Kind, ModelId, Outcome, Prior, Reply, SessionId,
    SharedEvent, StreamName, TraceParent, Want,
    frame::ResultBody,
    ws::{ClientMessage, ErrorCode, Limits, Mode, ServerMessage},
};
use tracing::{Span, field::Empty};

use crate::{ledger::Account, metrics};

/// JPEG quality of the overlay unless the client asks otherwise.
pub(crate) const DEFAULT_QUALITY: u8 = 85;

/// The span of a frame at the gateway, from when it is handed on until its end.
pub(crate) fn frame_span(stream: &StreamName, seq: u64) -> Span {
    // Of this level, so that no filter of the log but `off` takes it out of the traces.
    tracing::error_span!("frame", %stream, seq, outcome = Empty, trace_id = Empty)
}

/// What holds for the whole session.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    pub(crate) reply: Reply,
    pub(crate) session: SessionId,
    pub(crate) stream: StreamName,
    pub(crate) mode: Mode,
    pub(crate) limits: Limits,
    pub(crate) min_score: f32,
    /// What the workers serve.
    pub(crate) models: Models,
    /// The trace that the client opened the session in.
    pub(crate) trace: Option<TraceParent>,
}

impl Terms {
    /// The lanes on which the session's frames go.
    pub(crate) fn kind(&self) -> Kind {
        match self.mode {
            Mode::Live => Kind::Live,
            Mode::Complete => Kind::Still,
        }
    }

    fn max_age(&self) -> Duration {
        Duration::from_millis(self.limits.max_age_ms.into())
    }
}

/// What the client can change from frame to frame.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) want: Want,
    pub(crate) model: ModelId,
    pub(crate) quality: u8,
    /// Tell the client of each dropped frame.
    pub(crate) drops: bool,
    /// Smooth keypoints over time.
    pub(crate) smooth: bool,
}

/// What the loop has to do.
#[derive(Debug)]
pub(crate) enum Output {
    /// Put it on the infer lane, then tell with [`Session::published`] or [`Session::refused`].
    Publish(Box<Frame>),
    /// Send it.
    Send(ServerMessage),
    /// Send the `result`, then the annotated JPEG; when the client has taken both, tell with
    /// [`Session::sent`].
    Deliver { seq: u64, result: ServerMessage, overlay: Option<Bytes> },
}

/// A frame that has come in and waits for a credit.
#[derive(Debug)]
struct Arrived {
    settings: Settings,
    received_at: u64,
    image: Bytes,
}

/// A frame that holds a credit.
#[derive(Debug)]
struct Flight {
    received: Instant,
    want: Want,
    /// When it counts as lost. `None` when the bus does not have it.
    due: Option<Instant>,
    /// What to tell a broker that has forgotten it: a complete session loses no frame.
    again: Option<Box<Frame>>,
    /// From here until its end.
    span: Span,
}

#[derive(Debug)]
struct Done {
    event: SharedEvent,
    overlay: Option<Bytes>,
}

/// One streaming session.
#[derive(Debug)]
pub(crate) struct Session {
    terms: Terms,
    settings: Settings,
    account: Account,
    admit: Admit<Arrived>,
    order: Order<Done>,
    flights: BTreeMap<u64, Flight>,
    tracks: Registry,
    pace: Pace,
    /// A complete session's frames that the bus did not take.
    retry: Retry<Frame>,
    last_seq: u64,
    ending: bool,
    outputs: VecDeque<Output>,
}

impl Session {
    pub(crate) fn new(terms: Terms, settings: Settings, account: Account) -> Self {
        let rules = Rules { mode: terms.mode, window: terms.limits.window, max_age: terms.max_age() };
        let hello = ServerMessage::Hello {
            session: terms.session.clone(),
            stream: terms.stream.clone(),
            mode: terms.mode,
            want: settings.want,
            model: settings.model.clone(),
            quality: settings.quality,
            smooth: settings.smooth,
            limits: terms.limits,
        };
        Self {
            admit: Admit::new(rules),
            order: Order::new(terms.mode),
            retry: Retry::new(&terms.session, deadline::COMPLETE),
            terms,
            settings,
            account,
            flights: BTreeMap::new(),
            tracks: Registry::default(),
            pace: Pace::default(),
            last_seq: 0,
            ending: false,
            outputs: VecDeque::from([Output::Send(hello)]),
        }
    }

    /// True if the socket may be read.
    pub(crate) fn accepts(&self) -> bool {
        self.admit.accepts()
    }

    /// A binary message came.
    pub(crate) fn image(&mut self, now: Instant, received_at: u64, image: Bytes) {
        if self.ending {
            return self.error(ErrorCode::BadMessage, "this frame came after `end` and was not taken");
        }
        self.last_seq += 1;
        let seq = self.last_seq;
        self.account.accept(seq);
        if let Some(fps) = self.pace.received(now) {
            self.outputs.push_back(Output::Send(ServerMessage::Hint { fps }));
        }
        let limits = cloudpose_pixels::Limits { max_pixels: self.terms.limits.max_image_pixels };
        if let Err(error) = cloudpose_pixels::probe(&image, limits) {
            return self.dropped(seq, DropReason::Undecodable, error.to_string());
        }
        let arrived = Arrived { settings: self.settings.clone(), received_at, image };
        if let Some(old) = self.admit.offer(now, seq, arrived) {
            self.pace.superseded();
            self.dropped(old, DropReason::Superseded, String::new());
        }
    }

    /// A text message came.
    pub(crate) fn text(&mut self, text: &str) {
        match serde_json::from_str(text) {
            Ok(ClientMessage::End) => self.ending = true,
            Ok(ClientMessage::Configure { quality: Some(quality), .. }) if !(1..=100).contains(&quality) => {
                self.error(ErrorCode::BadMessage, format!("quality is {quality}; use 1 to 100"));
            }
            Ok(ClientMessage::Configure { want, model, quality, drops, smooth }) => {
                if let Some(model) = model.as_ref().filter(|model| !self.terms.models.may_be_served(model)) {
                    let message = crate::problem::unknown_model(model, &self.terms.models);
                    return self.error(ErrorCode::BadMessage, message);
                }
                let old = &self.settings;
                self.settings = Settings {
                    want: want.unwrap_or(old.want),
                    model: model.unwrap_or_else(|| old.model.clone()),
                    quality: quality.unwrap_or(old.quality),
                    drops: drops.unwrap_or(old.drops),
                    smooth: smooth.unwrap_or(old.smooth),
                };
            }
            Err(error) => self.error(
                ErrorCode::BadMessage,
                format!("not a message that we know: {error}; send images as binary messages"),
            ),
        }
    }

    /// A worker's word on a frame came.
    pub(crate) fn result(&mut self, result: FrameResult) {
        let seq = result.seq;
        match result.body {
            ResultBody::Done { event, overlay, tracks } => {
                let arrival = self.order.arrive(seq, Done { event, overlay });
                // A frame that comes too late to be shown still says who was there.
                if let (Arrival::Kept | Arrival::Late, Some(tracks)) = (&arrival, tracks) {
                    self.absorb(tracks);
                }
                match arrival {
                    Arrival::Kept => {
                        if let Some(flight) = self.flights.get_mut(&seq) {
                            (flight.due, flight.again) = (None, None);
                        }
                        self.retry.done(seq);
                    }
                    Arrival::Late => self.lost(seq, DropReason::Late, String::new()),
                    Arrival::Unknown => metrics::result_unclaimed(),
                }
            }
            ResultBody::Dropped { reason, detail } => {
                if self.order.forget(seq) {
                    self.lost(seq, reason, detail);
                } else {
                    metrics::result_unclaimed();
                }
            }
        }
    }

    /// The client has taken the result of frame `seq`.
    pub(crate) fn sent(&mut self, now: Instant, seq: u64) {
        if let Some(flight) = self.flights.remove(&seq) {
            self.admit.release();
            self.pace.delivered();
            self.account.end(seq, Outcome::Delivered);
            flight.span.record("outcome", Outcome::Delivered.as_str());
            metrics::frame_latency(self.terms.kind(), now - flight.received);
        }
    }

    /// The bus took frame `seq`.
    pub(crate) fn published(&mut self, seq: u64) {
        self.retry.done(seq);
    }

    /// The bus did not take `frame` for `reason`: a live one is dropped, a complete session's is offered
    /// again unless it never will be taken.
    pub(crate) fn refused(&mut self, now: Instant, frame: Frame, reason: DropReason) {
        let seq = frame.header.seq;
        match self.terms.mode {
            Mode::Complete if reason != DropReason::TooLarge => {
                if let Some(flight) = self.flights.get_mut(&seq) {
                    flight.due = None;
                    self.retry.refused(now, seq, frame, reason);
                }
            }
            Mode::Live | Mode::Complete => {
                self.order.forget(seq);
                self.lost(seq, reason, String::new());
            }
        }
    }

    /// There is a new connection to the broker, which may have forgotten what it had, or given its result to nobody.
    /// Live frames are not worth telling again: newer ones are on their way.
    pub(crate) fn reconnected(&mut self, now: Instant) {
        self.retry.reset();
        let mut again = Vec::new();
        for flight in self.flights.values_mut() {
            let Some(frame) = &mut flight.again else { continue };
            frame.header.retries += 1;
            if flight.due.is_some() {
                again.push(Frame::clone(frame));
            }
        }
        // What waits to be offered again was perhaps taken on the old connection.
        for frame in self.retry.waiting_mut() {
            frame.header.retries += 1;
        }
        for frame in again {
            self.publish(now, frame);
        }
    }

    /// No more frames will come; the accepted ones are finished.
    pub(crate) fn end(&mut self) {
        self.ending = true;
    }

    /// True after [`end`](Self::end), or the client's own, when every frame has ended.
    pub(crate) fn finished(&self) -> bool {
        self.ending && self.account.own().in_flight() == 0
    }

    /// What is still open ends now, for `reason`.
    pub(crate) fn give_up(&mut self, reason: DropReason) {
        self.account.end_all(reason);
    }

    /// Does what has become possible or due.
    pub(crate) fn advance(&mut self, now: Instant) {
        let overdue: Vec<u64> = self
            .flights
            .iter()
            .filter(|(_, f)| f.due.is_some_and(|due| now >= due))
            .map(|(s, _)| *s)
            .collect();
        for seq in overdue {
            self.order.forget(seq);
            match self.terms.mode {
                Mode::Live => self.lost(seq, DropReason::Expired, String::new()),
                Mode::Complete => self.lost(seq, DropReason::BusLost, "no worker finished it".into()),
            }
        }
        while let Some(next) = self.retry.poll(now) {
            match next {
                retry::Next::Offer(frame) => self.put_on_bus(now, frame),
                retry::Next::GiveUp(seq, reason) => {
                    self.order.forget(seq);
                    self.lost(seq, reason, "the work queue did not take it for too long".into());
                }
            }
        }
        while let Some(next) = self.admit.poll(now) {
            match next {
                Next::Publish(waiting) => {
                    let Arrived { settings, received_at, image } = waiting.frame;
                    let seq = waiting.seq;
                    let span = frame_span(&self.terms.stream, seq);
                    let trace = cloudpose_bus::trace::join(&span, self.terms.trace);
                    let waited = now - waiting.received;
                    let want = settings.want;
                    let header = self.header(seq, settings, received_at, waited, trace);
                    let flight = Flight { received: waiting.received, want, due: None, again: None, span };
                    self.flights.insert(seq, flight);
                    self.order.expect(seq);
                    self.publish(now, Frame { header, event: None, image });
                }
                Next::Expire(seq) => self.dropped(seq, DropReason::Expired, String::new()),
            }
        }
        while let Some((seq, done)) = self.order.poll() {
            self.deliver(now, seq, done);
        }
    }

    /// The next thing to do.
    pub(crate) fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`advance`](Self::advance) has something to do though nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = self.flights.values().filter_map(|flight| flight.due).min();
        [due, self.admit.next_deadline(), self.retry.next_deadline()].into_iter().flatten().min()
    }

    fn header(
        &self,
        seq: u64,
        settings: Settings,
        received_at: u64,
        waited: Duration,
        trace: Option<TraceParent>,
    ) -> FrameHeader {
        let budget = deadline::budget(self.terms.mode, self.terms.max_age(), waited);
        FrameHeader {
            stream: self.terms.stream.clone(),
            seq,
            kind: self.terms.kind(),
            reply: self.terms.reply.clone(),
            received_at,
            deadline_ms: u32::try_from(budget.as_millis()).unwrap_or(u32::MAX),
            want: settings.want,
            model: settings.model,
            quality: settings.quality,
            min_score: self.terms.min_score,
            smooth: settings.smooth,
            prior: Some(self.tracks.prior()),
            retries: 0,
            trace,
        }
    }

    /// Offers `frame` to the bus, or lets it wait behind those that the bus refused.
    fn publish(&mut self, now: Instant, frame: Frame) {
        let seq = frame.header.seq;
        if let Some(flight) = self.flights.get_mut(&seq) {
            flight.due = None;
        }
        if let Some(frame) = self.retry.offer(now, seq, frame) {
            self.put_on_bus(now, frame);
        }
    }

    fn put_on_bus(&mut self, now: Instant, frame: Frame) {
        if let Some(flight) = self.flights.get_mut(&frame.header.seq) {
            flight.due = Some(now + deadline::of(&frame.header) + GRACE);
            if self.terms.mode == Mode::Complete {
                flight.again.get_or_insert_with(|| Box::new(frame.clone()));
            }
        }
        self.outputs.push_back(Output::Publish(Box::new(frame)));
    }

    fn deliver(&mut self, now: Instant, seq: u64, done: Done) {
        let Some(flight) = self.flights.get(&seq) else {
            debug_assert!(false, "frame {seq} has a result but no flight");
            return;
        };
        let result = ServerMessage::Result {
            seq,
            event: (flight.want != Want::Overlay).then_some(done.event),
            latency_ms: (now - flight.received).as_secs_f32() * 1000.0,
            overlay: done.overlay.is_some(),
            dropped: self.account.own().dropped.clone(),
        };
        self.outputs.push_back(Output::Deliver { seq, result, overlay: done.overlay });
    }

    /// Takes in who was there. Tracks of a skeleton that nobody has told of mean nothing.
    fn absorb(&mut self, tracks: Arc<Prior>) {
        if let Some(skeleton) = self.terms.models.skeleton(&tracks.skeleton) {
            self.tracks.absorb(&skeleton, tracks);
        }
    }

    /// A frame that held a credit has ended without a result.
    fn lost(&mut self, seq: u64, reason: DropReason, detail: String) {
        if let Some(flight) = self.flights.remove(&seq) {
            flight.span.record("outcome", reason.as_str());
            self.retry.done(seq);
            self.admit.release();
            self.dropped(seq, reason, detail);
        }
    }

    fn dropped(&mut self, seq: u64, reason: DropReason, detail: String) {
        self.account.end(seq, Outcome::Dropped(reason));
        if reason == DropReason::Undecodable {
            self.error(ErrorCode::BadFrame, format!("frame {seq}: {detail}"));
        }
        if self.settings.drops {
            self.outputs.push_back(Output::Send(ServerMessage::Drop { seq, reason, detail }));
        }
    }

    fn error(&mut self, code: ErrorCode, message: impl Into<String>) {
        self.outputs.push_back(Output::Send(ServerMessage::Error { code, message: message.into() }));
    }
}

#[cfg(test)]
mod tests;
