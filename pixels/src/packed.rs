//! PNG and WebP: interleaved pixels to planes.

use std::io::{self, Cursor};

use image::codecs::{png::PngDecoder, webp::WebPDecoder};
use image::{ColorType, ImageDecoder, ImageError};

use crate::{Error, Format, Header, Limits, PlanarImage, Subsampling, bt601, webp};

/// Most memory a PNG may take besides our own pixel buffer: rows under way and inflated metadata.
const PNG_WORKING_BYTES: u64 = 64 << 20;

pub(crate) fn read_header(format: Format, bytes: &[u8], limits: Limits) -> Result<Header, Error> {
    if format == Format::Png {
        // Signature, length and name of IHDR, then its width and height (PNG, third edition, 11.2.1).
        let size = bytes.get(16..24).ok_or(Error::Truncated(format))?;
        let side = |at: usize| u32::from_be_bytes([size[at], size[at + 1], size[at + 2], size[at + 3]]);
        limits.check(side(0).into(), side(4).into())?;
    }
    let mut decoder = open(format, bytes)?;
    let (width, height) = decoder.dimensions();
    limits.check(width.into(), height.into())?;
    let orientation = if format == Format::WebP {
        let parts = webp::Parts::read(bytes)?;
        parts.check_size(limits)?;
        parts.orientation()
    } else {
        decoder.orientation().map_err(|e| describe(format, e))?
    };
    Ok(Header::new(format, (width, height), orientation))
}

/// Decodes to planes, with `packed` for the interleaved pixels. The size has been checked.
pub(crate) fn decode(
    format: Format,
    bytes: &[u8],
    packed: &mut Vec<u8>,
    into: &mut PlanarImage,
) -> Result<(), Error> {
    if format == Format::WebP {
        webp::Parts::read(bytes)?.check_codes()?;
    }
    let decoder = open(format, bytes)?;
    let (width, height) = decoder.dimensions();
    let color = decoder.color_type();
    packed.resize(usize::try_from(decoder.total_bytes()).map_err(|e| Error::corrupt(format, e))?, 0);
    decoder.read_image_boxed(packed).map_err(|e| describe(format, e))?;

    let size = (width as usize, height as usize);
    match color {
        ColorType::L8 => grey_plane::<1>(packed, size, |[l]| l, into),
        ColorType::La8 => grey_plane::<2>(packed, size, |[l, a]| over_white(l, a), into),
        ColorType::L16 => grey_plane::<2>(packed, size, narrow, into),
        ColorType::La16 => {
            grey_plane::<4>(
                packed,
                size,
                |[l0, l1, a0, a1]| over_white(narrow([l0, l1]), narrow([a0, a1])),
                into,
            );
        }
        ColorType::Rgb8 => color_planes::<3>(packed, size, |rgb| rgb, into),
        ColorType::Rgba8 => {
            color_planes::<4>(packed, size, |[r, g, b, a]| [r, g, b].map(|c| over_white(c, a)), into);
        }
        ColorType::Rgb16 => {
            color_planes::<6>(packed, size, |p| [0, 2, 4].map(|i| narrow([p[i], p[i + 1]])), into)
        }
        ColorType::Rgba16 => color_planes::<8>(
            packed,
            size,
            |p| {
                let alpha = narrow([p[6], p[7]]);
                [0, 2, 4].map(|i| over_white(narrow([p[i], p[i + 1]]), alpha))
            },
            into,
        ),
        _ => return Err(Error::Unsupported("an image with floating-point pixels")),
    }
    Ok(())
}

/// Fills 4:4:4 planes from pixels of `N` bytes.
pub(crate) fn color_planes<const N: usize>(
    pixels: &[u8],
    (width, height): (usize, usize),
    rgb: impl Fn([u8; N]) -> [u8; 3],
    into: &mut PlanarImage,
) {
    into.resize(width, height, Subsampling::S444);
    let (y, chroma) = into.planes_mut();
    let [u, v] = chroma.expect("4:4:4 has chroma");
    let (pixels, _) = pixels.as_chunks::<N>();
    for (((pixel, y), u), v) in pixels.iter().zip(y.samples).zip(u.samples).zip(v.samples) {
        [*y, *u, *v] = bt601::ycc_from_rgb(rgb(*pixel));
    }
}

/// Fills a grey image from pixels of `N` bytes.
fn grey_plane<const N: usize>(
    pixels: &[u8],
    (width, height): (usize, usize),
    luma: impl Fn([u8; N]) -> u8,
    into: &mut PlanarImage,
) {
    into.resize(width, height, Subsampling::Grey);
    let (plane, _) = into.planes_mut();
    let (pixels, _) = pixels.as_chunks::<N>();
    for (pixel, sample) in pixels.iter().zip(plane.samples) {
        *sample = luma(*pixel);
    }
}

/// Blends over white, which is what a transparent picture stands on in a browser.
fn over_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

/// 16 bits in native order, as the `image` crate hands them out, rounded to 8.
fn narrow(bytes: [u8; 2]) -> u8 {
    ((u32::from(u16::from_ne_bytes(bytes)) * 255 + 32767) / 65535) as u8
}

fn open(format: Format, bytes: &[u8]) -> Result<Box<dyn ImageDecoder + '_>, Error> {
    let reader = Cursor::new(bytes);
    let opened: Result<Box<dyn ImageDecoder>, ImageError> = if format == Format::Png {
        let mut limits = image::Limits::default();
        limits.max_alloc = Some(PNG_WORKING_BYTES);
        PngDecoder::with_limits(reader, limits).map(|png| Box::new(png) as _)
    } else {
        WebPDecoder::new(reader).map(|webp| Box::new(webp) as _)
    };
    opened.map_err(|e| describe(format, e))
}

fn describe(format: Format, error: ImageError) -> Error {
    match error {
        ImageError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => Error::Truncated(format),
        error => Error::corrupt(format, error),
    }
}
