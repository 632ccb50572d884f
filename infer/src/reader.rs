//! What comes before a model: decoding, and model inputs from the planes.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use cloudpose_pixels::{Limits, PlanarImage, Scale};

use crate::Error;
use crate::preprocess::{Fit, ModelInput, Preprocessor, Source, Square};

/// How many samples a reduced picture has at least for each pixel that the model sees, along each axis. With
/// one, keypoints come to lie up to 3.8 model pixels from where all pixels put them; with two, less than half
/// as far (`tests/reduced.rs`).
const SAMPLES_PER_MODEL_PIXEL: usize = 2;

/// Decodes one picture at a time, in buffers that are used again.
#[derive(Debug)]
pub(crate) struct Reader {
    decoder: cloudpose_pixels::Decoder,
    /// The last picture that was read.
    pub(crate) image: PlanarImage,
    /// One for each way to fit.
    preprocessors: Vec<(Fit, Preprocessor)>,
}

impl Reader {
    fn new() -> Result<Self, Error> {
        let decoder = cloudpose_pixels::Decoder::new(Limits::default())?;
        Ok(Self { decoder, image: PlanarImage::default(), preprocessors: Vec::new() })
    }

    /// Decodes `image`: for `reduced_for` only what that reads of it, otherwise all.
    pub(crate) fn read(&mut self, image: &[u8], reduced_for: Option<Fit>) -> Result<Source, Error> {
        let (header, scale) = match reduced_for {
            Some(fit) => {
                let wanted = |width, height| {
                    let (width, height) = fit.resized(width, height);
                    (SAMPLES_PER_MODEL_PIXEL * width, SAMPLES_PER_MODEL_PIXEL * height)
                };
                self.decoder.decode_reduced(image, wanted, &mut self.image)?
            }
            None => (self.decoder.decode(image, &mut self.image)?, Scale::FULL),
        };
        Ok(Source { width: header.width as usize, height: header.height as usize, scale })
    }

    /// Makes a model input, in the memory of `input`, of `planes` or of the last picture that was read, or of a part of
    /// it.
    pub(crate) fn fill(
        &mut self,
        planes: Option<&PlanarImage>,
        input: &mut ModelInput,
        fit: Fit,
        source: Source,
        region: Option<Square>,
    ) {
        let known = self.preprocessors.iter().position(|(of, _)| *of == fit);
        let index = known.unwrap_or_else(|| {
            self.preprocessors.push((fit, Preprocessor::new(fit)));
            self.preprocessors.len() - 1
        });
        let (_, preprocessor) = &mut self.preprocessors[index];
        preprocessor.run_reduced(planes.unwrap_or(&self.image), source, region, input);
    }
}

/// As many readers as pictures may be decoded at once. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Readers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    idle: Mutex<Vec<Reader>>,
    returned: Condvar,
}

impl Readers {
    pub(crate) fn new(count: usize) -> Result<Self, Error> {
        let idle = (0..count).map(|_| Reader::new()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(Arc::new(Shared { idle: Mutex::new(idle), returned: Condvar::new() })))
    }

    /// Waits for one, on the spot.
    pub(crate) fn take(&self) -> Taken {
        let mut idle = self.0.idle();
        loop {
            match idle.pop() {
                Some(reader) => return Taken { reader: Some(reader), home: self.clone() },
                None => idle = self.0.returned.wait(idle).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Reader>> {
        // The list is only pushed to and popped from: it is whole whatever happened.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reader until it is dropped, also by a panic: its buffers are overwritten from the start.
#[derive(Debug)]
pub(crate) struct Taken {
    reader: Option<Reader>,
    home: Readers,
}

impl std::ops::Deref for Taken {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        self.reader.as_ref().expect("it is there until it is dropped")
    }
}

impl std::ops::DerefMut for Taken {
    fn deref_mut(&mut self) -> &mut Reader {
        self.reader.as_mut().expect("it is there until it is dropped")
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.home.0.idle().extend(self.reader.take());
        self.home.0.returned.notify_one();
    }
}
