//! Model inputs against the golden tensors, and against plain arithmetic on the same pixels.

#![allow(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use cloudpose_infer::preprocess::{Fit, ModelInput, Place, Preprocessor, Square};
use cloudpose_pixels::{Component, Decoder, Limits, PlanarImage, Subsampling, bt601};
use cloudpose_testing::golden::{self, Golden};

fn model_input(image: &PlanarImage, fit: Fit) -> ModelInput {
    let mut input = ModelInput::default();
    Preprocessor::new(fit).run(image, None, &mut input);
    assert_eq!(input.pixels.len(), input.width * input.height * 3);
    input
}

/// Ours start from JPEG files of the frames that the golden tensors were resized from: compression
/// costs a level on average, and up to 30 at sharp edges, where chroma is subsampled. Being off by half a
/// source pixel would cost 4 on average.
#[test]
fn golden_frames_are_placed_as_the_golden_tensors_are() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut image = PlanarImage::default();
    let mut compared = 0;
    for model in ["lightning", "thunder", "multipose"] {
        for row in Golden::all(model) {
            let Ok(jpeg) = std::fs::read(golden::images().join(format!("{}.jpg", row.name))) else {
                continue;
            };
            let fit = match row.mode.as_str() {
                "letterbox" => Fit::Letterbox { side: row.shape[1] },
                "aspect" => Fit::Aspect { longer_side: row.shape[1].max(row.shape[2]) },
                _ => continue,
            };
            decoder.decode(&jpeg, &mut image).unwrap();
            let input = model_input(&image, fit);
            assert_eq!([1, input.height, input.width, 3], row.shape);
            let transform = input.image_from_model;
            assert_eq!(transform.origin, [row.x0 as f32, row.y0 as f32]);
            assert_eq!(transform.scale[0], image.width() as f32 / row.nw as f32);
            assert_eq!(transform.scale[1], image.height() as f32 / row.nh as f32);

            let golden = row.pixels();
            let differences = || input.pixels.iter().zip(&golden).map(|(a, b)| u32::from(a.abs_diff(*b)));
            let mean = differences().sum::<u32>() as f32 / (row.nw * row.nh * 3) as f32;
            let worst = differences().max().unwrap();
            assert!(mean < 1.1 && worst < 32, "{} {}: mean {mean}, worst {worst}", row.name, row.mode);
            compared += 1;
        }
    }
    assert!(compared >= 6, "only {compared} rows have an image");
}

/// Smooth in luma and chroma, so that every subsampling holds the same picture.
fn smooth(width: usize, height: usize, subsampling: Subsampling) -> PlanarImage {
    let mut image = PlanarImage::new(width, height, subsampling);
    let wave = |u: f32, v: f32| (128.0 + 60.0 * (5.0 * u).sin() * (4.0 * v).cos()) as u8;
    let (across, down) = subsampling.step();
    let (mut luma, chroma) = image.planes_mut();
    for y in 0..luma.height {
        for (x, sample) in luma.row_mut(y).iter_mut().enumerate() {
            *sample = wave((x as f32 + 0.5) / width as f32, (y as f32 + 0.5) / height as f32);
        }
    }
    for mut plane in chroma.into_iter().flatten() {
        for y in 0..plane.height {
            for (x, sample) in plane.row_mut(y).iter_mut().enumerate() {
                let (x, y) = ((x as f32 + 0.5) * across as f32, (y as f32 + 0.5) * down as f32);
                *sample = wave(y / height as f32, x / width as f32);
            }
        }
    }
    image
}

#[test]
fn every_subsampling_gives_the_same_input() {
    for (width, height) in [(1280, 720), (333, 517), (240, 200)] {
        let expected = model_input(&smooth(width, height, Subsampling::S444), Fit::Letterbox { side: 192 });
        for subsampling in Subsampling::ALL {
            if subsampling == Subsampling::Grey {
                continue;
            }
            let input = model_input(&smooth(width, height, subsampling), Fit::Letterbox { side: 192 });
            for (a, b) in input.pixels.iter().zip(&expected.pixels) {
                assert!(a.abs_diff(*b) <= 8, "{width}×{height} {subsampling:?}");
            }
        }
    }
}

#[test]
fn samples_are_interpolated_at_pixel_centres() {
    let mut image = PlanarImage::new(1300, 777, Subsampling::Grey);
    let mut noise = 1u32;
    let (mut luma, _) = image.planes_mut();
    for y in 0..luma.height {
        for sample in luma.row_mut(y) {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = (noise >> 24) as u8;
        }
    }
    // Shrinking and, for the little picture, growing.
    for image in [image, smooth(41, 30, Subsampling::Grey)] {
        let input = model_input(&image, Fit::Aspect { longer_side: 256 });
        let (last_x, last_y) = ((image.width() - 1) as f32, (image.height() - 1) as f32);
        for (x, y) in [(0, 0), (255, 152), (100, 77), (31, 150), (254, 1)] {
            let [u, v] = input.image_from_model.apply([x as f32 + 0.5, y as f32 + 0.5]);
            let (u, v) = ((u - 0.5).clamp(0.0, last_x), (v - 0.5).clamp(0.0, last_y));
            let at = |x: f32, y: f32| f32::from(image.luma().row(y as usize)[x as usize]);
            let along = |y: f32| at(u.floor(), y) * (1.0 - u.fract()) + at(u.ceil(), y) * u.fract();
            let expected = along(v.floor()) * (1.0 - v.fract()) + along(v.ceil()) * v.fract();
            let got = f32::from(input.pixels[(y * input.width + x) * 3]);
            assert!((got - expected).abs() < 1.6, "({x}, {y}) is {got}, not {expected}");
        }
    }
}

#[test]
fn what_the_picture_does_not_cover_is_black() {
    let image = PlanarImage::new(300, 100, Subsampling::S420);
    let grey = bt601::rgb_from_ycc([128; 3]);
    let letterboxed = model_input(&image, Fit::Letterbox { side: 192 });
    let row = |input: &ModelInput, y: usize| input.pixels[y * input.width * 3..][..input.width * 3].to_vec();
    for y in 0..192 {
        let expected = if (64..128).contains(&y) { grey[0] } else { 0 };
        assert!(row(&letterboxed, y).iter().all(|&p| p == expected), "row {y}");
    }
    let padded = model_input(&image, Fit::Aspect { longer_side: 256 });
    assert_eq!((padded.width, padded.height), (256, 96));
    for y in 0..96 {
        let expected = if y < 85 { grey[0] } else { 0 };
        assert!(row(&padded, y).iter().all(|&p| p == expected), "row {y}");
    }
}

#[test]
fn buffers_used_again_keep_nothing_of_the_picture_before() {
    let mut preprocessor = Preprocessor::new(Fit::Letterbox { side: 192 });
    let mut input = ModelInput::default();
    for image in [
        smooth(640, 480, Subsampling::S420),
        smooth(480, 640, Subsampling::S422),
        smooth(480, 640, Subsampling::Grey),
        smooth(30, 20, Subsampling::S444),
    ] {
        preprocessor.run(&image, None, &mut input);
        assert_eq!(input, model_input(&image, Fit::Letterbox { side: 192 }));
        if image.plane(Component::U).is_none() {
            assert!(input.pixels.as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b));
        }
    }
    preprocessor.run(&PlanarImage::default(), None, &mut input);
    assert_eq!(input, ModelInput::default());
}

#[test]
fn the_transform_maps_edges_to_edges() {
    for (width, height) in [(1280, 720), (1088, 1920), (1, 5000), (5000, 1), (7, 7)] {
        for fit in [Fit::Letterbox { side: 192 }, Fit::Aspect { longer_side: 256 }] {
            let input = model_input(&PlanarImage::new(width, height, Subsampling::S420), fit);
            let transform = input.image_from_model;
            let [x0, y0] = transform.origin;
            let size = [width as f32 / transform.scale[0], height as f32 / transform.scale[1]];
            assert_eq!(transform.apply([x0, y0]), [0.0, 0.0]);
            let [x, y] = transform.apply([x0 + size[0], y0 + size[1]]);
            assert!((x - width as f32).abs() < 0.01 && (y - height as f32).abs() < 0.01);
            // The longer side fills the model's.
            assert_eq!(size[0].max(size[1]).round() as usize, input.width.max(input.height));
        }
    }
}

#[test]
fn a_crop_is_what_a_smaller_picture_would_be_and_black_beyond_the_edge() {
    let image = smooth(1280, 720, Subsampling::S444);
    let fit = Fit::Letterbox { side: 192 };
    let (mut preprocessor, mut input) = (Preprocessor::new(fit), ModelInput::default());
    // The whole picture as a crop is the letterbox.
    preprocessor.run(&image, Some(Square { x: 0.0, y: -280.0, side: 1280.0 }), &mut input);
    assert_eq!(input.pixels, model_input(&image, fit).pixels);

    for crop in [Square { x: 500.0, y: 200.0, side: 96.0 }, Square { x: 1200.0, y: -50.0, side: 150.5 }] {
        preprocessor.run(&image, Some(crop), &mut input);
        let mut black = 0;
        for (index, pixel) in input.pixels.as_chunks::<3>().0.iter().enumerate() {
            let (x, y) = (index % 192, index / 192);
            let [u, v] = input.image_from_model.apply([x as f32 + 0.5, y as f32 + 0.5]);
            assert!((u - (crop.x + (x as f32 + 0.5) * crop.side / 192.0)).abs() < 0.01);
            if (0.0..1280.0).contains(&u) && (0.0..720.0).contains(&v) {
                let [u, v] = [u as usize, v as usize];
                let sample = |component| i32::from(image.plane(component).unwrap().row(v)[u]);
                let luma = sample(Component::Y);
                let expected =
                    bt601::rgb_from_ycc([luma as u8, sample(Component::U) as u8, sample(Component::V) as u8]);
                for (got, expected) in pixel.iter().zip(expected) {
                    assert!(got.abs_diff(expected) <= 8, "{crop:?} ({x}, {y}): {pixel:?}, not {expected:?}");
                }
            } else {
                assert_eq!(*pixel, [0; 3], "{crop:?} ({x}, {y})");
                black += 1;
            }
        }
        assert_eq!(black > 0, crop.x > 1000.0);
    }
}

#[test]
fn the_middle_of_a_picture_fills_a_classifiers_input() {
    let image = smooth(320, 160, Subsampling::S420);
    let input = model_input(&image, Fit::Middle { side: 28, shorter: 32 });
    assert_eq!((input.width, input.height), (28, 28));
    // 7/8 of 160 pixels.
    assert_eq!(input.image_from_model.apply([0.0, 0.0]), [90.0, 10.0]);
    assert_eq!(input.image_from_model.apply([28.0, 28.0]), [230.0, 150.0]);
    assert_eq!(
        Fit::Middle { side: 28, shorter: 32 }.resized(320, 160),
        (64, 32),
        "what is decoded is enough"
    );
}

#[test]
fn a_frame_has_its_own_shape_and_ground() {
    let image = smooth(64, 64, Subsampling::S444);
    for (place, left) in [(Place::Corner, 0), (Place::Middle, 16)] {
        let input = model_input(&image, Fit::Frame { width: 96, height: 64, place, around: 114 });
        assert_eq!((input.width, input.height), (96, 64));
        assert_eq!(input.image_from_model.apply([left as f32, 0.0]), [0.0, 0.0]);
        let (pixels, _) = input.pixels.as_chunks::<3>();
        for (x, pixel) in pixels[..96].iter().enumerate() {
            let is_ground = !(left..left + 64).contains(&x);
            assert_eq!(*pixel == [114; 3], is_ground, "{place:?} {x}");
        }
    }
}

#[test]
fn a_frame_shows_the_middle_of_a_square() {
    let image = smooth(200, 100, Subsampling::S444);
    let mut input = ModelInput::default();
    let square = Square { x: 10.0, y: 20.0, side: 80.0 };
    let fit = Fit::Frame { width: 30, height: 40, place: Place::Middle, around: 0 };
    Preprocessor::new(fit).run(&image, Some(square), &mut input);
    assert_eq!(input.image_from_model.apply([0.0, 0.0]), [20.0, 20.0]);
    assert_eq!(input.image_from_model.apply([30.0, 40.0]), [80.0, 100.0]);
    // Beyond the picture it is ground.
    let beyond = Square { y: 60.0, ..square };
    Preprocessor::new(fit).run(&image, Some(beyond), &mut input);
    assert_eq!(input.pixels[3 * 30 * 20..], vec![0; 3 * 30 * 20]);
    assert_ne!(input.pixels[..3 * 30 * 20], vec![0; 3 * 30 * 20]);
}
