//! Cameras over RTSP (RFC 2326), by TCP: H.264 (RFC 6184), which is decoded here, and JPEG (RFC 2435), which is passed on.
//!
//! Every picture of H.264 builds on those before it, so all are decoded, beside the loop; planes are made of those only that
//! somebody will work on. If decoding is too slow, what waits is given up, and it goes on with the next key frame.

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cloudpose_pixels::{Limits, PlanarImage};
use cloudpose_policy::capture::Clock;
use cloudpose_video::{LiveDecoder, Refused};
use futures_util::StreamExt as _;
use retina::{
    client::{Credentials as Login, PlayOptions, Session, SessionOptions, SetupOptions, Transport},
    codec::{CodecItem, FrameFormat, ParametersRef, VideoFrame},
};
use tokio::{
    task::{JoinError, spawn_blocking},
    time::{sleep, timeout},
};
use url::Url;

use super::{Bounds, SILENCE, decoded, encoded, tap::Tap};
use crate::{
    cameras::{
        address::Credentials,
        feed::{Cost, Feed},
    },
    decoders::Decoders,
    metrics,
    outbound::{ANSWER, Trouble, addresses, connect, too_long},
};

/// Bytes until the first picture may come: answers and the description.
const MOST_BEFORE: usize = 256 << 10;
/// Bytes between one picture and the next, what is on its way included.
const MOST_BETWEEN: usize = 16 << 20;
/// Pictures that wait to be decoded, and their bytes.
const MOST_WAITING: usize = 16;
const MOST_WAITING_BYTES: usize = 16 << 20;
/// Pictures a second, at most: no camera sends more, and each costs us its decoding.
const MOST_RATE: u32 = 240;

pub(super) async fn fetch(
    url: &Url,
    credentials: Option<&Credentials>,
    bounds: &Bounds,
    feed: &Feed,
) -> Trouble {
    let fetched = async {
        let camera = connect(&addresses(url, &bounds.reach).await?).await?;
        let tap = Tap::open(camera, MOST_BEFORE).await;
        let tap =
            tap.map_err(|error| Trouble::Gone(format!("no connection within this machine: {error}")))?;
        let decoders = &bounds.decoders;
        let camera = Camera { tap: &tap, feed, decoders, clock: Clock::default() };
        let worked = camera.work(url, credentials).await;
        if tap.is_spent() {
            return Err(Trouble::Gone("it sends without end, and no picture".into()));
        }
        worked
    };
    fetched.await.map_or_else(|trouble| trouble, |never: Infallible| match never {})
}

struct Camera<'a> {
    tap: &'a Tap,
    feed: &'a Feed,
    decoders: &'a Decoders,
    clock: Clock,
}

impl Camera<'_> {
    async fn work(mut self, url: &Url, credentials: Option<&Credentials>) -> Result<Infallible, Trouble> {
        let (mut near, at) = (url.clone(), self.tap.near());
        // Neither can fail: it is an address of this machine.
        near.set_ip_host(at.ip()).ok();
        near.set_port(Some(at.port())).ok();
        let login =
            credentials.map(|who| Login { username: who.user.clone(), password: who.password.clone() });
        let options = SessionOptions::default()
            .creds(login)
            .user_agent(concat!("cloudpose/", env!("CARGO_PKG_VERSION")).into());
        let described = timeout(ANSWER, Session::describe(near, options)).await;
        let mut session = described.map_err(|_| too_long("it did not answer", ANSWER))?.map_err(refused)?;
        let videos = || session.streams().iter().enumerate().filter(|(_, stream)| stream.media() == "video");
        let known = |name: &str| ["h264", "jpeg"].contains(&name);
        let chosen = videos().find(|(_, stream)| known(stream.encoding_name()));
        let Some((chosen, stream)) = chosen else {
            let named: Vec<&str> = videos().map(|(_, stream)| stream.encoding_name()).collect();
            return Err(Trouble::Wrong(match &named[..] {
                [] => "there is no video in what it sends".into(),
                named => format!(
                    "its video is {}, which is not decoded: choose H.264 in the camera's settings, or another stream of it",
                    named.join(", ").to_ascii_uppercase()
                ),
            }));
        };
        let is_jpeg = stream.encoding_name() == "jpeg";
        let options = SetupOptions::default()
            .transport(Transport::Tcp(Default::default()))
            .frame_format(FrameFormat::SIMPLE);
        let played = timeout(ANSWER, async {
            session.setup(chosen, options).await?;
            session.play(PlayOptions::default()).await?.demuxed()
        });
        let mut frames =
            played.await.map_err(|_| too_long("it did not begin to play", ANSWER))?.map_err(refused)?;
        self.tap.fill(MOST_BETWEEN);
        let (mut decoding, mut rate) = (Decoding::new(self.decoders), Rate::default());
        let mut silent_at = Instant::now() + SILENCE;
        loop {
            let item = tokio::select! {
                item = frames.next() => item,
                trouble = decoding.next(self.feed) => return Err(trouble),
                () = sleep(silent_at.saturating_duration_since(Instant::now())) => {
                    return Err(too_long("no picture came", SILENCE));
                }
            };
            let frame = match item {
                Some(Ok(CodecItem::VideoFrame(frame))) => frame,
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Err(refused(error)),
                None => return Err(Trouble::Gone("it has ended its stream".into())),
            };
            self.tap.fill(MOST_BETWEEN);
            let now = Instant::now();
            silent_at = now + SILENCE;
            let at = self.clock.captured(now, frame.timestamp().elapsed_secs());
            if is_jpeg {
                encoded(self.feed, at, Bytes::from(frame.into_data()));
                continue;
            }
            if frame.has_new_parameters()
                && let Some(ParametersRef::Video(parameters)) = frames.streams()[chosen].parameters()
            {
                let (width, height) = parameters.pixel_dimensions();
                let most = Limits::default().max_pixels;
                if u64::from(width) * u64::from(height) > most {
                    return Err(Trouble::Wrong(format!(
                        "its pictures of {width}×{height} are too large: at most {most} pixels are taken"
                    )));
                }
            }
            decoding.push(frame, at, rate.is_too_high(now));
        }
    }
}

/// What the RTSP client says, in words for people. Its own words tell of bytes and of this machine's ports.
fn refused(error: retina::Error) -> Trouble {
    match error.status_code() {
        Some(401) => return Trouble::Wrong("user or password are not the camera's".into()),
        Some(403) => return Trouble::Wrong("it answers 403: the user may not see it".into()),
        Some(status @ 300..=399) => {
            return Trouble::Wrong(format!(
                "it redirects elsewhere ({status}): name the address it redirects to"
            ));
        }
        Some(461) => return Trouble::Wrong("it does not send over TCP".into()),
        Some(status @ 400..) => return Trouble::Gone(format!("it answers {status}")),
        _ => {}
    }
    let text = error.to_string();
    if text.contains("credentials") || text.contains("Authentication") {
        return Trouble::Wrong("it asks for user and password: rtsp://user:password@…".into());
    }
    let words: String = text.lines().next().unwrap_or_default().chars().take(200).collect();
    Trouble::Gone(format!("its RTSP broke off: {words}"))
}

/// Whether pictures come faster than from any camera.
#[derive(Default)]
struct Rate {
    counted: Option<(Instant, u32)>,
}

impl Rate {
    fn is_too_high(&mut self, now: Instant) -> bool {
        match &mut self.counted {
            Some((since, count)) if now.duration_since(*since) < Duration::from_secs(1) => {
                *count += 1;
                *count > MOST_RATE
            }
            counted => {
                *counted = Some((now, 1));
                false
            }
        }
    }
}

/// An access unit that waits.
struct Unit {
    at: Instant,
    data: Vec<u8>,
    is_key: bool,
}

/// Access units on their way through the decoder.
struct Decoding<'a> {
    decoders: &'a Decoders,
    waiting: VecDeque<Unit>,
    /// What comes before a key frame is of no use.
    needs_key: bool,
    /// None while it is at work, and before it is needed.
    decoder: Option<LiveDecoder>,
    at_work: Option<Work>,
    failures: u32,
}

type Work = Pin<Box<dyn Future<Output = Result<Done, JoinError>> + Send>>;

struct Done {
    at: Instant,
    decoder: LiveDecoder,
    picture: Result<Option<PlanarImage>, Refused>,
}

impl<'a> Decoding<'a> {
    fn new(decoders: &'a Decoders) -> Self {
        Self {
            decoders,
            waiting: VecDeque::new(),
            needs_key: true,
            decoder: None,
            at_work: None,
            failures: 0,
        }
    }

    fn push(&mut self, frame: VideoFrame, at: Instant, is_too_much: bool) {
        let is_key = frame.is_random_access_point();
        if is_too_much || (self.needs_key && !is_key) {
            self.needs_key = true;
            return metrics::camera_frame("busy");
        }
        let bytes = self.waiting.iter().map(|unit| unit.data.len()).sum::<usize>() + frame.data().len();
        let is_full = self.waiting.len() >= MOST_WAITING || bytes > MOST_WAITING_BYTES;
        if is_full || is_key && !self.waiting.is_empty() {
            // A key frame needs none of those before it, and we are late.
            self.waiting.drain(..).for_each(|_| metrics::camera_frame("busy"));
            if !is_key {
                self.needs_key = true;
                return metrics::camera_frame("busy");
            }
        }
        self.needs_key = false;
        self.waiting.push_back(Unit { at, data: frame.into_data(), is_key });
    }

    /// Decodes what waits. Ends only if nothing can be decoded. Dropping the future loses nothing.
    async fn next(&mut self, feed: &Feed) -> Trouble {
        loop {
            if self.at_work.is_none()
                && let Err(trouble) = self.begin(feed)
            {
                return trouble;
            }
            let Some(at_work) = &mut self.at_work else { return std::future::pending().await };
            let done = at_work.await;
            self.at_work = None;
            match done {
                Ok(Done { at, decoder, picture: Ok(picture) }) => {
                    (self.decoder, self.failures) = (Some(decoder), 0);
                    if let Some(picture) = picture {
                        feed.put(at, decoded(picture));
                    }
                }
                Ok(Done { decoder, picture: Err(why), .. }) => {
                    self.decoder = Some(decoder);
                    metrics::camera_frame("damaged");
                    self.failed();
                    if self.failures >= 3 {
                        return Trouble::Wrong(format!("its H.264 is not decoded: {why}"));
                    }
                }
                Err(panic) => {
                    tracing::warn!(%panic, "decoding panicked");
                    self.failed();
                }
            }
        }
    }

    /// Goes on with the next key frame.
    fn failed(&mut self) {
        self.failures += 1;
        let key = self.waiting.iter().position(|unit| unit.is_key);
        self.waiting.drain(..key.unwrap_or(self.waiting.len()));
        self.needs_key = self.waiting.is_empty();
    }

    /// Decodes the next, if one waits.
    fn begin(&mut self, feed: &Feed) -> Result<(), Trouble> {
        let Some(unit) = self.waiting.pop_front() else { return Ok(()) };
        let decoder = self.decoder.take().map_or_else(|| self.decoders.decoder(), Ok);
        let mut decoder = decoder.map_err(|error| Trouble::Wrong(error.to_string()))?;
        decoder.skip_earlier();
        let wanted = if LiveDecoder::is_earlier(&unit.data) {
            feed.skips();
            false
        } else {
            feed.takes(unit.at, Cost::Work)
        };
        let turn = self.decoders.turn();
        self.at_work = Some(Box::pin(async move {
            let turn = turn.await;
            let worked = spawn_blocking(move || {
                let picture = decoder.decode(&unit.data, wanted);
                drop(turn);
                Done { at: unit.at, decoder, picture }
            });
            worked.await
        }));
        Ok(())
    }
}
