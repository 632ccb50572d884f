//! Pixels as a PNG that is not compressed: workers take image files, and packing would cost more than it saves.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, Crc, write::ZlibEncoder};

/// A PNG (W3C Recommendation, third edition) of `height` rows of `width` pixels, RGB, 8 bits a sample. `rgb` has
/// `width * height * 3` bytes.
pub(super) fn png(width: u32, height: u32, rgb: &[u8]) -> Bytes {
    let mut header = [0; 13];
    header[..4].copy_from_slice(&width.to_be_bytes());
    header[4..8].copy_from_slice(&height.to_be_bytes());
    // 8 bits, RGB; the only ways to compress and to filter; not interlaced.
    header[8..].copy_from_slice(&[8, 2, 0, 0, 0]);
    let mut rows = ZlibEncoder::new(Vec::with_capacity(rgb.len() + rgb.len() / 64 + 64), Compression::none());
    // No filter.
    rgb.chunks_exact(3 * width as usize)
        .try_for_each(|row| rows.write_all(&[0]).and_then(|()| rows.write_all(row)))
        .expect("a vector takes everything");
    let rows = rows.finish().expect("a vector takes everything");
    let mut file = Vec::with_capacity(rows.len() + 64);
    file.extend_from_slice(b"\x89PNG\r\n\x1a\n");
    for (name, data) in [(b"IHDR", &header[..]), (b"IDAT", &rows), (b"IEND", &[])] {
        let length = u32::try_from(data.len()).expect("an image has less than 4 GiB");
        file.extend_from_slice(&length.to_be_bytes());
        file.extend_from_slice(name);
        file.extend_from_slice(data);
        let mut sum = Crc::new();
        sum.update(name);
        sum.update(data);
        file.extend_from_slice(&sum.sum().to_be_bytes());
    }
    file.into()
}

#[cfg(test)]
mod tests {
    use cloudpose_pixels::{Component, Decoder, Limits, PlanarImage};

    use super::*;

    #[test]
    fn decoder_reads_the_pixels() {
        let red = [255, 0, 0].repeat(5 * 4);
        let mut planes = PlanarImage::default();
        Decoder::new(Limits::default()).unwrap().decode(&png(5, 4, &red), &mut planes).unwrap();
        assert_eq!((planes.width(), planes.height()), (5, 4));
        assert_eq!(planes.luma().row(3), [76; 5]);
        assert_eq!(planes.plane(Component::V).unwrap().row(0)[0], 255);
    }
}
