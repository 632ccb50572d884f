//! One frame's whole way through the infer stage: encoded image → pixels → stages of models → output.
//!
//! Each stage looks at regions of the picture: the first at the whole of it, or where somebody was, each next one at
//! the persons that the one before it found. The regions of a stage are one batch. In a stream the last stage also
//! looks where the tracks are, and the others wait until there is reason to look everywhere.

use std::{num::NonZeroUsize, sync::Arc};

use cloudpose_pixels::{PlanarImage, Scale};
use cloudpose_wire::{ModelId, event::TimingsMs};

use crate::{
    Error, StoreConfig,
    contract::Engine,
    cpu::CpuEngine,
    gpu::Batches,
    job::{Detection, Image, Job},
    models::{Models, catalogue::Catalogue},
    preprocess::Source,
    reader::Readers,
    runner::{Clock, Halt, Runner},
    stages::Stages,
    task::{self, Seen},
};

/// Finds what is in pictures, one at a time.
#[derive(Debug)]
pub struct Pipeline {
    runner: Runner,
    /// The last picture at which it looked more than once.
    picture: PlanarImage,
    /// Persons of a stream's frame at whom a stage looks closer.
    most_refined: usize,
}

impl Pipeline {
    /// A pipeline on the processor, with an engine of its own, whose inferences are shared by `threads`.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the JPEG library does not start, [`Error::Cpu`] if the engine does not.
    pub fn on_cpu(models: Arc<Models>, threads: NonZeroUsize) -> Result<Self, Error> {
        let engine = CpuEngine::new(models.clone(), threads)?;
        Self::with_engine(models, Box::new(engine))
    }

    /// A pipeline with an engine of its own.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the JPEG library does not start.
    pub fn with_engine(models: Arc<Models>, engine: Box<dyn Engine>) -> Result<Self, Error> {
        Ok(Self::new(Runner::own(models, Readers::new(1)?, engine)))
    }

    /// A pipeline whose pictures go to batches with those of others, and that decodes when a reader is free.
    pub(crate) fn shared(models: Arc<Models>, readers: Readers, batches: Arc<Batches>) -> Self {
        Self::new(Runner::shared(models, readers, batches))
    }

    fn new(runner: Runner) -> Self {
        Self { runner, picture: PlanarImage::default(), most_refined: usize::MAX }
    }

    /// Has models that look closer at each person do so at no more than `most` in a frame of a stream.
    #[must_use]
    pub fn refining(self, most: usize) -> Self {
        Self { most_refined: most, ..self }
    }

    /// Loads `model` and runs it on a black picture, so that the first frame does not wait for it. Engines that are
    /// shared are warm already.
    ///
    /// # Errors
    /// [`Error::Fault`] if the model cannot be loaded or run.
    pub fn warm_up(&mut self, model: &ModelId) -> Result<(), Error> {
        self.runner.warm_up(model)
    }

    /// Finds what is in an image, and who of its persons is whom of a stream's past.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the image cannot be decoded, [`Error::Model`] if there is no such model,
    /// [`Error::Fault`] if it cannot be run.
    pub fn detect(&mut self, job: Job<'_>) -> Result<Detection, Error> {
        loop {
            let models = self.runner.models.now();
            match self.detect_by(&models, job) {
                Ok(found) => return Ok(found),
                // A file that is not as it was may be another model's by now.
                Err(Halt::Error(error)) if self.runner.models.are_still(&models) => return Err(error),
                Err(Halt::Error(_) | Halt::Renewed) => {}
            }
        }
    }

    /// Does a job by the models as they were when it began.
    fn detect_by(&mut self, catalogue: &Arc<Catalogue>, job: Job<'_>) -> Result<Detection, Halt> {
        let served = catalogue.served(job.model)?.clone();
        let mut clock = Clock::start();
        let mut timings_ms = TimingsMs::default();
        let models = served.stages.iter().map(|stage| catalogue.get(&stage.model));
        let models = models.collect::<Result<Vec<_>, _>>()?;
        let mut reader = self.runner.readers.take();
        let source = match job.image {
            Image::Encoded(image) => reader.read(image, job.reduced_for(&models))?,
            Image::Planes(planes) => {
                Source { width: planes.width(), height: planes.height(), scale: Scale::FULL }
            }
        };
        timings_ms.decode = clock.lap_ms();

        let (seen, picture) = match &*models {
            [only] => {
                let region = job.region(&**only, source);
                let input = self.runner.input(&mut reader, job.planes(), &**only, source, region);
                let picture = job.keep(&mut reader.image);
                drop(reader);
                timings_ms.preprocess = clock.lap_ms();
                let views = self.runner.run(catalogue, &served.stages[0].model, job.stream, vec![input])?;
                timings_ms.inference = clock.lap_ms();
                (Seen { views, ..Seen::default() }, picture)
            }
            _ => {
                // Others decode while this one looks more than once.
                let mut picture = std::mem::take(&mut self.picture);
                std::mem::swap(&mut picture, &mut reader.image);
                drop(reader);
                let planes = job.planes().unwrap_or(&picture);
                let (runner, most_refined) = (&mut self.runner, self.most_refined);
                let (job, served, models) = (&job, &served, &models);
                let stages = Stages { runner, most_refined, job, catalogue, served, models, planes, source };
                let seen = stages.look(&mut clock, &mut timings_ms)?;
                let kept = job.keep(&mut picture);
                self.picture = picture;
                (seen, kept)
            }
        };
        let (output, tracks) = task::conclude(&served, seen, &job, source);
        timings_ms.postprocess = clock.lap_ms();
        Ok(Detection {
            model: job.model.clone(),
            width: source.width as u32,
            height: source.height as u32,
            output,
            tracks,
            timings_ms,
            picture,
        })
    }
}

impl Models {
    /// The models of a store, run by the families of this crate.
    ///
    /// # Errors
    /// [`Error::Model`] if the store cannot be opened.
    pub fn open(config: &StoreConfig) -> Result<Self, Error> {
        Ok(Self::new(config.open()?, crate::models::FAMILIES)?)
    }
}
