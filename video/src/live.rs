//! A live stream of H.264: pictures as they come.

use cloudpose_pixels::PlanarImage;
use rusty_h264_decoder::Decoder;

use crate::{Error, check_size, range};

/// Decodes a live stream of H.264 access unit by access unit. It blocks, for some milliseconds each.
pub struct LiveDecoder {
    decoder: Decoder,
    most_pixels: usize,
}

impl std::fmt::Debug for LiveDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveDecoder").field("most_pixels", &self.most_pixels).finish_non_exhaustive()
    }
}

impl LiveDecoder {
    /// A decoder of pictures of up to `most_pixels`. A stream whose pictures change their size needs another one.
    ///
    /// # Errors
    /// If this build decodes no H.264.
    pub fn new(most_pixels: usize) -> Result<Self, Error> {
        Ok(Self { decoder: Decoder::new(), most_pixels })
    }

    /// Decodes an access unit of the byte stream format (ITU-T H.264, Annex B): one whole picture, and parameter sets before
    /// it if they are new. None if there is no picture in it, or if it is not `wanted`: it is decoded then for those that
    /// build on it, and nothing is made of it.
    ///
    /// # Errors
    /// Why it is not decoded. After any, another decoder must begin with a key frame.
    pub fn decode(&mut self, unit: &[u8], wanted: bool) -> Result<Option<PlanarImage>, Error> {
        let frame = self.decoder.decode(unit).map_err(|error| Error::Video(error.to_string()))?;
        let Some(frame) = frame else { return Ok(None) };
        check_size(frame.width, frame.height)?;
        if frame.width * frame.height > self.most_pixels {
            return Err(Error::TooLarge(frame.width, frame.height));
        }
        Ok(wanted.then(|| {
            let mut picture = PlanarImage::default();
            let planes = range::Planes {
                width: frame.width,
                height: frame.height,
                luma: &frame.y,
                chroma: [&frame.u, &frame.v],
            };
            range::read(&planes, &mut picture);
            picture
        }))
    }
}

#[cfg(test)]
mod tests {
    use rusty_h264_common::YuvPlanes;
    use rusty_h264_encoder::{Encoder, EncoderConfig};

    use super::*;

    /// Access units of a bar that moves.
    fn units() -> Vec<Vec<u8>> {
        let (width, height) = (64, 48);
        let mut config = EncoderConfig::new(width, height);
        (config.lookahead, config.mbtree, config.bframes, config.gop_size) = (0, false, 0, 60);
        let mut encoder = Encoder::new(config).unwrap();
        let grey = vec![128; width * height / 4];
        let picture = |n: usize| {
            let luma = |at: usize| if at % width / 8 == n { 220 } else { (at % 64) as u8 };
            (0..width * height).map(luma).collect::<Vec<u8>>()
        };
        let mut units = Vec::new();
        for n in 0..6 {
            let luma = picture(n);
            let planes = YuvPlanes::new(width, height, &luma, &grey, &grey, width, width / 2).unwrap();
            units.push(encoder.encode_planes(&planes).unwrap());
        }
        units
    }

    #[test]
    fn what_is_not_wanted_is_decoded_for_those_that_build_on_it() {
        let units = units();
        let mut all = LiveDecoder::new(64 * 48).unwrap();
        let shown = units.iter().map(|unit| all.decode(unit, true).unwrap().unwrap());
        let last = shown.last().unwrap();
        let mut some = LiveDecoder::new(64 * 48).unwrap();
        for unit in &units[..5] {
            assert!(some.decode(unit, false).unwrap().is_none());
        }
        let same = some.decode(&units[5], true).unwrap().unwrap();
        assert_eq!((same.width(), same.height()), (64, 48));
        assert!((0..48).all(|row| same.luma().row(row) == last.luma().row(row)));
    }

    #[test]
    fn damage_and_size_are_errors() {
        let units = units();
        assert!(matches!(
            LiveDecoder::new(63 * 48).unwrap().decode(&units[0], true),
            Err(Error::TooLarge(64, 48))
        ));
        for len in 0..units[0].len().min(200) {
            // Whatever it answers: it answers.
            LiveDecoder::new(1 << 20).unwrap().decode(&units[0][..len], true).ok();
        }
        let without_sets = LiveDecoder::new(1 << 20).unwrap().decode(&units[1], true);
        assert!(!matches!(without_sets, Ok(Some(_))), "there is nothing that it could build on");
    }
}
