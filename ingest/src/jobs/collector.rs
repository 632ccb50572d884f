//! Writes the results of jobs into the store, each once, and only then tells the bus that they are safe.

use std::convert::Infallible;

use bytes::Bytes;
use cloudpose_bus::{Bus, JobResult};
use cloudpose_store::Error;
use cloudpose_wire::{DropReason, FrameResult, JobId, Reply, frame::ResultBody};
use futures_util::future::join_all;
use tokio::sync::mpsc;

use super::{
    Jobs, PAUSE,
    document::{About, Failure, Line, item_key, overlay_key, result_key},
    failed,
    video::News,
    write_result,
};
use crate::session::DRAWN_OTHERWISE;

/// Results that are taken at once.
const AT_ONCE: usize = 16;

/// What the runner is told of an item.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) upload: JobId,
    pub(crate) item: u32,
    pub(crate) what: What,
}

/// What became of an item.
#[derive(Debug)]
pub(crate) enum What {
    /// It has a result: a bad one if there was a failure.
    Ended(Option<Failure>),
    /// It was not worked on.
    Again,
    /// Of the frames of a video.
    Video(News),
}

/// Takes results from the bus.
#[derive(Debug)]
pub(crate) struct Collector {
    jobs: Jobs,
    bus: Bus,
    tell: mpsc::Sender<Told>,
}

impl Collector {
    pub(crate) fn new(jobs: Jobs, bus: Bus, tell: mpsc::Sender<Told>) -> Self {
        Self { jobs, bus, tell }
    }

    pub(crate) async fn run(self) -> Infallible {
        loop {
            // Together: a store far away takes its time for each.
            join_all(self.bus.job_results(AT_ONCE).await.into_iter().map(|taken| self.take(taken))).await;
        }
    }

    async fn take(&self, taken: JobResult) {
        match self.keep(&taken.result).await {
            Ok(()) => taken.ack().await,
            Err(error) => self.put_off(taken, &error).await,
        }
    }

    /// A result that cannot be written now stays with the bus, which hands it out again.
    async fn put_off(&self, taken: JobResult, error: &Error) {
        failed("writing the result of an image", error);
        drop(taken);
        tokio::time::sleep(PAUSE).await;
    }

    /// Writes down a result, or finds that it need not be.
    async fn keep(&self, result: &FrameResult) -> Result<(), Error> {
        let Reply::Job { job: upload } = &result.reply else { return Ok(()) };
        let Some(item) = u32::try_from(result.seq).ok().filter(|item| *item > 0) else { return Ok(()) };
        let store = self.jobs.store();
        // A job that was deleted meanwhile has no images any more, and gets no results.
        let Some(about) = self.jobs.about(upload).await? else { return Ok(()) };
        if !store.has(&item_key(upload, item)).await? || store.has(&result_key(upload, item)).await? {
            return Ok(());
        }
        let what = match line(&about, item, result) {
            None => What::Again,
            Some((line, overlay)) => {
                if let Some(overlay) = overlay {
                    store.put(&overlay_key(upload, item), overlay).await?;
                }
                write_result(store, upload, &line, &about.caller.tenant).await?;
                What::Ended(line.error)
            }
        };
        // One that it is not told of it finds in the store.
        self.tell.try_send(Told { upload: upload.clone(), item, what }).ok();
        Ok(())
    }
}

/// What is written of a result, with its picture; `None` if it says only that nobody worked on the image.
pub(super) fn line(about: &About, item: u32, result: &FrameResult) -> Option<(Line, Option<Bytes>)> {
    let name = about.name(item);
    let failed = |reason, detail| Line {
        item,
        name: name.clone(),
        at: None,
        event: None,
        error: Some(Failure { reason, detail }),
    };
    match &result.body {
        ResultBody::Done { overlay: Some(_), .. } if result.draw != about.settings.draw => {
            Some((failed(DropReason::AnnotateFailed, DRAWN_OTHERWISE.into()), None))
        }
        ResultBody::Done { event, overlay, .. } => {
            Some((Line { item, name, at: None, event: Some(event.clone()), error: None }, overlay.clone()))
        }
        ResultBody::Dropped { reason, detail } => match reason {
            DropReason::Undecodable
            | DropReason::InferFailed
            | DropReason::AnnotateFailed
            | DropReason::TooLarge => Some((failed(*reason, detail.clone()), None)),
            DropReason::Superseded
            | DropReason::Expired
            | DropReason::Late
            | DropReason::ClientGone
            | DropReason::BusLost
            | DropReason::QueueFull
            | DropReason::OverQuota
            | DropReason::BusDown
            | DropReason::ShuttingDown => None,
        },
    }
}
