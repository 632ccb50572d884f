//! Planes to JPEG.

use std::fmt;

use bytes::Bytes;
use turbojpeg::{Compressor, YuvImage};

use crate::{Error, PlanarImage, jpeg};

/// Compresses planes to baseline JPEG, keeping its buffers from one image to the next.
pub struct Encoder {
    jpeg: Compressor,
    /// Room for the largest JPEG that an image of the last size can become. Only what a JPEG really
    /// took is ever touched, so the rest costs no memory.
    room: Vec<u8>,
}

impl Encoder {
    /// Sets up an encoder. One serves any number of images, one at a time.
    ///
    /// # Errors
    /// [`Error::Codec`] if libjpeg-turbo finds no memory.
    pub fn new() -> Result<Self, Error> {
        Ok(Self { jpeg: Compressor::new()?, room: Vec::new() })
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
        if self.room.len() < needed {
            // A fresh zeroed allocation, unlike `resize`, leaves untouched pages to the system.
            self.room = vec![0; needed];
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
