//! Every kind of file we take comes out as the same upright picture.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cloudpose_pixels::{Component, Decoder, Encoder, Format, Limits, PlanarImage, Subsampling, bt601, probe};

const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
const WHITE: [u8; 3] = [255, 255, 255];
const BLACK: [u8; 3] = [0, 0, 0];

fn decode(bytes: &[u8]) -> PlanarImage {
    let mut image = PlanarImage::default();
    let header = Decoder::new(Limits::default()).unwrap().decode(bytes, &mut image).unwrap();
    assert_eq!((header.width as usize, header.height as usize), (image.width(), image.height()));
    assert_eq!(probe(bytes, Limits::default()).unwrap(), header);
    image
}

fn rgb_at(image: &PlanarImage, x: usize, y: usize) -> [u8; 3] {
    let (across, down) = image.subsampling().step();
    let chroma = |c| image.plane(c).map_or(128, |p| p.row(y / down)[x / across]);
    bt601::rgb_from_ycc([image.luma().row(y)[x], chroma(Component::U), chroma(Component::V)])
}

#[track_caller]
fn assert_quadrants(image: &PlanarImage, expected: [[u8; 3]; 4], tolerance: u8) {
    let (w, h) = (image.width(), image.height());
    let centres = [(w / 4, h / 4), (3 * w / 4, h / 4), (w / 4, 3 * h / 4), (3 * w / 4, 3 * h / 4)];
    for ((x, y), expected) in centres.into_iter().zip(expected) {
        let got = rgb_at(image, x, y);
        for c in 0..3 {
            assert!(got[c].abs_diff(expected[c]) <= tolerance, "({x}, {y}) is {got:?}, not {expected:?}");
        }
    }
}

#[test]
fn every_format_shows_the_same_picture() {
    let files: [(&str, &[u8], Format, Subsampling); 12] = [
        ("progressive.jpg", include_bytes!("data/progressive.jpg"), Format::Jpeg, Subsampling::S420),
        ("rgb.jpg", include_bytes!("data/rgb.jpg"), Format::Jpeg, Subsampling::S444),
        ("cmyk.jpg", include_bytes!("data/cmyk.jpg"), Format::Jpeg, Subsampling::S444),
        ("turned.jpg", include_bytes!("data/turned.jpg"), Format::Jpeg, Subsampling::S440),
        ("palette.png", include_bytes!("data/palette.png"), Format::Png, Subsampling::S444),
        ("rgb.png", include_bytes!("data/rgb.png"), Format::Png, Subsampling::S444),
        ("rgb16.png", include_bytes!("data/rgb16.png"), Format::Png, Subsampling::S444),
        ("alpha.png", include_bytes!("data/alpha.png"), Format::Png, Subsampling::S444),
        ("alpha16.png", include_bytes!("data/alpha16.png"), Format::Png, Subsampling::S444),
        ("turned.png", include_bytes!("data/turned.png"), Format::Png, Subsampling::S444),
        ("lossy.webp", include_bytes!("data/lossy.webp"), Format::WebP, Subsampling::S444),
        ("turned.webp", include_bytes!("data/turned.webp"), Format::WebP, Subsampling::S444),
    ];
    for (name, bytes, format, subsampling) in files {
        println!("{name}");
        let image = decode(bytes);
        assert_eq!(probe(bytes, Limits::default()).unwrap().format, format);
        assert_eq!((image.width(), image.height()), (48, 32), "{name}");
        assert_eq!(image.subsampling(), subsampling, "{name}");
        assert_quadrants(&image, [RED, GREEN, BLUE, WHITE], 12);
    }
    assert_quadrants(&decode(include_bytes!("data/alpha.webp")), [RED, GREEN, BLUE, WHITE], 2);
    for grey in [&include_bytes!("data/grey1.png")[..], include_bytes!("data/grey16.png")] {
        let image = decode(grey);
        assert_eq!(image.subsampling(), Subsampling::Grey);
        assert_quadrants(&image, [BLACK, WHITE, BLACK, WHITE], 0);
    }
}

/// Smooth in both directions and different in every corner.
fn gradient(width: usize, height: usize, subsampling: Subsampling) -> PlanarImage {
    let mut image = PlanarImage::new(width, height, subsampling);
    let (across, down) = subsampling.step();
    let (mut luma, chroma) = image.planes_mut();
    for y in 0..luma.height {
        for (x, sample) in luma.row_mut(y).iter_mut().enumerate() {
            *sample = (40 + 3 * x + y) as u8;
        }
    }
    for (i, mut plane) in chroma.into_iter().flatten().enumerate() {
        for y in 0..plane.height {
            for (x, sample) in plane.row_mut(y).iter_mut().enumerate() {
                *sample = (90 + x * across + 2 * y * down + 20 * i) as u8;
            }
        }
    }
    image
}

fn worst_difference(a: &PlanarImage, b: &PlanarImage) -> u8 {
    assert_eq!((a.width(), a.height(), a.subsampling()), (b.width(), b.height(), b.subsampling()));
    let mut worst = 0;
    for component in [Component::Y, Component::U, Component::V] {
        let (Some(a), Some(b)) = (a.plane(component), b.plane(component)) else { continue };
        for y in 0..a.height {
            let rows = a.row(y).iter().zip(b.row(y));
            worst = rows.map(|(a, b)| a.abs_diff(*b)).fold(worst, u8::max);
        }
    }
    worst
}

#[test]
fn encoding_and_decoding_keeps_every_subsampling_and_size() {
    let mut encoder = Encoder::new().unwrap();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut back = PlanarImage::default();
    for subsampling in Subsampling::ALL {
        for (width, height) in [(1, 1), (17, 13), (1, 40), (33, 1), (48, 32)] {
            let image = gradient(width, height, subsampling);
            let jpeg = encoder.encode(&image, 100).unwrap();
            decoder.decode(&jpeg, &mut back).unwrap();
            let worst = worst_difference(&image, &back);
            assert!(worst <= 4, "{width}×{height} {subsampling:?}: off by {worst}");
        }
    }
}

/// Puts an EXIF segment with nothing but an orientation behind SOI.
fn with_orientation(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut bytes = vec![0xFF, 0xD8, 0xFF, 0xE1, 0, 34];
    bytes.extend(b"Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0");
    bytes.extend([orientation, 0, 0, 0, 0, 0, 0]);
    bytes.extend(&jpeg[2..]);
    bytes
}

#[test]
fn all_eight_orientations_come_out_upright() {
    // The stored picture that EXIF orientation n turns into the upright one: (x, y) to stored (x, y).
    let stored_of = |exif: u8, (w, h): (usize, usize), (x, y): (usize, usize)| match exif {
        1 => (x, y),
        2 => (w - 1 - x, y),
        3 => (w - 1 - x, h - 1 - y),
        4 => (x, h - 1 - y),
        5 => (y, x),
        6 => (y, w - 1 - x),
        7 => (h - 1 - y, w - 1 - x),
        _ => (h - 1 - y, x),
    };
    let size = (37, 22);
    let upright = gradient(size.0, size.1, Subsampling::Grey);
    for subsampling in Subsampling::ALL {
        for exif in 1..=8 {
            let stored_size = if exif >= 5 { (size.1, size.0) } else { size };
            let mut stored = PlanarImage::new(stored_size.0, stored_size.1, subsampling);
            let (mut luma, _) = stored.planes_mut();
            for y in 0..size.1 {
                for x in 0..size.0 {
                    let (sx, sy) = stored_of(exif, size, (x, y));
                    luma.row_mut(sy)[sx] = upright.luma().row(y)[x];
                }
            }
            let jpeg = Encoder::new().unwrap().encode(&stored, 100).unwrap();
            let turned = decode(&with_orientation(&jpeg, exif));
            for y in 0..size.1 {
                for x in 0..size.0 {
                    let (got, expected) = (turned.luma().row(y)[x], upright.luma().row(y)[x]);
                    assert!(got.abs_diff(expected) <= 3, "exif {exif} {subsampling:?} ({x}, {y})");
                }
            }
        }
    }
}

#[test]
fn a_decoder_leaves_nothing_of_the_image_before() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut image = PlanarImage::default();
    decoder.decode(include_bytes!("data/turned.jpg"), &mut image).unwrap();
    decoder.decode(include_bytes!("data/grey1.png"), &mut image).unwrap();
    assert_quadrants(&image, [BLACK, WHITE, BLACK, WHITE], 0);
    decoder.decode(include_bytes!("data/rgb.png"), &mut image).unwrap();
    assert_quadrants(&image, [RED, GREEN, BLUE, WHITE], 2);
}
