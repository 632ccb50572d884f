//! The worker loop: frames in, events out.

use std::{
    convert::Infallible,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use cloudpose_bus::{Attachment, Bus, Delivery, Hand};
use cloudpose_kernels::Kernels;
use cloudpose_pixels::{Idle, Pool, Pooled};
use cloudpose_wire::{
    DropReason, Frame, FrameHeader, FrameResult, Kind, ModelId, ModelInfo, Payload, Prior, SharedEvent,
    Stage, StreamName, Want,
};
use tokio::{task::JoinError, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Detail, Detection, Error, Image, Job, Models, Past, Pipeline,
    contract::{Engine, Fault},
    cpu::{self, CpuEngine, Half},
    gpu::{Batches, DeviceChoice, DeviceError, Place, open},
    metrics, models,
    reader::Readers,
};

/// Decoded pictures that may be on their way to the annotate stage, for each frame worked on at once: one
/// being drawn on, one waiting. Further ones travel encoded only.
const PICTURES_PER_SLOT: usize = 2;

/// How long a picture for those who watch is worth drawing.
const WATCHED_FOR: Duration = Duration::from_secs(1);

/// What events call the processor, by what models are computed in.
const SINGLE: &str = "cpu";
const HALF: &str = "cpu-bf16";

/// How often the folder of models is looked at.
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// How long handing back may take once the device has failed.
const LEAVING: Duration = Duration::from_secs(5);

/// An infer role that has its models and is warm.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    /// Frames worked on at once.
    slots: usize,
    /// Whether there is a pipeline more, for a frame beside those of one tenant.
    with_side: bool,
}

#[derive(Debug)]
struct Shared {
    models: Arc<Models>,
    /// What events call the device.
    device: Arc<str>,
    /// What some models are computed in, if there are such.
    half: Option<Half>,
    /// One for each frame that is worked on at once, but for those in use.
    idle: Idle<Pipeline>,
    /// On a GPU: what the pipelines share.
    batches: Option<Arc<Batches>>,
    /// Pictures on their way to the annotate stage.
    pictures: Pool,
}

/// What there is to do about one frame.
#[derive(Debug)]
struct Task {
    image: Payload,
    stream: StreamName,
    prior: Option<Arc<Prior>>,
    at: u64,
    smooth: bool,
    min_score: f32,
    top: u16,
    detail: Detail,
    model: ModelId,
}

/// Why nothing was found out.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Error(#[from] Error),
    #[error(transparent)]
    Panicked(JoinError),
}

impl Task {
    /// `handed_on`: whether this process draws on the picture that is decoded here.
    fn new(header: &mut FrameHeader, image: Payload, handed_on: bool) -> Self {
        Self {
            image,
            stream: header.stream.clone(),
            prior: header.prior.take(),
            at: header.received_at,
            smooth: header.smooth,
            min_score: header.min_score,
            top: header.top,
            detail: detail(header.want, handed_on),
            model: header.model.clone(),
        }
    }

    fn job<'a>(&'a self, pictures: &'a Pool) -> Job<'a> {
        let past = self.prior.as_ref().map(|prior| Past { prior, at: self.at, smooth: self.smooth });
        Job {
            image: match &self.image {
                Payload::Encoded(image) => Image::Encoded(image),
                Payload::Decoded(decoded) => match decoded.get() {
                    Some(planes) => Image::Planes(planes),
                    // Pixels of a kind that nobody here knows are no image.
                    None => Image::Encoded(&[]),
                },
            },
            detail: self.detail,
            model: &self.model,
            min_score: self.min_score,
            top: self.top,
            past,
            stream: Some(&self.stream),
            pictures: (self.detail == Detail::Full).then_some(pictures),
        }
    }
}

impl Worker {
    /// Takes the device that `config` asks for, loads the models `ready` and runs each once, so that its first frame
    /// does not wait. Other models load when they are first asked for.
    ///
    /// # Errors
    /// [`Error`] if the device is not there, or a model cannot be loaded or run.
    pub fn load(config: &Config, ready: &[ModelId]) -> Result<Self, Error> {
        let models = Arc::new(Models::open(&config.store)?);
        let gpu = |number| open(number, &config.gpu, &models, ready);
        match config.device {
            DeviceChoice::Cpu => Self::on_cpu(config, models, ready),
            DeviceChoice::Cuda(number) => Self::with_engines(config, gpu(number)?, models.clone()),
            DeviceChoice::Auto => match gpu(0) {
                Ok(engines) => Self::with_engines(config, engines, models.clone()),
                Err(Fault::Device(why)) => {
                    tracing::info!(%why, "infer: working on the CPU, for there is no GPU to work on");
                    Self::on_cpu(config, models, ready)
                }
                Err(error) => Err(error.into()),
            },
        }
    }

    fn on_cpu(config: &Config, models: Arc<Models>, ready: &[ModelId]) -> Result<Self, Error> {
        let threads_per_frame = config.threads_per_frame;
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let slots = config.threads.map_or(cores.div_ceil(threads_per_frame.get()), NonZeroUsize::get);
        let pipeline = || {
            let engine = CpuEngine::new(models.clone(), threads_per_frame)?;
            let engine = engine.in_precision(config.gpu.numbers.precision)?;
            let pipeline = Pipeline::with_engine(models.clone(), Box::new(engine))?;
            Ok::<_, Error>(pipeline.refining(config.refine_persons))
        };
        // One more for a frame beside those of one tenant. Frames that are several threads' work let none go first.
        let with_side = threads_per_frame == NonZeroUsize::MIN;
        let pipelines = 0..slots + usize::from(with_side);
        let mut pipelines = pipelines.map(|_| pipeline()).collect::<Result<Vec<_>, _>>()?;
        for pipeline in &mut pipelines {
            ready.iter().try_for_each(|model| pipeline.warm_up(model))?;
        }
        let kernels = Kernels::detect().map_err(cpu::Error::Isa)?;
        let isa = kernels.isa();
        let half = Half::of(config.gpu.numbers.precision, &kernels)?;
        for model in ready {
            let is_half = half.is_some_and(|half| models.is_half(model, half));
            let isa =
                half.filter(|_| is_half).map_or_else(|| isa.to_string(), |half| half.unit().to_string());
            metrics::model_ready(model, if is_half { HALF } else { SINGLE }, &isa);
        }
        let in_bf16 =
            models.ids().into_iter().filter(|model| half.is_some_and(|half| models.is_half(model, half)));
        let in_bf16 = in_bf16.map(|model| model.to_string()).collect::<Vec<_>>().join(", ");
        let multiplied_by = half.map_or_else(|| isa.to_string(), |half| half.unit().to_string());
        let models_ready = ready.iter().map(ModelId::as_str).collect::<Vec<_>>().join(", ");
        tracing::info!(device = %Place::Cpu, slots, %threads_per_frame, models = models_ready, %isa, in_bf16, multiplied_by, "infer: ready");
        let mut worker = Self::with_pipelines(models, pipelines);
        worker.shared =
            Arc::new(Shared { half, ..Arc::into_inner(worker.shared).expect("nobody has it yet") });
        Ok(Self { slots, with_side, ..worker })
    }

    /// A worker over engines that run batches, all on one device. [`load`](Self::load) opens those of a GPU;
    /// tests bring others. It serves the models that GPUs run.
    ///
    /// # Errors
    /// [`Error::Thread`] if the system does not start threads, [`Error::Model`] if a model cannot be read.
    pub fn with_engines(
        config: &Config,
        engines: Vec<Box<dyn Engine>>,
        models: Arc<Models>,
    ) -> Result<Self, Error> {
        let cores = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let cores = config.threads.unwrap_or(cores);
        // While every engine has a full batch, the next ones are decoded.
        let slots = cores.get() + engines.len().max(1) * usize::from(config.gpu.max_batch);
        let place = engines.first().map_or(Place::Host, |engine| engine.place());
        let batches = Arc::new(Batches::start(engines, config.gpu.batch_rule()).map_err(Error::Thread)?);
        let readers = Readers::new(cores.get())?;
        let pipeline = |_| {
            let pipeline = Pipeline::shared(models.clone(), readers.clone(), batches.clone());
            pipeline.refining(config.refine_persons)
        };
        let idle = (0..slots).map(pipeline).collect();
        for info in models.infos_on_gpu()? {
            metrics::model_ready(&info.id, &place.to_string(), "cuda");
        }
        let max_batch = config.gpu.max_batch;
        tracing::info!(device = %place, slots, max_batch, precision = ?config.gpu.numbers.precision, "infer: ready");
        Ok(Self::new(models, place, idle, Some(batches)))
    }

    /// A worker over pipelines that each have an engine of their own on the processor, one for each frame that is
    /// worked on at once. [`load`](Self::load) makes those of the families here; others bring theirs.
    pub fn with_pipelines(models: Arc<Models>, pipelines: Vec<Pipeline>) -> Self {
        Self::new(models, Place::Cpu, pipelines, None)
    }

    fn new(
        models: Arc<Models>,
        place: Place,
        pipelines: Vec<Pipeline>,
        batches: Option<Arc<Batches>>,
    ) -> Self {
        let slots = pipelines.len();
        let idle = Idle::new(slots);
        pipelines.into_iter().for_each(|pipeline| idle.put(pipeline));
        let pictures = Pool::new(PICTURES_PER_SLOT * slots);
        let device = place.to_string().into();
        let shared = Shared { models, device, half: None, idle, batches, pictures };
        Self { shared: Arc::new(shared), slots, with_side: false }
    }

    /// Says what it serves and works until `stop`, then finishes what is in hand. Takes in what changes in the folder of
    /// its models meanwhile. If the device fails it cancels `stop` itself and hands back what it has.
    ///
    /// # Errors
    /// [`Error::Device`] if the device failed: this process can do no more.
    pub async fn run(self, bus: Bus, stop: CancellationToken) -> Result<(), Error> {
        bus.announce(self.shared.served()?);
        let seats = (self.slots, self.with_side);
        let work = cloudpose_bus::work(&bus, Stage::Infer, seats, stop.clone(), |delivery, hand| {
            infer(bus.clone(), self.shared.clone(), stop.clone(), (delivery, hand))
        });
        let work = async {
            tokio::select! {
                () = work => {}
                never = self.shared.renew(&bus) => match never {},
            }
        };
        let Some(batches) = &self.shared.batches else {
            work.await;
            return Ok(());
        };
        let lost = async {
            let error: DeviceError = batches.lost().await;
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
                Err(Error::Device(error))
            }
        }
    }
}

impl Shared {
    /// What events of `model` call the device.
    fn device(&self, model: &ModelId) -> Arc<str> {
        match self.half {
            Some(half) if self.models.is_half(model, half) => HALF.into(),
            _ => self.device.clone(),
        }
    }

    /// What this worker says that it serves.
    fn served(&self) -> Result<Vec<ModelInfo>, models::Error> {
        match self.batches {
            Some(_) => self.models.infos_on_gpu(),
            None => Ok(self.models.infos()),
        }
    }

    /// Takes in what has changed in the folder of the models, and says what is served then; none if nothing has.
    fn renewed(&self) -> Result<Option<Vec<ModelInfo>>, models::Error> {
        if self.models.renew()? { self.served().map(Some) } else { Ok(None) }
    }

    /// Takes in whatever changes in the folder of the models, and announces it. What cannot be used is logged once, and
    /// nothing changes.
    async fn renew(self: &Arc<Self>, bus: &Bus) -> Infallible {
        if !self.models.now().may_change() {
            std::future::pending::<()>().await;
        }
        let mut every = tokio::time::interval(RENEW_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut refused = String::new();
        loop {
            every.tick().await;
            let shared = self.clone();
            match tokio::task::spawn_blocking(move || shared.renewed()).await {
                Ok(Ok(None)) => refused.clear(),
                Ok(Ok(Some(served))) => {
                    refused.clear();
                    tracing::info!("infer: the folder of models has changed; serving what is there now");
                    bus.announce(served);
                }
                Ok(Err(error)) if error.to_string() == refused => {}
                Ok(Err(error)) => {
                    refused = error.to_string();
                    tracing::error!(%error, "infer: the folder of models cannot be used as it is now; serving what was there");
                }
                Err(error) => tracing::error!(%error, "infer: looking at the folder of models failed"),
            }
        }
    }

    async fn detect(self: &Arc<Self>, task: Task, hand: Hand) -> Result<Detection, Failed> {
        let shared = self.clone();
        let worked = hand.run(move || {
            let mut pipeline = Lent::take(&shared);
            let found = pipeline.detect(task.job(&shared.pictures));
            if shared.batches.is_none() {
                metrics::batch(1);
            }
            found
        });
        Ok(worked.await.map_err(Failed::Panicked)??)
    }
}

async fn infer(bus: Bus, shared: Arc<Shared>, stop: CancellationToken, (delivery, hand): (Delivery, Hand)) {
    let Frame { header, image, .. } = &delivery.frame;
    let begun = Instant::now();
    let (mut header, image) = (header.clone(), image.clone());
    let task = Task::new(&mut header, image, bus.carries_attachments());
    let mut asides = Vec::new();
    let result = match shared.detect(task, hand).await {
        Ok(mut found) => {
            header.prior = found.tracks.take().map(Arc::new);
            let picture = found.picture.take();
            metrics::timings(&header.model, &found.timings_ms);
            let queue = delivery.waited.as_secs_f32() * 1000.0;
            let event = SharedEvent::from(found.into_event(&header, &shared.device(&header.model), queue));
            bus.publish_event(&event, &header.caller.tenant, header.route.session(), header.trace).await;
            if !header.watched.is_empty() {
                let left = header.budget().saturating_sub(delivery.waited + begun.elapsed());
                asides = copies(&header, left.min(WATCHED_FOR), &event, &delivery.frame.image);
            }
            pass_on(&bus, &delivery, header, (event, picture), begun.elapsed()).await
        }
        Err(Failed::Error(Error::Fault(fault))) if matches!(*fault, Fault::Device(_) | Fault::Lost) => {
            // Otherwise it would come straight back to us.
            stop.cancelled().await;
            return give_back(delivery, matches!(*fault, Fault::Device(_))).await;
        }
        Err(Failed::Error(Error::Pixels(error))) => {
            tracing::debug!(%error, "the image cannot be worked on");
            Some(header.dropped(DropReason::Undecodable, error.to_string()))
        }
        Err(error) => {
            tracing::error!(%error, model = %header.model, "inference failed");
            Some(header.dropped(DropReason::InferFailed, "the model could not be run on this image"))
        }
    };
    match result {
        Some(result) => delivery.finish(&bus, result).await,
        None => delivery.ack().await,
    }
    // The session has its result, or will: it waits for nobody who watches.
    for aside in asides {
        let lost = aside.header.clone();
        if let Err(error) = bus.publish(Stage::Annotate, aside).await {
            tracing::debug!(%error, "a picture for those who watch cannot be drawn");
            bus.reply(lost.dropped(error.reason(), error.to_string())).await.ok();
        }
    }
}

/// The frame once more for each way in which those who watch want it drawn.
fn copies(header: &FrameHeader, within: Duration, event: &SharedEvent, image: &Payload) -> Vec<Frame> {
    let copy = |header| Frame { header, event: Some(event.clone()), image: image.clone() };
    header.asides(within).into_iter().map(copy).collect()
}

/// Leaves the frame to another worker. A still that a device failed on counts an attempt, for it might be why; a
/// live frame soon is too old.
async fn give_back(delivery: Delivery, was_tried: bool) {
    if was_tried && delivery.frame.header.route.kind() == Kind::Still {
        drop(delivery);
    } else {
        delivery.hand_back().await;
    }
}

/// A pipeline in use. It goes back also if the work panics: the next frame overwrites its buffers from the start.
struct Lent<'a> {
    pipeline: Option<Pipeline>,
    home: &'a Shared,
}

impl<'a> Lent<'a> {
    fn take(home: &'a Shared) -> Self {
        let pipeline = home.idle.take();
        debug_assert!(pipeline.is_some(), "there is one for each slot");
        Self { pipeline, home }
    }

    fn detect(&mut self, job: Job<'_>) -> Result<Detection, Error> {
        self.pipeline.as_mut().expect("there is one for each slot").detect(job)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(pipeline) = self.pipeline.take() {
            self.home.idle.put(pipeline);
        }
    }
}

/// Gives the frame to the annotate stage if a picture is wanted, with the decoded one if there is room for
/// it; otherwise it is done.
async fn pass_on(
    bus: &Bus,
    delivery: &Delivery,
    header: FrameHeader,
    (event, picture): (SharedEvent, Option<Pooled>),
    took: Duration,
) -> Option<FrameResult> {
    if !header.want.overlay() {
        return Some(header.done(event, None));
    }
    let left = header.budget().saturating_sub(delivery.waited + took);
    let next = Frame {
        header: FrameHeader {
            deadline_ms: left.as_millis().try_into().unwrap_or(u32::MAX),
            ..header.clone()
        },
        event: Some(event),
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

/// How much of the picture to decode. Whoever draws on it decodes it again where it is not handed on.
fn detail(want: Want, handed_on: bool) -> Detail {
    if want.overlay() && handed_on { Detail::Full } else { Detail::Model }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_decoded_whole_only_if_it_is_drawn_on_in_this_process() {
        for (want, handed_on, expected) in [
            (Want::Pose, true, Detail::Model),
            (Want::Overlay, true, Detail::Full),
            (Want::Both, true, Detail::Full),
            (Want::Both, false, Detail::Model),
        ] {
            assert_eq!(detail(want, handed_on), expected, "{want:?}, handed on: {handed_on}");
        }
    }
}
