use super::reference::{Case, product};
use super::*;
use crate::suite::{Numbers, assert_refused, assert_within, on_every_isa};

fn case(rows: usize, depth: usize, columns: usize, residual: bool, clamp: Clamp) -> Case {
    let mut numbers = Numbers::new(rows * 10_007 + depth * 101 + columns);
    Case {
        left: numbers.take(rows * depth),
        weights: numbers.take(depth * columns),
        bias: numbers.take(columns),
        residual: if residual { numbers.take(rows * columns) } else { Vec::new() },
        clamp,
    }
}

fn pack(kernels: &Kernels, case: &Case) -> Weights {
    pack_for(kernels, case, Activations::Dense)
}

fn pack_for(kernels: &Kernels, case: &Case, activations: Activations) -> Weights {
    Weights::pack(kernels, &mut Slab::default(), &case.weights, &case.bias, case.clamp, activations)
}

/// A plain `[rows, depth]` matrix.
fn row_major(depth: usize) -> Segment {
    Segment { offset: 0, stride: depth, width: depth }
}

fn run(kernels: &Kernels, case: &Case) -> Vec<f32> {
    run_for(kernels, case, Activations::Dense)
}

fn run_for(kernels: &Kernels, case: &Case, activations: Activations) -> Vec<f32> {
    let weights = pack_for(kernels, case, activations);
    let (depth, columns) = (weights.depth(), weights.columns());
    let rows = case.left.len() / depth;
    let mut output = vec![f32::NAN; rows * columns];
    kernels.pointwise(
        &weights,
        0..weights.panels().len(),
        Left { data: &case.left, segments: &[row_major(depth)], rows, depth_from: 0 },
        Output {
            data: &mut output,
            stride: columns,
            residual: (!case.residual.is_empty()).then_some(case.residual.as_slice()),
        },
    );
    output
}

#[test]
fn every_size_around_the_tiles_agrees() {
    on_every_isa(|kernels| {
        for rows in (1..=18).chain([24, 36, 97]) {
            for columns in
                [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 23, 24, 25, 33, 34, 40, 47, 48, 49, 56, 96, 97]
            {
                for depth in [1, 2, 17] {
                    let case = case(rows, depth, columns, false, Clamp::NONE);
                    let name = format!("{}: {rows}×{depth}×{columns}", kernels.isa());
                    assert_within(&run(kernels, &case), &product(&case), &name);
                }
            }
        }
    });
}

#[test]
fn the_shapes_of_the_models_agree() {
    let shapes = [(96, 16, 96), (48, 144, 24), (36, 960, 320), (36, 320, 1280), (64, 1280, 64), (48, 96, 17)];
    on_every_isa(|kernels| {
        for (rows, depth, columns) in shapes {
            let case = case(rows, depth, columns, true, Clamp::RELU6);
            let name = format!("{}: {rows}×{depth}×{columns}", kernels.isa());
            assert_within(&run(kernels, &case), &product(&case), &name);
        }
    });
}

/// Sets about `share` of the left side to 0 or -0, half of it in whole columns of neighbouring rows.
fn with_zeros(mut case: Case, share: f32) -> Case {
    let depth = case.weights.len() / case.bias.len();
    let mut numbers = Numbers::new(depth);
    for rows in case.left.chunks_mut(3 * depth) {
        let (shared, single) = (numbers.take(depth), numbers.take(rows.len()));
        for (index, (value, single)) in rows.iter_mut().zip(single).enumerate() {
            if shared[index % depth].abs() < share / 2.0 || single.abs() < share / 2.0 {
                *value = 0.0f32.copysign(single);
            }
        }
    }
    case
}

#[test]
fn leaving_out_zeros_changes_no_bit() {
    let shapes = (1..=14).map(|rows| (rows, 19, 64)).chain([
        (7, 1, 40),
        (36, 300, 56),
        (25, 256, 97),
        (97, 257, 112),
        (200, 31, 32),
        (36, 960, 160),
        (64, 1280, 64),
        (9, 40, 1280),
    ]);
    on_every_isa(|kernels| {
        for (rows, depth, columns) in shapes.clone() {
            for share in [0.0, 0.3, 0.9, 2.0] {
                for (residual, clamp) in [(false, Clamp::NONE), (true, Clamp::RELU6)] {
                    let case = with_zeros(case(rows, depth, columns, residual, clamp), share);
                    let name = format!("{}: {rows}×{depth}×{columns}, {share} zero", kernels.isa());
                    let sparse = run_for(kernels, &case, Activations::Sparse);
                    assert_within(&sparse, &product(&case), &name);
                    // A column alone in its vector is summed in another order by the dense kernels.
                    let same = columns - usize::from(columns % kernels.lanes == 1);
                    let dense = run(kernels, &case);
                    for (sparse, dense) in sparse.chunks_exact(columns).zip(dense.chunks_exact(columns)) {
                        assert_eq!(sparse[..same], dense[..same], "{name}");
                    }
                }
            }
        }
    });
}

#[test]
fn results_stay_in_the_clamps_range() {
    on_every_isa(|kernels| {
        for clamp in [Clamp::RELU, Clamp::RELU6] {
            let mut case = case(13, 9, 43, false, clamp);
            case.left.iter_mut().for_each(|x| *x *= 100.0);
            let output = run(kernels, &case);
            assert!(output.iter().all(|&x| x >= clamp.low && x <= clamp.high));
            assert!(output.contains(&0.0) && output.iter().any(|&x| x >= 6.0));
        }
    });
}

#[test]
fn nan_reaches_its_row_and_no_other() {
    on_every_isa(|kernels| {
        let (rows, depth) = (7, 5);
        for (columns, activations) in [(33, Activations::Dense), (64, Activations::Sparse)] {
            let mut case = case(rows, depth, columns, false, Clamp::RELU6);
            case.left[3 * depth + 2] = f32::NAN;
            for (m, row) in run_for(kernels, &case, activations).chunks_exact(columns).enumerate() {
                assert!(row.iter().all(|x| x.is_nan() == (m == 3)), "{} row {m}", kernels.isa());
            }
        }
    });
}

#[test]
fn depth_in_parts_and_columns_in_panels_give_the_same_bits() {
    on_every_isa(|kernels| {
        in_parts(kernels, 62, Activations::Dense);
        in_parts(kernels, 62, Activations::Sparse);
        in_parts(kernels, 200, Activations::Sparse);
    });
}

fn in_parts(kernels: &Kernels, columns: usize, activations: Activations) {
    let (rows, depth) = (11, 100);
    let case = with_zeros(case(rows, depth, columns, true, Clamp::RELU), 0.5);
    let weights = pack_for(kernels, &case, activations);
    let mut output = vec![f32::NAN; rows * columns];
    for (from, to) in [(0, 1), (1, 48), (48, 100)] {
        // Each part of the depth in two segments, the way a tensor in panels is read.
        let middle = (from + to) / 2;
        let segments =
            [(from, middle), (middle, to)].map(|(a, b)| Segment { offset: a, stride: depth, width: b - a });
        for (index, panel) in weights.panels().iter().enumerate() {
            let left = Left { data: &case.left, segments: &segments, rows, depth_from: from };
            let data = &mut output[panel.first..];
            let residual = Some(&case.residual[panel.first..]);
            kernels.pointwise(&weights, index..index + 1, left, Output { data, stride: columns, residual });
        }
    }
    assert_eq!(output, run(kernels, &case), "{}", kernels.isa());
}

#[test]
fn only_the_columns_of_the_output_are_written() {
    on_every_isa(|kernels| {
        let (rows, depth, columns, stride) = (9, 3, 29, 31);
        let case = case(rows, depth, columns, false, Clamp::NONE);
        let weights = pack(kernels, &case);
        let mut output = vec![7.0; rows * stride];
        let left = Left { data: &case.left, segments: &[row_major(depth)], rows, depth_from: 0 };
        let panels = 0..weights.panels().len();
        kernels.pointwise(&weights, panels, left, Output { data: &mut output, stride, residual: None });
        let want = run(kernels, &case);
        for (got, want) in output.chunks_exact(stride).zip(want.chunks_exact(columns)) {
            assert_eq!(&got[..columns], want);
            assert_eq!(&got[columns..], [7.0; 2]);
        }
    });
}

#[test]
fn panels_cover_all_columns_once() {
    for (lanes, wide) in [(4, 3), (8, 2), (16, 3)] {
        for columns in 1..200 {
            let panels = panels(columns, lanes, wide);
            let mut next = 0;
            for panel in &panels {
                assert_eq!(panel.first, next);
                let is_alone = panel.columns == 1 && panel.width == 1;
                assert!(is_alone || panel.width.is_multiple_of(lanes) && panel.width <= 3 * lanes);
                next += panel.columns;
            }
            assert_eq!(next, columns);
            let padded: usize = panels.iter().map(|p| p.width).sum();
            assert!(padded == columns.next_multiple_of(lanes) || columns % lanes == 1 && padded == columns);
        }
    }
}

#[test]
fn panels_of_sparse_tiles_cover_all_columns_once() {
    for (lanes, most) in [(4, 6), (8, 3), (8, 6), (16, 6)] {
        assert!(sparse_panels(3 * lanes, lanes, most).is_none(), "too narrow to be worth lists");
        for columns in 3 * lanes + 1..600 {
            let (panels, rows) = sparse_panels(columns, lanes, most).unwrap();
            let mut next = 0;
            for panel in &panels {
                assert_eq!((panel.first, panel.offset), (next, next));
                assert!(panel.columns <= panel.width && panel.width.is_multiple_of(lanes));
                assert!((2..=3).contains(&rows) && rows * panel.width <= 2 * most * lanes);
                next += panel.columns;
            }
            assert_eq!(next, columns);
        }
    }
}

#[test]
#[should_panic(expected = "segment ends early")]
fn a_short_input_is_refused() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    let case = case(4, 8, 8, false, Clamp::NONE);
    let left = Left { data: &case.left[..31], segments: &[row_major(8)], rows: 4, depth_from: 0 };
    let mut output = vec![0.0; 32];
    let output = Output { data: &mut output, stride: 8, residual: None };
    kernels.pointwise(&pack(&kernels, &case), 0..1, left, output);
}

#[test]
fn sizes_whose_products_do_not_fit_are_refused() {
    let kernels = Kernels::of(crate::Isa::Portable).unwrap();
    let case = case(4, 8, 8, false, Clamp::NONE);
    let weights = pack(&kernels, &case);
    let run = |segment: Segment, depth_from: usize, stride: usize| {
        let left = Left { data: &case.left, segments: &[segment], rows: 3, depth_from };
        let mut output = vec![0.0; 32];
        let output = Output { data: &mut output, stride, residual: None };
        kernels.pointwise(&weights, 0..1, left, output);
    };
    let half = usize::MAX / 2 + 1;
    let sound = row_major(8);
    run(sound, 0, 8);
    // Each of them comes to a small number where it wraps.
    assert_refused("segment ends early", || run(Segment { stride: half, ..sound }, 0, 8));
    assert_refused("segment ends early", || run(Segment { stride: usize::MAX, ..sound }, 0, 8));
    assert_refused("segment ends early", || run(Segment { offset: usize::MAX - 20, ..sound }, 0, 8));
    assert_refused("depth exceeds", || run(sound, usize::MAX - 7, 8));
    assert_refused("segment ends early", || run(Segment { width: usize::MAX, ..sound }, 1, 8));
    assert_refused("output ends early", || run(sound, 0, half));
}
