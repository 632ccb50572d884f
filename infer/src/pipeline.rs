//! One frame's whole way through the infer stage: encoded image → pixels → model input → heads → persons.

use std::{
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::Instant,
};

use cloudpose_pixels::{Limits, PlanarImage, Scale, Subsampling};
use cloudpose_wire::{FrameHeader, ModelName, Person, PoseEvent, Prior, Want, pose::TimingsMs};

use crate::{
    Error, StoreConfig,
    cpu::{Engine, Engines},
    crop,
    model::arch::{Architecture, InputSize},
    postprocess::{
        Decoder, ModelPose,
        persons::{self, Thresholds},
    },
    preprocess::{Fit, ModelInput, Preprocessor, Source},
};

/// The longer side of a picture as MultiPose sees it, in pixels: what its authors recommend.
const MULTIPOSE_SIDE: usize = 256;

/// How many samples a reduced picture has at least for each pixel that MultiPose sees, along each axis. With
/// one, keypoints come to lie up to 3.8 model pixels from where all pixels put them; with two, less than half
/// as far (`tests/reduced.rs`).
const SAMPLES_PER_MODEL_PIXEL: usize = 2;

/// What runs where.
pub(crate) const DEVICE: &str = "cpu";

/// What all pipelines of a process share: the models, each loaded when it is first asked for.
#[derive(Debug)]
pub struct Models {
    engines: Arc<Engines>,
    decoders: [OnceLock<Decoder>; ModelName::ALL.len()],
}

impl Models {
    /// The models of a store.
    ///
    /// # Errors
    /// [`Error`] if the store cannot be opened, or `CLOUDPOSE_ISA` names an instruction set that this
    /// processor lacks.
    pub fn open(config: &StoreConfig) -> Result<Self, Error> {
        Ok(Self { engines: Arc::new(Engines::new(config.open()?)?), decoders: Default::default() })
    }

    /// The instruction set in use.
    pub fn isa(&self) -> cloudpose_kernels::Isa {
        self.engines.isa()
    }

    fn decoder(&self, model: ModelName) -> Result<&Decoder, Error> {
        let slot = &self.decoders[model as usize];
        if let Some(decoder) = slot.get() {
            return Ok(decoder);
        }
        let decoder = Decoder::new(&self.engines.weights(model)?);
        Ok(slot.get_or_init(|| decoder))
    }
}

/// One thread's pipeline, with buffers of its own that it uses again.
#[derive(Debug)]
pub struct Pipeline {
    models: Arc<Models>,
    engine: Engine,
    image_decoder: cloudpose_pixels::Decoder,
    image: PlanarImage,
    preprocessors: [Preprocessor; ModelName::ALL.len()],
    input: ModelInput,
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
        let mut preprocessors = [None, None, None];
        for model in ModelName::ALL {
            preprocessors[model as usize] = Some(Preprocessor::new(fit(model)));
        }
        Ok(Self {
            engine: Engine::with_threads(models.engines.clone(), threads)?,
            models,
            image_decoder: cloudpose_pixels::Decoder::new(Limits::default())?,
            image: PlanarImage::default(),
            preprocessors: preprocessors.map(|p| p.expect("every model has one")),
            input: ModelInput::default(),
        })
    }

    /// Loads `model` and runs it on a black picture, so that the first frame does not wait for it.
    ///
    /// # Errors
    /// [`Error::Engine`] if the model cannot be loaded.
    pub fn warm_up(&mut self, model: ModelName) -> Result<(), Error> {
        self.image.resize(1280, 720, Subsampling::S420);
        self.preprocessors[model as usize].run(&self.image, None, &mut self.input);
        self.infer(model, &mut Clock::start())?;
        Ok(())
    }

    /// Finds the persons in an image, and who of them is whom of a stream's past.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the image cannot be decoded, [`Error::Engine`] if the model cannot be loaded.
    pub fn detect(&mut self, job: Job<'_>) -> Result<Poses, Error> {
        let Job { image, detail, model, min_score, past } = job;
        let mut clock = Clock::start();
        let source @ Source { width, height, .. } = self.decode(image, detail, model)?;
        let decode = clock.lap_ms();
        let crop = match (past, fit(model)) {
            (Some(past), Fit::Letterbox { .. }) => crop::square(past.prior, width, height),
            _ => None,
        };
        self.preprocessors[model as usize].run_reduced(&self.image, source, crop, &mut self.input);
        let preprocess = clock.lap_ms();
        let (poses, inference) = self.infer(model, &mut clock)?;
        let ModelInput { width, height, image_from_model, .. } = &self.input;
        let (width, height) = (*width as f32, *height as f32);
        let thresholds = Thresholds { person: min_score, ..Thresholds::default() };
        let mut persons =
            persons::in_image(&poses, thresholds, |[x, y]| image_from_model.apply([x * width, y * height]));
        let (width, height) = (source.width as u32, source.height as u32);
        let tracks = past.map(|Past { prior, at, smooth }| {
            let frame = cloudpose_tracks::Frame { at, width, height };
            cloudpose_tracks::follow(prior, frame, &mut persons, smooth)
        });
        let postprocess = clock.lap_ms();
        Ok(Poses {
            model,
            width,
            height,
            persons,
            tracks,
            timings_ms: TimingsMs { queue: 0.0, decode, preprocess, inference, postprocess },
        })
    }

    /// The picture of the last [`detect`](Self::detect) that succeeded, all of it if that was with
    /// [`Detail::Full`]. Whoever goes on with it may draw on it, or put another image in its place.
    pub fn picture(&mut self) -> &mut PlanarImage {
        &mut self.image
    }

    fn decode(&mut self, image: &[u8], detail: Detail, model: ModelName) -> Result<Source, Error> {
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

    /// The poses in the model input, and how long the network took, in milliseconds.
    fn infer(&mut self, model: ModelName, clock: &mut Clock) -> Result<(Vec<ModelPose>, f32), Error> {
        let ModelInput { pixels, width, height, .. } = &self.input;
        let decoder = self.models.decoder(model)?;
        let mut heads = self.engine.run(model, *height, *width, pixels)?;
        let inference = clock.lap_ms();
        Ok((decoder.decode(&mut heads), inference))
    }
}

impl Poses {
    /// The pose event of the frame that these are the poses of. `queue_ms`: how long it had waited.
    pub fn into_event(self, header: &FrameHeader, queue_ms: f32) -> PoseEvent {
        PoseEvent {
            stream: header.stream.clone(),
            seq: header.seq,
            captured_at: header.received_at,
            width: self.width,
            height: self.height,
            model: self.model,
            device: DEVICE.to_owned(),
            persons: self.persons,
            timings_ms: TimingsMs { queue: queue_ms, ..self.timings_ms },
        }
    }
}

fn fit(model: ModelName) -> Fit {
    match Architecture::of(model).input {
        InputSize::Square(side) => Fit::Letterbox { side },
        InputSize::Multiple { .. } => Fit::Aspect { longer_side: MULTIPOSE_SIDE },
    }
}

struct Clock(Instant);

impl Clock {
    fn start() -> Self {
        Self(Instant::now())
    }

    /// Milliseconds since the last lap.
    fn lap_ms(&mut self) -> f32 {
        let now = Instant::now();
        let lap = now - std::mem::replace(&mut self.0, now);
        lap.as_secs_f32() * 1000.0
    }
}
