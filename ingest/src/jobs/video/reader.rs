//! Decodes a video, one picture ahead of who takes them.

use std::{
    io::{self, ErrorKind::NotFound},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cloudpose_pixels::{Encoder, Limits, PlanarImage};
use cloudpose_store::Store;
use cloudpose_video::Error;
use cloudpose_wire::{Decoded, DropReason, JobId};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
};

use super::{News, Picture, Told, Video, part::Part};
use crate::{
    decoders::Decoders,
    jobs::{
        Thumbnail,
        document::{Failure, video_key},
    },
    quotas::Guest,
};

/// JPEG quality of frames that leave the process.
const QUALITY: u8 = 90;

/// How often it looks whether it is wanted still, while it waits for a quota.
const LOOK: Duration = Duration::from_millis(500);

/// A video, and what is wanted of it.
pub(super) struct Reader {
    pub(super) store: Store,
    pub(super) upload: JobId,
    pub(super) video: Video,
    /// So many frames are not wanted any more.
    pub(super) done: u32,
    /// So many are looked at, at most.
    pub(super) most: u32,
    pub(super) decoders: Decoders,
    /// Whose quotas it uses.
    pub(super) guest: Guest,
    /// Places for pictures that nobody is done with. It is closed when none is wanted any more.
    pub(super) window: Arc<Semaphore>,
}

/// Nobody wants to hear of it any more.
struct Unheard;

impl Reader {
    /// Tells of all frames, and of the end.
    pub(super) async fn run(self, tell: mpsc::Sender<Told>) {
        let (runtime, upload) = (Handle::current(), self.upload.clone());
        let worked = tokio::task::spawn_blocking({
            let tell = tell.clone();
            move || {
                let say = |news: News| tell.blocking_send(news.of(&self.upload)).map_err(|_| Unheard);
                self.read(&runtime, &say)
            }
        });
        let end = match worked.await {
            Ok(Ok(end)) => end,
            Ok(Err(Unheard)) => return,
            // A panic of a decoder is damage like any other.
            Err(_) => News::Ended(Some(damaged("its decoder gave up"))),
        };
        // Who does not listen any more need not know.
        tell.send(end.of(&upload)).await.ok();
    }

    /// Returns how it ended.
    fn read(&self, runtime: &Handle, say: &impl Fn(News) -> Result<(), Unheard>) -> Result<News, Unheard> {
        let away = Arc::new(AtomicBool::new(false));
        let mut video = match self.open(runtime, &away) {
            Ok(video) => video,
            Err(error) => return Ok(ended(&error, &away)),
        };
        let info = video.info();
        let frames = info.frames.unwrap_or_default() as f64;
        let wanted = self.video.fps.map_or(frames, |fps| (frames * fps / info.rate).ceil().min(frames));
        say(News::Opened((wanted as u32).min(self.most)))?;
        let (mut pace, mut number) = (Pace::new(self.video.fps), 0);
        let mut picture = PlanarImage::default();
        loop {
            // As of streams of which nothing is dropped: it goes on when the tenant may use some again.
            while let Some(until) = self.guest.waits_until(Instant::now()) {
                self.check()?;
                runtime.block_on(tokio::time::sleep_until(until.min(Instant::now() + LOOK).into()));
            }
            let turn = runtime.block_on(self.decoders.turn());
            self.check()?;
            let at = match video.next_into(&mut picture) {
                Ok(Some(at)) => at,
                Ok(None) if number == 0 => {
                    return Ok(News::Ended(Some(damaged("there is no picture in it"))));
                }
                Ok(None) => return Ok(News::Ended(None)),
                Err(error) => return Ok(ended(&error, &away)),
            };
            let size = [picture.width(), picture.height()];
            self.guest.decodes(Instant::now(), size.map(|side| u32::try_from(side).unwrap_or(u32::MAX)));
            if !pace.takes(at) {
                continue;
            }
            if number == self.most {
                let detail =
                    format!("only {number} frames are looked at; give a lower fps, or cut the video");
                return Ok(News::Ended(Some(Failure { reason: DropReason::TooLarge, detail })));
            }
            number += 1;
            if number <= self.done {
                continue;
            }
            if (size[0] * size[1]) as u64 > Limits::default().max_pixels {
                let detail = format!("its pictures of {}×{} pixels are too large", size[0], size[1]);
                return Ok(News::Ended(Some(Failure { reason: DropReason::TooLarge, detail })));
            }
            let thumbnail = match Thumbnail::shrunk(&picture, size) {
                Ok(thumbnail) => thumbnail.jpeg,
                Err(error) => return Ok(News::Ended(Some(damaged(&error.to_string())))),
            };
            drop(turn);
            let place = runtime.block_on(Arc::clone(&self.window).acquire_owned()).map_err(|_| Unheard)?;
            let payload = Decoded::new(std::mem::take(&mut picture), jpeg).into();
            let at = at.as_secs_f64();
            say(News::Decoded(Box::new(Picture { number, at, payload, thumbnail, _place: place })))?;
        }
    }

    fn check(&self) -> Result<(), Unheard> {
        if self.window.is_closed() { Err(Unheard) } else { Ok(()) }
    }

    /// `away` says whether the store was, while it was read.
    fn open(&self, runtime: &Handle, away: &Arc<AtomicBool>) -> Result<cloudpose_video::Video, Error> {
        let key = video_key(&self.upload);
        match self.store.file(&key) {
            Some(path) => cloudpose_video::Video::open(&path),
            None => {
                let (runtime, store, away) = (runtime.clone(), self.store.clone(), Arc::clone(away));
                let fetch = move |range| {
                    let part = runtime.block_on(store.get_part(&key, range));
                    let part = part.map_err(io::Error::other).and_then(|part| part.ok_or(NotFound.into()));
                    part.inspect_err(|_| away.store(true, Ordering::Relaxed))
                };
                let bytes = self.video.bytes;
                cloudpose_video::Video::read(Part::new(bytes, Box::new(fetch)), bytes)
            }
        }
    }
}

fn jpeg(picture: &PlanarImage) -> Result<bytes::Bytes, String> {
    let encoded = Encoder::new().and_then(|mut encoder| encoder.encode(picture, QUALITY));
    encoded.map_err(|error| error.to_string())
}

/// What an error means. One of the file's own comes again, one of the store may not.
fn ended(error: &Error, away: &AtomicBool) -> News {
    if away.load(Ordering::Relaxed) || matches!(error, Error::File { .. }) {
        tracing::warn!(%error, "the video of a job cannot be read now");
        return News::Lost;
    }
    match error {
        Error::TooLarge(..) => {
            News::Ended(Some(Failure { reason: DropReason::TooLarge, detail: error.to_string() }))
        }
        _ => News::Ended(Some(damaged(&error.to_string()))),
    }
}

fn damaged(detail: &str) -> Failure {
    Failure { reason: DropReason::Undecodable, detail: detail.to_owned() }
}

/// Which frames are looked at: the first of each part of time.
#[derive(Debug)]
struct Pace {
    fps: Option<f64>,
    last: Option<u64>,
}

impl Pace {
    fn new(fps: Option<f64>) -> Self {
        Self { fps, last: None }
    }

    /// Whether the frame that is shown `at` is one of them. To be asked of each, in their order.
    fn takes(&mut self, at: Duration) -> bool {
        let Some(fps) = self.fps else { return true };
        // Times of frames are rounded: one that is a thousandth early is on time.
        let part = (at.as_secs_f64() * fps + 0.001) as u64;
        let is_new = self.last.is_none_or(|last| part > last);
        if is_new {
            self.last = Some(part);
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(fps: Option<f64>, at_ms: impl Iterator<Item = u64>) -> Vec<u64> {
        let mut pace = Pace::new(fps);
        at_ms.filter(|at| pace.takes(Duration::from_millis(*at))).collect()
    }

    #[test]
    fn as_many_frames_are_looked_at_as_are_wanted_and_no_more_than_there_are() {
        let every_40_ms = || (0..25).map(|frame| 40 * frame);
        assert_eq!(taken(None, every_40_ms()).len(), 25);
        assert_eq!(taken(Some(60.0), every_40_ms()).len(), 25);
        assert_eq!(taken(Some(25.0), every_40_ms()).len(), 25);
        assert_eq!(taken(Some(5.0), every_40_ms()), [0, 200, 400, 600, 800]);
        assert_eq!(taken(Some(10.0), every_40_ms()).len(), 10);
        assert_eq!(taken(Some(0.5), every_40_ms()), [0]);
        // Where frames are missing none is looked at in their place.
        assert_eq!(taken(Some(5.0), [0, 40, 900, 940, 1000].into_iter()), [0, 900, 1000]);
    }
}
