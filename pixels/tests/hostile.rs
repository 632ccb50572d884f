//! Whatever a peer sends is refused in words, never by a panic, and never half decoded.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cloudpose_pixels::{Decoder, Encoder, Error, Format, Limits, PlanarImage, probe};
use proptest::prelude::*;

const FILES: [&[u8]; 7] = [
    include_bytes!("data/progressive.jpg"),
    include_bytes!("data/turned.jpg"),
    include_bytes!("data/cmyk.jpg"),
    include_bytes!("data/palette.png"),
    include_bytes!("data/alpha16.png"),
    include_bytes!("data/lossy.webp"),
    include_bytes!("data/turned.webp"),
];

fn decode(bytes: &[u8]) -> Result<PlanarImage, Error> {
    let mut image = PlanarImage::default();
    Decoder::new(Limits::default()).unwrap().decode(bytes, &mut image).map(|_| image)
}

#[test]
fn what_is_no_image_is_told_so() {
    assert!(matches!(decode(b""), Err(Error::Empty)));
    for bytes in [&b"hello"[..], b"GIF89a......", b"{\"image\": \"/9j/\"}", &[0; 1000], &[0xFF, 0xD8]] {
        assert!(matches!(decode(bytes), Err(Error::UnknownFormat)), "{bytes:?}");
    }
}

#[test]
fn a_baseline_file_cut_anywhere_is_an_error() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut image = PlanarImage::default();
    let jpeg = Encoder::new()
        .unwrap()
        .encode(&PlanarImage::new(160, 90, decode(FILES[0]).unwrap().subsampling()), 90)
        .unwrap();
    for len in 3..jpeg.len() {
        let outcome = decoder.decode(&jpeg[..len], &mut image);
        assert!(matches!(outcome, Err(Error::Truncated(Format::Jpeg))), "{len}: {outcome:?}");
    }
}

#[test]
fn a_file_of_any_format_cut_short_is_an_error() {
    for file in FILES {
        // The last bytes of a PNG or WebP may be a checksum or metadata that the picture does not need.
        let needed = if file.starts_with(&[0xFF, 0xD8]) { file.len() } else { file.len() * 3 / 4 };
        for len in 0..needed {
            assert!(decode(&file[..len]).is_err(), "{len} of {} bytes", file.len());
        }
    }
}

/// A PNG of nothing but a header that claims a size.
fn png_claiming(width: u32, height: u32) -> Vec<u8> {
    let mut png = FILES[3].to_vec();
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    png
}

#[test]
fn sizes_beyond_the_limit_are_refused_from_the_header() {
    for (width, height) in [(60_000, 60_000), (4097, 4096), (u32::MAX, u32::MAX), (70_000, 1)] {
        let outcome = probe(&png_claiming(width, height), Limits::default());
        assert!(matches!(outcome, Err(Error::TooLarge { .. })), "{width}×{height}: {outcome:?}");
    }
    let mut jpeg = FILES[0].to_vec();
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC2]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xF0);
    assert!(matches!(decode(&jpeg), Err(Error::TooLarge { width: 61_680, height: 61_680, .. })));

    let tight = Limits { max_pixels: 48 * 32 - 1 };
    for file in FILES {
        assert!(matches!(probe(file, tight), Err(Error::TooLarge { .. })));
        assert!(probe(file, Limits { max_pixels: 48 * 32 }).is_ok());
    }
}

#[test]
fn coding_processes_we_do_not_take_are_named() {
    let jpeg = FILES[0];
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC2]).unwrap();
    for (offset, value, what) in [(1, 0xC3, "lossless"), (1, 0xC5, "hierarchical"), (4, 12, "8 bits")] {
        let mut bytes = jpeg.to_vec();
        bytes[frame + offset] = value;
        let message = decode(&bytes).unwrap_err().to_string();
        assert!(message.contains(what), "{message}");
    }
}

#[test]
fn a_progressive_file_of_very_many_scans_is_refused() {
    let jpeg = FILES[0];
    let last_scan = jpeg.windows(2).rposition(|w| w == [0xFF, 0xDA]).unwrap();
    let (head, scan) = (&jpeg[..last_scan], &jpeg[last_scan..jpeg.len() - 2]);
    let mut bomb = head.to_vec();
    for _ in 0..1000 {
        bomb.extend(scan);
    }
    bomb.extend([0xFF, 0xD9]);
    let message = decode(&bomb).unwrap_err().to_string();
    assert!(message.contains("scans"), "{message}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_files_never_panic(
        file in 0..FILES.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        len in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = FILES[file].to_vec();
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if cut {
            bytes.truncate(len.index(bytes.len()));
        }
        if let Ok(image) = decode(&bytes) {
            prop_assert!(image.width() * image.height() <= 4096 * 4096);
        }
    }

    #[test]
    fn noise_behind_a_signature_never_panics(
        file in 0..FILES.len(),
        noise in prop::collection::vec(any::<u8>(), 0..400),
        kept in 3..40usize,
    ) {
        let mut bytes = FILES[file][..kept].to_vec();
        bytes.extend(noise);
        // Noise is a valid arithmetic-coded WebP now and then, so any outcome will do.
        let outcome = decode(&bytes);
        prop_assert!(outcome.is_err() || bytes.starts_with(b"RIFF"));
    }
}
