//! The loop between a camera's source, its session and the bus.
//!
//! The session is there for as long as the camera is to be fetched here: also while it is away the stream is listed, as
//! silent, and who watches it stays.

use std::{
    future::pending,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use cloudpose_policy::{backoff::Backoff, quota::Resource};
use cloudpose_wire::{DropReason, Mode, Payload, frame::ResultBody};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Wishes,
    camera::Camera,
    feed::{Feed, Picture},
    lock,
    source::{self, Bounds},
};
use crate::{
    config::STREAM_MODEL,
    dispatch::Inbox,
    metrics,
    outbound::{Reach, Trouble},
    publisher::{Answered, Publisher},
    quotas::Guest,
    seats::Seat,
    session::{Change, Effect, Session, Settings, Stamps, Terms},
    settings::{DEFAULT_QUALITY, check_draw},
    shared::Shared,
};

/// Pauses before a camera that has gone is tried again. With them, and the time that a connection may take, one that
/// has come back is fetched within three seconds.
const FIRST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(1);
/// Pause before one is tried again that somebody has to do something about: many cameras lock out who shows them wrong
/// passwords too often.
const HOPELESS: Duration = Duration::from_secs(30);
/// Pause before another seat is asked for.
const NO_SEAT: Duration = Duration::from_secs(1);

/// Fetches `camera` until it is not wanted any more, is another gateway's, or the gateway stops.
pub(super) async fn run(shared: Arc<Shared>, camera: Arc<Camera>, reach: Reach) {
    let _left = camera.is_left.clone().drop_guard();
    let guest = shared.guest(&camera.caller, None);
    let seat = loop {
        match take_seat(&shared, &camera, &guest) {
            Ok(seat) => break seat,
            Err(why) => lock(&camera.status).failed(Trouble::Gone(why)),
        }
        tokio::select! {
            () = sleep(NO_SEAT) => {}
            () = camera.stop.cancelled() => return,
            () = camera.end.cancelled() => return,
            () = shared.stopping.cancelled() => return,
        }
    };
    let stop = camera.stop.clone();
    tracing::info!(stream = %camera.stream, url = camera.address.shown(), "camera: it is fetched from now on");
    tokio::select! {
        () = Work::new(shared, Arc::clone(&camera), reach, guest).run() => {}
        () = stop.cancelled() => {}
    }
    tracing::info!(stream = %camera.stream, "camera: it is fetched no more");
    drop(seat);
}

/// Waits until a camera is to be fetched here no more.
async fn ends(camera: Arc<Camera>, stopping: CancellationToken) {
    tokio::select! {
        () = camera.end.cancelled() => {}
        () = stopping.cancelled() => {}
    }
}

/// It counts as any session does.
fn take_seat(shared: &Shared, camera: &Camera, guest: &Guest) -> Result<Seat, String> {
    let counted = guest.begin(Resource::Sessions).map_err(|refused| refused.to_string())?;
    let seat = shared.seats.take(&camera.caller);
    let seat = seat.ok_or("all sessions of the gateway are taken (--max-sessions)")?;
    Ok(seat.counting(counted))
}

/// A camera at work.
struct Work {
    shared: Arc<Shared>,
    camera: Arc<Camera>,
    bounds: Bounds,
    feed: Arc<Feed>,
    guest: Guest,
    session: Session,
    inbox: Inbox,
    publisher: Publisher,
    backoff: Backoff,
    /// Frames of the session that have not ended, in the session's hands or on the bus.
    window: usize,
}

impl Work {
    fn new(shared: Arc<Shared>, camera: Arc<Camera>, reach: Reach, guest: Guest) -> Self {
        let config = &shared.config;
        let (address, inbox) = shared.open(2 * config.window + 2);
        let Wishes { model, fps, want } = camera.wishes();
        let settings = Settings {
            want,
            draw: check_draw(None, config.draw_only).unwrap_or_default(),
            model: model.unwrap_or_else(|| shared.default_model(STREAM_MODEL)),
            quality: DEFAULT_QUALITY,
            smooth: true,
        };
        let terms = Terms {
            caller: camera.caller.clone(),
            address,
            stream: camera.stream.clone(),
            mode: Mode::Live,
            window: config.window,
            max_age: config.max_age,
            max_image_pixels: cloudpose_pixels::Limits::default().max_pixels,
            min_score: config.min_score,
            draw_only: config.draw_only,
            models: shared.models.clone(),
            trace: None,
        };
        let account = shared.books.open(terms.kind(), terms.caller.tenant.clone());
        let stamps = Stamps::from_now();
        let source = shared.watch.open_camera(
            (terms.caller.tenant.clone(), terms.stream.clone()),
            terms.address.session.clone(),
            (settings.model.clone(), stamps.at(Instant::now().into_std())),
        );
        Self {
            bounds: Bounds {
                decoders: shared.decoders.clone(),
                reach,
                max_image_bytes: config.max_image_bytes,
            },
            feed: Arc::new(Feed::new(fps, guest.clone())),
            guest,
            inbox,
            publisher: Publisher::new(Arc::clone(&shared)),
            backoff: Backoff::new(&terms.address.session, FIRST, LONGEST),
            window: config.window,
            session: Session::new(terms, settings, stamps, account, source),
            shared,
            camera,
        }
    }

    async fn run(mut self) {
        let mut attempt = self.attempt(Duration::ZERO);
        let mut connection = self.shared.bus.connection();
        let mut drain_ends = None;
        let feed = Arc::clone(&self.feed);
        let camera = Arc::clone(&self.camera);
        let mut ends = pin!(ends(Arc::clone(&camera), self.shared.stopping.clone()));
        loop {
            self.carry_out();
            if self.session.finished() {
                return;
            }
            let goes_on = drain_ends.is_none();
            let far = Instant::now() + HOPELESS;
            let policy = self.session.next_deadline().map(Instant::from_std);
            let wake = [policy, drain_ends].into_iter().flatten().fold(far, Instant::min);
            tokio::select! {
                trouble = &mut attempt, if goes_on => {
                    let pause = self.failed(trouble);
                    attempt = self.attempt(pause);
                }
                (frames, picture) = feed.next(), if goes_on => {
                    lock(&camera.status).came(Instant::now().into_std(), frames);
                    if let Some(refused) = feed.refused() {
                        lock(&camera.status).note(refused.to_string());
                    }
                    if let Some(picture) = picture {
                        self.take(picture);
                    }
                }
                result = self.inbox.next() => {
                    self.publisher.back(result.seq);
                    if let ResultBody::Done { event, .. } = &result.body {
                        self.guest.worked(Instant::now().into_std(), event);
                    }
                    self.session.result(result);
                }
                answered = self.publisher.next() => self.on_answer(answered),
                later = self.shared.bus.later_connection(connection) => {
                    connection = later;
                    self.session.reconnected(Instant::now().into_std());
                }
                () = camera.changed.notified() => self.change(),
                () = &mut ends, if goes_on => {
                    attempt = Box::pin(pending());
                    camera.is_left.cancel();
                    drain_ends = Some(Instant::now() + self.shared.drain);
                    self.session.end();
                }
                () = sleep_until(wake) => {
                    if drain_ends.is_some_and(|at| Instant::now() >= at) {
                        return self.session.give_up(DropReason::ShuttingDown);
                    }
                }
            }
        }
    }

    /// Fetches the camera, after a pause.
    fn attempt(&self, pause: Duration) -> Pin<Box<dyn Future<Output = Trouble> + Send>> {
        let (camera, feed) = (Arc::clone(&self.camera), Arc::clone(&self.feed));
        let bounds = self.bounds.clone();
        Box::pin(async move {
            sleep(pause).await;
            let fps = camera.wishes().fps;
            source::fetch(&camera.address, &bounds, &feed, fps).await
        })
    }

    fn take(&mut self, Picture { at, payload }: Picture) {
        let now = Instant::now().into_std();
        if let Payload::Encoded(bytes) = &payload {
            self.guest.used(now, Resource::Bytes, bytes.len() as f64);
        }
        // Only after its `end` does a session take none.
        if let Ok(size) = self.session.image(at, payload) {
            self.guest.decodes(now, size);
        }
    }

    /// How long to wait before the next attempt.
    fn failed(&mut self, trouble: Trouble) -> Duration {
        let mut status = lock(&self.camera.status);
        if status.is_live() {
            self.backoff.succeeded();
        }
        let pause = match &trouble {
            Trouble::Gone(_) => self.backoff.failed(),
            Trouble::Wrong(_) => HOPELESS,
        };
        let (Trouble::Gone(why) | Trouble::Wrong(why)) = &trouble;
        // Said once: it is tried every second.
        if status.says(why) {
            tracing::debug!(stream = %self.camera.stream, why, "camera: no frames");
        } else {
            tracing::warn!(stream = %self.camera.stream, why, "camera: no frames");
        }
        metrics::camera_failed();
        status.failed(trouble);
        pause
    }

    /// The wishes have changed.
    fn change(&mut self) {
        let Wishes { model, fps, want } = self.camera.wishes();
        self.feed.change(fps);
        let change = Change { want: Some(want), model, ..Change::default() };
        if let Err(bad) = self.session.configure(change) {
            lock(&self.camera.status).note(bad.to_string());
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
        let now = Instant::now().into_std();
        self.session.advance(now);
        while let Some(effect) = self.session.next_effect() {
            match effect {
                Effect::Publish(frame) => self.publisher.push(*frame),
                Effect::Deliver(delivered) => self.session.sent(now, delivered.seq),
                Effect::Dropped { seq, reason, detail } => {
                    self.publisher.withdraw(seq);
                    if reason == DropReason::Undecodable {
                        let why = format!("it sends what is no picture: {detail}");
                        lock(&self.camera.status).note(self.camera.address.hide(&why));
                    }
                }
                Effect::Hint { .. } => {}
            }
        }
        // What `sent` frees is used at once.
        self.session.advance(now);
        self.feed.has_room(self.session.in_flight() < self.window);
    }
}
