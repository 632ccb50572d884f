//! Decode, whole and reduced, and encode of one 1280×720 frame, 4:2:0, on one core.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up should stop")]

use std::hint::black_box;

use cloudpose_pixels::{Decoder, Encoder, Limits, PlanarImage, Subsampling};
use criterion::{Criterion, criterion_group, criterion_main};

/// A picture with edges and fine grain, which compresses about as well as a camera's.
fn picture() -> PlanarImage {
    let mut image = PlanarImage::new(1280, 720, Subsampling::S420);
    let (mut luma, chroma) = image.planes_mut();
    let mut noise = 1u32;
    for y in 0..luma.height {
        for (x, sample) in luma.row_mut(y).iter_mut().enumerate() {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let checks = if (x / 40 + y / 40) % 2 == 0 { 70 } else { 150 };
            *sample = checks + (x / 32) as u8 + (noise >> 28) as u8;
        }
    }
    for (i, mut plane) in chroma.into_iter().flatten().enumerate() {
        for y in 0..plane.height {
            for (x, sample) in plane.row_mut(y).iter_mut().enumerate() {
                *sample = 100 + (x / 16) as u8 + i as u8 * 10;
            }
        }
    }
    image
}

fn codec(c: &mut Criterion) {
    let image = picture();
    let mut encoder = Encoder::new().unwrap();
    let jpeg = encoder.encode(&image, 85).unwrap();
    let mut decoder = Decoder::new(Limits::default()).unwrap();
    let mut frame = PlanarImage::default();

    c.bench_function("decode 1280x720", |b| {
        b.iter(|| decoder.decode(black_box(&jpeg), &mut frame).unwrap());
    });
    for reduction in [4, 8] {
        c.bench_function(&format!("decode 1280x720 at 1/{reduction}"), |b| {
            let wanted = |width: usize, height: usize| (width / reduction, height / reduction);
            b.iter(|| decoder.decode_reduced(black_box(&jpeg), wanted, &mut frame).unwrap());
        });
    }
    c.bench_function("encode 1280x720 q85", |b| {
        b.iter(|| encoder.encode(black_box(&image), 85).unwrap());
    });
}

criterion_group!(benches, codec);
criterion_main!(benches);
