//! One streaming session without its protocol, bus and clock: what comes in goes to [`Session`] with the
//! time, what follows comes out of [`Session::next_effect`].
//!
//! A frame holds its credit from when it goes on the bus until the client has taken its result. So a
//! client that does not read fills its window with results and gets no further: what it makes us keep is
//! bounded by the window and the outbox.
//!
//! The door's loop: hand in what happened, call [`Session::advance`], carry out all effects, sleep
//! until [`Session::next_deadline`] or until something happens.

mod effect;
mod flight;
mod stamps;
mod terms;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use cloudpose_pixels::PlanarImage;
use cloudpose_policy::{
    admit::{Admit, Next, Rules},
    deadline::{self, GRACE},
    order::{Arrival, Order},
    pace::Pace,
    quota::Resource,
    retry::{self, Retry},
};
use cloudpose_tracks::Registry;
use cloudpose_wire::{
    Caller, Draw, DropReason, Frame, FrameHeader, FrameResult, Mode, Outcome, Payload, Prior, Route,
    StreamName, TraceParent, Want, frame::ResultBody,
};
use tracing::{Span, field::Empty};

use crate::{
    ledger::Account,
    metrics,
    settings::BadSetting,
    watch::{Going, Source},
};

use flight::{Arrived, Done, Flight, Place};

pub(crate) use effect::{Delivered, Effect};
pub(crate) use stamps::Stamps;
pub(crate) use terms::{Change, Settings, Terms};

/// The span of a frame at the gateway, from when it is handed on until its end.
pub(crate) fn frame_span(caller: &Caller, stream: &StreamName, seq: u64) -> Span {
    // Of this level, so that no filter of the log but `off` takes it out of the traces.
    let span = tracing::error_span!("frame", %stream, seq, tenant = Empty, key = Empty, outcome = Empty, trace_id = Empty);
    if !caller.is_default() {
        span.record("tenant", caller.tenant.as_str()).record("key", caller.key.as_str());
    }
    span
}

/// Why a picture is not shown that is not drawn as it was asked for: whoever drew it does not know how.
pub(crate) const DRAWN_OTHERWISE: &str = "the worker cannot draw it so; it may be of an earlier version";

/// A frame came after the client had said that no more would.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this frame came after `end` and was not taken")]
pub(crate) struct AfterEnd;

/// One streaming session.
#[derive(Debug)]
pub(crate) struct Session {
    terms: Terms,
    settings: Settings,
    stamps: Stamps,
    account: Account,
    /// Shows those who watch the stream what is found.
    source: Source,
    admit: Admit<Arrived>,
    order: Order<Done>,
    flights: BTreeMap<u64, Flight>,
    tracks: Registry,
    pace: Pace,
    /// A complete session's frames that the bus did not take.
    retry: Retry<Frame>,
    last_seq: u64,
    /// What has kept frames out since the last hint.
    over: Option<Resource>,
    ending: bool,
    effects: VecDeque<Effect>,
}

impl Session {
    pub(crate) fn new(
        terms: Terms,
        settings: Settings,
        stamps: Stamps,
        account: Account,
        source: Source,
    ) -> Self {
        let rules = Rules { mode: terms.mode, window: terms.window, max_age: terms.max_age };
        Self {
            admit: Admit::new(rules),
            order: Order::new(terms.mode),
            retry: Retry::new(&terms.address.session, deadline::COMPLETE),
            terms,
            settings,
            stamps,
            account,
            source,
            flights: BTreeMap::new(),
            tracks: Registry::default(),
            pace: Pace::default(),
            last_seq: 0,
            over: None,
            ending: false,
            effects: VecDeque::new(),
        }
    }

    /// True if the client may be listened to.
    pub(crate) fn accepts(&self) -> bool {
        self.admit.accepts()
    }

    /// Until when the client need not be listened to, since what it sends is not used.
    pub(crate) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.pace.rests_until(now)
    }

    /// True if no frame may be lost.
    pub(crate) fn is_complete(&self) -> bool {
        self.terms.mode == Mode::Complete
    }

    /// A frame came, and is numbered.
    fn accept(&mut self, now: Instant) -> Result<u64, AfterEnd> {
        if self.ending {
            return Err(AfterEnd);
        }
        self.last_seq += 1;
        self.account.accept(self.last_seq);
        if let Some(fps) = self.pace.received(now) {
            self.effects.push_back(Effect::Hint { fps, quota: self.over.take() });
        }
        Ok(self.last_seq)
    }

    /// An image came that may not, since so much was used already.
    pub(crate) fn over_quota(
        &mut self,
        now: Instant,
        what: Resource,
        detail: String,
    ) -> Result<(), AfterEnd> {
        self.over = Some(what);
        let seq = self.accept(now)?;
        self.pace.superseded(now);
        self.dropped(seq, DropReason::OverQuota, detail);
        Ok(())
    }

    /// An image came. Encoded ones are looked at first; how large decoded ones are is the door's affair. Returns width and
    /// height in pixels, zeros if it has none or they are not known.
    pub(crate) fn image(&mut self, now: Instant, image: impl Into<Payload>) -> Result<[u32; 2], AfterEnd> {
        self.captured(now, now, image)
    }

    /// An image came `now` that the client captured `at`. Returns what [`image`](Self::image) does.
    pub(crate) fn captured(
        &mut self,
        now: Instant,
        at: Instant,
        image: impl Into<Payload>,
    ) -> Result<[u32; 2], AfterEnd> {
        let seq = self.accept(now)?;
        let image = image.into();
        let limits = cloudpose_pixels::Limits { max_pixels: self.terms.max_image_pixels };
        let size = match &image {
            Payload::Encoded(image) => match cloudpose_pixels::probe(image, limits) {
                Ok(header) => [header.width, header.height],
                Err(error) => {
                    self.dropped(seq, DropReason::Undecodable, error.to_string());
                    return Ok([0, 0]);
                }
            },
            Payload::Decoded(decoded) => decoded
                .get::<PlanarImage>()
                .map_or([0, 0], |planes| [planes.width() as u32, planes.height() as u32]),
        };
        let (settings, received_at) = (self.settings.clone(), self.stamps.at(at));
        let arrived = Arrived { settings, received_at, size, image };
        if let Some(old) = self.admit.offer(now, seq, arrived) {
            self.pace.superseded(now);
            self.dropped(old, DropReason::Superseded, String::new());
        }
        Ok(size)
    }

    /// What came is no image, for its door knows better than to hand it in.
    pub(crate) fn undecodable(&mut self, now: Instant, why: String) -> Result<(), AfterEnd> {
        let seq = self.accept(now)?;
        self.dropped(seq, DropReason::Undecodable, why);
        Ok(())
    }

    /// The client wants other settings, from the next frame on.
    pub(crate) fn configure(&mut self, change: Change) -> Result<(), BadSetting> {
        change.apply(&mut self.settings, &self.terms)
    }

    /// A worker's word on a frame came.
    pub(crate) fn result(&mut self, result: FrameResult) {
        let seq = result.seq;
        match result.body {
            ResultBody::Done { overlay: Some(_), .. } if self.is_drawn_otherwise(seq, result.draw) => {
                if self.order.forget(seq) {
                    self.lost(seq, DropReason::AnnotateFailed, DRAWN_OTHERWISE.into());
                }
            }
            ResultBody::Done { event, overlay, tracks } => {
                let arrival = self.order.arrive(seq, Done { event, overlay });
                // A frame that comes too late to be shown still says who was there.
                if let (Arrival::Kept | Arrival::Late, Some(tracks)) = (&arrival, tracks) {
                    self.absorb(tracks);
                }
                match arrival {
                    Arrival::Kept => {
                        if let Some(flight) = self.flights.get_mut(&seq) {
                            (flight.place, flight.again) = (Place::Done, None);
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
            metrics::frame_latency(self.terms.kind(), &self.terms.caller.tenant, now - flight.received);
        }
    }

    /// The bus took frame `seq`.
    pub(crate) fn published(&mut self, now: Instant, seq: u64) {
        self.retry.done(seq);
        if let Some(flight) = self.flights.get_mut(&seq).filter(|flight| flight.place != Place::Done) {
            flight.place = Place::Bus { due: now + flight.budget + GRACE };
        }
    }

    /// The bus did not take `frame` for `reason`: a live one is dropped, a complete session's is offered
    /// again unless it never will be taken. One whose result has come all the same was taken.
    pub(crate) fn refused(&mut self, now: Instant, mut frame: Frame, reason: DropReason) {
        let seq = frame.header.seq;
        let flight = self.flights.get_mut(&seq);
        let Some(flight) = flight.filter(|flight| flight.place != Place::Done) else { return };
        match self.terms.mode {
            Mode::Complete if !matches!(reason, DropReason::TooLarge | DropReason::Undecodable) => {
                flight.place = Place::Gateway;
                if let Some(again) = &flight.again {
                    // There may have been another connection since it was offered.
                    frame.header.retries = again.header.retries;
                }
                self.retry.refused(now, seq, frame, reason);
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
            if matches!(flight.place, Place::Offered | Place::Bus { .. }) {
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

    /// True after [`end`](Self::end) when every frame has ended.
    pub(crate) fn finished(&self) -> bool {
        self.ending && self.account.own().in_flight() == 0
    }

    /// Frames that have come and have not ended.
    pub(crate) fn in_flight(&self) -> usize {
        usize::try_from(self.account.own().in_flight()).unwrap_or(usize::MAX)
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
            .filter(|(_, f)| f.place.due().is_some_and(|due| now >= due))
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
                retry::Next::Offer(frame) => self.offer(frame),
                retry::Next::GiveUp(seq, reason) => {
                    self.order.forget(seq);
                    self.lost(seq, reason, "the work queue did not take it for too long".into());
                }
            }
        }
        while let Some(next) = self.admit.poll(now) {
            match next {
                Next::Publish(waiting) => {
                    let Arrived { settings, received_at, size, image } = waiting.frame;
                    let seq = waiting.seq;
                    let span = frame_span(&self.terms.caller, &self.terms.stream, seq);
                    let trace = cloudpose_bus::trace::join(&span, self.terms.trace);
                    let waited = now - waiting.received;
                    let (want, draw) = (settings.want, settings.draw);
                    let own = want.overlay().then_some(settings.draw);
                    let watched = self.source.goes(now, Going { model: &settings.model, size, own });
                    let header = self.header(seq, settings, (received_at, waited), trace, watched);
                    let flight = Flight {
                        received: waiting.received,
                        want,
                        draw,
                        budget: header.budget(),
                        place: Place::Gateway,
                        again: None,
                        span,
                    };
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

    /// The next of what follows.
    pub(crate) fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When [`advance`](Self::advance) has something to do though nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = self.flights.values().filter_map(|flight| flight.place.due()).min();
        [due, self.admit.next_deadline(), self.retry.next_deadline()].into_iter().flatten().min()
    }

    fn header(
        &self,
        seq: u64,
        settings: Settings,
        (received_at, waited): (u64, Duration),
        trace: Option<TraceParent>,
        watched: Vec<Draw>,
    ) -> FrameHeader {
        let budget = deadline::budget(self.terms.mode, self.terms.max_age, waited);
        FrameHeader {
            stream: self.terms.stream.clone(),
            seq,
            route: Route::to_client(self.terms.kind(), self.terms.address.clone()),
            received_at,
            deadline_ms: u32::try_from(budget.as_millis()).unwrap_or(u32::MAX),
            want: settings.want,
            model: settings.model,
            quality: settings.quality,
            min_score: self.terms.min_score,
            top: cloudpose_wire::frame::USUAL_TOP,
            smooth: settings.smooth,
            prior: Some(self.tracks.prior()),
            retries: 0,
            caller: self.terms.caller.clone(),
            draw: settings.draw,
            watched,
            aside: false,
            trace,
        }
    }

    /// Offers `frame` to the bus, or lets it wait behind those that the bus refused.
    fn publish(&mut self, now: Instant, frame: Frame) {
        let seq = frame.header.seq;
        if let Some(flight) = self.flights.get_mut(&seq) {
            flight.place = Place::Gateway;
        }
        if let Some(frame) = self.retry.offer(now, seq, frame) {
            self.offer(frame);
        }
    }

    fn offer(&mut self, frame: Frame) {
        if let Some(flight) = self.flights.get_mut(&frame.header.seq) {
            flight.place = Place::Offered;
            if self.terms.mode == Mode::Complete {
                flight.again.get_or_insert_with(|| Box::new(frame.clone()));
            }
        }
        self.effects.push_back(Effect::Publish(Box::new(frame)));
    }

    fn deliver(&mut self, now: Instant, seq: u64, done: Done) {
        let Some(flight) = self.flights.get(&seq) else {
            debug_assert!(false, "frame {seq} has a result but no flight");
            return;
        };
        self.source.found(now, seq, &done.event, (flight.draw, done.overlay.as_ref()));
        let delivered = Delivered {
            seq,
            event: (flight.want != Want::Overlay).then_some(done.event),
            overlay: done.overlay,
            latency: now - flight.received,
            dropped: self.account.own().dropped.clone(),
        };
        self.effects.push_back(Effect::Deliver(delivered));
    }

    /// Whether the picture of frame `seq` is not what was asked for: nobody gets to see it then.
    fn is_drawn_otherwise(&self, seq: u64, draw: Draw) -> bool {
        self.flights.get(&seq).is_some_and(|flight| flight.draw != draw)
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
        self.effects.push_back(Effect::Dropped { seq, reason, detail });
    }
}

#[cfg(test)]
mod tests;
