//! What a WebP file claims, held against the bytes that are there, before a decoder allocates by it.
//!
//! The decoder trusts the size of the canvas and the lengths of chunks. Here each is read once more: metadata from the
//! bytes themselves, and of the first picture its own size, which says what memory its decoding takes
//! (RFC 9649, section 2).

use crate::{Error, Format, Limits, Orientation, vp8l};

const TRUNCATED: Error = Error::Truncated(Format::WebP);

/// The first picture of a file, not yet decoded.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Parts<'a> {
    lossy: Option<&'a [u8]>,
    lossless: Option<&'a [u8]>,
    alpha: Option<&'a [u8]>,
    exif: Option<&'a [u8]>,
    /// Canvas of a file that has one, or the frame of an animation.
    size: Option<(u32, u32)>,
}

impl<'a> Parts<'a> {
    /// Finds the first picture and the metadata. Metadata that claim to go on behind the end of the file are refused;
    /// a picture that does will be missed when it is decoded.
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Error> {
        let (mut parts, mut animated, mut frame) = (Self::default(), false, None);
        let chunks = Chunks { rest: bytes.get(12..).ok_or(TRUNCATED)? };
        for (index, Chunk { name, body, whole }) in chunks.enumerate() {
            match &name {
                b"VP8X" if index == 0 => {
                    let head: &[u8; 10] = body.first_chunk().ok_or(TRUNCATED)?;
                    animated = head[0] & 2 != 0;
                    parts.size = Some((side(&head[4..]), side(&head[7..])));
                }
                b"ANMF" => frame = frame.or(Some(body)),
                b"EXIF" if !whole => return Err(TRUNCATED),
                b"EXIF" => parts.exif = parts.exif.or(Some(body)),
                _ if !animated => parts.take(&name, body),
                _ => {}
            }
            if index == 0 && parts.size.is_none() {
                // A file of one chunk: what follows means nothing.
                return Ok(parts);
            }
        }
        if let Some(frame) = frame {
            let head: &[u8; 16] = frame.first_chunk().ok_or(TRUNCATED)?;
            if animated {
                parts.size = Some((side(&head[6..]), side(&head[9..])));
            }
            // The decoder looks at these also if there is no animation.
            Chunks { rest: &frame[16..] }.take(2).for_each(|chunk| parts.take(&chunk.name, chunk.body));
        }
        Ok(parts)
    }

    fn take(&mut self, name: &[u8; 4], body: &'a [u8]) {
        let part = match name {
            b"VP8 " => &mut self.lossy,
            b"VP8L" => &mut self.lossless,
            b"ALPH" => &mut self.alpha,
            _ => return,
        };
        // As the decoder does, we take the first of a kind.
        part.get_or_insert(body);
    }

    pub(crate) fn orientation(&self) -> Orientation {
        self.exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
    }

    /// Checks the size that the bit stream has, whatever the file says around it.
    pub(crate) fn check_size(&self, limits: Limits) -> Result<(), Error> {
        for stream in [self.lossy.map(lossy_size), self.lossless.map(lossless_size)].into_iter().flatten() {
            let (width, height) = stream?;
            limits.check(width.into(), height.into())?;
            if self.size.is_some_and(|size| size != (width, height)) {
                return Err(Error::corrupt(Format::WebP, "the picture has not the size that the file says"));
            }
        }
        Ok(())
    }

    /// Checks what else the picture's decoding may need. The size has been checked.
    pub(crate) fn check_codes(&self) -> Result<(), Error> {
        if let Some(data) = self.lossless {
            vp8l::check(data)?;
        }
        match (self.alpha, self.lossy) {
            // The low bits of the first byte say how it is compressed.
            (Some([head, data @ ..]), Some(picture)) if head & 3 == 1 => {
                vp8l::check_alpha(data, lossy_size(picture)?)
            }
            _ => Ok(()),
        }
    }
}

/// A side of a canvas or frame: 24 bits, one less than it is.
fn side(bytes: &[u8]) -> u32 {
    u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) + 1
}

/// (width, height) of a VP8 key frame (RFC 6386, section 9.1).
fn lossy_size(data: &[u8]) -> Result<(u32, u32), Error> {
    match data {
        [tag, _, _, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, ..] if tag & 1 == 0 => {
            let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3FFF);
            Ok((side(*w0, *w1), side(*h0, *h1)))
        }
        short if short.len() < 10 => Err(TRUNCATED),
        _ => Err(Error::corrupt(Format::WebP, "the picture does not begin as a VP8 key frame does")),
    }
}

/// (width, height) of a lossless bit stream (RFC 9649, section 3.4).
fn lossless_size(data: &[u8]) -> Result<(u32, u32), Error> {
    match data {
        [0x2F, a, b, c, d, ..] => {
            let sides = u32::from_le_bytes([*a, *b, *c, *d]);
            Ok(((sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1))
        }
        [] | [0x2F, ..] => Err(TRUNCATED),
        _ => Err(Error::corrupt(Format::WebP, "the picture does not begin as a lossless one does")),
    }
}

struct Chunk<'a> {
    name: [u8; 4],
    /// As far as there are bytes.
    body: &'a [u8],
    /// It claims no more than that.
    whole: bool,
}

/// Chunks one after the other.
struct Chunks<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Chunks<'a> {
    type Item = Chunk<'a>;

    fn next(&mut self) -> Option<Chunk<'a>> {
        let (&[n0, n1, n2, n3, l0, l1, l2, l3], rest) = self.rest.split_first_chunk()?;
        let len = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        // They begin at even places.
        self.rest = rest.get(len.saturating_add(len % 2)..).unwrap_or_default();
        let body = rest.get(..len);
        Some(Chunk { name: [n0, n1, n2, n3], body: body.unwrap_or(rest), whole: body.is_some() })
    }
}
