//! The frames of clips, videos and folders of pictures, with their times.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use cloudpose_infer::Image;
use cloudpose_pixels::PlanarImage;
use cloudpose_video::Video;

use crate::{
    clip::{self, CLIP_SUFFIXES, Ended},
    detect::{ASSUMED_FPS, IMAGE_SUFFIXES, MJPEG_SUFFIXES, VIDEO_SUFFIXES, find, has_suffix},
    mjpeg,
};

/// Which frame, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moment {
    /// Its number, from 1.
    pub(crate) number: u64,
    /// When it was captured: in milliseconds since 1970 if the clip says it, or from the beginning.
    pub(crate) at: u64,
}

/// Gives each frame to `each`, in order, until that says to stop.
///
/// # Errors
/// If there are none, one cannot be read, or `each` fails.
pub(crate) fn play(path: &Path, mut each: impl FnMut(Moment, Image<'_>) -> Result<bool>) -> Result<Ended> {
    let played = if path.is_dir() {
        folder(path, &mut each)
    } else if has_suffix(path, &CLIP_SUFFIXES) {
        return play_clip(path, &mut each).with_context(|| path.display().to_string());
    } else if has_suffix(path, &VIDEO_SUFFIXES) {
        video(path, &mut each)
    } else if has_suffix(path, &MJPEG_SUFFIXES) {
        motion_jpeg(path, &mut each)
    } else if has_suffix(path, &IMAGE_SUFFIXES) {
        pictures([path], &mut each)
    } else {
        let suffixes = [&CLIP_SUFFIXES[..], &VIDEO_SUFFIXES, &MJPEG_SUFFIXES].concat().join(", .");
        bail!("{} has no frames: give a folder of pictures, or a file .{suffixes}", path.display());
    };
    played.with_context(|| path.display().to_string()).map(|()| Ended::Whole)
}

type Each<'a> = &'a mut dyn FnMut(Moment, Image<'_>) -> Result<bool>;

/// Frames that do not say when they were captured follow each other as in videos.
fn assumed(number: u64) -> Moment {
    Moment { number, at: number * 1000 / ASSUMED_FPS }
}

fn play_clip(path: &Path, each: Each<'_>) -> Result<Ended> {
    let mut last = 0;
    clip::read(path, |frame| {
        let at = frame.event.map_or_else(|| last + 1000 / ASSUMED_FPS, |event| event.captured_at);
        last = at;
        each(Moment { number: frame.number, at }, Image::Encoded(&frame.image))
    })
}

fn video(path: &Path, each: Each<'_>) -> Result<()> {
    let mut video = Video::open(path)?;
    let mut picture = PlanarImage::default();
    for number in 1.. {
        let next = video.next_into(&mut picture).with_context(|| format!("frame {number}"))?;
        let Some(at) = next else {
            if number == 1 {
                bail!("there is no picture in it");
            }
            break;
        };
        if !each(Moment { number, at: at.as_millis() as u64 }, Image::Planes(&picture))? {
            break;
        }
    }
    Ok(())
}

fn motion_jpeg(path: &Path, each: Each<'_>) -> Result<()> {
    let bytes = fs::read(path).context("cannot read it")?;
    let mut frames = mjpeg::frames(&bytes).zip(1..).peekable();
    if frames.peek().is_none() {
        bail!("there is no JPEG in it");
    }
    for (frame, number) in frames {
        if !each(assumed(number), Image::Encoded(frame))? {
            break;
        }
    }
    Ok(())
}

fn folder(path: &Path, each: Each<'_>) -> Result<()> {
    let files = find(&[path.to_owned()], &[])?;
    pictures(files.iter().map(AsRef::as_ref).filter(|file| has_suffix(file, &IMAGE_SUFFIXES)), each)
}

fn pictures<'a>(files: impl IntoIterator<Item = &'a Path>, each: Each<'_>) -> Result<()> {
    for (file, number) in files.into_iter().zip(1..) {
        let image = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        if !each(assumed(number), Image::Encoded(&image))? {
            break;
        }
    }
    Ok(())
}
