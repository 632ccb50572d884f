//! Which format an image is, how large, which way up; then its planes.

use std::fmt;

use crate::{Error, Orientation, PlanarImage, Recent, Subsampling, jpeg, orient, packed};

/// Longest side of a JPEG that libjpeg-turbo reads and writes (`JPEG_MAX_DIMENSION`). It holds for
/// the other formats too, since every frame may have to leave as JPEG.
const MAX_SIDE: u64 = 65_500;

/// What a decoder refuses to allocate pixels for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest width × height, in pixels.
    pub max_pixels: u64,
}

impl Default for Limits {
    /// 4096×4096 pixels, in any shape.
    fn default() -> Self {
        Self { max_pixels: 4096 * 4096 }
    }
}

impl Limits {
    pub(crate) fn check(&self, width: u64, height: u64) -> Result<(), Error> {
        let pixels = width.saturating_mul(height);
        if pixels > self.max_pixels || width > MAX_SIDE || height > MAX_SIDE {
            return Err(Error::TooLarge { width, height, max_pixels: self.max_pixels });
        }
        Ok(())
    }
}

/// The formats we take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum Format {
    Jpeg,
    Png,
    WebP,
}

impl Format {
    /// Tells the format by the file's first bytes, never by a name or content type.
    ///
    /// # Errors
    /// [`Error::Empty`], [`Error::UnknownFormat`].
    pub fn sniff(bytes: &[u8]) -> Result<Self, Error> {
        match bytes {
            [] => Err(Error::Empty),
            [0xFF, 0xD8, 0xFF, ..] => Ok(Self::Jpeg),
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Self::Png),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            _ => Err(Error::UnknownFormat),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
        })
    }
}

/// What an image's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The format, by its first bytes.
    pub format: Format,
    /// Width of the upright picture, in pixels.
    pub width: u32,
    /// Height of the upright picture, in pixels.
    pub height: u32,
    /// How the stored picture is turned to be upright; `NoTransforms` if the file does not say.
    pub orientation: Orientation,
}

impl Header {
    /// From the size as stored in the file.
    pub(crate) fn new(format: Format, (width, height): (u32, u32), orientation: Orientation) -> Self {
        let (width, height) =
            if orient::swaps_sides(orientation) { (height, width) } else { (width, height) };
        Self { format, width, height, orientation }
    }
}

/// Reads an image's header and checks it against the limits, without decoding a pixel.
///
/// What passes can still turn out truncated or corrupt when it is decoded.
///
/// # Errors
/// Every variant of [`Error`] but [`Error::Codec`].
pub fn probe(bytes: &[u8], limits: Limits) -> Result<Header, Error> {
    match Format::sniff(bytes)? {
        Format::Jpeg => jpeg::read_header(bytes, limits),
        format => packed::read_header(format, bytes, limits),
    }
}

/// The scale that a picture was decoded at: 8/8 is all of its pixels, 1/8 one for each 8×8 block of a JPEG.
///
/// Sample `i` of the reduced picture covers the pixels from `i / factor` to `(i + 1) / factor` of the whole
/// one; the last sample of a row or column may reach beyond its edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scale {
    eighths: usize,
}

impl Scale {
    /// Every pixel.
    pub const FULL: Self = Self { eighths: 8 };
    /// Smallest first. Those left out save nothing: libjpeg-turbo has no SIMD for the odd ones, and a
    /// transform of half the size takes as long as the whole one.
    const ALL: [Self; 3] = [Self { eighths: 1 }, Self { eighths: 2 }, Self::FULL];

    /// Returns the smallest scale at which a picture is still at least as large as `wanted`, (width, height)
    /// both. The full scale if even that is smaller.
    pub fn covering(picture: (usize, usize), wanted: (usize, usize)) -> Self {
        let covers = |scale: &Self| {
            picture.0 * scale.eighths >= wanted.0 * 8 && picture.1 * scale.eighths >= wanted.1 * 8
        };
        Self::ALL.into_iter().find(covers).unwrap_or(Self::FULL)
    }

    /// Returns samples per pixel, along each axis.
    pub fn factor(self) -> f64 {
        self.eighths as f64 / 8.0
    }

    pub(crate) fn to_turbo(self) -> turbojpeg::ScalingFactor {
        turbojpeg::ScalingFactor::new(self.eighths, 8)
    }

    /// Whether a side of so many pixels becomes a whole number of samples.
    fn divides(self, side: u32) -> bool {
        (side as usize * self.eighths).is_multiple_of(8)
    }
}

/// Decodes images of any of the formats to planes, keeping its buffers from one to the next.
pub struct Decoder {
    limits: Limits,
    jpeg: turbojpeg::Decompressor,
    /// Interleaved pixels of the formats that do not decode to planes.
    packed: Vec<u8>,
    packed_recent: Recent,
    /// The picture as stored, when it has to be turned.
    sideways: PlanarImage,
}

impl Decoder {
    /// Sets up a decoder. One serves any number of images, one at a time.
    ///
    /// # Errors
    /// [`Error::Codec`] if libjpeg-turbo finds no memory.
    pub fn new(limits: Limits) -> Result<Self, Error> {
        Ok(Self {
            limits,
            jpeg: jpeg::decompressor()?,
            packed: Vec::new(),
            packed_recent: Recent::default(),
            sideways: PlanarImage::default(),
        })
    }

    /// Decodes one image, upright, `into` planes; their buffer is reused.
    ///
    /// JPEG keeps its own subsampling (4:4:4 where the file's is an unusual one). PNG and WebP
    /// become 4:4:4, or grey when the file is; transparent pixels are blended over white, 16-bit
    /// ones rounded to 8. Of an animation the first picture is taken.
    ///
    /// # Errors
    /// Every variant of [`Error`] but [`Error::Codec`]. A picture that is incomplete is an error,
    /// never half a picture. `into` then holds nothing of meaning.
    pub fn decode(&mut self, bytes: &[u8], into: &mut PlanarImage) -> Result<Header, Error> {
        let header = probe(bytes, self.limits)?;
        self.decode_at(Scale::FULL, header, bytes, into)?;
        Ok(header)
    }

    /// Decodes one image as [`decode`](Self::decode) does, but no larger than needed: a JPEG at the smallest
    /// scale at which it is still at least as large as what `wanted` says for its (width, height), upright, in
    /// pixels. Other formats, and pictures whose turning upright would move them by a part of a sample, are
    /// decoded whole.
    ///
    /// A JPEG is reduced in the transform, block by block, each sample the average of the pixels it stands
    /// for: much of the work of a whole decode, its entropy decoding excepted, is never done.
    ///
    /// # Errors
    /// Those of [`decode`](Self::decode).
    pub fn decode_reduced(
        &mut self,
        bytes: &[u8],
        wanted: impl FnOnce(usize, usize) -> (usize, usize),
        into: &mut PlanarImage,
    ) -> Result<(Header, Scale), Error> {
        let header = probe(bytes, self.limits)?;
        let picture = (header.width as usize, header.height as usize);
        let mut scale = match header.format {
            Format::Jpeg => Scale::covering(picture, wanted(picture.0, picture.1)),
            Format::Png | Format::WebP => Scale::FULL,
        };
        let turned = header.orientation != Orientation::NoTransforms;
        if turned && !(scale.divides(header.width) && scale.divides(header.height)) {
            scale = Scale::FULL;
        }
        self.decode_at(scale, header, bytes, into)?;
        Ok((header, scale))
    }

    /// A picture came that was decoded already: it needed nothing of the buffers, which shrink in time.
    pub fn pass(&mut self) {
        self.packed.clear();
        self.packed_recent.settle(&mut self.packed);
        self.sideways.resize(0, 0, Subsampling::Grey);
    }

    fn decode_at(
        &mut self,
        scale: Scale,
        header: Header,
        bytes: &[u8],
        into: &mut PlanarImage,
    ) -> Result<(), Error> {
        match header.format {
            Format::Jpeg => {
                self.jpeg.set_scaling_factor(scale.to_turbo())?;
                jpeg::decode(&mut self.jpeg, bytes, self.limits, &mut self.packed, into)?;
            }
            format => packed::decode(format, bytes, &mut self.packed, into)?,
        }
        self.packed_recent.settle(&mut self.packed);
        if header.orientation == Orientation::NoTransforms {
            // This picture needed nothing of it.
            self.sideways.resize(0, 0, Subsampling::Grey);
        } else {
            std::mem::swap(into, &mut self.sideways);
            orient::turn(&mut self.sideways, header.orientation, into);
        }
        Ok(())
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder").field("limits", &self.limits).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageEncoder, codecs::png::PngEncoder};

    use super::*;

    /// A white picture that has to be turned.
    fn sideways_png(side: u32) -> Vec<u8> {
        let mut png = Vec::new();
        let mut encoder = PngEncoder::new(&mut png);
        // EXIF: little-endian, one entry: orientation 6, turned by 90°.
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        let pixels = vec![255; (side * side * 3) as usize];
        encoder.write_image(&pixels, side, side, image::ExtendedColorType::Rgb8).unwrap();
        png
    }

    #[test]
    fn a_large_picture_is_not_paid_for_for_ever() {
        let mut decoder = Decoder::new(Limits::default()).unwrap();
        let mut into = PlanarImage::default();
        let large = sideways_png(1024);
        decoder.decode(&large, &mut into).unwrap();
        let rooms = |decoder: &Decoder| [decoder.packed.capacity(), decoder.sideways.room()];
        assert!(rooms(&decoder).iter().all(|room| *room >= 3 * 1024 * 1024), "{:?}", rooms(&decoder));

        // Pictures that need none of it, as most do.
        let grey = PlanarImage::new(64, 64, Subsampling::S420);
        let jpeg = crate::Encoder::new().unwrap().encode(&grey, 80).unwrap();
        for _ in 0..100 {
            decoder.decode(&jpeg, &mut into).unwrap();
        }
        assert_eq!(rooms(&decoder), [0, 0]);
        assert!(into.room() < 100_000, "{}", into.room());
        decoder.decode(&large, &mut into).unwrap();
        assert_eq!((into.width(), into.height()), (1024, 1024));
        (0..100).for_each(|_| decoder.pass());
        assert_eq!(rooms(&decoder), [0, 0], "pictures that came decoded");
    }
}
