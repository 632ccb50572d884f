use super::reference::{Case, of_tiles, product, rounded};
use super::*;
use crate::bf16::Unit;
use crate::suite::{Numbers, assert_refused, assert_within};

fn on_every_unit(test: impl Fn(&Kernels)) {
    Unit::ALL.into_iter().filter_map(Kernels::of).for_each(|kernels| test(&kernels));
}

/// A run ends with what this says (`.config/nextest.toml`): what was left out must not look tested.
#[test]
fn which_units_were_tested() {
    let (tested, lacking): (Vec<Unit>, Vec<Unit>) =
        Unit::ALL.into_iter().partition(|unit| unit.is_supported());
    println!("bfloat16 kernels: tested on {tested:?}; NOT TESTED, for this machine lacks them: {lacking:?}");
    assert!(tested.contains(&Unit::Emulated));
}

fn case(rows: usize, depth: usize, columns: usize, residual: bool, clamp: Clamp) -> Case {
    let mut numbers = Numbers::new(rows * 10_007 + depth * 101 + columns);
    let mut halves = |count| numbers.take(count).into_iter().map(Bf16::from_f32).collect::<Vec<_>>();
    let (left, residual) = (halves(rows * depth), if residual { halves(rows * columns) } else { Vec::new() });
    Case { left, residual, weights: numbers.take(depth * columns), bias: numbers.take(columns), clamp }
}

/// Rows padded to whole panels with `value`.
fn spread(matrix: &[Bf16], columns: usize, value: f32) -> Vec<Bf16> {
    let row = |row: &[Bf16]| {
        let mut row = row.to_vec();
        row.resize(padded(columns), Bf16::from_f32(value));
        row
    };
    matrix.chunks_exact(columns).flat_map(row).collect()
}

fn pack(case: &Case) -> Weights {
    Weights::pack(&mut Slab::default(), &case.weights, &case.bias, case.clamp, Order::Plain)
}

/// The results, rounded, and the padding behind each row of them.
fn run_half(kernels: &Kernels, case: &Case) -> (Vec<f32>, Vec<f32>) {
    let weights = pack(case);
    let (depth, columns) = (weights.depth(), weights.columns());
    let (left, residual) = (spread(&case.left, depth, 3.0), spread(&case.residual, columns, 0.0));
    let (rows, stride) = (case.left.len() / depth, padded(columns));
    let mut data = vec![Bf16::from_f32(f32::NAN); rows * stride];
    let residual = (!residual.is_empty()).then_some(&residual[..]);
    kernels.tiles().product(
        &weights,
        0..weights.panels(),
        Left { data: &left, stride: padded(depth), rows },
        Output::Half { data: &mut data, stride, residual },
    );
    let split = |row: &[Bf16]| {
        let row: Vec<f32> = row.iter().map(|number| number.to_f32()).collect();
        (row[..columns].to_vec(), row[columns..].to_vec())
    };
    let (results, padding): (Vec<_>, Vec<_>) = data.chunks_exact(stride).map(split).unzip();
    (results.concat(), padding.concat())
}

/// The sums as they are.
fn run_single(kernels: &Kernels, case: &Case) -> Vec<f32> {
    let weights = pack(case);
    let (depth, columns) = (weights.depth(), weights.columns());
    let left = spread(&case.left, depth, 3.0);
    let (rows, stride) = (case.left.len() / depth, padded(columns));
    let mut data = vec![f32::NAN; rows * stride];
    kernels.tiles().product(
        &weights,
        0..weights.panels(),
        Left { data: &left, stride: padded(depth), rows },
        Output::Single { data: &mut data, stride },
    );
    data.chunks_exact(stride).flat_map(|row| &row[..columns]).copied().collect()
}

#[test]
fn every_size_around_the_tiles_agrees() {
    on_every_unit(|kernels| {
        for rows in (1..=50).chain([64, 97]) {
            for (depth, columns) in [(1, 1), (16, 96), (27, 24), (33, 17), (64, 33), (65, 64), (3, 40)] {
                for (residual, clamp) in [(false, Clamp::NONE), (true, Clamp::RELU6), (true, Clamp::NONE)] {
                    let case = case(rows, depth, columns, residual, clamp);
                    let name = format!("{}: {rows}×{depth}×{columns}", kernels.unit());
                    let (results, padding) = run_half(kernels, &case);
                    assert_within(&results, &rounded(product(&case)), &name);
                    assert!(padding.iter().all(|&number| number == 0.0), "{name}: the padding is not zero");
                    if !residual {
                        assert_within(&run_single(kernels, &case), &product(&case), &name);
                    }
                }
            }
        }
    });
}

#[test]
fn the_shapes_of_the_models_agree() {
    on_every_unit(|kernels| {
        for (rows, depth, columns) in [(96, 16, 96), (36, 960, 320), (36, 320, 1280), (64, 3360, 64)] {
            let case = case(rows, depth, columns, true, Clamp::RELU);
            let name = format!("{}: {rows}×{depth}×{columns}", kernels.unit());
            assert_within(&run_half(kernels, &case).0, &rounded(product(&case)), &name);
        }
    });
}

#[test]
fn the_emulation_has_the_bits_of_the_instruction() {
    let Some(kernels) = Kernels::of(Unit::Avx512) else { return };
    let emulated = Kernels::of(Unit::Emulated).unwrap();
    for (rows, depth, columns) in [(13, 27, 32), (36, 200, 70), (5, 1, 1)] {
        for (residual, clamp) in [(true, Clamp::NONE), (false, Clamp::RELU6)] {
            let case = case(rows, depth, columns, residual, clamp);
            assert_eq!(run_half(&kernels, &case), run_half(&emulated, &case));
            assert_eq!(run_single(&kernels, &case), run_single(&emulated, &case));
        }
    }
}

#[test]
fn tiles_sum_in_the_order_that_is_documented() {
    let Some(kernels) = Kernels::of(Unit::Amx) else { return };
    for (rows, depth, columns) in [(13, 27, 32), (36, 200, 70), (5, 1, 1)] {
        let case = case(rows, depth, columns, false, Clamp::NONE);
        assert_eq!(run_single(&kernels, &case), of_tiles(&case));
    }
}

#[test]
fn tiles_of_tiles_stay_set_up_until_the_last_is_gone() {
    on_every_unit(|kernels| {
        let case = case(20, 40, 40, false, Clamp::NONE);
        let expected = run_half(kernels, &case);
        let outer = kernels.tiles();
        assert_eq!(run_half(kernels, &case), expected);
        drop(outer);
        assert_eq!(run_half(kernels, &case), expected);
    });
}

#[test]
fn a_split_order_is_undone() {
    let places: Vec<usize> = (0..96).map(|place| Order::Split.channel(place)).collect();
    assert_eq!(places[..3], [0, 2, 4]);
    assert_eq!(places[16..19], [1, 3, 5]);
    assert_eq!(places[32..34], [32, 34]);
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..96).collect::<Vec<_>>());
    on_every_unit(|kernels| {
        let case = case(18, 40, 33, false, Clamp::NONE);
        let left = spread(&case.left, 40, 0.0);
        let woven: Vec<Bf16> = left
            .chunks_exact(64)
            .flat_map(|row| (0..64).map(|place| row[Order::Split.channel(place)]))
            .collect();
        let weights =
            Weights::pack(&mut Slab::default(), &case.weights, &case.bias, case.clamp, Order::Split);
        let mut data = vec![0.0; 18 * 64];
        kernels.tiles().product(
            &weights,
            0..2,
            Left { data: &woven, stride: 64, rows: 18 },
            Output::Single { data: &mut data, stride: 64 },
        );
        let results: Vec<f32> = data.chunks_exact(64).flat_map(|row| &row[..33]).copied().collect();
        assert_within(&results, &product(&case), &kernels.unit().to_string());
    });
}

#[test]
fn what_ends_early_is_refused() {
    on_every_unit(|kernels| {
        let case = case(4, 8, 8, false, Clamp::NONE);
        let (weights, tiles) = (pack(&case), kernels.tiles());
        let left = spread(&case.left, 8, 0.0);
        let run = |left: &[Bf16], stride: usize, len: usize, to: usize, panels: Range<usize>| {
            let (mut data, left) = (vec![0.0; len], Left { data: left, stride, rows: 4 });
            tiles.product(&weights, panels, left, Output::Single { data: &mut data, stride: to });
        };
        run(&left, 32, 128, 32, 0..1);
        assert_refused("left side ends early", || run(&left[1..], 32, 128, 32, 0..1));
        assert_refused("left side ends early", || run(&left, usize::MAX / 2, 128, 32, 0..1));
        assert_refused("ends early", || run(&left, 32, 127, 32, 0..1));
        assert_refused("overlap", || run(&left, 32, 128, 31, 0..1));
        assert_refused("there are 1 panels", || run(&left, 32, 128, 32, 0..2));
    });
}
