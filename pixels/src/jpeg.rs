//! JPEG through libjpeg-turbo.

use turbojpeg::{Colorspace, Decompressor, Image, PixelFormat, Subsamp, YuvImage};

use crate::{Error, Format, Header, Limits, Orientation, PlanarImage, Subsampling, packed};

/// Most scans of a file, of however small a picture. libjpeg-turbo sets no limit by itself.
const MAX_SCANS: u32 = 64;
/// Most scans of a file with as many pixels as there may be; of a smaller picture as many more as it is smaller.
///
/// A hostile file can make each scan cost a pass over the whole picture with a few bytes ("Two Issues with the JPEG
/// Standard", libjpeg-turbo project, 2013, issue 1): about 10 ms at 4096×4096. Encoders write ten for a
/// colour picture (`jpeg_simple_progression`), a few more when they optimise. So what scans cost stays about what
/// the picture costs without them.
const FULL_SIZE_SCANS: u64 = 16;

const TOO_MANY_SCANS: &str = "JPEG that goes over a picture of its size in so many scans";

/// Marker codes, the byte after 0xFF (ITU-T T.81 table B.1).
mod marker {
    pub(super) const TEM: u8 = 0x01;
    pub(super) const SOF0: u8 = 0xC0;
    pub(super) const DHT: u8 = 0xC4;
    pub(super) const JPG: u8 = 0xC8;
    pub(super) const DAC: u8 = 0xCC;
    pub(super) const SOF15: u8 = 0xCF;
    pub(super) const RST0: u8 = 0xD0;
    pub(super) const SOI: u8 = 0xD8;
    pub(super) const EOI: u8 = 0xD9;
    pub(super) const SOS: u8 = 0xDA;
    pub(super) const APP1: u8 = 0xE1;
}

pub(crate) fn decompressor() -> Result<Decompressor, Error> {
    let mut jpeg = Decompressor::new()?;
    jpeg.set_scan_limit(MAX_SCANS)?;
    Ok(jpeg)
}

pub(crate) const fn to_turbo(subsampling: Subsampling) -> Subsamp {
    match subsampling {
        Subsampling::S444 => Subsamp::None,
        Subsampling::S422 => Subsamp::Sub2x1,
        Subsampling::S420 => Subsamp::Sub2x2,
        Subsampling::S440 => Subsamp::Sub1x2,
        Subsampling::S411 => Subsamp::Sub4x1,
        Subsampling::S441 => Subsamp::Sub1x4,
        Subsampling::Grey => Subsamp::Gray,
    }
}

/// `None` for sampling factors that have no name; such a file decodes to RGB only.
fn from_turbo(subsamp: Subsamp) -> Option<Subsampling> {
    Subsampling::ALL.into_iter().find(|&s| to_turbo(s) == subsamp)
}

/// Reads the marker segments before the first scan (T.81 section B.2): size, sample precision,
/// coding process, orientation.
pub(crate) fn read_header(bytes: &[u8], limits: Limits) -> Result<Header, Error> {
    let mut orientation = None;
    let mut size = None;
    let mut passes = Passes::One;
    let mut segments = Segments { rest: bytes };
    while let Some((code, body)) = segments.next()? {
        match code {
            marker::SOS => {
                passes = passes.of_first_scan(body);
                break;
            }
            marker::DHT | marker::JPG | marker::DAC => {}
            marker::SOF0..=marker::SOF15 => {
                size = Some(read_frame_header(code, body)?);
                passes = Passes::of_frame(code, body);
            }
            marker::APP1 => {
                if let Some(exif) = body.strip_prefix(b"Exif\0\0") {
                    orientation = orientation.or(Orientation::from_exif_chunk(exif));
                }
            }
            _ => {}
        }
    }
    let (width, height) =
        size.ok_or_else(|| Error::corrupt(Format::Jpeg, "a scan comes before the frame header"))?;
    limits.check(width.into(), height.into())?;
    if passes == Passes::Many {
        let scans = 1 + count_scans(segments.rest);
        let budget = FULL_SIZE_SCANS * limits.max_pixels;
        if scans > u64::from(MAX_SCANS) || scans * u64::from(width) * u64::from(height) > budget {
            return Err(Error::Unsupported(TOO_MANY_SCANS));
        }
    }
    Ok(Header::new(Format::Jpeg, (width, height), orientation.unwrap_or(Orientation::NoTransforms)))
}

/// Reads (width, height) from the frame header (T.81 section B.2.2) and refuses the coding processes
/// that libjpeg-turbo does not decode to 8-bit planes.
fn read_frame_header(code: u8, body: &[u8]) -> Result<(u32, u32), Error> {
    let &[precision, y1, y0, x1, x0, ..] = body else {
        return Err(Error::corrupt(Format::Jpeg, "the frame header is too short"));
    };
    match code - marker::SOF0 {
        // Baseline, extended and progressive, Huffman or arithmetic coding.
        0 | 1 | 2 | 9 | 10 => {}
        3 | 11 => return Err(Error::Unsupported("lossless JPEG")),
        _ => return Err(Error::Unsupported("hierarchical JPEG")),
    }
    if precision != 8 {
        return Err(Error::Unsupported("JPEG with more than 8 bits a sample"));
    }
    match (u16::from_be_bytes([x1, x0]), u16::from_be_bytes([y1, y0])) {
        // The height may follow the first scan (DNL, section B.2.5). Nobody writes that.
        (_, 0) => Err(Error::Unsupported("JPEG without a height in its header")),
        (0, _) => Err(Error::corrupt(Format::Jpeg, "the width is 0")),
        (width, height) => Ok((width.into(), height.into())),
    }
}

/// How often the decoder goes over the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// It reads one scan and is done, whatever follows.
    One,
    /// One for each scan.
    Many,
    /// It depends on whether the first scan has so many components.
    Components(u8),
}

impl Passes {
    fn of_frame(code: u8, body: &[u8]) -> Self {
        match code - marker::SOF0 {
            2 | 10 => Self::Many,
            _ => body.get(5).map_or(Self::One, |count| Self::Components(*count)),
        }
    }

    fn of_first_scan(self, body: &[u8]) -> Self {
        match self {
            Self::Components(count) if body.first().is_some_and(|scanned| *scanned < count) => Self::Many,
            Self::Components(_) => Self::One,
            known => known,
        }
    }
}

/// Scans that begin in what follows the header of a scan, up to the end of the file.
fn count_scans(mut rest: &[u8]) -> u64 {
    let mut scans = 0;
    while let Some(at) = rest.iter().position(|byte| *byte == 0xFF) {
        rest = &rest[at + 1..];
        match rest {
            [marker::EOI, ..] => break,
            // Part of the picture's data, restarts, fill bytes, and what the decoder may pass over by itself.
            [] | [0..marker::SOF0 | marker::RST0..=marker::SOI | 0xFF, ..] => {}
            [code, l1, l0, ..] => {
                scans += u64::from(*code == marker::SOS);
                rest = rest.get(1 + usize::from(u16::from_be_bytes([*l1, *l0]))..).unwrap_or_default();
            }
            _ => break,
        }
    }
    scans
}

/// Marker segments in order. Ends at EOI; entropy-coded data are not skipped.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    fn next(&mut self) -> Result<Option<(u8, &'a [u8])>, Error> {
        loop {
            let code = match *self.rest {
                [0xFF, 0xFF, ..] => {
                    self.rest = &self.rest[1..];
                    continue;
                }
                [0xFF, code, ..] => code,
                [] | [0xFF] => return Err(Error::Truncated(Format::Jpeg)),
                _ => return Err(Error::corrupt(Format::Jpeg, "no marker where one is due")),
            };
            self.rest = &self.rest[2..];
            match code {
                marker::EOI => return Ok(None),
                marker::TEM | marker::RST0..=marker::SOI => continue,
                _ => {}
            }
            let &[l1, l0, ..] = self.rest else { return Err(Error::Truncated(Format::Jpeg)) };
            let len = usize::from(u16::from_be_bytes([l1, l0]));
            if len < 2 {
                return Err(Error::corrupt(Format::Jpeg, "a marker segment of no length"));
            }
            let body = self.rest.get(2..len).ok_or(Error::Truncated(Format::Jpeg))?;
            self.rest = &self.rest[len..];
            return Ok(Some((code, body)));
        }
    }
}

/// Decodes to planes, at the decompressor's scale: as stored for YCbCr and grey files, by way of `packed`
/// pixels, empty otherwise, for the rest.
pub(crate) fn decode(
    jpeg: &mut Decompressor,
    bytes: &[u8],
    limits: Limits,
    packed: &mut Vec<u8>,
    into: &mut PlanarImage,
) -> Result<(), Error> {
    let header = jpeg.read_header(bytes).map_err(describe)?;
    // `probe` has checked the same bytes, but this is the reader that the planes are sized by.
    limits.check(header.width as u64, header.height as u64)?;
    let scaled = header.scaled(jpeg.scaling_factor());
    let (width, height) = (scaled.width, scaled.height);

    match (header.colorspace, from_turbo(header.subsamp)) {
        (Colorspace::YCbCr | Colorspace::Gray, Some(subsampling)) => {
            packed.clear();
            into.resize(width, height, subsampling);
            let pixels = into.samples_mut();
            let planes = YuvImage { pixels, width, align: 1, height, subsamp: header.subsamp };
            settle(jpeg.decompress_to_yuv(bytes, planes))
        }
        (Colorspace::CMYK | Colorspace::YCCK, _) => {
            decompress(jpeg, bytes, PixelFormat::CMYK, packed, (width, height))?;
            packed::color_planes::<4>(packed, (width, height), rgb_from_inverted_cmyk, into);
            Ok(())
        }
        _ => {
            decompress(jpeg, bytes, PixelFormat::RGB, packed, (width, height))?;
            packed::color_planes::<3>(packed, (width, height), |rgb| rgb, into);
            Ok(())
        }
    }
}

fn decompress(
    jpeg: &mut Decompressor,
    bytes: &[u8],
    format: PixelFormat,
    packed: &mut Vec<u8>,
    (width, height): (usize, usize),
) -> Result<(), Error> {
    let pitch = width * format.size();
    packed.resize(pitch * height, 0);
    settle(jpeg.decompress(bytes, Image { pixels: packed, width, pitch, height, format }))
}

/// CMYK in a JPEG is stored inverted, 255 for no ink, as Adobe does and libjpeg-turbo's own tools
/// assume (`cmyk.h`). Without an ink profile each ink takes its share of the light.
fn rgb_from_inverted_cmyk([c, m, y, k]: [u8; 4]) -> [u8; 3] {
    [c, m, y].map(|ink| ((u32::from(ink) * u32::from(k) + 127) / 255) as u8)
}

/// The outcome of a decompression. libjpeg-turbo fills what it cannot read with grey and warns; the
/// warning arrives here as an error, and an error it stays, except for stray bytes before the end
/// marker, which some cameras write and which leave the picture whole.
fn settle(outcome: turbojpeg::Result<()>) -> Result<(), Error> {
    match outcome {
        Err(turbojpeg::Error::TurboJpegError(text))
            if text.contains("extraneous bytes before marker 0xd9") =>
        {
            Ok(())
        }
        outcome => outcome.map_err(describe),
    }
}

fn describe(error: turbojpeg::Error) -> Error {
    match &error {
        turbojpeg::Error::TurboJpegError(text) if text.contains("Premature end of") => {
            Error::Truncated(Format::Jpeg)
        }
        turbojpeg::Error::TurboJpegError(text) if text.contains("scans") => {
            Error::Unsupported(TOO_MANY_SCANS)
        }
        _ => Error::corrupt(Format::Jpeg, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stray_bytes_before_the_end_are_forgiven_and_inside_the_picture_are_not() {
        let mut image = PlanarImage::new(64, 64, Subsampling::S420);
        let jpeg = crate::Encoder::new().unwrap().encode(&image, 90).unwrap();
        let mut stray = jpeg[..jpeg.len() - 2].to_vec();
        stray.extend([0, 0, 0, 0xFF, 0xD9]);
        let mut decoder = crate::Decoder::new(Limits::default()).unwrap();
        decoder.decode(&stray, &mut image).unwrap();
        assert!(image.luma().samples.iter().all(|&s| s.abs_diff(128) < 2));

        stray.truncate(jpeg.len() - 2);
        assert!(matches!(decoder.decode(&stray, &mut image), Err(Error::Truncated(Format::Jpeg))));
    }
}
