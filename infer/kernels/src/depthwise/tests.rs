use super::reference::{Case, convolution};
use super::*;
use crate::suite::{Numbers, assert_refused, assert_within, on_every_isa};

fn case(height: usize, width: usize, channels: usize, stride: Stride) -> Case {
    sized(3, height, width, channels, stride)
}

fn sized(size: usize, height: usize, width: usize, channels: usize, stride: Stride) -> Case {
    let mut numbers = Numbers::new(height * 10_007 + width * 101 + channels);
    Case {
        height,
        width,
        channels,
        size,
        stride,
        image: numbers.take(height * width * channels),
        weights: numbers.take(size * size * channels),
        bias: Some(numbers.take(channels)),
        clamp: Clamp::NONE,
    }
}

fn taps(kernels: &Kernels, case: &Case, channels: std::ops::Range<usize>) -> Taps {
    let layer = Layer { size: case.size, weights: &case.weights, bias: case.bias.as_deref() };
    Taps::pack(kernels, &mut Slab::default(), layer, channels, case.clamp)
}

/// Taps of 3×3 windows and eight channels.
fn zeros(kernels: &Kernels) -> Taps {
    let layer = Layer { size: 3, weights: &[0.0; 72], bias: None };
    Taps::pack(kernels, &mut Slab::default(), layer, 0..8, Clamp::NONE)
}

/// The whole image.
fn run(kernels: &Kernels, case: &Case) -> Vec<f32> {
    match case.size {
        3 => run_sized::<3>(kernels, case),
        _ => run_sized::<5>(kernels, case),
    }
}

fn run_sized<const K: usize>(kernels: &Kernels, case: &Case) -> Vec<f32> {
    let Case { height, width, channels, stride, .. } = *case;
    let taps = taps(kernels, case, 0..channels);
    let (step, pad) = (stride.pixels(), stride.pad_before(K));
    let row = width / step * channels;
    let mut output = vec![f32::NAN; height / step * row];
    let image_rows: Vec<&[f32]> = case.image.chunks_exact(width * channels).collect();
    let row_of =
        |y: usize, r: usize| (y * step + r).checked_sub(pad).and_then(|row| image_rows.get(row).copied());
    let windows: Vec<Window<'_, K>> =
        (0..height / step).map(|y| std::array::from_fn(|r| row_of(y, r))).collect();
    let shape = RowShape { width, input_pitch: channels, output_pitch: channels, stride };
    for (windows, to) in windows.chunks(MOST_ROWS).zip(output.chunks_mut(MOST_ROWS * row)) {
        kernels.depthwise_rows(&taps, shape, windows, to);
    }
    output
}

fn agrees(kernels: &Kernels, (height, width): (usize, usize), channels: usize, stride: Stride) {
    for size in [3, 5] {
        let case = sized(size, height, width, channels, stride);
        let name = format!("{}: {size}×{size} on {height}×{width}×{channels}", kernels.isa());
        assert_within(&run(kernels, &case), &convolution(&case), &name);
    }
}

#[test]
fn every_size_agrees_at_stride_1() {
    on_every_isa(|kernels| {
        for (height, width) in [(1, 1), (1, 5), (2, 1), (2, 2), (3, 3), (4, 7), (6, 6), (5, 12), (37, 3)] {
            for channels in [1, 3, 4, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 56] {
                agrees(kernels, (height, width), channels, Stride::One);
            }
        }
    });
}

#[test]
fn every_size_agrees_at_stride_2() {
    on_every_isa(|kernels| {
        for (height, width) in [(2, 2), (2, 8), (4, 2), (4, 4), (6, 10), (12, 12)] {
            for channels in [1, 4, 5, 8, 9, 16, 17, 24, 48] {
                agrees(kernels, (height, width), channels, Stride::Two);
            }
        }
    });
}

#[test]
fn bias_may_be_absent_and_results_are_clamped() {
    on_every_isa(|kernels| {
        for stride in [Stride::One, Stride::Two] {
            for size in [3, 5] {
                let mut case = sized(size, 4, 6, 19, stride);
                case.bias = None;
                case.clamp = Clamp::RELU6;
                case.image.iter_mut().for_each(|x| *x *= 50.0);
                let output = run(kernels, &case);
                assert_within(&output, &convolution(&case), &kernels.isa().to_string());
                assert!(output.contains(&0.0) && output.contains(&6.0));
            }
        }
    });
}

#[test]
fn nan_reaches_its_windows_and_no_others() {
    on_every_isa(|kernels| {
        let (width, channels) = (7, 10);
        for size in [3, 5] {
            let mut case = sized(size, 7, width, channels, Stride::One);
            case.clamp = Clamp::RELU6;
            case.image[(3 * width + 2) * channels + 4] = f32::NAN;
            for (i, value) in run(kernels, &case).into_iter().enumerate() {
                let (y, x, c) = (i / channels / width, i / channels % width, i % channels);
                let sees_it = y.abs_diff(3) <= size / 2 && x.abs_diff(2) <= size / 2 && c == 4;
                assert_eq!(value.is_nan(), sees_it, "{} at {y},{x},{c}", kernels.isa());
            }
        }
    });
}

#[test]
fn some_channels_of_wider_pixels() {
    on_every_isa(|kernels| {
        let whole = case(3, 5, 40, Stride::One);
        let want = run(kernels, &whole);
        let taps = taps(kernels, &whole, 9..30);
        let shape = RowShape { width: 5, input_pitch: 40, output_pitch: 23, stride: Stride::One };
        let rows = [0, 1, 2].map(|r| Some(&whole.image[r * 5 * 40 + 9..(r + 1) * 5 * 40]));
        let mut output = vec![7.0; 5 * 23];
        kernels.depthwise_rows(&taps, shape, &[rows], &mut output);
        for (x, pixel) in output.chunks_exact(23).enumerate() {
            assert_eq!(&pixel[..21], &want[(5 + x) * 40 + 9..(5 + x) * 40 + 30]);
            assert_eq!(&pixel[21..], [7.0; 2], "only the channels are written");
        }
    });
}

#[test]
#[should_panic(expected = "odd width at stride 2")]
fn an_odd_width_is_refused_at_stride_2() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    run(&kernels, &Case { width: 3, ..case(4, 6, 8, Stride::Two) });
}

#[test]
#[should_panic(expected = "input row ends early")]
fn a_short_row_is_refused() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    let taps = zeros(&kernels);
    let shape = RowShape { width: 4, input_pitch: 8, output_pitch: 8, stride: Stride::One };
    kernels.depthwise_rows(&taps, shape, &[[None, Some(&[0.0; 31]), None]], &mut [0.0; 32]);
}

#[test]
#[should_panic(expected = "taps of another size")]
fn a_window_of_another_size_is_refused() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    let taps = zeros(&kernels);
    let shape = RowShape { width: 4, input_pitch: 8, output_pitch: 8, stride: Stride::One };
    let row = [0.0; 32];
    kernels.depthwise_rows(&taps, shape, &[[None, None, Some(&row[..]), None, None]], &mut [0.0; 32]);
}

#[test]
fn sizes_whose_products_do_not_fit_are_refused() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    let taps = zeros(&kernels);
    let row = [0.0; 32];
    let window = [None, Some(&row[..]), None];
    let sound = RowShape { width: 4, input_pitch: 8, output_pitch: 8, stride: Stride::One };
    let run = |shape| kernels.depthwise_rows(&taps, shape, &[window; 2], &mut [0.0; 64]);
    run(sound);
    let half = usize::MAX / 2 + 1;
    // Each of them comes to a small number where it wraps.
    assert_refused("input row ends early", || run(RowShape { input_pitch: half, ..sound }));
    assert_refused("output row ends early", || run(RowShape { output_pitch: usize::MAX / 7, ..sound }));
    assert_refused("output row ends early", || run(RowShape { width: half + 1, input_pitch: 0, ..sound }));
}
