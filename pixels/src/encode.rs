//! Planes to JPEG.

use std::fmt;

use bytes::Bytes;
use turbojpeg::{Compressor, YuvImage};

use crate::{Error, PlanarImage, Recent, jpeg};

/// Compresses planes to baseline JPEG, keeping its buffers from one image to the next.
pub struct Encoder {
    jpeg: Compressor,
    /// Room for the largest JPEG that an image of the last size can become. Only what a JPEG really
    /// took is ever touched, so the rest costs no memory.
    room: Vec<u8>,
    recent: Recent,
}

impl Encoder {
    /// Sets up an encoder. One serves any number of images, one at a time.
    ///
    /// # Errors
    /// [`Error::Codec`] if libjpeg-turbo finds no memory.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { jpeg: Compressor::new()?, room: Vec::new(), recent: Recent::default() })
    }

    /// Compresses an image, with the subsampling it has. `quality` is libjpeg's, 1 to 100; what
    /// lies outside is clamped.
    ///
    /// # Errors
    /// [`Error::Codec`] if the image has no pixels or is larger than JPEG can hold.
    pub fn encode(&mut self, image: &PlanarImage, quality: u8) -> Result<Bytes, Error> {
        let subsamp = jpeg::to_turbo(image.subsampling());
        let needed = turbojpeg::compressed_buf_len(image.width(), image.height(), subsamp)?;
        if image.width() == 0 || image.height() == 0 {
            return Err(turbojpeg::Error::OutOfBounds.into());
        }
        let room = self.room.len();
        let fitting = if room < needed { Some(needed) } else { self.recent.needed(needed, room) };
        if let Some(room) = fitting {
            // A fresh zeroed allocation, unlike `resize`, leaves untouched pages to the system.
            self.room = vec![0; room];
        }
        self.jpeg.set_quality(i32::from(quality.clamp(1, 100)))?;
        let planes = YuvImage {
            pixels: image.samples(),
            width: image.width(),
            align: 1,
            height: image.height(),
            subsamp,
        };
        let len = self.jpeg.compress_yuv_to_slice(planes, &mut self.room)?;
        Ok(Bytes::copy_from_slice(&self.room[..len]))
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("room", &self.room.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Subsampling;

    #[test]
    fn a_large_picture_is_not_paid_for_for_ever() {
        let mut encoder = Encoder::new().unwrap();
        let mut encoded = |side: usize, times: usize| {
            let image = PlanarImage::new(side, side, Subsampling::S420);
            for _ in 0..times {
                encoder.encode(&image, 80).unwrap();
            }
            encoder.room.len()
        };
        let small = encoded(64, 1);
        let large = encoded(1024, 1);
        assert_eq!(encoded(64, 1), large, "the next may be as large");
        assert_eq!(encoded(64, 100), small);
    }

    #[test]
    fn pictures_of_one_size_use_one_buffer() {
        let mut encoder = Encoder::new().unwrap();
        let image = PlanarImage::new(64, 64, Subsampling::S420);
        encoder.encode(&image, 80).unwrap();
        // What is not touched stays as it is, in a buffer that is not a fresh one.
        *encoder.room.last_mut().unwrap() = 7;
        for _ in 0..100 {
            encoder.encode(&image, 80).unwrap();
        }
        assert_eq!(encoder.room.last(), Some(&7));
    }
}
