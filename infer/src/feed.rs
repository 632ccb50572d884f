//! The way to a GPU's batches and back: image → pixels → what is uploaded; poses → persons.
//!
//! Decoding is the processor's part. As many pictures are decoded at once as there are cores for it, and handed
//! to the engines' threads, which are never waited for by a core.

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use cloudpose_pixels::{Idle, PlanarImage, Pool, Pooled, Subsampling};
use cloudpose_wire::{ModelName, StreamName, pose::TimingsMs};
use tokio::sync::Semaphore;

use crate::{
    Error, GpuConfig,
    gpu::{Answer, Batches, DeviceError, Engine, Failure, Picture, Place, RunBatch},
    model::ModelStore,
    pipeline::{Clock, Detail, Poses, Reader, fit},
    preprocess::Source,
    worker::{Failed, Found, Task},
};

/// Engines on one GPU: one uploads while the other computes.
const ENGINES: usize = 2;

/// Opens the engines of GPU `number`, and runs `model` and the others of the store once in the largest batch there
/// can be, so that the GPU has all the memory that it will need, or says so now.
pub(crate) fn open(
    number: usize,
    config: &GpuConfig,
    store: &ModelStore,
    model: ModelName,
) -> Result<Vec<Box<dyn RunBatch>>, Error> {
    let mut engines: Vec<Box<dyn RunBatch>> = Vec::with_capacity(ENGINES);
    for _ in 0..ENGINES {
        let mut engine: Box<dyn RunBatch> =
            Box::new(Engine::open(Place::Cuda(number), config.precision, store.clone())?);
        let others = store.list().iter().map(|entry| entry.name).filter(|other| *other != model);
        for model in std::iter::once(model).chain(others) {
            warm_up(&mut *engine, model, config.max_batch.into())?;
        }
        engines.push(engine);
    }
    Ok(engines)
}

/// Runs `model` on grey pictures, `size` of them. They are square: no shape has more pixels in a model's input.
pub(crate) fn warm_up(engine: &mut dyn RunBatch, model: ModelName, size: usize) -> Result<(), Error> {
    let grey = PlanarImage::new(32, 32, Subsampling::S420);
    let pictures: Vec<_> = (0..size).map(|_| Picture::whole(&grey, fit(model))).collect();
    engine.run(model, &pictures)?;
    Ok(())
}

/// Decodes pictures, has them worked on, and says who is in them.
#[derive(Debug)]
pub(crate) struct Feed {
    batches: Batches,
    place: String,
    /// A permit for each picture that is decoded at once.
    cores: Semaphore,
    idle: Idle<Reader>,
    /// Pictures whose memory may be used again: as many as can be under way.
    spare: Idle<Picture>,
}

/// A picture that is ready for its batch.
struct Packed {
    picture: Picture,
    source: Source,
    /// The decoded picture, if somebody wants to draw on it.
    pixels: Option<Pooled>,
    decode: f32,
    preprocess: f32,
}

impl Feed {
    /// `slots`: pictures under way at most; `cores`: of which so many are decoded at once.
    pub(crate) fn start(
        engines: Vec<Box<dyn RunBatch>>,
        config: &GpuConfig,
        cores: NonZeroUsize,
        slots: usize,
    ) -> Result<Self, Error> {
        let place = engines.first().map_or_else(|| Place::Host.to_string(), |e| e.place().to_string());
        Ok(Self {
            batches: Batches::start(engines, config.limits()).map_err(Error::Thread)?,
            place,
            cores: Semaphore::new(cores.get()),
            idle: Idle::new(cores.get()),
            spare: Idle::new(slots),
        })
    }

    /// What pose events call it.
    pub(crate) fn place(&self) -> &str {
        &self.place
    }

    /// Waits until the GPU fails, and says why.
    pub(crate) async fn lost(&self) -> DeviceError {
        self.batches.lost().await
    }

    /// Finds the persons in the task's image.
    pub(crate) async fn detect(
        self: &Arc<Self>,
        stream: StreamName,
        task: Arc<Task>,
        pool: Pool,
    ) -> Result<Found, Failed> {
        let packed = {
            let _core = self.cores.acquire().await.expect("the semaphore is never closed");
            let (feed, task) = (self.clone(), task.clone());
            tokio::task::spawn_blocking(move || feed.pack(&task, &pool)).await.map_err(Failed::Panicked)??
        };
        let Packed { picture, source, pixels, decode, preprocess } = packed;
        let begun = Instant::now();
        let size = [picture.width, picture.height];
        let image_from_model = picture.image_from_model.expect("it was packed");
        let answer = self.batches.submit(task.model, stream, picture).await;
        let Answer { poses, picture } = answer.map_err(|failure| match failure {
            Failure::Refused(why) => Failed::Refused(why),
            Failure::Broken => Failed::Device { was_tried: true },
            Failure::Lost => Failed::Device { was_tried: false },
        })?;
        let inference = begun.elapsed().as_secs_f32() * 1000.0;
        self.spare.put(picture);
        let mut clock = Clock::start();
        let (persons, tracks) = task.job().conclude(&poses, source, (size, image_from_model));
        let postprocess = clock.lap_ms();
        let poses = Poses {
            model: task.model,
            width: source.width as u32,
            height: source.height as u32,
            persons,
            tracks,
            timings_ms: TimingsMs { queue: 0.0, decode, preprocess, inference, postprocess },
        };
        Ok(Found { poses, picture: pixels })
    }

    /// Decodes the task's image and packs what the model reads of it. Takes a core for that long.
    fn pack(&self, task: &Task, pool: &Pool) -> Result<Packed, Failed> {
        let mut reader = match self.idle.take() {
            Some(reader) => reader,
            None => Reader::new()?,
        };
        let mut clock = Clock::start();
        let job = task.job();
        let read = reader.read(&job);
        let decode = clock.lap_ms();
        let packed = read.map(|source| {
            let mut picture = self.spare.take().unwrap_or_default();
            let Reader { image, preprocessors, .. } = &mut reader;
            picture.pack(image, preprocessors[task.model as usize].plan(image, source, job.crop(source)));
            let preprocess = clock.lap_ms();
            let pixels = if task.detail == Detail::Full { pool.take() } else { None };
            let pixels = pixels.map(|mut pixels| {
                std::mem::swap(&mut *pixels, image);
                pixels
            });
            Packed { picture, source, pixels, decode, preprocess }
        });
        self.idle.put(reader);
        Ok(packed?)
    }
}
