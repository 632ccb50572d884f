//! The worker loop: frames in, pose events out.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cloudpose_bus::{Attachment, Bus, Delivery};
use cloudpose_pixels::{Pool, Pooled};
use cloudpose_wire::{DropReason, Frame, FrameHeader, FrameResult, ModelName, PoseEvent, Stage};
use tokio_util::sync::CancellationToken;

use crate::{Config, Detail, Error, Job, Models, Past, Pipeline, metrics};

/// Decoded pictures that may be on their way to the annotate stage, for each frame worked on at once: one
/// being drawn on, one waiting. Further ones travel encoded only.
const PICTURES_PER_SLOT: usize = 2;

/// An infer role that has its models and is warm.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    /// Frames worked on at once.
    slots: usize,
}

#[derive(Debug)]
struct Shared {
    models: Arc<Models>,
    threads_per_frame: NonZeroUsize,
    idle: Mutex<Vec<Pipeline>>,
    /// Pictures on their way to the annotate stage.
    pictures: Pool,
}

impl Worker {
    /// Loads `model` and runs it once, so that the first frame does not wait. Other models load when
    /// they are first asked for.
    ///
    /// # Errors
    /// [`Error`] if the model cannot be loaded or run.
    pub fn load(config: &Config, model: ModelName) -> Result<Self, Error> {
        let threads_per_frame = config.threads_per_frame;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let slots = config.threads.map_or(cores.div_ceil(threads_per_frame.get()), NonZeroUsize::get);
        let models = Arc::new(Models::open(&config.store)?);
        let pipeline = || Pipeline::new(models.clone(), threads_per_frame);
        let mut idle = (0..slots).map(|_| pipeline()).collect::<Result<Vec<_>, _>>()?;
        for pipeline in &mut idle {
            pipeline.warm_up(model)?;
        }
        metrics::model_ready(model, crate::pipeline::DEVICE, models.isa().to_string());
        tracing::info!(slots, %threads_per_frame, %model, isa = %models.isa(), "infer: ready");
        let pictures = Pool::new(PICTURES_PER_SLOT * slots);
        let shared = Shared { models, threads_per_frame, idle: Mutex::new(idle), pictures };
        Ok(Self { shared: Arc::new(shared), slots })
    }

    /// Works until `stop`, then finishes what is in hand.
    pub async fn run(self, bus: Bus, stop: CancellationToken) {
        cloudpose_bus::work(&bus, Stage::Infer, self.slots, stop, |delivery| {
            infer(bus.clone(), self.shared.clone(), delivery)
        })
        .await;
    }
}

async fn infer(bus: Bus, shared: Arc<Shared>, delivery: Delivery) {
    let Frame { header, image, .. } = &delivery.frame;
    let begun = Instant::now();
    if delivery.waited > budget(header) {
        bus.reply(header.dropped(DropReason::Expired, "waited too long to be worked on")).await;
        return delivery.ack().await;
    }
    let (mut header, image) = (header.clone(), image.clone());
    let prior = header.prior.take();
    let FrameHeader { model, received_at: at, min_score, smooth, want, .. } = header;
    let worked = tokio::task::spawn_blocking(move || {
        let pipeline = shared.idle().pop();
        let mut pipeline = match pipeline {
            Some(pipeline) => pipeline,
            None => Pipeline::new(shared.models.clone(), shared.threads_per_frame)?,
        };
        let detail = Detail::from(want);
        let past = prior.as_ref().map(|prior| Past { prior, at, smooth });
        let poses = pipeline.detect(Job { image: &image, detail, model, min_score, past });
        let picture = if detail == Detail::Full && poses.is_ok() { shared.pictures.take() } else { None };
        let picture = picture.map(|mut picture| {
            std::mem::swap(&mut *picture, pipeline.picture());
            picture
        });
        shared.idle().push(pipeline);
        Ok((poses?, picture))
    });
    let result = match worked.await {
        Ok(Ok((mut poses, picture))) => {
            header.prior = poses.tracks.take();
            let queue = delivery.waited.as_secs_f32() * 1000.0;
            let event = poses.into_event(&header, queue);
            metrics::timings(model, &event.timings_ms);
            metrics::batch(1);
            bus.publish_pose(&event, header.trace).await;
            pass_on(&bus, &delivery, header, (event, picture), begun.elapsed()).await
        }
        Ok(Err(Error::Pixels(error))) => Some(header.dropped(DropReason::Undecodable, error.to_string())),
        Ok(Err(error)) => {
            tracing::error!(%error, %model, "inference failed");
            Some(header.dropped(DropReason::InferFailed, "the model could not be run on this image"))
        }
        Err(panic) => {
            tracing::error!(error = %panic, %model, "inference panicked");
            Some(header.dropped(DropReason::InferFailed, "the model could not be run on this image"))
        }
    };
    if let Some(result) = result {
        bus.reply(result).await;
    }
    delivery.ack().await;
}

/// Gives the frame to the annotate stage if a picture is wanted, with the decoded one if there is room for
/// it; otherwise it is done.
async fn pass_on(
    bus: &Bus,
    delivery: &Delivery,
    header: FrameHeader,
    (event, picture): (PoseEvent, Option<Pooled>),
    took: Duration,
) -> Option<FrameResult> {
    if !header.want.overlay() {
        return Some(header.done(event, None));
    }
    let left = budget(&header).saturating_sub(delivery.waited + took);
    let next = Frame {
        header: FrameHeader {
            deadline_ms: left.as_millis().try_into().unwrap_or(u32::MAX),
            ..header.clone()
        },
        pose: Some(event),
        image: delivery.frame.image.clone(),
    };
    let published = match picture {
        Some(picture) => bus.publish_with(Stage::Annotate, next, Attachment::new(picture)).await,
        None => bus.publish(Stage::Annotate, next).await,
    };
    match published {
        Ok(()) => None,
        Err(error) => Some(header.dropped(error.reason(), error.to_string())),
    }
}

fn budget(header: &FrameHeader) -> Duration {
    Duration::from_millis(header.deadline_ms.into())
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Pipeline>> {
        // The list is only pushed to and popped from: it is whole whatever happened.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
