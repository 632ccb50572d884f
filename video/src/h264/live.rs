//! A live stream: pictures as they come.

use cloudpose_pixels::PlanarImage;

use super::{Earlier, Rules, Stream, sets};
use crate::{Error, Refused, range};

/// Blocks of all pictures that a live stream has kept, at most: level 5.2's (ITU-T H.264, table A-1), which is 4096×2304 with
/// four others.
const MOST_KEPT: usize = 184_320;

/// Decodes a live stream of H.264 access unit by access unit. It blocks, for some milliseconds each.
pub struct LiveDecoder {
    stream: Stream,
    reserve: Box<dyn FnMut(usize) -> bool + Send>,
}

impl std::fmt::Debug for LiveDecoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveDecoder").field("needs_key", &self.stream.needs_key()).finish_non_exhaustive()
    }
}

impl LiveDecoder {
    /// A decoder of pictures of up to `most_pixels`. Before it takes memory for pictures of a size, it asks `reserve` for
    /// about so many bytes, in the place of those it had asked for; if that answers false it takes none.
    ///
    /// # Errors
    /// If this build decodes no H.264.
    pub fn new(
        most_pixels: usize,
        reserve: impl FnMut(usize) -> bool + Send + 'static,
    ) -> Result<Self, Error> {
        let rules = Rules { most_pixels, most_kept: MOST_KEPT, is_live: true, earlier: Earlier::Refused };
        Ok(Self { stream: Stream::new(rules), reserve: Box::new(reserve) })
    }

    /// Takes also streams with pictures that are shown before others that come before them (B-frames), and makes nothing of those:
    /// the others come without delay, and in the order in which they are shown. Where nothing builds on one it is not decoded.
    pub fn skip_earlier(&mut self) {
        self.stream.skip_earlier();
    }

    /// Whether nothing would be made of an access unit, for it is shown before others that come before it.
    pub fn is_earlier(unit: &[u8]) -> bool {
        sets::is_bidirectional(unit)
    }

    /// Decodes an access unit of the byte stream format (ITU-T H.264, Annex B): one whole picture, and parameter sets before
    /// it if they are new. None if there is no picture in it, or if it is not `wanted`: it is decoded then for those that
    /// build on it, and nothing is made of it.
    ///
    /// # Errors
    /// Why it is not decoded. After any, only a key frame (IDR) is; it may bring other parameter sets, and another size.
    pub fn decode(&mut self, unit: &[u8], wanted: bool) -> Result<Option<PlanarImage>, Refused> {
        let decoded = self.stream.decode(unit, &mut self.reserve)?;
        let Some(decoded) = decoded.filter(|_| wanted) else { return Ok(None) };
        let mut picture = PlanarImage::default();
        range::read(&range::Planes::of(&decoded.frame), decoded.colours, &mut picture);
        Ok(Some(picture))
    }

    /// Whether only a key frame can be decoded next.
    pub fn needs_key(&self) -> bool {
        self.stream.needs_key()
    }
}

#[cfg(test)]
mod tests {
    use rusty_h264_common::YuvFrame;

    use super::*;
    use crate::mp4::tests::access_units;

    /// The clip has three B-frames in a row, of which others build on one.
    #[test]
    fn of_video_with_b_frames_the_other_pictures_come_as_they_are_and_in_order() {
        let (units, places, pictures) = access_units("high_b_frames.mp4");
        let mut live = LiveDecoder::new(1 << 22, |_| true).unwrap();
        let refused = units.iter().find_map(|unit| live.decode(unit, true).err());
        assert_eq!(refused, Some(Refused::Reordered), "unless it is said that they are to be skipped");
        let mut live = LiveDecoder::new(1 << 22, |_| true).unwrap();
        live.skip_earlier();
        let mut last = None;
        let mut shown = 0;
        for (unit, place) in units.iter().zip(places) {
            let picture = live.stream.decode(unit, &mut |_| true).unwrap();
            assert_eq!(picture.is_none(), LiveDecoder::is_earlier(unit));
            if let Some(picture) = picture {
                assert!(Some(place) > last, "{place} after {last:?}");
                let planes = |frame: &YuvFrame| [&frame.y, &frame.u, &frame.v].map(Clone::clone);
                assert_eq!(planes(&picture.frame), planes(&pictures[place]), "{place}");
                (last, shown) = (Some(place), shown + 1);
            }
        }
        assert!(shown * 5 > units.len() && shown * 3 < units.len(), "{shown} of {}", units.len());
    }
}
