//! Planes to H.264 in MP4.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    time::Duration,
};

use cloudpose_pixels::PlanarImage;
use muxide::api::{Muxer, MuxerBuilder, VideoCodec};
use rusty_h264_common::YuvPlanes;
use rusty_h264_encoder::{Encoder, EncoderConfig, Preset};

use crate::{Error, range, while_doing};

/// How much is lost: H.264's quantiser, 0 to 51. Lines that were drawn stay sharp.
const QUANTISER: u8 = 24;
/// Pictures from one that can be begun at to the next.
const GROUP: u32 = 60;

/// An MP4 file that is written picture by picture. Pictures have an even width and height: of others the last column or row
/// is left out.
pub struct Writer {
    muxer: Muxer<BufWriter<File>>,
    encoder: Encoder,
    width: usize,
    height: usize,
    luma: Vec<u8>,
    chroma: [Vec<u8>; 2],
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("size", &(self.width, self.height)).finish_non_exhaustive()
    }
}

impl Writer {
    /// Begins a file, which is empty, for pictures of that size, about `rate` a second.
    ///
    /// # Errors
    /// [`Error::Video`] if no such video can be made.
    pub fn new(file: File, [width, height]: [usize; 2], rate: f64) -> Result<Self, Error> {
        let (width, height) = (width & !1, height & !1);
        let mut config = EncoderConfig::new(width, height);
        config.preset = Preset::Fast;
        config.qp = QUANTISER;
        config.gop_size = GROUP;
        config.framerate = rate as f32;
        // One picture in, one access unit out, in the order in which they are shown.
        config.lookahead = 0;
        config.mbtree = false;
        config.bframes = 0;
        config.scenecut = 0;
        config.num_ref_frames = 1;
        config.level_idc = level(width, height, rate);
        let refused = |why: String| Error::Video(format!("no video of {width}×{height} is made: {why}"));
        let encoder = Encoder::new(config).map_err(|error| refused(format!("{error:?}")))?;
        let muxer = MuxerBuilder::new(BufWriter::new(file))
            .video(VideoCodec::H264, width as u32, height as u32, rate)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { muxer, encoder, width, height, luma: Vec::new(), chroma: Default::default() })
    }

    /// Appends a picture, shown `at` after the first; each later than the one before it.
    ///
    /// # Errors
    /// If it is of another size, or cannot be written.
    pub fn push(&mut self, picture: &PlanarImage, at: Duration) -> Result<(), Error> {
        let (width, height) = (picture.width(), picture.height());
        if (width & !1, height & !1) != (self.width, self.height) {
            let why = format!("its pictures change their size, to {width}×{height}");
            return Err(Error::Video(why));
        }
        range::write(picture, &mut self.luma, &mut self.chroma);
        let [u, v] = &self.chroma;
        let planes = YuvPlanes::new(self.width, self.height, &self.luma, u, v, width, width.div_ceil(2));
        let planes = planes.ok_or_else(|| Error::Video("a picture without colours".into()))?;
        let encoded = self.encoder.encode_planes(&planes);
        let unit = encoded.map_err(|error| Error::Video(format!("a picture is not encoded: {error:?}")))?;
        let is_key = is_key(&unit);
        let written = self.muxer.write_video(at.as_secs_f64(), &unit, is_key);
        written.map_err(|error| Error::Video(format!("it cannot be written: {error}")))
    }

    /// Completes the file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(mut self) -> Result<(), Error> {
        let finished = self.muxer.finish_in_place();
        finished.map_err(|error| Error::Video(format!("it cannot be written: {error}")))?;
        self.muxer.into_writer().flush().map_err(while_doing("cannot write it"))
    }
}

/// Whether an access unit can be begun at: it has a picture of type 5 (ITU-T H.264, table 7-1).
fn is_key(unit: &[u8]) -> bool {
    unit.windows(4).any(|bytes| bytes[..3] == [0, 0, 1] && bytes[3] & 31 == 5)
}

/// The lowest level that allows such pictures (ITU-T H.264, table A-1: macroblocks of a picture, and a second).
fn level(width: usize, height: usize, rate: f64) -> u8 {
    const LEVELS: [(u8, usize, f64); 7] = [
        (30, 1620, 40_500.0),
        (31, 3600, 108_000.0),
        (40, 8192, 245_760.0),
        (42, 8704, 522_240.0),
        (50, 22_080, 589_824.0),
        (51, 36_864, 983_040.0),
        (52, 36_864, 2_073_600.0),
    ];
    let blocks = width.div_ceil(16) * height.div_ceil(16);
    let fits = LEVELS.iter().find(|(_, most, a_second)| blocks <= *most && blocks as f64 * rate <= *a_second);
    fits.map_or(62, |(level, ..)| *level)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_standards() {
        for (size, rate, expected) in [
            ([640, 480], 30.0, 30),
            ([1280, 720], 30.0, 31),
            ([1920, 1080], 30.0, 40),
            ([1080, 1920], 60.0, 42),
            ([3840, 2160], 30.0, 51),
            ([7680, 4320], 30.0, 62),
        ] {
            assert_eq!(level(size[0], size[1], rate), expected, "{size:?}");
        }
    }
}
