//! One frame's whole way through the infer stage: encoded image → pixels → model input → heads → persons.

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use cloudpose_pixels::{Limits, PlanarImage, Scale, Subsampling};
use cloudpose_wire::{FrameHeader, ModelName, Person, PoseEvent, Prior, Want, pose::TimingsMs};

use crate::{
    Error, StoreConfig,
    cpu::{Engine, Engines},
    crop,
    model::arch::{Architecture, InputSize},
    postprocess::{
        ModelPose,
        persons::{self, Thresholds},
    },
    preprocess::{Fit, ModelInput, Preprocessor, Source, Transform},
};

/// The longer side of a picture as MultiPose sees it, in pixels: what its authors recommend.
const MULTIPOSE_SIDE: usize = 256;

/// How many samples a reduced picture has at least for each pixel that MultiPose sees, along each axis. With
/// one, keypoints come to lie up to 3.8 model pixels from where all pixels put them; with two, less than half
/// as far (`tests/reduced.rs`).
const SAMPLES_PER_MODEL_PIXEL: usize = 2;

/// What all pipelines of a process share: the models, each loaded when it is first asked for.
#[derive(Debug)]
pub struct Models {
    engines: Arc<Engines>,
}

impl Models {
    /// The models of a store.
    ///
    /// # Errors
    /// [`Error`] if the store cannot be opened, or `CLOUDPOSE_ISA` names an instruction set that this
    /// processor lacks.
    pub fn open(config: &StoreConfig) -> Result<Self, Error> {
        Ok(Self { engines: Arc::new(Engines::new(config.open()?)?) })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> cloudpose_kernels::Isa {
        self.engines.isa()
    }
}

/// One thread's pipeline, with buffers of its own that it uses again.
#[derive(Debug)]
pub struct Pipeline {
    models: Arc<Models>,
    engine: Engine,
    reader: Reader,
    input: ModelInput,
}

/// What comes before the model, with buffers that are used again.
#[derive(Debug)]
pub(crate) struct Reader {
    image_decoder: cloudpose_pixels::Decoder,
    /// The last picture that was read.
    pub(crate) image: PlanarImage,
    pub(crate) preprocessors: [Preprocessor; ModelName::ALL.len()],
}

/// What to do with an encoded image.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// JPEG, PNG or WebP.
    pub image: &'a [u8],
    /// How much of it to decode.
    pub detail: Detail,
    /// The model to run.
    pub model: ModelName,
    /// Persons below this score are not reported, 0 to 1.
    pub min_score: f32,
    /// What came before it, if it is a frame of a stream.
    pub past: Option<Past<'a>>,
}

/// How much of an image is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// What the model needs: for MultiPose a reduction, where the picture is large enough. The single-pose
    /// models need every pixel too: on a frame with several people the least change makes them take to
    /// another one.
    Model,
    /// Every pixel, because somebody will draw on the picture.
    Full,
}

impl From<Want> for Detail {
    fn from(want: Want) -> Self {
        if want.overlay() { Self::Full } else { Self::Model }
    }
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

/// The persons of one image.
#[derive(Debug, Clone, PartialEq)]
pub struct Poses {
    /// The model that ran.
    pub model: ModelName,
    /// Width of the image, upright, in pixels.
    pub width: u32,
    /// Height of the image, upright, in pixels.
    pub height: u32,
    /// By falling score, in pixels of the image.
    pub persons: Vec<Person>,
    /// The stream's tracks with this frame.
    pub tracks: Option<Prior>,
    /// Where the time went; `queue` is zero.
    pub timings_ms: TimingsMs,
}

impl Pipeline {
    /// A pipeline with empty buffers, whose inferences are shared by `threads`.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the JPEG library does not start, [`Error::Engine`] if threads do not.
    pub fn new(models: Arc<Models>, threads: NonZeroUsize) -> Result<Self, Error> {
        Ok(Self {
            engine: Engine::with_threads(models.engines.clone(), threads)?,
            models,
            reader: Reader::new()?,
            input: ModelInput::default(),
        })
    }

    /// Loads `model` and runs it on a black picture, so that the first frame does not wait for it.
    ///
    /// # Errors
    /// [`Error::Engine`] if the model cannot be loaded.
    pub fn warm_up(&mut self, model: ModelName) -> Result<(), Error> {
        let Reader { image, preprocessors, .. } = &mut self.reader;
        image.resize(1280, 720, Subsampling::S420);
        preprocessors[model as usize].run(image, None, &mut self.input);
        self.infer(model, &mut Clock::start())?;
        Ok(())
    }

    /// Finds the persons in an image, and who of them is whom of a stream's past.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the image cannot be decoded, [`Error::Engine`] if the model cannot be loaded.
    pub fn detect(&mut self, job: Job<'_>) -> Result<Poses, Error> {
        let mut clock = Clock::start();
        let source = self.reader.read(&job)?;
        let decode = clock.lap_ms();
        let crop = job.crop(source);
        let Reader { image, preprocessors, .. } = &mut self.reader;
        preprocessors[job.model as usize].run_reduced(image, source, crop, &mut self.input);
        let preprocess = clock.lap_ms();
        let (poses, inference) = self.infer(job.model, &mut clock)?;
        let ModelInput { width, height, image_from_model, .. } = self.input;
        let (persons, tracks) = job.conclude(&poses, source, ([width, height], image_from_model));
        let postprocess = clock.lap_ms();
        Ok(Poses {
            model: job.model,
            width: source.width as u32,
            height: source.height as u32,
            persons,
            tracks,
            timings_ms: TimingsMs { queue: 0.0, decode, preprocess, inference, postprocess },
        })
    }

    /// The picture of the last [`detect`](Self::detect) that succeeded, all of it if that was with
    /// [`Detail::Full`]. Whoever goes on with it may draw on it, or put another image in its place.
    pub fn picture(&mut self) -> &mut PlanarImage {
        &mut self.reader.image
    }

    /// The poses in the model input, and how long the network took, in milliseconds.
    fn infer(&mut self, model: ModelName, clock: &mut Clock) -> Result<(Vec<ModelPose>, f32), Error> {
        let ModelInput { pixels, width, height, .. } = &self.input;
        let decoder = self.models.engines.decoder(model)?;
        let mut heads = self.engine.run(model, *height, *width, pixels)?;
        let inference = clock.lap_ms();
        Ok((decoder.decode(&mut heads), inference))
    }
}

impl Reader {
    pub(crate) fn new() -> Result<Self, Error> {
        let mut preprocessors = [None, None, None];
        for model in ModelName::ALL {
            preprocessors[model as usize] = Some(Preprocessor::new(fit(model)));
        }
        Ok(Self {
            image_decoder: cloudpose_pixels::Decoder::new(Limits::default())?,
            image: PlanarImage::default(),
            preprocessors: preprocessors.map(|p| p.expect("every model has one")),
        })
    }

    /// Decodes the job's image.
    pub(crate) fn read(&mut self, job: &Job<'_>) -> Result<Source, Error> {
        let Job { image, detail, model, .. } = *job;
        let (header, scale) = match (detail, model) {
            (Detail::Model, ModelName::MultiPose) => {
                let wanted = |width, height| {
                    let (width, height) = fit(model).resized(width, height);
                    (SAMPLES_PER_MODEL_PIXEL * width, SAMPLES_PER_MODEL_PIXEL * height)
                };
                self.image_decoder.decode_reduced(image, wanted, &mut self.image)?
            }
            _ => (self.image_decoder.decode(image, &mut self.image)?, Scale::FULL),
        };
        Ok(Source { width: header.width as usize, height: header.height as usize, scale })
    }
}

impl Job<'_> {
    /// Where to look in the picture; none for everywhere.
    pub(crate) fn crop(&self, source: Source) -> Option<crop::Square> {
        match (self.past, fit(self.model)) {
            (Some(past), Fit::Letterbox { .. }) => crop::square(past.prior, source.width, source.height),
            _ => None,
        }
    }

    /// From poses in a model input, of that width and height, to persons in the picture, and who they are.
    pub(crate) fn conclude(
        &self,
        poses: &[ModelPose],
        source: Source,
        ([width, height], image_from_model): ([usize; 2], Transform),
    ) -> (Vec<Person>, Option<Prior>) {
        let (width, height) = (width as f32, height as f32);
        let thresholds = Thresholds { person: self.min_score, ..Thresholds::default() };
        let mut persons =
            persons::in_image(poses, thresholds, |[x, y]| image_from_model.apply([x * width, y * height]));
        let (width, height) = (source.width as u32, source.height as u32);
        let tracks = self.past.map(|Past { prior, at, smooth }| {
            let frame = cloudpose_tracks::Frame { at, width, height };
            cloudpose_tracks::follow(prior, frame, &mut persons, smooth)
        });
        (persons, tracks)
    }
}

impl Poses {
    /// The pose event of the frame that these are the poses of. `device`: what found them. `queue_ms`: how
    /// long the frame had waited.
    pub fn into_event(self, header: &FrameHeader, device: &str, queue_ms: f32) -> PoseEvent {
        PoseEvent {
            stream: header.stream.clone(),
            seq: header.seq,
            captured_at: header.received_at,
            width: self.width,
            height: self.height,
            model: self.model,
            device: device.to_owned(),
            persons: self.persons,
            timings_ms: TimingsMs { queue: queue_ms, ..self.timings_ms },
        }
    }
}

/// How a picture is fitted into the input of `model`.
pub fn fit(model: ModelName) -> Fit {
    match Architecture::of(model).input {
        InputSize::Square(side) => Fit::Letterbox { side },
        InputSize::Multiple { .. } => Fit::Aspect { longer_side: MULTIPOSE_SIDE },
    }
}

pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the last lap.
    pub(crate) fn lap_ms(&mut self) -> f32 {
        let now = Instant::now();
        let lap = now - std::mem::replace(&mut self.0, now);
        lap.as_secs_f32() * 1000.0
    }
}
