//! `GET /v1/stream`: the loop between a WebSocket, a [`Session`] and the bus.
//!
//! Policy is in [`Session`]; here are the clocks and the sockets. A query that we do not understand is
//! answered on the open WebSocket, because a browser does not show its page why an upgrade was refused.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{
        Query, State, WebSocketUpgrade,
        ws::{Message, WebSocket, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, Uri},
    response::Response,
};
use cloudpose_bus::Bus;
use cloudpose_wire::{
    DropReason, Frame, ModelId, Reply, SessionId, Stage, StreamName, TraceParent, Want,
    ws::{ErrorCode, Limits, Mode, ServerMessage},
};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Config,
    config::LONGEST_AGE,
    dispatch::Inbox,
    gateway::{App, Seat, token_of, trace_of, unix_ms},
    problem::{Problem, unknown_model},
    session::{DEFAULT_QUALITY, Output, Session, Settings, Terms},
    socket::{Event, Socket},
};

/// Close codes of RFC 6455, section 7.4.1.
mod code {
    pub(super) const NORMAL: u16 = 1000;
    pub(super) const GOING_AWAY: u16 = 1001;
    pub(super) const PROTOCOL_ERROR: u16 = 1002;
    pub(super) const POLICY: u16 = 1008;
    pub(super) const TOO_BIG: u16 = 1009;
    /// In IANA's registry of close codes.
    pub(super) const TRY_AGAIN_LATER: u16 = 1013;
}

/// The query of `GET /v1/stream`.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// Name of the stream; made up if absent.
    #[param(value_type = Option<String>)]
    stream: Option<StreamName>,
    /// What comes back: `pose` (default), `overlay` or `both`.
    #[param(inline)]
    want: Want,
    /// The model to run, one of `GET /v1/models`.
    #[param(value_type = Option<String>)]
    model: Option<ModelId>,
    /// `live` (default): the newest frame wins. `complete`: every frame is processed.
    #[param(inline)]
    mode: Mode,
    /// A live frame older than this is dropped, 1 to 10000.
    #[param(minimum = 1, maximum = 10000)]
    max_age_ms: Option<u32>,
    /// JPEG quality of the overlay, 1 to 100.
    #[param(minimum = 1, maximum = 100)]
    quality: Option<u8>,
    /// Whether keypoints are smoothed over time (default), or left as found in each frame.
    smooth: Option<bool>,
}

impl StreamQuery {
    fn parse(uri: &Uri) -> Result<Self, String> {
        let Query(query) = Query::<Self>::try_from_uri(uri)
            .map_err(|rejection| rejection.body_text().replace("Failed to deserialize query string: ", ""))?;
        let longest = LONGEST_AGE.as_millis();
        match query {
            Self { quality: Some(q), .. } if !(1..=100).contains(&q) => {
                Err(format!("quality is {q}; use 1 to 100"))
            }
            Self { max_age_ms: Some(ms), .. } if ms == 0 || u128::from(ms) > longest => {
                Err(format!("max_age_ms is {ms}; use 1 to {longest}"))
            }
            query => Ok(query),
        }
    }

    fn into_terms(
        self,
        app: &App,
        (reply, session): (Reply, SessionId),
        trace: Option<TraceParent>,
    ) -> (Terms, Settings) {
        let config = &app.config;
        let default_age = u32::try_from(config.max_age.as_millis()).unwrap_or(u32::MAX);
        let limits = Limits {
            max_image_bytes: config.max_image_bytes,
            max_image_pixels: cloudpose_pixels::Limits::default().max_pixels,
            window: config.window,
            max_age_ms: self.max_age_ms.unwrap_or(default_age),
        };
        let stream = self.stream.unwrap_or_else(|| token_of("stream"));
        let settings = Settings {
            want: self.want,
            model: self.model.unwrap_or_else(|| config.model.clone()),
            quality: self.quality.unwrap_or(DEFAULT_QUALITY),
            drops: false,
            smooth: self.smooth.unwrap_or(true),
        };
        let min_score = config.min_score;
        let (mode, models) = (self.mode, app.models.clone());
        (Terms { reply, session, stream, mode, limits, min_score, models, trace }, settings)
    }
}

/// Opens a WebSocket on which images go in and results come out.
#[utoipa::path(
    get, path = "/v1/stream", tag = "stream", params(StreamQuery),
    responses(
        (status = 101, description = "A WebSocket. Binary messages are images, text messages are JSON."),
        (status = 503, body = Problem, content_type = "application/problem+json",
            description = "No room for another session, or shutting down: come again later."),
    ),
)]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let upgrade = upgrade.map_err(|rejection| Problem::not_a_websocket(&rejection.body_text()))?;
    if app.stopping.is_cancelled() {
        return Err(Problem::shutting_down());
    }
    let seat = app.seat().ok_or_else(Problem::no_room)?;
    let query = StreamQuery::parse(&uri);
    let trace = trace_of(&headers);
    let limit = Socket::read_limit(app.config.max_image_bytes);
    let tracked = app.sessions.token();
    Ok(upgrade.max_message_size(limit).max_frame_size(limit).on_upgrade(async move |socket| {
        serve(&app, socket, (query, trace), seat).await;
        drop(tracked);
    }))
}

/// How a session ends.
#[derive(Debug)]
enum End {
    /// The client closed, or is gone.
    Left,
    /// Everything the client sent before its `end` is done.
    Finished,
    /// We end it, and say why.
    Refused(ErrorCode, String),
}

async fn serve(
    app: &App,
    inner: WebSocket,
    (query, trace): (Result<StreamQuery, String>, Option<TraceParent>),
    _seat: Seat,
) {
    let mut socket = Socket::new(inner, app.config.max_image_bytes);
    let query = query.and_then(|query| match &query.model {
        Some(model) if !app.models.may_be_served(model) => Err(unknown_model(model, &app.models)),
        _ => Ok(query),
    });
    let end = match query {
        Err(message) => End::Refused(ErrorCode::BadQuery, message),
        Ok(query) => {
            let (reply, inbox) = app.open(2 * app.config.window + 2);
            tracing::debug!(session = %inbox.session(), "session begins");
            let address = (reply, inbox.session().clone());
            let (terms, settings) = query.into_terms(app, address, trace);
            let account = app.books.open(terms.kind());
            Connection {
                session: Session::new(terms, settings, account),
                inbox,
                socket: &mut socket,
                bus: &app.bus,
                config: &app.config,
                stopping: &app.stopping,
                drain: app.drain,
            }
            .run()
            .await
        }
    };
    tracing::debug!(?end, "session ends");
    let close_code = match end {
        End::Left | End::Finished => code::NORMAL,
        End::Refused(error, message) => {
            queue(&mut socket, &ServerMessage::Error { code: error, message });
            match error {
                ErrorCode::TooLarge => code::TOO_BIG,
                ErrorCode::ShuttingDown => code::GOING_AWAY,
                ErrorCode::BadMessage => code::PROTOCOL_ERROR,
                ErrorCode::Unavailable => code::TRY_AGAIN_LATER,
                _ => code::POLICY,
            }
        }
    };
    socket.close(close_code).await;
}

/// A session at work.
struct Connection<'a> {
    session: Session,
    inbox: Inbox,
    socket: &'a mut Socket,
    bus: &'a Bus,
    config: &'a Config,
    stopping: &'a CancellationToken,
    /// How long frames may take once it is stopping.
    drain: Duration,
}

impl Connection<'_> {
    async fn run(mut self) -> End {
        let mut heard = Instant::now();
        let mut pinged = false;
        let mut drain_ends = None;
        let mut connection = self.bus.connection();
        let mut bus_gone_since = None;
        loop {
            self.carry_out().await;
            let now = Instant::now();
            if self.session.finished() && self.socket.stalled_since().is_none() {
                return match drain_ends {
                    Some(_) => self.shut_down(),
                    None => End::Finished,
                };
            }
            let reading = drain_ends.is_none() && self.session.accepts();
            if !reading {
                // Who is not listened to cannot be idle.
                heard = now;
            }
            let idle = self.config.idle_timeout;
            let attention = heard + if pinged { idle } else { idle / 2 };
            let stalled = self.socket.stalled_since().map(|since| since + self.config.write_timeout);
            let policy = self.session.next_deadline().map(Instant::from_std);
            let bus_gives_up = bus_gone_since.map(|since| since + idle);
            let wake = [stalled, policy, drain_ends, bus_gives_up]
                .into_iter()
                .flatten()
                .fold(attention, Instant::min);

            tokio::select! {
                event = self.socket.next(reading) => {
                    if !matches!(event, Event::Sent(_)) {
                        (heard, pinged) = (Instant::now(), false);
                    }
                    if let Some(end) = self.on_event(event) {
                        return end;
                    }
                }
                result = self.inbox.next() => self.session.result(result),
                later = self.bus.later_connection(connection) => {
                    connection = later;
                    self.session.reconnected(Instant::now().into_std());
                }
                () = self.bus.wait_until(bus_gone_since.is_some()) => {
                    bus_gone_since = if bus_gone_since.is_none() { Some(Instant::now()) } else { None };
                }
                () = self.stopping.cancelled(), if drain_ends.is_none() => {
                    drain_ends = Some(Instant::now() + self.drain);
                    self.session.end();
                }
                () = sleep_until(wake) => {
                    let now = Instant::now();
                    if drain_ends.is_some_and(|at| now >= at) {
                        return self.shut_down();
                    }
                    if stalled.is_some_and(|at| now >= at) {
                        return End::Refused(ErrorCode::SlowReader, format!(
                            "no message was taken for {}", humantime::format_duration(self.config.write_timeout)
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

    fn on_event(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Image(image) => self.session.image(Instant::now().into_std(), unix_ms(), image),
            Event::Text(text) => self.session.text(&text),
            Event::Sent(Some(seq)) => self.session.sent(Instant::now().into_std(), seq),
            Event::Sent(None) | Event::Alive => {}
            Event::TooLarge(size) => {
                let limit = self.config.max_image_bytes;
                let message = format!("a message of {size} bytes; the limit is {limit}");
                return Some(End::Refused(ErrorCode::TooLarge, message));
            }
            Event::Broken(why) => return Some(End::Refused(ErrorCode::BadMessage, why)),
            Event::Closed => return Some(End::Left),
        }
        None
    }

    /// Carries out what the session wants, until it wants nothing more.
    async fn carry_out(&mut self) {
        loop {
            self.session.advance(Instant::now().into_std());
            let mut offered = false;
            while let Some(output) = self.session.next_output() {
                match output {
                    Output::Publish(frame) => {
                        offered = true;
                        match self.bus.publish(Stage::Infer, Frame::clone(&frame)).await {
                            Ok(()) => self.session.published(frame.header.seq),
                            Err(error) => {
                                tracing::trace!(%error, "frame refused");
                                self.session.refused(Instant::now().into_std(), *frame, error.reason());
                            }
                        }
                    }
                    Output::Send(message) => queue(self.socket, &message),
                    Output::Deliver { seq, result, overlay } => {
                        let overlay = overlay.map(Message::Binary);
                        self.socket.queue(text(&result).into_iter().chain(overlay), Some(seq));
                    }
                }
            }
            // What the bus took or refused may let others go.
            if !offered {
                return;
            }
        }
    }

    fn bus_is_gone(&mut self) -> End {
        self.session.give_up(DropReason::BusDown);
        let time = humantime::format_duration(self.config.idle_timeout);
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

fn queue(socket: &mut Socket, message: &ServerMessage) {
    socket.queue(text(message), None);
}

fn text(message: &ServerMessage) -> Option<Message> {
    match serde_json::to_string(message) {
        Ok(json) => Some(Message::text(json)),
        Err(error) => {
            tracing::error!(%error, "a message of ours is no JSON");
            None
        }
    }
}
