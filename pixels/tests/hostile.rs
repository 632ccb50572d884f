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

#[test]
fn scans_are_counted_against_the_size_of_the_picture() {
    let jpeg = FILES[0];
    let frame = jpeg.windows(2).position(|w| w == [0xFF, 0xC2]).unwrap();
    let begins = |bytes: &[u8]| bytes.windows(2).filter(|w| w == &[0xFF, 0xDA]).count();
    let last_scan = jpeg.windows(2).rposition(|w| w == [0xFF, 0xDA]).unwrap();
    let of = |side: u16, scans: usize| {
        let mut bytes = jpeg[..jpeg.len() - 2].to_vec();
        bytes[frame + 5..frame + 7].copy_from_slice(&side.to_be_bytes());
        bytes[frame + 7..frame + 9].copy_from_slice(&side.to_be_bytes());
        for _ in begins(jpeg)..scans {
            bytes.extend(&jpeg[last_scan..jpeg.len() - 2]);
        }
        probe(&bytes, Limits::default())
    };
    assert!(begins(jpeg) < 16);
    for (side, most) in [(4096, 16), (2896, 32), (2048, 64), (16, 64)] {
        assert!(of(side, most).is_ok(), "{side}: {most}");
        let message = of(side, most + 1).unwrap_err().to_string();
        assert!(message.contains("scans"), "{side}: {message}");
    }
}

#[test]
fn scans_are_found_wherever_the_decoder_finds_them() {
    let jpeg = FILES[0];
    let last_scan = jpeg.windows(2).rposition(|w| w == [0xFF, 0xDA]).unwrap();
    let scan = &jpeg[last_scan..jpeg.len() - 2];
    // A marker that is passed over with what only looks like its segment; fill bytes; one inside of a segment.
    for (between, refused) in [
        (&[0xFF, 0x02, 0x7F, 0xFF][..], true),
        (&[0xFF, 0xFF, 0xFF], true),
        (&[0xFF, 0xFE, 0x7F, 0xFF], false),
    ] {
        let mut bytes = jpeg[..jpeg.len() - 2].to_vec();
        for _ in 0..70 {
            bytes.extend(between);
            bytes.extend(scan);
        }
        assert_eq!(probe(&bytes, Limits::default()).is_err(), refused, "{between:?}");
    }
}

/// A WebP of these chunks.
fn webp(chunks: &[(&[u8; 4], &[u8])]) -> Vec<u8> {
    let mut body = b"WEBP".to_vec();
    for (name, chunk) in chunks {
        body.extend(*name);
        body.extend((chunk.len() as u32).to_le_bytes());
        body.extend(*chunk);
        body.resize(body.len().next_multiple_of(2), 0);
    }
    let mut file = b"RIFF".to_vec();
    file.extend((body.len() as u32).to_le_bytes());
    file.extend(body);
    file
}

/// The chunk that says what a file has, and how large its canvas is.
fn canvas(flags: u8, (width, height): (u32, u32)) -> Vec<u8> {
    let [w0, w1, w2, _] = (width - 1).to_le_bytes();
    let [h0, h1, h2, _] = (height - 1).to_le_bytes();
    vec![flags, 0, 0, 0, w0, w1, w2, h0, h1, h2]
}

/// The first bytes of a lossy picture.
fn lossy(width: u16, height: u16) -> Vec<u8> {
    let [[w0, w1], [h0, h1]] = [width.to_le_bytes(), height.to_le_bytes()];
    vec![0x10, 2, 0, 0x9D, 0x01, 0x2A, w0, w1, h0, h1, 0, 0, 0, 0]
}

#[test]
fn metadata_that_claim_more_than_there_is_are_refused() {
    let mut bytes = webp(&[(b"VP8X", &canvas(8, (64, 64))), (b"VP8 ", &lossy(64, 64)), (b"EXIF", b"MM")]);
    assert!(probe(&bytes, Limits::default()).is_ok());
    let length = bytes.len() - 6;
    bytes[length..length + 4].fill(0xFF);
    assert!(matches!(probe(&bytes, Limits::default()), Err(Error::Truncated(Format::WebP))));
    // In a frame, where the decoder would take it from as well.
    let mut frame = vec![0; 16];
    frame[6] = 63;
    frame[9] = 63;
    frame.extend(b"EXIF\xFF\xFF\xFF\xFFMM");
    let bytes = webp(&[(b"VP8X", &canvas(0, (64, 64))), (b"VP8 ", &lossy(64, 64)), (b"ANMF", &frame)]);
    assert!(probe(&bytes, Limits::default()).is_ok());
}

#[test]
fn a_webp_is_as_large_as_its_bit_stream_says() {
    let huge = lossy(16383, 16383);
    let small = lossy(64, 64);
    let lossless = [&[0x2F][..], &0x0FFF_FFFF_u32.to_le_bytes()].concat();
    let mut frame = [0; 16];
    (frame[6], frame[9]) = (63, 63);
    for (name, stream) in [(b"VP8 ", &huge), (b"VP8L", &lossless)] {
        let inside = [&frame[..], name, &(stream.len() as u32).to_le_bytes(), stream].concat();
        for (how, file) in [
            ("alone", webp(&[(name, stream)])),
            ("on a canvas", webp(&[(b"VP8X", &canvas(0, (64, 64))), (name, stream)])),
            (
                "in an animation",
                webp(&[(b"VP8X", &canvas(2, (64, 64))), (b"ANIM", &[0; 6]), (b"ANMF", &inside)]),
            ),
            (
                "in a frame without an animation",
                webp(&[
                    (b"VP8X", &canvas(0, (64, 64))),
                    if name == b"VP8 " { (b"VP8L", &[0x2F, 63, 0xC0, 0x0F, 0]) } else { (b"VP8 ", &small) },
                    (b"ANMF", &inside),
                ]),
            ),
        ] {
            let outcome = probe(&file, Limits::default());
            assert!(matches!(outcome, Err(Error::TooLarge { .. })), "{name:?} {how}: {outcome:?}");
        }
    }
    let other = webp(&[(b"VP8X", &canvas(0, (64, 64))), (b"VP8 ", &lossy(64, 65))]);
    let message = probe(&other, Limits::default()).unwrap_err().to_string();
    assert!(message.contains("size"), "{message}");
}

/// Bits, the lowest of each byte first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    len: usize,
}

impl Bits {
    fn put(&mut self, value: u32, count: usize) {
        for place in 0..count {
            if self.len.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> place & 1) as u8) << (self.len % 8);
            self.len += 1;
        }
    }

    /// A code of one symbol, which then takes no bits.
    fn only(&mut self, symbol: u32) {
        self.put(0b101, 3);
        self.put(symbol, 8);
    }

    /// A group of codes for pictures of one colour.
    fn group(&mut self, [red, green, blue]: [u32; 3]) {
        [green, red, blue, 255, 0].into_iter().for_each(|symbol| self.only(symbol));
    }

    /// What follows the header of a lossless picture of 4×4 with so many groups of codes, of which the last is used.
    fn groups(&mut self, groups: u32) {
        // No transform, no cache; blocks of 4×4, so that one says which group is used.
        [0, 0, 1].into_iter().for_each(|bit| self.put(bit, 1));
        self.put(0, 3);
        self.put(0, 1);
        self.group([(groups - 1) >> 8, (groups - 1) & 0xFF, 0]);
        (0..groups).for_each(|group| self.group([group % 256, 0, 0]));
    }
}

/// A lossless picture of 4×4 with so many groups of Huffman codes, red by the last one's number.
fn grouped(groups: u32) -> Vec<u8> {
    let mut bits = Bits::default();
    bits.put(0x2F, 8);
    bits.put(3, 14);
    bits.put(3, 14);
    bits.put(0, 4);
    bits.groups(groups);
    webp(&[(b"VP8L", &bits.bytes)])
}

#[test]
fn lossless_pictures_have_a_bounded_number_of_codes() {
    for groups in [1, 2, 300, 2600] {
        let image = decode(&grouped(groups)).unwrap();
        let [y, ..] = cloudpose_pixels::bt601::ycc_from_rgb([((groups - 1) % 256) as u8, 0, 0]);
        assert!(image.luma().samples.iter().all(|sample| *sample == y), "{groups}");
    }
    for groups in [2601, 65536] {
        let message = decode(&grouped(groups)).unwrap_err().to_string();
        assert!(message.contains("Huffman"), "{groups}: {message}");
    }
    // So has an alpha channel.
    let mut alpha = Bits::default();
    alpha.put(1, 8);
    alpha.groups(2601);
    let file = webp(&[(b"VP8X", &canvas(0x10, (4, 4))), (b"ALPH", &alpha.bytes), (b"VP8 ", &lossy(4, 4))]);
    let message = decode(&file).unwrap_err().to_string();
    assert!(message.contains("Huffman"), "{message}");
}

#[test]
fn lossless_pictures_of_an_encoder_are_taken() {
    for file in [include_bytes!("data/photo.webp").as_slice(), include_bytes!("data/drawing.webp")] {
        assert!(decode(file).is_ok());
        // What precedes its pixels is read twice, by the check and by the decoder.
        for at in (30..file.len()).step_by(7) {
            let mut damaged = file.to_vec();
            damaged[at] ^= 0x55;
            let _either = decode(&damaged);
        }
    }
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
