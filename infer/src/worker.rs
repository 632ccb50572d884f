//! The worker loop: frames in, pose events out.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cloudpose_bus::{Attachment, Bus, Delivery};
use cloudpose_pixels::{Idle, Pool, Pooled};
use cloudpose_wire::{DropReason, Frame, FrameHeader, FrameResult, Kind, ModelName, PoseEvent, Prior, Stage};
use tokio::{task::JoinError, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Detail, Error, Job, Models, Past, Pipeline, Poses,
    feed::{self, Feed},
    gpu::{self, DeviceChoice, RunBatch},
    metrics,
};

/// Decoded pictures that may be on their way to the annotate stage, for each frame worked on at once: one
/// being drawn on, one waiting. Further ones travel encoded only.
const PICTURES_PER_SLOT: usize = 2;

/// How long handing back may take once the device has failed.
const LEAVING: Duration = Duration::from_secs(5);
/// What pose events call the CPU.
const CPU: &str = "cpu";

/// An infer role that has its models and is warm.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    /// Frames worked on at once.
    slots: usize,
}

#[derive(Debug)]
struct Shared {
    finder: Finder,
    /// Pictures on their way to the annotate stage.
    pictures: Pool,
}

/// What finds the persons.
#[derive(Debug)]
enum Finder {
    Cpu(Arc<Cpu>),
    Gpu(Arc<Feed>),
}

/// Pipelines that each work on one frame at a time.
#[derive(Debug)]
struct Cpu {
    models: Arc<Models>,
    threads_per_frame: NonZeroUsize,
    idle: Idle<Pipeline>,
}

/// What there is to do about one frame.
#[derive(Debug)]
pub(crate) struct Task {
    image: Bytes,
    prior: Option<Prior>,
    at: u64,
    smooth: bool,
    min_score: f32,
    pub(crate) detail: Detail,
    pub(crate) model: ModelName,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) poses: Poses,
    /// The decoded picture, if there is to be drawn on it and there was room for it.
    pub(crate) picture: Option<Pooled>,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failed {
    /// The frame's own fault, or the model's.
    #[error(transparent)]
    Frame(#[from] Error),
    /// The batch's fault.
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    Panicked(JoinError),
    /// Nobody's; another worker may try.
    #[error("the device failed")]
    Device {
        /// Whether it failed with this frame in its hands.
        was_tried: bool,
    },
}

impl Task {
    fn new(header: &mut FrameHeader, image: Bytes) -> Self {
        let FrameHeader { model, received_at: at, min_score, smooth, want, .. } = *header;
        Self { image, prior: header.prior.take(), at, smooth, min_score, detail: want.into(), model }
    }

    pub(crate) fn job(&self) -> Job<'_> {
        let past = self.prior.as_ref().map(|prior| Past { prior, at: self.at, smooth: self.smooth });
        Job { image: &self.image, detail: self.detail, model: self.model, min_score: self.min_score, past }
    }
}

impl Worker {
    /// Takes the device that `config` asks for, loads `model` and runs it once, so that the first frame does
    /// not wait. Other models load when they are first asked for.
    ///
    /// # Errors
    /// [`Error`] if the device is not there, or the model cannot be loaded or run.
    pub fn load(config: &Config, model: ModelName) -> Result<Self, Error> {
        let store = config.store.open()?;
        match config.device {
            DeviceChoice::Cpu => Self::on_cpu(config, model),
            DeviceChoice::Cuda(number) => {
                Self::on_gpu(config, feed::open(number, &config.gpu, &store, model)?, model)
            }
            DeviceChoice::Auto => match feed::open(0, &config.gpu, &store, model) {
                Ok(engines) => Self::on_gpu(config, engines, model),
                Err(Error::Gpu(gpu::Error::Device(why))) => {
                    tracing::info!(%why, "infer: working on the CPU, for there is no GPU to work on");
                    Self::on_cpu(config, model)
                }
                Err(error) => Err(error),
            },
        }
    }

    fn on_gpu(config: &Config, engines: Vec<Box<dyn RunBatch>>, model: ModelName) -> Result<Self, Error> {
        let worker = Self::with_engines(config, engines)?;
        if let Finder::Gpu(feed) = &worker.shared.finder {
            metrics::model_ready(model, feed.place(), "cuda");
        }
        Ok(worker)
    }

    fn on_cpu(config: &Config, model: ModelName) -> Result<Self, Error> {
        let threads_per_frame = config.threads_per_frame;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let slots = config.threads.map_or(cores.div_ceil(threads_per_frame.get()), NonZeroUsize::get);
        let models = Arc::new(Models::open(&config.store)?);
        let pipeline = || Pipeline::new(models.clone(), threads_per_frame);
        let idle = Idle::new(slots);
        for _ in 0..slots {
            let mut pipeline = pipeline()?;
            pipeline.warm_up(model)?;
            idle.put(pipeline);
        }
        metrics::model_ready(model, CPU, &models.isa().to_string());
        tracing::info!(device = CPU, slots, %threads_per_frame, %model, isa = %models.isa(), "infer: ready");
        let cpu = Cpu { models, threads_per_frame, idle };
        Ok(Self::new(Finder::Cpu(Arc::new(cpu)), slots))
    }

    /// A worker over engines that run batches, all on one device. [`load`](Self::load) opens those of a GPU;
    /// tests bring others.
    ///
    /// # Errors
    /// [`Error::Thread`] if the system does not start threads.
    pub fn with_engines(config: &Config, engines: Vec<Box<dyn RunBatch>>) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let cores = config.threads.unwrap_or(cores);
        // While every engine has a full batch, the next ones are decoded.
        let slots = cores.get() + engines.len().max(1) * usize::from(config.gpu.max_batch);
        let feed = Feed::start(engines, &config.gpu, cores, slots)?;
        let max_batch = config.gpu.max_batch;
        tracing::info!(device = feed.place(), slots, max_batch, precision = ?config.gpu.precision, "infer: ready");
        Ok(Self::new(Finder::Gpu(Arc::new(feed)), slots))
    }

    fn new(finder: Finder, slots: usize) -> Self {
        let pictures = Pool::new(PICTURES_PER_SLOT * slots);
        Self { shared: Arc::new(Shared { finder, pictures }), slots }
    }

    /// Works until `stop`, then finishes what is in hand. If the device fails it cancels `stop` itself and
    /// hands back what it has.
    ///
    /// # Errors
    /// [`Error::Gpu`] if the device failed: this process can do no more.
    pub async fn run(self, bus: Bus, stop: CancellationToken) -> Result<(), Error> {
        let work = cloudpose_bus::work(&bus, Stage::Infer, self.slots, stop.clone(), |delivery| {
            infer(bus.clone(), self.shared.clone(), stop.clone(), delivery)
        });
        let Finder::Gpu(feed) = &self.shared.finder else {
            work.await;
            return Ok(());
        };
        let lost = async {
            let error = feed.lost().await;
            tracing::error!(%error, "infer: the device failed; handing back what is in hand");
            stop.cancel();
            error
        };
        let mut work = Box::pin(work);
        tokio::pin!(lost);
        tokio::select! {
            () = &mut work => Ok(()),
            error = &mut lost => {
                // A driver that hangs must not hold what others could do: dropped, it counts as our death.
                if timeout(LEAVING, work).await.is_err() {
                    tracing::error!("infer: the device does not answer; leaving what it has");
                }
                Err(Error::Gpu(gpu::Error::Device(error)))
            }
        }
    }
}

async fn infer(bus: Bus, shared: Arc<Shared>, stop: CancellationToken, delivery: Delivery) {
    let Frame { header, image, .. } = &delivery.frame;
    let begun = Instant::now();
    if delivery.waited > budget(header) {
        bus.reply(header.dropped(DropReason::Expired, "waited too long to be worked on")).await;
        return delivery.ack().await;
    }
    let (mut header, image) = (header.clone(), image.clone());
    let (model, task) = (header.model, Arc::new(Task::new(&mut header, image)));
    let (worked, device) = match &shared.finder {
        Finder::Cpu(cpu) => (cpu.detect(task, shared.pictures.clone()).await, CPU),
        Finder::Gpu(feed) => {
            (feed.detect(header.stream.clone(), task, shared.pictures.clone()).await, feed.place())
        }
    };
    let result = match worked {
        Ok(Found { mut poses, picture }) => {
            header.prior = poses.tracks.take();
            let queue = delivery.waited.as_secs_f32() * 1000.0;
            let event = poses.into_event(&header, device, queue);
            metrics::timings(model, &event.timings_ms);
            bus.publish_pose(&event, header.trace).await;
            pass_on(&bus, &delivery, header, (event, picture), begun.elapsed()).await
        }
        Err(Failed::Device { was_tried }) => {
            // Otherwise it would come straight back to us.
            stop.cancelled().await;
            return give_back(delivery, was_tried).await;
        }
        Err(Failed::Frame(Error::Pixels(error))) => {
            tracing::debug!(%error, "the image cannot be worked on");
            Some(header.dropped(DropReason::Undecodable, error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, %model, "inference failed");
            Some(header.dropped(DropReason::InferFailed, "the model could not be run on this image"))
        }
    };
    if let Some(result) = result {
        bus.reply(result).await;
    }
    delivery.ack().await;
}

/// Leaves the frame to another worker. A still that a device failed on counts an attempt, for it might be why; a
/// live frame soon is too old.
async fn give_back(delivery: Delivery, was_tried: bool) {
    if was_tried && delivery.frame.header.kind == Kind::Still {
        drop(delivery);
    } else {
        delivery.hand_back().await;
    }
}

impl Cpu {
    /// Finds the persons in the task's image, on a thread that may block.
    async fn detect(self: &Arc<Self>, task: Arc<Task>, pictures: Pool) -> Result<Found, Failed> {
        let cpu = self.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let mut pipeline = match cpu.idle.take() {
                Some(pipeline) => pipeline,
                None => Pipeline::new(cpu.models.clone(), cpu.threads_per_frame)?,
            };
            let poses = pipeline.detect(task.job());
            let draw = task.detail == Detail::Full && poses.is_ok();
            let picture = if draw { pictures.take() } else { None };
            let picture = picture.map(|mut picture| {
                std::mem::swap(&mut *picture, pipeline.picture());
                picture
            });
            cpu.idle.put(pipeline);
            metrics::batch(1);
            Ok(Found { poses: poses?, picture })
        });
        worked.await.map_err(Failed::Panicked)?
    }
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
