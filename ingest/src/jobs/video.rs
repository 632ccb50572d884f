//! Videos as jobs: their frames are the items.
//!
//! A video is decoded where its job is held, a picture at a time, and never lies in memory as a whole. Its frames go to the
//! workers by the lanes of jobs, [`WINDOW`] of them at once, and their results come back to this gateway, which takes them in
//! the order of the frames: so persons have the ids that a live stream would give them. How far it is and who was there then
//! stand in the job's state. A gateway that takes over decodes the video again and goes on behind the last frame of
//! which the state says that it was looked at; what was looked at since is looked at again, and what is written stays.

mod part;
mod reader;

use std::{collections::BTreeMap, sync::Arc};

use cloudpose_bus::Models;
use cloudpose_store::Error;
use cloudpose_tracks::Registry;
use cloudpose_wire::{
    Address, Caller, FrameHeader, FrameResult, JobId, Payload, Reply, Route, frame::ResultBody,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;

use self::reader::Reader;
use super::{
    Jobs,
    active::Items,
    collector::{Told, What, line},
    document::{About, Failure, Line, Seen, State, Video, overlay_key, thumbnail_key, video_key},
    write_result,
};
use crate::shared::Shared as Gateway;

/// Videos that one gateway works on at once: each takes some pictures of memory.
pub(super) const MOST_VIDEOS: usize = 2;
/// Frames of a video that are decoded and have no result, as of a live stream.
const WINDOW: usize = 2;

/// A frame that is to be looked at.
#[derive(Debug)]
pub(crate) struct Picture {
    number: u32,
    /// Seconds from the beginning.
    at: f64,
    payload: Payload,
    thumbnail: bytes::Bytes,
    /// Dropped with the picture: then the next is decoded.
    _place: OwnedSemaphorePermit,
}

/// What is heard of a video.
#[derive(Debug)]
pub(crate) enum News {
    /// So many frames will be looked at, by what the file says.
    Opened(u32),
    /// The next frame.
    Decoded(Box<Picture>),
    /// What became of a frame at the workers.
    Found(Box<FrameResult>),
    /// There are no more frames. With a failure there should be.
    Ended(Option<Failure>),
    /// It could not be read now.
    Lost,
}

impl News {
    /// As the runner is told it.
    fn of(self, upload: &JobId) -> Told {
        Told { upload: upload.clone(), item: 0, what: What::Video(self) }
    }
}

/// What was written down of a video's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Nothing,
    Some,
    /// It is not there any more, or not now.
    Lost,
}

/// A video that this gateway works on.
#[derive(Debug)]
pub(super) struct Film {
    upload: JobId,
    /// Where results come in.
    address: Address,
    /// When the video begins, for the tracks: milliseconds since 1970-01-01T00:00:00Z.
    begins_at: u64,
    seen: Seen,
    /// Frames that have no result, by their numbers.
    pictures: BTreeMap<u32, Picture>,
    /// Results whose turn has not come.
    results: BTreeMap<u32, FrameResult>,
    expected: u32,
    /// Nothing before the last frame was decoded.
    end: Option<Option<Failure>>,
    is_lost: bool,
    /// Closed with this: then the reader stops.
    window: Arc<Semaphore>,
    _listening: AbortOnDropHandle<()>,
    _reading: AbortOnDropHandle<()>,
}

impl Drop for Film {
    fn drop(&mut self) {
        self.window.close();
    }
}

impl Film {
    /// Begins behind what was `seen`.
    pub(super) fn begin(
        gateway: &Arc<Gateway>,
        jobs: &Jobs,
        (state, seen): (&State, Seen),
        (caller, video): (&Caller, Video),
        tell: &mpsc::Sender<Told>,
    ) -> Self {
        let upload = state.upload.clone();
        let window = Arc::new(Semaphore::new(WINDOW));
        let (address, mut inbox) = gateway.open(2 * WINDOW);
        let listening = {
            let (tell, upload) = (tell.clone(), upload.clone());
            async move {
                loop {
                    let found = News::Found(Box::new(inbox.next().await));
                    if tell.send(found.of(&upload)).await.is_err() {
                        return;
                    }
                }
            }
        };
        let reader = Reader {
            store: jobs.store().clone(),
            upload: upload.clone(),
            video,
            done: seen.frames,
            most: jobs.config().max_video_frames,
            decoders: gateway.decoders.clone(),
            guest: gateway.guest(caller, None),
            window: Arc::clone(&window),
        };
        let reading = reader.run(tell.clone());
        Self {
            upload,
            address,
            begins_at: state.created_at,
            seen,
            pictures: BTreeMap::new(),
            results: BTreeMap::new(),
            expected: 0,
            end: None,
            is_lost: false,
            window,
            _listening: AbortOnDropHandle::new(jobs.0.tasks.spawn(listening)),
            _reading: AbortOnDropHandle::new(jobs.0.tasks.spawn(reading)),
        }
    }

    /// Whether it changes what clients are told.
    pub(super) fn hear(&mut self, news: News, items: &mut Items) -> bool {
        let tells = matches!(news, News::Opened(_));
        match news {
            News::Opened(frames) => self.expected = frames,
            News::Decoded(picture) => {
                items.add(picture.number);
                self.pictures.insert(picture.number, *picture);
            }
            News::Found(found) => {
                let number = u32::try_from(found.seq).unwrap_or_default();
                if self.pictures.contains_key(&number) {
                    self.results.insert(number, *found);
                }
            }
            News::Ended(failure) => self.end = Some(failure),
            News::Lost => self.is_lost = true,
        }
        tells
    }

    /// What a frame shows.
    pub(super) fn payload(&self, number: u32) -> Option<Payload> {
        self.pictures.get(&number).map(|picture| picture.payload.clone())
    }

    /// When a frame is shown, in seconds.
    pub(super) fn at(&self, number: u32) -> Option<f64> {
        self.pictures.get(&number).map(|picture| picture.at)
    }

    /// What workers need to know of a frame, beside what they need to know of any item.
    pub(super) fn header(&self, of_item: FrameHeader, number: u32) -> FrameHeader {
        let since = (1000.0 * self.at(number).unwrap_or_default()) as u64;
        FrameHeader {
            route: Route::Still(Reply::Session(self.address.clone())),
            received_at: self.begins_at.saturating_add(since),
            smooth: true,
            prior: Some(self.seen.tracks.prior()),
            ..of_item
        }
    }

    /// Writes down what was found, frame after frame, up to the first of which nothing is known.
    pub(super) async fn keep(
        &mut self,
        jobs: &Jobs,
        about: &About,
        items: &mut Items,
        models: &Models,
    ) -> Result<Kept, Error> {
        if self.is_lost {
            return Ok(Kept::Lost);
        }
        let mut kept = Kept::Nothing;
        loop {
            let number = self.seen.frames + 1;
            if items.is_ended(number) && self.pictures.contains_key(&number) {
                // It could not be put on the lane, which is written down.
                self.looked_at(number);
                continue;
            }
            let (Some(result), Some(picture)) = (self.results.get(&number), self.pictures.get(&number))
            else {
                break;
            };
            let Some((mut line, overlay)) = line(about, number, result) else {
                self.results.remove(&number);
                items.again(number);
                break;
            };
            line.at = Some(picture.at);
            let store = jobs.store();
            if !store.has(&video_key(&self.upload)).await? {
                return Ok(Kept::Lost);
            }
            store.put(&thumbnail_key(&self.upload, number), picture.thumbnail.clone()).await?;
            if let Some(overlay) = overlay {
                store.put(&overlay_key(&self.upload, number), overlay).await?;
            }
            write_result(store, &self.upload, &line, &about.caller.tenant).await?;
            items.end(number, line.error);
            if let ResultBody::Done { tracks: Some(tracks), .. } = &result.body
                && let Some(skeleton) = models.skeleton(&tracks.skeleton)
            {
                self.seen.tracks.absorb(&skeleton, Arc::clone(tracks));
            }
            self.looked_at(number);
            kept = Kept::Some;
        }
        // Behind the last frame it stands why there are no more.
        if self.pictures.is_empty()
            && let Some(Some(failure)) = &self.end
        {
            let item = self.seen.frames + 1;
            let line = Line { item, name: None, at: None, event: None, error: Some(failure.clone()) };
            write_result(jobs.store(), &self.upload, &line, &about.caller.tenant).await?;
            items.add(item);
            items.end(item, line.error);
            self.end = Some(None);
            kept = Kept::Some;
        }
        Ok(kept)
    }

    fn looked_at(&mut self, number: u32) {
        self.results.remove(&number);
        self.pictures.remove(&number);
        self.seen.frames = number;
    }

    /// Whether there is nothing more to look at.
    pub(super) fn is_over(&self) -> bool {
        self.pictures.is_empty() && self.end == Some(None)
    }

    /// Writes how far it is into `state`.
    pub(super) fn tell(&self, items: &Items, state: &mut State) {
        state.items = if self.end.is_some() { items.count() } else { items.count().max(self.expected) };
        let mut seen = self.seen.clone();
        if self.is_over() {
            seen.tracks = Registry::default();
        }
        state.seen = Some(seen);
    }
}
