//! Video: containers and H.264 to planes and back.
//!
//! | module | what |
//! |---|---|
//! | `mp4` | H.264 in MP4 and MOV, decoded in this process |
//! | `h264` | a stream of H.264: what it may ask for, and [`LiveDecoder`] |
//! | `ffmpeg` | everything else, by the program of that name if it is installed |
//! | `writer` | planes to H.264 in MP4 |
//! | `range` | between what videos and what JPEGs mean by the same numbers |
//!
//! Pictures are those of `cloudpose-pixels`: 4:2:0, BT.601, full range, upright. H.264 can be left out with the feature
//! `h264`; MP4 files then go to `ffmpeg` too, and nothing is written.

mod ffmpeg;
#[cfg(feature = "h264")]
mod h264;
#[cfg(feature = "h264")]
mod mp4;
#[cfg(feature = "h264")]
mod range;
mod refused;
#[cfg(not(feature = "h264"))]
mod without;
#[cfg(feature = "h264")]
mod writer;

use std::{
    io::{Read, Seek},
    path::Path,
    time::Duration,
};

use cloudpose_pixels::PlanarImage;
#[cfg(feature = "h264")]
pub use h264::LiveDecoder;
pub use refused::Refused;
#[cfg(not(feature = "h264"))]
pub use without::{LiveDecoder, Writer};
#[cfg(feature = "h264")]
pub use writer::Writer;

/// Pixels of a picture, at most: 8192×8192.
const MOST_PIXELS: usize = 1 << 26;

/// What a video is.
#[derive(Debug, Clone, PartialEq)]
pub struct Info {
    /// Width in pixels, upright.
    pub width: usize,
    /// Height in pixels, upright.
    pub height: usize,
    /// Frames a second, on average; more than 0.
    pub rate: f64,
    /// Frames, if the file says how many.
    pub frames: Option<u64>,
    /// Whether there is sound that is known of: `ffmpeg` is not asked.
    pub has_sound: bool,
}

/// What a video is read from.
#[cfg(feature = "h264")]
trait Input: Read + Seek + Send {}

#[cfg(feature = "h264")]
impl<T: Read + Seek + Send> Input for T {}

/// A video file that is read frame by frame.
#[derive(Debug)]
pub struct Video(Source);

#[derive(Debug)]
enum Source {
    #[cfg(feature = "h264")]
    Mp4(Box<mp4::Mp4>),
    Ffmpeg(ffmpeg::Ffmpeg),
}

impl Video {
    /// Opens a file. H.264 in MP4 and MOV is decoded here, whatever else there is by `ffmpeg`.
    ///
    /// # Errors
    /// If the file is no video, or nobody can decode it: says what to install.
    pub fn open(path: &Path) -> Result<Self, Error> {
        #[cfg(feature = "h264")]
        let why = match mp4::Mp4::open(path) {
            Ok(mp4) => return Ok(Self(Source::Mp4(Box::new(mp4)))),
            Err(error @ (Error::File { .. } | Error::CutOff(_))) => return Err(error),
            Err(error) => error,
        };
        #[cfg(not(feature = "h264"))]
        let why = Error::Video("this build decodes no video by itself".into());
        match ffmpeg::Ffmpeg::open(path) {
            Ok(ffmpeg) => Ok(Self(Source::Ffmpeg(ffmpeg))),
            Err(Error::NotInstalled) => Err(Error::Needs { why: Box::new(why) }),
            Err(error) => Err(error),
        }
    }

    /// Opens a file of `bytes` that lies elsewhere: H.264 in MP4 and MOV only, for `ffmpeg` reads files of this machine.
    /// A part of it is read at a time, mostly one behind the other.
    ///
    /// # Errors
    /// If the file is no such video.
    pub fn read(file: impl Read + Seek + Send + 'static, bytes: u64) -> Result<Self, Error> {
        #[cfg(feature = "h264")]
        return Ok(Self(Source::Mp4(Box::new(mp4::Mp4::read(Box::new(file), bytes)?))));
        #[cfg(not(feature = "h264"))]
        {
            let (_, _) = (file, bytes);
            Err(Error::Video("this build decodes no video by itself".into()))
        }
    }

    /// What it is.
    pub fn info(&self) -> &Info {
        match &self.0 {
            #[cfg(feature = "h264")]
            Source::Mp4(mp4) => mp4.info(),
            Source::Ffmpeg(ffmpeg) => ffmpeg.info(),
        }
    }

    /// Puts the next picture, in the order in which they are shown, into `picture`, and answers when it is shown,
    /// counted from the first; none behind the last.
    ///
    /// # Errors
    /// If the file is damaged. What came before is whole.
    pub fn next_into(&mut self, picture: &mut PlanarImage) -> Result<Option<Duration>, Error> {
        match &mut self.0 {
            #[cfg(feature = "h264")]
            Source::Mp4(mp4) => mp4.next_into(picture),
            Source::Ffmpeg(ffmpeg) => ffmpeg.next_into(picture),
        }
    }
}

/// Why a video cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read or written.
    #[error("{what}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The system's answer.
        source: std::io::Error,
    },
    /// It is damaged, or of a kind that is not decoded.
    #[error("{0}")]
    Video(String),
    /// The end is missing.
    #[error("the file is not whole: {0} should stand behind its end")]
    CutOff(&'static str),
    /// Pictures larger than anybody looks at.
    #[error("its pictures of {0}×{1} pixels are too large")]
    TooLarge(usize, usize),
    /// There is no `ffmpeg`.
    #[error("ffmpeg is not installed")]
    NotInstalled,
    /// Only `ffmpeg` can decode it.
    #[error(
        "{why}; install ffmpeg, which is used for whatever is not decoded here (on Debian: apt install ffmpeg)"
    )]
    Needs {
        /// Why it is not decoded here.
        why: Box<Error>,
    },
}

/// Refuses sizes that nobody can have meant.
fn check_size(width: usize, height: usize) -> Result<(), Error> {
    match width.checked_mul(height) {
        Some(pixels) if (1..=MOST_PIXELS).contains(&pixels) => Ok(()),
        _ => Err(Error::TooLarge(width, height)),
    }
}

fn while_doing(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::File { what, source }
}
