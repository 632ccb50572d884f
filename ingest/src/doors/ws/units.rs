//! The access units of a session on their way through its decoder.
//!
//! They are decoded one after the other on threads that may block; while some wait nothing more is read, so none is lost
//! before it is decoded.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc, time::Instant};

use bytes::Bytes;
use cloudpose_pixels::{Encoder, PlanarImage};
use cloudpose_policy::uplink::{Captured, Keyframes, Uplink};
use cloudpose_video::{Error, LiveDecoder, Refused};
use cloudpose_wire::{Decoded, Payload, ws::UnitHead};

use crate::shared::Shared;

/// Units that wait, at most, and bytes of them beyond which no more is read.
const MOST_WAITING: usize = 4;
const ENOUGH_BYTES: usize = 1 << 20;
/// JPEG quality of pictures that leave the process.
const QUALITY: u8 = 90;

/// What became of a unit.
#[derive(Debug)]
pub(super) struct Done {
    /// When it came, and when it was captured.
    pub(super) received: Instant,
    pub(super) captured: Instant,
    /// Its picture, or why there is none; empty if that has been said.
    pub(super) picture: Result<Payload, String>,
    /// A key frame is to be asked for.
    pub(super) asks: bool,
    /// Frames and bits a second that would be enough, if that is to be told.
    pub(super) advice: Option<(f32, u32)>,
}

#[derive(Debug)]
struct Unit {
    received: Instant,
    captured: Instant,
    message: Bytes,
}

type Work = Pin<Box<dyn Future<Output = (Unit, Option<(LiveDecoder, Shown)>)> + Send>>;
type Shown = Result<Option<PlanarImage>, Refused>;

/// The units of one session.
pub(super) struct Units {
    shared: Arc<Shared>,
    /// None while it works.
    decoder: Option<LiveDecoder>,
    waiting: VecDeque<Unit>,
    work: Option<Work>,
    keyframes: Keyframes,
    captured: Captured,
    uplink: Uplink,
}

impl Units {
    /// # Errors
    /// If this build decodes none.
    pub(super) fn new(shared: &Arc<Shared>) -> Result<Self, Error> {
        Ok(Self {
            decoder: Some(shared.decoders.decoder()?),
            shared: Arc::clone(shared),
            waiting: VecDeque::new(),
            work: None,
            keyframes: Keyframes::default(),
            captured: Captured::default(),
            uplink: Uplink::default(),
        })
    }

    /// True if another may be pushed.
    pub(super) fn accepts(&self) -> bool {
        let bytes: usize = self.waiting.iter().map(|unit| unit.message.len()).sum();
        self.waiting.len() < MOST_WAITING && bytes < ENOUGH_BYTES
    }

    /// True if none waits or is being decoded.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.work.is_none()
    }

    /// A message came.
    pub(super) fn push(&mut self, now: Instant, message: Bytes) {
        let captured = UnitHead::read(&message).map_or(now, |head| self.captured.at(now, head.time));
        self.waiting.push_back(Unit { received: now, captured, message });
    }

    /// Bits a second that are enough for so many frames a second.
    pub(super) fn enough(&self, fps: f32) -> u32 {
        self.uplink.enough(fps)
    }

    /// Waits until the next is done, in the order in which they came; for ever if there is none. With `begins` false none is
    /// begun. Dropping the future loses none.
    pub(super) async fn next(&mut self, begins: bool) -> Done {
        if self.work.is_none() && begins {
            let skipped =
                |unit: &mut Unit| !self.decoder.as_ref().is_some_and(|decoder| may_show(decoder, unit));
            if let Some(unit) = self.waiting.pop_front_if(skipped) {
                return self.done(unit, Err(Refused::NeedsKey));
            }
            if !self.waiting.is_empty()
                && let Some(decoder) = self.decoder.take()
                && let Some(unit) = self.waiting.pop_front()
            {
                self.work = Some(Box::pin(decode(self.shared.decoders.turn(), decoder, unit)));
            }
        }
        let Some(work) = &mut self.work else { return std::future::pending().await };
        let (unit, worked) = work.await;
        self.work = None;
        let shown = match worked {
            Some((decoder, shown)) => {
                self.decoder = Some(decoder);
                shown
            }
            None => {
                // It is lost with whatever it could not take.
                self.decoder = self.shared.decoders.decoder().ok();
                Err(Refused::Damaged("its decoder gave up"))
            }
        };
        self.done(unit, shown)
    }

    fn done(&mut self, unit: Unit, shown: Shown) -> Done {
        let Unit { received, captured, message } = unit;
        let (mut asks, mut advice) = (false, None);
        let picture = match shown {
            Ok(Some(picture)) => {
                self.keyframes.decoded();
                advice = self.uplink.received(received, message.len(), picture.width() * picture.height());
                Ok(Payload::Decoded(Decoded::new(picture, jpeg)))
            }
            _ if UnitHead::read(&message).is_none() => {
                Err("each message begins with 1 (a key frame) or 0, and 8 bytes that say its time".into())
            }
            Ok(None) => Err("there is no picture in it".into()),
            Err(refused) => {
                asks = self.keyframes.missing(received);
                Err(if refused == Refused::NeedsKey { String::new() } else { refused.to_string() })
            }
        };
        Done { received, captured, picture, asks, advice }
    }
}

/// Whether a unit is worth a turn: not one that says itself that it builds on what is not there.
fn may_show(decoder: &LiveDecoder, unit: &Unit) -> bool {
    !decoder.needs_key() || UnitHead::read(&unit.message).is_none_or(|head| head.is_key)
}

/// Decodes a unit when it is its turn. A decoder that panics is gone.
async fn decode(
    turn: impl Future<Output = Option<tokio::sync::OwnedSemaphorePermit>>,
    mut decoder: LiveDecoder,
    unit: Unit,
) -> (Unit, Option<(LiveDecoder, Shown)>) {
    let turn = turn.await;
    let message = unit.message.clone();
    let worked = tokio::task::spawn_blocking(move || {
        let shown = match UnitHead::read(&message) {
            Some(_) => decoder.decode(&message[UnitHead::LEN..], true),
            None => Ok(None),
        };
        drop(turn);
        (decoder, shown)
    });
    (unit, worked.await.ok())
}

fn jpeg(picture: &PlanarImage) -> Result<Bytes, String> {
    let encoded = Encoder::new().and_then(|mut encoder| encoder.encode(picture, QUALITY));
    encoded.map_err(|error| error.to_string())
}

impl fmt::Debug for Units {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Units").field("waiting", &self.waiting.len()).finish_non_exhaustive()
    }
}
