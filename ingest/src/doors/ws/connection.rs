//! The loop between a WebSocket, a [`Session`] and the bus.
//!
//! Policy is in [`Session`]; here are the clocks and the sockets. The loop waits for nothing but the next thing to
//! happen: a broker that is slow keeps it from no client.

use std::{pin::Pin, sync::Arc};

use axum::extract::ws::Message;
use cloudpose_policy::quota::Resource;
use cloudpose_wire::{
    Caller, DropReason, TraceParent,
    frame::ResultBody,
    ws::{Codec, ErrorCode, ServerMessage},
};
use futures_util::future::OptionFuture;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    messages::{self, Asked},
    query::StreamQuery,
    socket::{Event, Socket},
    units::{Done, Units},
};
use crate::{
    dispatch::Inbox,
    doors::brief,
    metrics,
    publisher::{Answered, Publisher},
    quotas::Guest,
    session::{AfterEnd, Effect, Session, Stamps},
    shared::Shared,
};

/// How a session ends.
#[derive(Debug)]
pub(super) enum End {
    /// The client closed, or is gone.
    Left,
    /// Everything the client sent before its `end` is done.
    Finished,
    /// We end it, and say why.
    Refused(ErrorCode, String),
}

/// A session at work.
pub(super) struct Connection<'a> {
    shared: Arc<Shared>,
    session: Session,
    inbox: Inbox,
    /// Whose quotas it uses.
    guest: Guest,
    publisher: Publisher,
    socket: &'a mut Socket,
    /// The client is told of each dropped frame.
    tell_drops: bool,
    /// Where frames come as video.
    units: Option<Units>,
    /// The client has said that no more frames will come.
    ending: bool,
    /// Another session has the stream to itself.
    taken: CancellationToken,
    /// While the client is not listened to, since what it sends is not used.
    rest: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<'a> Connection<'a> {
    /// Opens the session that `query` asks for, and greets its client.
    ///
    /// # Errors
    /// What its client is told: the codec that it asks for is not decoded here, or another has its stream.
    pub(super) fn open(
        shared: Arc<Shared>,
        socket: &'a mut Socket,
        query: StreamQuery,
        (caller, guest, trace): (Caller, Guest, Option<TraceParent>),
    ) -> Result<Self, End> {
        let (codec, if_taken) = (query.codec(), query.if_taken());
        let units = codec.map(|Codec::H264| Units::new(&shared)).transpose();
        let units = units.map_err(|error| End::Refused(ErrorCode::BadQuery, error.to_string()))?;
        let (address, inbox) = shared.open(2 * shared.config.window + 2);
        tracing::debug!(session = %address.session, "session begins");
        let (terms, settings) = query.into_terms(&shared, address, (caller, trace));
        let (stamps, model) = (Stamps::from_now(), settings.model.clone());
        let stream = (terms.caller.tenant.clone(), terms.stream.clone());
        let since = stamps.at(Instant::now().into_std());
        let source = shared.watch.open(stream, terms.address.session.clone(), (model, since), if_taken);
        let source = source.map_err(|taken| End::Refused(ErrorCode::StreamTaken, taken.to_string()))?;
        queue(socket, &messages::hello(&terms, &settings, codec, shared.config.max_image_bytes));
        let account = shared.books.open(terms.kind(), terms.caller.tenant.clone());
        Ok(Self {
            taken: source.ended(),
            session: Session::new(terms, settings, stamps, account, source),
            inbox,
            guest,
            publisher: Publisher::new(Arc::clone(&shared)),
            socket,
            tell_drops: false,
            units,
            ending: false,
            rest: None,
            shared,
        })
    }

    pub(super) async fn run(mut self) -> End {
        let mut heard = Instant::now();
        let mut pinged = false;
        // Once we stop: when it is this one's turn to go, and when the time is over for what is in flight then.
        let (mut goes, mut drain_ends) = (None, None);
        let mut connection = self.shared.bus.connection();
        let mut bus_gone_since = None;
        loop {
            let now = Instant::now();
            if let Some((turn, ends)) = goes
                && drain_ends.is_none()
                && now >= turn
            {
                drain_ends = Some(ends);
                self.session.end();
            }
            self.carry_out();
            if self.session.finished() && self.socket.stalled_since().is_none() {
                return match drain_ends {
                    Some(_) => self.shut_down(),
                    None => End::Finished,
                };
            }
            // Of a session that loses no frame none is taken that may not come.
            let quota =
                if self.session.is_complete() { self.guest.waits_until(now.into_std()) } else { None };
            let quota = quota.map(Instant::from_std);
            if self.rest.is_none()
                && let Some(until) = self.session.rests_until(now.into_std())
            {
                self.rest = Some(Box::pin(rest(Arc::clone(&self.shared), self.guest.clone(), until.into())));
            }
            let reading = drain_ends.is_none() && self.accepts() && quota.is_none() && self.rest.is_none();
            if !reading {
                // Who is not listened to cannot be idle.
                heard = now;
            }
            let idle = self.shared.config.idle_timeout;
            let attention = heard + if pinged { idle } else { idle / 2 };
            let stalled = self.stalled();
            let policy = self.session.next_deadline().map(Instant::from_std);
            let bus_gives_up = bus_gone_since.map(|since| since + idle);
            let late = self.socket.unfinished_until().filter(|_| reading);
            let turn = goes.filter(|_| drain_ends.is_none()).map(|(turn, _)| turn);
            let wake = [stalled, policy, turn, drain_ends, bus_gives_up, late, quota]
                .into_iter()
                .flatten()
                .fold(attention, Instant::min);

            tokio::select! {
                event = self.socket.next(reading) => {
                    if !matches!(event, Event::Sent(_)) {
                        (heard, pinged) = (Instant::now(), false);
                    }
                    let is_image = matches!(event, Event::Image(_));
                    if let Some(end) = self.on_event(event) {
                        return end;
                    }
                    if is_image {
                        // Others are listened to before a client that sends more than can be taken.
                        yield_now().await;
                    }
                }
                done = next_done(&mut self.units, self.session.accepts()) => self.on_unit(done),
                Some(()) = OptionFuture::from(self.rest.as_mut()) => self.rest = None,
                result = self.inbox.next() => {
                    if let ResultBody::Done { event, .. } = &result.body {
                        self.guest.worked(Instant::now().into_std(), event);
                    }
                    self.publisher.back(result.seq);
                    self.session.result(result);
                }
                answered = self.publisher.next() => self.on_answer(answered),
                later = self.shared.bus.later_connection(connection) => {
                    connection = later;
                    self.session.reconnected(Instant::now().into_std());
                }
                () = self.shared.bus.wait_until(bus_gone_since.is_some()) => {
                    bus_gone_since = if bus_gone_since.is_none() { Some(Instant::now()) } else { None };
                }
                () = self.taken.cancelled() => {
                    return End::Refused(ErrorCode::StreamTaken, "another session has taken the stream over".into());
                }
                () = self.shared.stopping.cancelled(), if goes.is_none() => {
                    let now = Instant::now();
                    goes = Some((now + self.shared.goes_on(), now + self.shared.drain));
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if drain_ends.is_some_and(|at| now >= at) {
                        return self.shut_down();
                    }
                    // Asked anew: bytes come and go without being events.
                    if self.stalled().is_some_and(|at| now >= at) {
                        return End::Refused(ErrorCode::SlowReader, format!(
                            "no message was taken for {}", humantime::format_duration(self.shared.config.write_timeout)
                        ));
                    }
                    if late.is_some() && self.socket.unfinished_until().is_some_and(|at| now >= at) {
                        return End::Refused(ErrorCode::BadMessage, format!(
                            "a message was not complete after {}",
                            humantime::format_duration(self.shared.config.receive_timeout)
                        ));
                    }
                    if bus_gives_up.is_some_and(|at| now >= at) {
                        return self.bus_is_gone();
                    }
                    if now >= heard + idle {
                        return End::Refused(ErrorCode::IdleTimeout, format!(
                            "nothing came for {}, not even a pong", humantime::format_duration(idle)
                        ));
                    }
                    if now >= attention && !pinged {
                        pinged = true;
                        self.socket.queue([Message::Ping(bytes::Bytes::new())], None);
                    }
                }
            }
        }
    }

    /// When the client must have taken something of what waits for it, if anything does.
    fn stalled(&self) -> Option<Instant> {
        self.socket.stalled_since().map(|since| since + self.shared.config.write_timeout)
    }

    fn on_event(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Image(image) => {
                self.on_image(image);
            }
            Event::Text(text) => self.on_text(&text),
            Event::Sent(Some(seq)) => self.session.sent(Instant::now().into_std(), seq),
            Event::Sent(None) | Event::Alive => {}
            Event::TooLarge(size) => {
                let limit = self.shared.config.max_image_bytes;
                let message = format!("a message of {size} bytes; the limit is {limit}");
                return Some(End::Refused(ErrorCode::TooLarge, message));
            }
            Event::NoRoom => {
                let message = "too much is being sent at once; connect again later";
                return Some(End::Refused(ErrorCode::Unavailable, message.into()));
            }
            Event::Broken(why) => return Some(End::Refused(ErrorCode::BadMessage, why)),
            Event::Closed => return Some(End::Left),
        }
        None
    }

    fn on_image(&mut self, image: bytes::Bytes) {
        let (now, bytes) = (Instant::now().into_std(), image.len() as u64);
        self.shared.leftovers.sent(self.guest.tenant(), bytes, now);
        let taken = match (self.guest.may_come(now), &mut self.units) {
            (_, Some(_)) if self.ending => Err(AfterEnd),
            // What builds on a frame that is dropped here could not be decoded: it is dropped when it is.
            (_, Some(units)) => {
                self.guest.used(now, Resource::Bytes, bytes as f64);
                units.push(now, image);
                Ok(())
            }
            (Err(refused), None) if !self.session.is_complete() => {
                self.session.over_quota(now, refused.exceeded.resource, refused.to_string())
            }
            _ => self.session.image(now, image).map(|size| {
                self.guest.came(now, bytes);
                self.guest.decodes(now, size);
            }),
        };
        if let Err(AfterEnd) = taken {
            self.bad_message(AfterEnd.to_string());
        }
    }

    fn on_text(&mut self, text: &str) {
        match messages::asked(text) {
            Ok(Asked::End) => {
                self.ending = true;
                self.end_when_decoded();
            }
            Ok(Asked::Configure { change, drops }) => match self.session.configure(change) {
                Ok(()) => self.tell_drops = drops.unwrap_or(self.tell_drops),
                Err(bad) => self.bad_message(bad.to_string()),
            },
            Err(why) => self.bad_message(why),
        }
    }

    /// True if the client may be listened to.
    fn accepts(&self) -> bool {
        self.session.accepts() && self.units.as_ref().is_none_or(Units::accepts)
    }

    /// What came as video is a frame from here on, as any other, or none.
    fn on_unit(&mut self, done: Done) {
        let Done { received, captured, picture, asks, advice } = done;
        let taken = match (picture, self.guest.may_come(received)) {
            (Err(why), _) => self.session.undecodable(received, why),
            (Ok(_), Err(refused)) if !self.session.is_complete() => {
                self.session.over_quota(received, refused.exceeded.resource, refused.to_string())
            }
            (Ok(picture), _) => self.session.captured(received, captured, picture).map(|size| {
                self.guest.used(received, Resource::Frames, 1.0);
                self.guest.decodes(received, size);
            }),
        };
        if taken.is_ok() && asks {
            metrics::keyframe_asked();
            queue(self.socket, &ServerMessage::Keyframe);
        }
        if let Some((fps, bitrate)) = advice {
            queue(self.socket, &ServerMessage::Hint { fps, quota: None, bitrate: Some(bitrate) });
        }
        self.end_when_decoded();
    }

    fn end_when_decoded(&mut self) {
        if self.ending && self.units.as_ref().is_none_or(Units::is_idle) {
            self.session.end();
        }
    }

    fn on_answer(&mut self, Answered { frame, taken }: Answered) {
        let now = Instant::now().into_std();
        match taken {
            Ok(()) => self.session.published(now, frame.header.seq),
            Err(reason) => self.session.refused(now, frame, reason),
        }
    }

    /// Does what has become possible or due.
    fn carry_out(&mut self) {
        self.session.advance(Instant::now().into_std());
        while let Some(effect) = self.session.next_effect() {
            match effect {
                Effect::Publish(frame) => self.publisher.push(*frame),
                Effect::Deliver(delivered) => {
                    let seq = delivered.seq;
                    self.socket.queue(messages::delivered(delivered), Some(seq));
                }
                Effect::Dropped { seq, reason, detail } => {
                    self.publisher.withdraw(seq);
                    for message in messages::dropped((seq, reason, detail), self.tell_drops) {
                        queue(self.socket, &message);
                    }
                }
                Effect::Hint { fps, quota } => {
                    let quota = quota.map(|resource| resource.to_string());
                    let bitrate = self.units.as_ref().map(|units| units.enough(fps));
                    queue(self.socket, &ServerMessage::Hint { fps, quota, bitrate });
                }
            }
        }
    }

    fn bad_message(&mut self, message: String) {
        queue(self.socket, &ServerMessage::Error { code: ErrorCode::BadMessage, message: brief(message) });
    }

    fn bus_is_gone(&mut self) -> End {
        self.session.give_up(DropReason::BusDown);
        let time = humantime::format_duration(self.shared.config.idle_timeout);
        End::Refused(
            ErrorCode::Unavailable,
            format!("the workers cannot be reached for {time}; connect again later"),
        )
    }

    fn shut_down(&mut self) -> End {
        self.session.give_up(DropReason::ShuttingDown);
        End::Refused(ErrorCode::ShuttingDown, "the server is going away; connect again".into())
    }
}

/// Waits until a client is listened to again of which frames are superseded.
async fn rest(shared: Arc<Shared>, guest: Guest, until: Instant) {
    sleep_until(until).await;
    shared.leftovers.wait(guest.tenant()).await;
}

/// Waits for what becomes of the next unit, for ever where frames come as images.
async fn next_done(units: &mut Option<Units>, begins: bool) -> Done {
    match units {
        Some(units) => units.next(begins).await,
        None => std::future::pending().await,
    }
}

/// Queues one message.
pub(super) fn queue(socket: &mut Socket, message: &ServerMessage) {
    socket.queue(messages::text(message), None);
}
