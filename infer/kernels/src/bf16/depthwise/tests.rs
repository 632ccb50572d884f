use super::*;
use crate::bf16::{Unit, padded};
use crate::depthwise::Stride;
use crate::depthwise::reference::{Case, convolution};
use crate::suite::{Numbers, assert_refused, assert_within};

fn run(kernels: &Kernels, case: &Case) -> Vec<f32> {
    let Case { height, width, channels, stride, .. } = *case;
    let (wide, step) = (padded(channels), stride.pixels());
    let mut image = vec![Bf16::default(); height * width * wide];
    for (to, from) in image.chunks_exact_mut(wide).zip(case.image.chunks_exact(channels)) {
        to.iter_mut().zip(from).for_each(|(to, from)| *to = Bf16::from_f32(*from));
    }
    let taps = Taps::pack(&mut Slab::default(), &case.weights, case.bias.as_deref(), case.clamp);
    assert_eq!(taps.panels(), wide / PANEL);
    let shape = RowShape { width, input_pitch: wide, output_pitch: wide, stride };
    let mut output = vec![Bf16::from_f32(f32::NAN); height / step * (width / step) * wide];
    for panel in 0..taps.panels() {
        let row = |y: usize| Some(&image.chunks_exact(width * wide).nth(y)?[panel * PANEL..]);
        let window = |y: usize| -> Window<'_> {
            std::array::from_fn(|r| (y * step + r).checked_sub(stride.pad_before(3)).and_then(row))
        };
        let windows: Vec<Window<'_>> = (0..height / step).map(window).collect();
        kernels.depthwise_rows(&taps, panel, shape, &windows, &mut output[panel * PANEL..]);
    }
    let plain = |pixel: &[Bf16]| {
        let mut plain = vec![0.0; wide];
        for (place, number) in pixel.iter().enumerate() {
            plain[Order::Split.channel(place)] = number.to_f32();
        }
        assert!(plain[channels..].iter().all(|&number| number == 0.0), "the padding is not zero");
        plain.truncate(channels);
        plain
    };
    output.chunks_exact(wide).flat_map(plain).collect()
}

fn case(height: usize, width: usize, channels: usize, stride: Stride) -> Case {
    let mut numbers = Numbers::new(height * 10_007 + width * 101 + channels);
    let image = numbers.take(height * width * channels);
    Case {
        height,
        width,
        channels,
        size: 3,
        stride,
        image: image.into_iter().map(|value| Bf16::from_f32(value).to_f32()).collect(),
        weights: numbers.take(9 * channels),
        bias: Some(numbers.take(channels)),
        clamp: Clamp::NONE,
    }
}

fn agrees(kernels: &Kernels, case: &Case) {
    let name = format!("{}: {}×{}×{}", kernels.unit(), case.height, case.width, case.channels);
    let rounded = |(value, bound): (f64, f64)| (value, bound + (value.abs() + bound) / 256.0);
    let expected: Vec<(f64, f64)> = convolution(case).into_iter().map(rounded).collect();
    assert_within(&run(kernels, case), &expected, &name);
}

#[test]
fn every_size_agrees() {
    for kernels in Unit::ALL.into_iter().filter_map(Kernels::of) {
        for (height, width) in [(1, 1), (1, 5), (2, 1), (2, 2), (3, 3), (4, 7), (6, 6), (16, 12)] {
            for channels in [1, 16, 17, 32, 33, 96] {
                agrees(&kernels, &case(height, width, channels, Stride::One));
                if width % 2 == 0 && height % 2 == 0 {
                    agrees(&kernels, &case(height, width, channels, Stride::Two));
                }
            }
        }
    }
}

#[test]
fn bias_may_be_absent_and_results_are_clamped() {
    for kernels in Unit::ALL.into_iter().filter_map(Kernels::of) {
        for stride in [Stride::One, Stride::Two] {
            let mut case = case(4, 6, 19, stride);
            case.bias = None;
            case.clamp = Clamp::RELU6;
            case.image.iter_mut().for_each(|value| *value *= 64.0);
            agrees(&kernels, &case);
            let output = run(&kernels, &case);
            assert!(output.contains(&0.0) && output.contains(&6.0));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let kernels = Kernels::of(Unit::Emulated).unwrap();
    let taps = Taps::pack(&mut Slab::default(), &[0.0; 9 * 8], None, Clamp::NONE);
    let row = vec![Bf16::default(); 4 * PANEL];
    let run = |panel: usize, window: Window<'_>, width: usize, stride: Stride| {
        let mut output = vec![Bf16::default(); 4 * PANEL];
        let shape = RowShape { width, input_pitch: PANEL, output_pitch: PANEL, stride };
        kernels.depthwise_rows(&taps, panel, shape, &[window], &mut output);
    };
    let whole = [Some(&row[..]); 3];
    run(0, whole, 4, Stride::One);
    assert_refused("one of the taps'", || run(1, whole, 4, Stride::One));
    assert_refused("input row ends early", || run(0, [Some(&row[1..]); 3], 4, Stride::One));
    assert_refused("output row ends early", || run(0, whole, 5, Stride::One));
    assert_refused("odd width", || run(0, whole, 3, Stride::Two));
    assert_refused("a row is in the image", || run(0, [None; 3], 4, Stride::One));
    assert_refused("consecutive", || run(0, [Some(&row[..]), None, Some(&row[..])], 4, Stride::One));
}
