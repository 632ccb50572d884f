//! Reduced decoding against averages of the whole picture.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cloudpose_pixels::{Component, Decoder, Encoder, Header, Limits, PlanarImage, Plane, Scale, Subsampling};

/// Waves that no block is too coarse for, each plane with its own.
fn waves(width: usize, height: usize, subsampling: Subsampling) -> PlanarImage {
    let mut image = PlanarImage::new(width, height, subsampling);
    let (mut luma, chroma) = image.planes_mut();
    let wave = |x: usize, y: usize, period: f32| {
        (128.0 + 50.0 * (x as f32 / period).sin() + 50.0 * (y as f32 / period).cos()) as u8
    };
    for y in 0..luma.height {
        for (x, sample) in luma.row_mut(y).iter_mut().enumerate() {
            *sample = wave(x, y, 25.0);
        }
    }
    for (mut plane, period) in chroma.into_iter().flatten().zip([20.0, 30.0]) {
        for y in 0..plane.height {
            for (x, sample) in plane.row_mut(y).iter_mut().enumerate() {
                *sample = wave(x, y, period);
            }
        }
    }
    image
}

fn jpeg(image: &PlanarImage) -> Vec<u8> {
    Encoder::new().unwrap().encode(image, 95).unwrap().to_vec()
}

/// Puts an EXIF segment with nothing but an orientation behind the start of a JPEG.
fn turned(jpeg: &[u8], orientation: u8) -> Vec<u8> {
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let length = u16::try_from(exif.len() + 2).unwrap().to_be_bytes();
    [&jpeg[..2], &[0xFF, 0xE1], &length, &exif, &jpeg[2..]].concat()
}

fn reduced(jpeg: &[u8], wanted: (usize, usize)) -> (Header, Scale, PlanarImage) {
    let mut image = PlanarImage::default();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let (header, scale) = decoder.decode_reduced(jpeg, |_, _| wanted, &mut image).unwrap();
    (header, scale, image)
}

fn whole(jpeg: &[u8]) -> PlanarImage {
    let mut image = PlanarImage::default();
    Decoder::new(Limits::default()).unwrap().decode(jpeg, &mut image).unwrap();
    image
}

/// Each sample must be the average of the block it stands for, where that lies within the picture.
fn assert_is_average(what: &str, reduced: Plane<'_>, whole: Plane<'_>, block: usize) {
    let mut compared = 0;
    for y in 0..whole.height / block {
        for x in 0..whole.width / block {
            let rows = (y * block..(y + 1) * block).map(|y| &whole.row(y)[x * block..(x + 1) * block]);
            let sum: u32 = rows.flatten().map(|&s| u32::from(s)).sum();
            let average = sum as f32 / (block * block) as f32;
            let got = f32::from(reduced.row(y)[x]);
            assert!((got - average).abs() < 3.0, "{what}: ({x}, {y}) is {got}, not {average}");
            compared += 1;
        }
    }
    assert!(compared > 0, "{what}");
}

#[test]
fn samples_are_averages_of_the_pixels_they_stand_for() {
    for subsampling in Subsampling::ALL {
        for size in [(320, 240), (333, 217)] {
            let jpeg = jpeg(&waves(size.0, size.1, subsampling));
            let whole = whole(&jpeg);
            for block in [4, 8] {
                let wanted = (size.0 / block, size.1 / block);
                let (header, scale, image) = reduced(&jpeg, wanted);
                let what = format!("{subsampling:?} {size:?} / {block}");
                assert_eq!((header.width as usize, header.height as usize), size, "{what}");
                assert_eq!(scale.factor(), 1.0 / block as f64, "{what}");
                let ceil = (size.0.div_ceil(block), size.1.div_ceil(block));
                assert_eq!(
                    (image.width(), image.height(), image.subsampling()),
                    (ceil.0, ceil.1, subsampling)
                );
                for component in [Component::Y, Component::U, Component::V] {
                    let (Some(a), Some(b)) = (image.plane(component), whole.plane(component)) else {
                        continue;
                    };
                    assert_is_average(&format!("{what} {component:?}"), a, b, block);
                }
            }
        }
    }
}

#[test]
fn never_smaller_than_wanted_and_never_blown_up() {
    let scale = |picture, wanted| Scale::covering(picture, wanted).factor();
    assert_eq!(scale((1280, 720), (160, 90)), 0.125);
    assert_eq!(scale((1280, 720), (161, 90)), 0.25);
    assert_eq!(scale((1280, 720), (160, 91)), 0.25);
    assert_eq!(scale((1280, 720), (192, 108)), 0.25);
    assert_eq!(scale((1280, 720), (320, 180)), 0.25);
    assert_eq!(scale((1280, 720), (321, 108)), 1.0);
    assert_eq!(scale((100, 50), (256, 128)), 1.0);
    // One pixel short of covering by whole samples, although rounding up would fill it.
    assert_eq!(scale((1279, 719), (160, 90)), 0.25);
}

#[test]
fn turned_pictures_are_reduced_where_samples_stay_whole() {
    for (size, factor) in [((320, 240), 0.25), ((322, 240), 1.0), ((320, 242), 1.0)] {
        let upright = jpeg(&waves(size.0, size.1, Subsampling::S420));
        for orientation in 2..=8 {
            let jpeg = turned(&upright, orientation);
            let sides_swap = orientation >= 5;
            let wanted = if sides_swap { (50, 70) } else { (70, 50) };
            let (header, scale, image) = reduced(&jpeg, wanted);
            let whole = whole(&jpeg);
            assert_eq!((header.width as usize, header.height as usize), (whole.width(), whole.height()));
            assert_eq!(scale.factor(), factor, "{size:?}, EXIF {orientation}");
            if factor == 0.25 {
                assert_is_average(&format!("EXIF {orientation}"), image.luma(), whole.luma(), 4);
            }
        }
    }
}

#[test]
fn one_decoder_goes_back_and_forth_between_scales() {
    let jpeg = jpeg(&waves(320, 240, Subsampling::S420));
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut image = PlanarImage::default();
    for _ in 0..2 {
        decoder.decode_reduced(&jpeg, |w, h| (w / 8, h / 8), &mut image).unwrap();
        assert_eq!((image.width(), image.height()), (40, 30));
        decoder.decode(&jpeg, &mut image).unwrap();
        assert_eq!((image.width(), image.height()), (320, 240));
    }
}

#[test]
fn a_picture_cut_off_is_an_error_at_any_scale() {
    let jpeg = jpeg(&waves(320, 240, Subsampling::S420));
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut image = PlanarImage::default();
    let cut = &jpeg[..jpeg.len() / 2];
    assert!(decoder.decode_reduced(cut, |w, h| (w / 8, h / 8), &mut image).is_err());
}
