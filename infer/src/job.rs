//! What is asked of one image, and what is answered.

use std::sync::Arc;

use cloudpose_pixels::{PlanarImage, Pool, Pooled};
use cloudpose_wire::{Event, FrameHeader, ModelId, Output, Prior, StreamName, event::TimingsMs};

use crate::{
    models::Model,
    preprocess::{Fit, Source, Square},
};

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

impl Job<'_> {
    /// For which fit alone the image may be decoded, if for one.
    pub(crate) fn reduced_for(&self, models: &[Arc<dyn Model>]) -> Option<Fit> {
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
    pub(crate) fn planes(&self) -> Option<&PlanarImage> {
        match self.image {
            Image::Encoded(_) => None,
            Image::Planes(planes) => Some(planes),
        }
    }

    /// Takes the picture that was decoded, if it is wanted. Planes go on with the frame.
    pub(crate) fn keep(&self, decoded: &mut PlanarImage) -> Option<Pooled> {
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
