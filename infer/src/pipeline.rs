//! One frame's whole way through the infer stage: encoded image → pixels → stages of models → output.
//!
//! Each stage looks at regions of the picture: the first at the whole of it, or where somebody was, each next one at
//! the persons that the one before it found. The regions of a stage are one batch. In a stream the last stage also
//! looks where the tracks are, and the others wait until there is reason to look everywhere.

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use cloudpose_pixels::{PlanarImage, Pool, Pooled, Scale};
use cloudpose_wire::{Event, FrameHeader, ModelId, Output, Prior, StreamName, event::TimingsMs};

use crate::{
    Error, StoreConfig,
    contract::Engine,
    cpu::CpuEngine,
    gpu::{Answer, Batches},
    models::{Model, Models, catalogue::Catalogue},
    preprocess::{ModelInput, Source, Square},
    reader::{Readers, Taken},
    stages::Stages,
    task::{self, Seen, View},
};

/// Finds what is in pictures, one at a time.
#[derive(Debug)]
pub struct Pipeline {
    pub(crate) models: Arc<Models>,
    pub(crate) readers: Readers,
    runner: Runner,
    /// Inputs whose memory is used again.
    spare: Vec<ModelInput>,
    /// The last picture at which it looked more than once.
    picture: PlanarImage,
    /// Persons of a stream's frame at whom a stage looks closer.
    pub(crate) most_refined: usize,
}

/// What runs the stages.
enum Runner {
    /// An engine of this pipeline.
    Own(Box<dyn Engine>),
    /// Engines that many pipelines share.
    Shared(Arc<Batches>),
}

impl std::fmt::Debug for Runner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own(engine) => f.debug_tuple("Own").field(&engine.place()).finish(),
            Self::Shared(batches) => f.debug_tuple("Shared").field(batches).finish(),
        }
    }
}

/// An image to look at.
#[derive(Debug, Clone, Copy)]
pub enum Image<'a> {
    /// JPEG, PNG or WebP.
    Encoded(&'a [u8]),
    /// Decoded already, upright.
    Planes(&'a PlanarImage),
}

/// What to do with an image.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The image.
    pub image: Image<'a>,
    /// How much of it to decode.
    pub detail: Detail,
    /// The model to run.
    pub model: &'a ModelId,
    /// Persons below this score are not reported, 0 to 1.
    pub min_score: f32,
    /// Classes that are reported, those with the highest scores.
    pub top: u16,
    /// What came before it, if it is a frame of a stream.
    pub past: Option<Past<'a>>,
    /// Those who share a device take turns by it.
    pub stream: Option<&'a StreamName>,
    /// Where the decoded picture goes, if there is room.
    pub pictures: Option<&'a Pool>,
}

/// How much of an image is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What the model needs: a reduction, where the picture is large enough and the model takes one.
    Model,
    /// Every pixel, because somebody will draw on the picture.
    Full,
}

/// What came before a frame of a stream.
#[derive(Debug, Clone, Copy)]
pub struct Past<'a> {
    /// The stream's tracks.
    pub prior: &'a Prior,
    /// When this frame was received, in milliseconds on the clock of `prior`.
    pub at: u64,
    /// Whether to smooth the keypoints over time.
    pub smooth: bool,
}

/// What was found in one image.
#[derive(Debug)]
pub struct Detection {
    /// The model that ran.
    pub model: ModelId,
    /// Width of the image, upright, in pixels.
    pub width: u32,
    /// Height of the image, upright, in pixels.
    pub height: u32,
    /// In pixels of the image.
    pub output: Output,
    /// The stream's tracks with this frame, if it is of a stream.
    pub tracks: Option<Prior>,
    /// Where the time went; `queue` is zero.
    pub timings_ms: TimingsMs,
    /// The decoded picture, if it was wanted and there was room.
    pub picture: Option<Pooled>,
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
        Ok(Self::new(models, Readers::new(1)?, Runner::Own(engine)))
    }

    /// A pipeline whose pictures go to batches with those of others, and that decodes when a reader is free.
    pub(crate) fn shared(models: Arc<Models>, readers: Readers, batches: Arc<Batches>) -> Self {
        Self::new(models, readers, Runner::Shared(batches))
    }

    fn new(models: Arc<Models>, readers: Readers, runner: Runner) -> Self {
        let (spare, picture) = (Vec::new(), PlanarImage::default());
        Self { models, readers, runner, spare, picture, most_refined: usize::MAX }
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
        let Runner::Own(engine) = &mut self.runner else { return Ok(()) };
        for stage in &*self.models.served(model)?.stages {
            let stage = &stage.model;
            let mut input = ModelInput::default();
            let mut reader = self.readers.take();
            reader.image.resize(1280, 720, cloudpose_pixels::Subsampling::S420);
            let source = Source { width: 1280, height: 720, scale: Scale::FULL };
            reader.fill(None, &mut input, self.models.get(stage)?.fit(), source, None);
            engine.run(stage, &[input])?;
        }
        Ok(())
    }

    /// Finds what is in an image, and who of its persons is whom of a stream's past.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the image cannot be decoded, [`Error::Model`] if there is no such model,
    /// [`Error::Fault`] if it cannot be run.
    pub fn detect(&mut self, job: Job<'_>) -> Result<Detection, Error> {
        loop {
            let models = self.models.now();
            match self.detect_by(&models, job) {
                Ok(found) => return Ok(found),
                // A file that is not as it was may be another model's by now.
                Err(Halt::Error(error)) if self.models.are_still(&models) => return Err(error),
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
        let mut reader = self.readers.take();
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
                let input = self.input(&mut reader, job.planes(), &**only, source, region);
                let picture = job.keep(&mut reader.image);
                drop(reader);
                timings_ms.preprocess = clock.lap_ms();
                let views = self.run(catalogue, &served.stages[0].model, job.stream, vec![input])?;
                timings_ms.inference = clock.lap_ms();
                (Seen { views, ..Seen::default() }, picture)
            }
            _ => {
                // Others decode while this one looks more than once.
                let mut picture = std::mem::take(&mut self.picture);
                std::mem::swap(&mut picture, &mut reader.image);
                drop(reader);
                let planes = job.planes().unwrap_or(&picture);
                let (pipeline, served, models) = (&mut *self, &served, &models);
                let stages = Stages { pipeline, job: &job, catalogue, served, models, planes, source };
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

    /// The input of a model: of `planes`, or of the picture that the reader read last, or of a part of it.
    pub(crate) fn input(
        &mut self,
        reader: &mut Taken,
        planes: Option<&PlanarImage>,
        model: &dyn Model,
        source: Source,
        region: Option<Square>,
    ) -> ModelInput {
        let mut input = self.spare.pop().unwrap_or_default();
        reader.fill(planes, &mut input, model.fit(), source, region);
        input
    }

    /// Runs a stage on its inputs.
    pub(crate) fn run(
        &mut self,
        catalogue: &Arc<Catalogue>,
        model: &ModelId,
        stream: Option<&StreamName>,
        inputs: Vec<ModelInput>,
    ) -> Result<Vec<View>, Halt> {
        let answers: Vec<Answer> = match &mut self.runner {
            Runner::Own(engine) => {
                let found = engine.run(model, &inputs).map_err(Arc::new)?;
                found.into_iter().zip(inputs).map(|(found, input)| Answer { found, input }).collect()
            }
            Runner::Shared(batches) => batches.run(model, stream, inputs)?,
        };
        // Engines run models as they are. If these have changed meanwhile, nobody knows what has run.
        if !self.models.are_still(catalogue) {
            return Err(Halt::Renewed);
        }
        let view = |Answer { found, input }| {
            let view = View { found, size: input.size(), image_from_model: input.image_from_model };
            self.spare.push(input);
            view
        };
        Ok(answers.into_iter().map(view).collect())
    }
}

/// Why a job was not done.
pub(crate) enum Halt {
    /// The models have changed since it began: it is to be done again.
    Renewed,
    /// It cannot be done.
    Error(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Job<'_> {
    /// For which fit alone the image may be decoded, if for one.
    fn reduced_for(&self, models: &[Arc<dyn Model>]) -> Option<crate::preprocess::Fit> {
        match (self.detail, models) {
            // Later stages look closer.
            (Detail::Model, [only]) if only.takes_reduced() => Some(only.fit()),
            _ => None,
        }
    }

    /// Where the first stage looks.
    pub(crate) fn region(&self, model: &dyn Model, source: Source) -> Option<Square> {
        self.past.and_then(|past| model.region(past.prior, [source.width, source.height]))
    }

    /// The decoded picture, if it came so.
    fn planes(&self) -> Option<&PlanarImage> {
        match self.image {
            Image::Encoded(_) => None,
            Image::Planes(planes) => Some(planes),
        }
    }

    /// Takes the picture that was decoded, if it is wanted. Planes go on with the frame.
    fn keep(&self, decoded: &mut PlanarImage) -> Option<Pooled> {
        let pool = self.pictures.filter(|_| self.planes().is_none())?;
        let mut picture = pool.take()?;
        std::mem::swap(&mut *picture, decoded);
        Some(picture)
    }
}

impl Detection {
    /// The event of the frame in which this was found. `device`: what found it. `queue_ms`: how long the frame had
    /// waited.
    pub fn into_event(self, header: &FrameHeader, device: &Arc<str>, queue_ms: f32) -> Event {
        Event {
            stream: header.stream.clone(),
            seq: header.seq,
            captured_at: header.received_at,
            width: self.width,
            height: self.height,
            model: self.model,
            device: device.clone(),
            output: self.output,
            timings_ms: TimingsMs { queue: queue_ms, ..self.timings_ms },
        }
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

/// Laps of a stopwatch.
pub(crate) struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the last lap.
    pub(crate) fn lap_ms(&mut self) -> f32 {
        let now = Instant::now();
        let lap = now - std::mem::replace(&mut self.0, now);
        lap.as_secs_f32() * 1000.0
    }
}
