//! Model inputs against the golden tensors, and against plain arithmetic on the same pixels.

#![expect(clippy::unwrap_used, reason = "a test stops at what it did not expect")]

use std::path::{Path, PathBuf};

use cloudpose_infer::preprocess::{Fit, ModelInput, Preprocessor};
use cloudpose_pixels::{Component, Decoder, Limits, PlanarImage, Subsampling, bt601};
use serde::Deserialize;

#[derive(Deserialize)]
struct Golden {
    name: String,
    mode: String,
    size: usize,
    file: String,
    shape: [usize; 4],
    nw: usize,
    nh: usize,
    x0: usize,
    y0: usize,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn model_input(image: &PlanarImage, fit: Fit) -> ModelInput {
    let mut input = ModelInput::default();
    Preprocessor::new(fit).run(image, &mut input);
    assert_eq!(input.pixels.len(), input.width * input.height * 3);
    input
}

/// The golden tensors were resized from video frames by two-tap interpolation, ours from JPEG
/// files of them by area: single pixels differ where the picture is busy. Means over 16×16 pixels
/// do not, unless the picture is shifted, mirrored or of other colours.
#[test]
fn golden_frames_are_placed_as_the_golden_tensors_are() {
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut image = PlanarImage::default();
    let mut compared = 0;
    for model in ["lightning", "thunder", "multipose"] {
        let json = std::fs::read(folder().join(format!("{model}.json"))).unwrap();
        let rows: Vec<Golden> = serde_json::from_slice(&json).unwrap();
        for row in rows {
            let Ok(jpeg) = std::fs::read(folder().join(format!("images/{}.jpg", row.name))) else { continue };
            let fit = match row.mode.as_str() {
                "letterbox" => Fit::Letterbox { side: row.size },
                "aspect" => Fit::Aspect { longer_side: row.size },
                _ => continue,
            };
            decoder.decode(&jpeg, &mut image).unwrap();
            let input = model_input(&image, fit);
            assert_eq!([1, input.height, input.width, 3], row.shape);
            let transform = input.image_from_model;
            assert_eq!(transform.origin, [row.x0 as f32, row.y0 as f32]);
            assert_eq!(transform.scale[0], image.width() as f32 / row.nw as f32);
            assert_eq!(transform.scale[1], image.height() as f32 / row.nh as f32);

            let npy = std::fs::read(folder().join(&row.file)).unwrap();
            let golden = &npy[npy.len() - input.pixels.len()..];
            let (worst, mean) = block_differences(&input, golden);
            assert!(worst < 9.0 && mean < 1.0, "{} {}: worst {worst}, mean {mean}", row.name, row.mode);
            compared += 1;
        }
    }
    assert_eq!(compared, 8, "two frames: lightning and thunder letterboxed, multipose both ways");
}

/// The largest and the mean absolute difference of 16×16 block means, over all channels.
fn block_differences(input: &ModelInput, golden: &[u8]) -> (f32, f32) {
    const SIDE: usize = 16;
    let mut differences = Vec::new();
    for top in (0..input.height).step_by(SIDE) {
        for left in (0..input.width).step_by(SIDE) {
            for channel in 0..3 {
                let mut sum = 0;
                for y in top..top + SIDE {
                    for x in left..left + SIDE {
                        let at = (y * input.width + x) * 3 + channel;
                        sum += i32::from(input.pixels[at]) - i32::from(golden[at]);
                    }
                }
                differences.push(sum.abs() as f32 / (SIDE * SIDE) as f32);
            }
        }
    }
    let worst = differences.iter().copied().fold(0.0, f32::max);
    (worst, differences.iter().sum::<f32>() / differences.len() as f32)
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
    for (width, height) in [(1280, 720), (333, 517), (100, 60)] {
        let expected = model_input(&smooth(width, height, Subsampling::S444), Fit::Letterbox { side: 192 });
        for subsampling in Subsampling::ALL {
            if subsampling == Subsampling::Grey {
                continue;
            }
            let input = model_input(&smooth(width, height, subsampling), Fit::Letterbox { side: 192 });
            for (a, b) in input.pixels.iter().zip(&expected.pixels) {
                assert!(a.abs_diff(*b) <= 6, "{width}×{height} {subsampling:?}");
            }
        }
    }
}

#[test]
fn shrinking_averages_over_the_area() {
    let (width, height) = (1300, 777);
    let mut image = PlanarImage::new(width, height, Subsampling::S444);
    let mut noise = 1u32;
    let (mut luma, _) = image.planes_mut();
    for y in 0..height {
        for sample in luma.row_mut(y) {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *sample = (noise >> 24) as u8;
        }
    }
    let input = model_input(&image, Fit::Aspect { longer_side: 256 });
    let [scale_x, scale_y] = input.image_from_model.scale.map(f64::from);
    // The share of pixel `i` that lies between two coordinates.
    let share = |i: usize, low: f64, high: f64| ((i + 1) as f64).min(high) - (i as f64).max(low);
    for (x, y) in [(0, 0), (255, 152), (100, 77), (31, 150), (254, 1)] {
        let (left, right) = (x as f64 * scale_x, (x + 1) as f64 * scale_x);
        let (top, bottom) = (y as f64 * scale_y, (y + 1) as f64 * scale_y);
        let mut mean = 0.0;
        for source_y in top as usize..height.min(bottom.ceil() as usize) {
            for source_x in left as usize..width.min(right.ceil() as usize) {
                let weight = share(source_x, left, right) * share(source_y, top, bottom);
                mean += weight * f64::from(image.luma().row(source_y)[source_x]);
            }
        }
        mean /= (right - left) * (bottom - top);
        let got = f64::from(input.pixels[(y * input.width + x) * 3]);
        assert!((got - mean).abs() < 1.6, "({x}, {y}) is {got}, not {mean}");
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
        preprocessor.run(&image, &mut input);
        assert_eq!(input, model_input(&image, Fit::Letterbox { side: 192 }));
        if image.plane(Component::U).is_none() {
            assert!(input.pixels.as_chunks::<3>().0.iter().all(|[r, g, b]| r == g && g == b));
        }
    }
    preprocessor.run(&PlanarImage::default(), &mut input);
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
