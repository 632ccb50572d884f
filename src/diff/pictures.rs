//! The frames in which two results differ most, with both drawn on them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cloudpose_accuracy::compare::Pair;
use cloudpose_annotate::{Style, overlay};
use cloudpose_infer::Image;
use cloudpose_pixels::{Decoder, Encoder, Limits, PlanarImage};
use cloudpose_wire::{Person, Skeleton};

use super::{
    clips::{Clip, with_cocos_joints},
    results::{Key, Results},
    summary::worst as worst_frames,
};
use crate::{plain::shown, replay::frames};

const QUALITY: u8 = 80;

/// A frame twice: what the one result sees in it, and what the other does.
pub(super) struct Twice<'a> {
    pub(super) clip: &'a Clip,
    pub(super) number: u64,
    /// JPEGs; none if the frame is not to be found.
    pub(super) drawn: Option<[Bytes; 2]>,
}

/// Draws the frames that differ most, the worst first. Who is in one result only has marks at the corners of his box.
///
/// # Errors
/// If a frame that is there cannot be read or drawn.
pub(super) fn worst<'a>(results: &'a [Results; 2], clips: &'a [Clip]) -> Result<Vec<Twice<'a>>> {
    let mut all: Vec<Twice<'_>> =
        worst_frames(clips).into_iter().map(|(clip, number)| Twice { clip, number, drawn: None }).collect();
    // Each file is read once.
    let mut wanted: BTreeMap<Arc<Path>, BTreeMap<u64, usize>> = BTreeMap::new();
    for (index, twice) in all.iter().enumerate() {
        let Some(seen) = twice.clip.seen(results, twice.number) else { continue };
        let mut sources = seen.into_iter().filter_map(|seen| seen.source.clone());
        match sources.clone().find(|source| source.exists()) {
            Some(source) => {
                let number = match twice.clip.keys.get(&twice.number) {
                    Some(Key::Photo(_)) | None => 1,
                    Some(Key::Number(number)) => *number,
                };
                wanted.entry(source).or_default().insert(number, index);
            }
            None => match sources.next() {
                Some(source) => eprintln!("{} is not there: its frames cannot be shown", shown(&source)),
                None => eprintln!(
                    "{} does not say where its frames are: compare with their clip",
                    twice.clip.name
                ),
            },
        }
    }
    let mut artist = Artist::new()?;
    for (source, mut numbers) in wanted {
        frames::play(&source, |moment, image| {
            if let Some(index) = numbers.remove(&moment.number) {
                let twice = &mut all[index];
                let drawn = artist.draw(results, twice, image);
                twice.drawn = Some(drawn.with_context(|| format!("frame {}", moment.number))?);
            }
            Ok(!numbers.is_empty())
        })?;
    }
    Ok(all)
}

struct Artist {
    decoder: Decoder,
    encoder: Encoder,
    scene: PlanarImage,
}

impl Artist {
    fn new() -> Result<Self> {
        let decoder = Decoder::new(Limits::default())?;
        Ok(Self { decoder, encoder: Encoder::new()?, scene: PlanarImage::default() })
    }

    fn draw(&mut self, results: &[Results; 2], twice: &Twice<'_>, image: Image<'_>) -> Result<[Bytes; 2]> {
        match image {
            Image::Encoded(image) => _ = self.decoder.decode(image, &mut self.scene)?,
            Image::Planes(planes) => self.scene.clone_from(planes),
        }
        let seen = twice.clip.seen(results, twice.number).context("nothing was found in it")?;
        let frames = &twice.clip.comparison.frames;
        let pairs =
            frames.iter().find(|frame| frame.number == twice.number).map_or(&[][..], |frame| &frame.pairs);
        let paired: [fn(&Pair) -> usize; 2] = [|pair| pair.a, |pair| pair.b];
        let mut draw = |which: usize| -> Result<Bytes> {
            let is_in_both = |index: usize| pairs.iter().any(|pair| paired[which](pair) == index);
            let persons = &seen[which].persons;
            let part = |both: bool| -> Vec<Person> {
                let of = (0..persons.len()).filter(|index| is_in_both(*index) == both);
                of.map(|index| with_cocos_joints(&persons[index])).collect()
            };
            let mut picture = self.scene.clone();
            let skeleton = Skeleton::coco_17();
            let style = Style { boxes: true, ..Style::default() };
            overlay::draw(&mut picture, &skeleton, &part(true), &Style::default());
            overlay::draw(&mut picture, &skeleton, &part(false), &style);
            Ok(self.encoder.encode(&picture, QUALITY)?)
        };
        Ok([draw(0)?, draw(1)?])
    }
}
