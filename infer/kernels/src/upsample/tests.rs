use super::reference::upsample;
use super::*;
use crate::suite::{Numbers, assert_refused, assert_within, on_every_isa};

fn run(kernels: &Kernels, image: &[f32], height: usize, channels: usize, output: &mut [f32]) {
    let rows: Vec<&[f32]> = image.chunks_exact(image.len() / height).collect();
    for (y, to) in output.chunks_exact_mut(2 * rows[0].len()).enumerate() {
        let (near, far) = source_rows(y, height);
        let width = rows[0].len() / channels;
        let shape = RowShape { width, channels, input_pitch: channels, output_pitch: channels };
        kernels.upsample_add_row(shape, rows[near], rows[far], to);
    }
}

#[test]
fn every_size_agrees() {
    on_every_isa(|kernels| {
        for (height, width) in [(1, 1), (1, 4), (2, 1), (3, 2), (5, 6)] {
            for channels in [1, 3, 4, 5, 8, 9, 16, 17, 24, 32, 33, 64] {
                let image = Numbers::new(width + channels).take(height * width * channels);
                let mut output = vec![0.0; 4 * image.len()];
                run(kernels, &image, height, channels, &mut output);
                let name = format!("{}: {height}×{width}×{channels}", kernels.isa());
                assert_within(&output, &upsample(&image, height, width, channels), &name);
            }
        }
    });
}

#[test]
fn a_constant_stays_one_and_is_added() {
    on_every_isa(|kernels| {
        let mut output = vec![1.0; 4 * 3 * 3 * 11];
        run(kernels, &[2.0; 3 * 3 * 11], 3, 11, &mut output);
        assert!(output.iter().all(|&x| x == 3.0), "{}", kernels.isa());
    });
}

#[test]
fn some_channels_of_wider_pixels() {
    on_every_isa(|kernels| {
        let (near, far) = (Numbers::new(1).take(3 * 40), Numbers::new(2).take(3 * 40));
        let whole = RowShape { width: 3, channels: 40, input_pitch: 40, output_pitch: 40 };
        let mut want = vec![0.0; 6 * 40];
        kernels.upsample_add_row(whole, &near, &far, &mut want);
        let part = RowShape { channels: 21, output_pitch: 23, ..whole };
        let mut output = vec![0.0; 6 * 23];
        kernels.upsample_add_row(part, &near[9..], &far[9..], &mut output);
        for (got, want) in output.chunks_exact(23).zip(want.chunks_exact(40)) {
            assert_eq!(got[..21], want[9..30]);
            assert_eq!(got[21..], [0.0; 2], "only the channels are written");
        }
    });
}

#[test]
#[should_panic(expected = "output row ends early")]
fn a_short_output_is_refused() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    let shape = RowShape { width: 2, channels: 4, input_pitch: 4, output_pitch: 4 };
    kernels.upsample_add_row(shape, &[0.0; 8], &[0.0; 8], &mut [0.0; 15]);
}

#[test]
fn sizes_whose_products_do_not_fit_are_refused() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    let sound = RowShape { width: 3, channels: 4, input_pitch: 4, output_pitch: 4 };
    let run = |shape| kernels.upsample_add_row(shape, &[0.0; 12], &[0.0; 12], &mut [0.0; 24]);
    run(sound);
    let half = usize::MAX / 2 + 1;
    // Each of them comes to a small number where it wraps.
    assert_refused("input row ends early", || run(RowShape { input_pitch: half, ..sound }));
    assert_refused("output row ends early", || run(RowShape { output_pitch: usize::MAX / 5 + 1, ..sound }));
    assert_refused("output row ends early", || run(RowShape { width: half + 1, input_pitch: 0, ..sound }));
}
