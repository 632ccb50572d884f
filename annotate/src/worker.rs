//! The worker loop: frames with poses in, annotated JPEGs out.

use std::{num::NonZeroUsize, sync::Arc, time::Instant};

use bytes::Bytes;
use cloudpose_bus::{Attachment, Bus, Delivery, Hand, Models};
use cloudpose_pixels::{Decoder, Encoder, Format, Idle, Limits, PlanarImage, Pooled, Subsampling};
use cloudpose_wire::{Draw, DropReason, Frame, FrameResult, Payload, Person, Skeleton, Stage};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, metrics,
    overlay::{self, Style},
    privacy,
};

/// Settings of the annotate role.
#[derive(Debug, Clone, clap::Args)]
#[group(id = "annotate")]
pub struct Config {
    /// Frames drawn at once [default: one per processor core]
    #[arg(
        id = "annotate_threads",
        long = "annotate-threads",
        env = "CLOUDPOSE_ANNOTATE_THREADS",
        value_name = "N"
    )]
    pub threads: Option<NonZeroUsize>,
    /// What to draw.
    #[command(flatten)]
    pub style: Style,
}

/// Draws until `stop`, then finishes what is in hand.
///
/// # Errors
/// [`Error`] if the JPEG library does not start.
pub async fn run(config: Config, bus: Bus, stop: CancellationToken) -> Result<(), Error> {
    let threads = config.threads.or_else(|| std::thread::available_parallelism().ok());
    let threads = threads.map_or(1, NonZeroUsize::get);
    // One more for the seat at the side.
    let most = threads + 1;
    let idle = Arc::new(Idle::new(most));
    for _ in 0..most {
        idle.put(Annotator::new(config.style)?);
    }
    let models = bus.models();
    tracing::info!(threads, "annotate: ready");
    cloudpose_bus::work(&bus, Stage::Annotate, (threads, true), stop, |delivery, hand| {
        annotate(bus.clone(), models.clone(), (config.style, idle.clone()), (delivery, hand))
    })
    .await;
    Ok(())
}

async fn annotate(
    bus: Bus,
    models: Models,
    (style, idle): (Style, Arc<Idle<Annotator>>),
    (mut delivery, hand): (Delivery, Hand),
) {
    let frame = delivery.frame.clone();
    let picture = delivery.attachment.take().and_then(Attachment::take::<Pooled>);
    let skeleton = skeleton_of(&frame, &models).await;
    let drawn = hand.run(move || {
        let mut annotator = idle.take().map_or_else(|| Annotator::new(style), Ok)?;
        let result = annotator.result(frame, skeleton, picture);
        idle.put(annotator);
        Ok::<_, Error>(result)
    });
    let result = match drawn.await {
        Ok(Ok(result)) => result,
        Ok(Err(error)) => {
            tracing::error!(%error, "cannot annotate");
            delivery.frame.header.dropped(DropReason::AnnotateFailed, error.to_string())
        }
        Err(panic) => {
            tracing::error!(error = %panic, "annotating panicked");
            delivery.frame.header.dropped(DropReason::AnnotateFailed, "the picture could not be drawn")
        }
    };
    delivery.finish(&bus, result).await;
}

/// Persons to draw, and the skeleton that says how; none where there are no persons to draw, as with a classifier.
pub type Figures<'a> = Option<(&'a Skeleton, &'a [Person])>;

/// Decodes, draws and encodes, one frame at a time, in buffers of its own that it uses again.
pub struct Annotator {
    decoder: Decoder,
    encoder: Encoder,
    image: PlanarImage,
    style: Style,
}

impl Annotator {
    /// An annotator with empty buffers.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the JPEG library does not start.
    pub fn new(style: Style) -> Result<Self, Error> {
        Ok(Self {
            decoder: Decoder::new(Limits::default())?,
            encoder: Encoder::new()?,
            image: PlanarImage::default(),
            style,
        })
    }

    /// Draws `figures` on the encoded image `image` and encodes it as a JPEG of `quality` 1 to 100.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the image cannot be decoded or encoded.
    pub fn annotate(&mut self, image: &[u8], figures: Figures<'_>, quality: u8) -> Result<Bytes, Error> {
        self.draw_encoded(image, figures, (Draw::Overlay, quality))
    }

    fn draw_encoded(&mut self, image: &[u8], figures: Figures<'_>, how: (Draw, u8)) -> Result<Bytes, Error> {
        self.draw_made(figures, how, |decoder, picture| {
            let begun = Instant::now();
            let decoded = decoder.decode(image, picture);
            metrics::step("decode", begun.elapsed());
            decoded?;
            Ok(())
        })
    }

    /// Draws `figures` on a picture that is decoded already and encodes it as [`annotate`](Self::annotate) does.
    ///
    /// # Errors
    /// [`Error::Pixels`] if the picture cannot be encoded.
    pub fn annotate_decoded(
        &mut self,
        picture: &mut PlanarImage,
        figures: Figures<'_>,
        quality: u8,
    ) -> Result<Bytes, Error> {
        self.draw_decoded(picture, figures, (Draw::Overlay, quality))
    }

    /// Draws, and takes away what must not be seen, as [`Draw`] says.
    fn draw_decoded(
        &mut self,
        picture: &mut PlanarImage,
        figures: Figures<'_>,
        (draw, quality): (Draw, u8),
    ) -> Result<Bytes, Error> {
        let begun = Instant::now();
        if draw == Draw::Redacted {
            let covered = figures.map(|(skeleton, persons)| privacy::cover_heads(picture, skeleton, persons));
            // Where it is not certain that nobody is recognised, nothing is shown.
            if covered != Some(Ok(())) {
                privacy::plain(picture, picture.width(), picture.height());
            }
        }
        if let Some((skeleton, persons)) = figures {
            overlay::draw(picture, skeleton, persons, &self.style);
        }
        let drawn = Instant::now();
        let jpeg = self.encoder.encode(picture, quality)?;
        metrics::step("draw", drawn - begun);
        metrics::step("encode", drawn.elapsed());
        Ok(jpeg)
    }

    /// Draws on a picture that is made in this annotator's own buffer.
    fn draw_made(
        &mut self,
        figures: Figures<'_>,
        how: (Draw, u8),
        make: impl FnOnce(&mut Decoder, &mut PlanarImage) -> Result<(), Error>,
    ) -> Result<Bytes, Error> {
        let mut picture = std::mem::take(&mut self.image);
        let made = make(&mut self.decoder, &mut picture);
        let jpeg = made.and_then(|()| self.draw_decoded(&mut picture, figures, how));
        self.image = picture;
        jpeg
    }

    /// `picture`: the frame's image, if this process has decoded it already. `skeleton`: of its persons.
    fn result(
        &mut self,
        frame: Frame,
        skeleton: Option<Arc<Skeleton>>,
        picture: Option<Pooled>,
    ) -> FrameResult {
        let Frame { header, event, image } = frame;
        let failed = |why: &str| header.dropped(DropReason::AnnotateFailed, why);
        let Some(shared) = event else { return failed("the frame came without poses") };
        if let (Draw::Frame, Payload::Encoded(jpeg)) = (header.draw, &image)
            && matches!(Format::sniff(jpeg), Ok(Format::Jpeg))
        {
            return header.done(shared, Some(jpeg.clone()));
        }
        let Ok(event) = shared.event() else { return failed("the frame came with poses that are none") };
        let figures = match (event.output.poses(), &skeleton) {
            _ if header.draw == Draw::Frame => None,
            (Some((_, persons)), Some(skeleton)) => {
                let fits = |person: &Person| person.keypoints.len() == skeleton.keypoints().len();
                if !persons.iter().all(fits) {
                    return failed("the frame came with persons of another skeleton");
                }
                Some((&**skeleton, persons))
            }
            (Some((skeleton, _)), None) => {
                return failed(&format!("no worker announces a model with the skeleton {skeleton}"));
            }
            (None, _) => None,
        };
        let how = (header.draw, header.quality);
        let [width, height] = [event.width as usize, event.height as usize];
        let jpeg = match picture {
            // Nothing of the picture is needed: it is not even decoded.
            _ if header.draw == Draw::Skeleton => {
                if !(1..=Limits::default().max_pixels).contains(&(width as u64 * height as u64)) {
                    return failed("the frame came with poses of no size that pictures have");
                }
                self.draw_made(figures, how, |_, picture| {
                    privacy::plain(picture, width, height);
                    Ok(())
                })
            }
            Some(mut picture) => {
                // Of what decoding needs it takes nothing: in time that is given back.
                self.image.resize(0, 0, Subsampling::Grey);
                self.decoder.pass();
                self.draw_decoded(&mut picture, figures, how)
            }
            None => match &image {
                Payload::Encoded(image) => self.draw_encoded(image, figures, how),
                Payload::Decoded(decoded) => match decoded.get::<PlanarImage>() {
                    // Others may look at them.
                    Some(planes) => self.draw_made(figures, how, |_, picture| {
                        picture.clone_from(planes);
                        Ok(())
                    }),
                    None => return failed("the frame came with pixels of an unknown kind"),
                },
            },
        };
        match jpeg {
            Ok(jpeg) => header.done(shared.clone(), Some(jpeg)),
            Err(error) => failed(&error.to_string()),
        }
    }
}

/// The skeleton of a frame's persons, if it has any.
async fn skeleton_of(frame: &Frame, models: &Models) -> Option<Arc<Skeleton>> {
    let (skeleton, _) = frame.event.as_ref()?.event().ok()?.output.poses()?;
    models.wait_for_skeleton(skeleton).await
}
