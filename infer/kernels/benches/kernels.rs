//! Each kernel on shapes of the models, on one thread. Criterion's `elem/s` are floating point operations
//! a second: a multiply-add counts as two.
//!
//! `CLOUDPOSE_ISA` chooses the instruction set.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use cloudpose_kernels::depthwise::{self, Layer, Stride, Taps};
use cloudpose_kernels::normalise::Pattern;
use cloudpose_kernels::pointwise::{Activations, Left, Output, Segment, Weights};
use cloudpose_kernels::upsample;
use cloudpose_kernels::{AlignedVec, Clamp, Kernels, Slab};

/// Rows, depth and columns: expand and project convolutions from the first to the last blocks.
const POINTWISE: [(usize, usize, usize); 9] = [
    (192, 16, 96),
    (96, 24, 144),
    (144, 32, 192),
    (144, 64, 384),
    (36, 160, 960),
    (48, 96, 24),
    (96, 144, 24),
    (144, 192, 64),
    (48, 96, 17),
];

/// Rows, depth and columns: project convolutions, behind a ReLU.
const SPARSE_POINTWISE: [(usize, usize, usize); 6] =
    [(192, 192, 32), (144, 384, 64), (144, 576, 96), (36, 960, 160), (36, 960, 320), (64, 1680, 280)];

/// Pixels of a row, channels and stride.
const DEPTHWISE: [(usize, usize, Stride); 5] = [
    (96, 16, Stride::One),
    (96, 16, Stride::Two),
    (48, 24, Stride::One),
    (12, 16, Stride::One),
    (6, 16, Stride::One),
];

fn kernels() -> Kernels {
    Kernels::detect().expect("CLOUDPOSE_ISA names an instruction set of this processor")
}

/// The product of `left`, which has whole rows of `depth`, with `columns` columns of weights.
fn product(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: BenchmarkId,
    [depth, columns]: [usize; 2],
    activations: Activations,
    left: &[f32],
) {
    let kernels = kernels();
    let (weights, bias) = (vec![0.1; depth * columns], vec![0.0; columns]);
    let weights = Weights::pack(&kernels, &mut Slab::default(), &weights, &bias, Clamp::RELU6, activations);
    let rows = left.len() / depth;
    let segments = [Segment { offset: 0, stride: depth, width: depth }];
    let mut output = AlignedVec::zeroed(rows * columns);
    group.throughput(Throughput::Elements(2 * (rows * depth * columns) as u64));
    group.bench_function(id, |bencher| {
        bencher.iter(|| {
            let left = Left { data: left, segments: &segments, rows, depth_from: 0 };
            let output = Output { data: &mut output, stride: columns, residual: None };
            kernels.pointwise(&weights, 0..weights.panels().len(), left, output);
        });
    });
}

fn pointwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("pointwise/{}", kernels().isa()));
    for (rows, depth, columns) in POINTWISE {
        let id = BenchmarkId::from_parameter(format!("{rows}x{depth}x{columns}"));
        product(&mut group, id, [depth, columns], Activations::Dense, &vec![0.5; rows * depth]);
    }
}

/// Of the left side no, about half and three quarters of the columns of each two rows are zero. Operations are
/// counted as if nothing were left out.
fn sparse_pointwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(format!("pointwise-sparse/{}", kernels().isa()));
    for (rows, depth, columns) in SPARSE_POINTWISE {
        for sixteenths in [0, 8, 12] {
            let mut state = 1u32;
            let mut left = vec![0.5; rows * depth];
            for pair in left.chunks_exact_mut(2 * depth) {
                for column in 0..depth {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if (state >> 28) < sixteenths {
                        (pair[column], pair[depth + column]) = (0.0, 0.0);
                    }
                }
            }
            let shape = format!("{rows}x{depth}x{columns}");
            let id = BenchmarkId::new(shape, format!("{} zero", f64::from(sixteenths) / 16.0));
            product(&mut group, id, [depth, columns], Activations::Sparse, &left);
        }
    }
}

fn depthwise_rows(criterion: &mut Criterion) {
    let kernels = kernels();
    let mut group = criterion.benchmark_group(format!("depthwise/{}", kernels.isa()));
    for (width, channels, stride) in DEPTHWISE {
        let rows = [0.5, 0.6, 0.7].map(|value| vec![value; width * channels]);
        let bias = vec![0.0; channels];
        let layer = Layer { size: 3, weights: &vec![0.1; 9 * channels], bias: Some(&bias) };
        let taps = Taps::pack(&kernels, &mut Slab::default(), layer, 0..channels, Clamp::RELU6);
        let shape = depthwise::RowShape { width, input_pitch: channels, output_pitch: channels, stride };
        let outputs = width / stride.pixels() * channels;
        let mut output = AlignedVec::zeroed(outputs);
        group.throughput(Throughput::Elements(18 * outputs as u64));
        let id = BenchmarkId::from_parameter(format!("{width}x{channels}s{}", stride.pixels()));
        group.bench_function(id, |bencher| {
            bencher.iter(|| {
                let rows = [Some(&rows[0][..]), Some(&rows[1][..]), Some(&rows[2][..])];
                kernels.depthwise_rows(&taps, shape, &[rows], &mut output);
            });
        });
    }
}

/// The row of the last pyramid step; 7 operations an output.
fn upsample_add_row(criterion: &mut Criterion) {
    let kernels = kernels();
    let (width, channels) = (24, 24);
    let rows = [0.5, 0.6].map(|value| vec![value; width * channels]);
    let shape = upsample::RowShape { width, channels, input_pitch: channels, output_pitch: channels };
    let mut output = AlignedVec::zeroed(2 * width * channels);
    let mut group = criterion.benchmark_group(format!("upsample/{}", kernels.isa()));
    group.throughput(Throughput::Elements(7 * output.len() as u64));
    group.bench_function("24x24", |bencher| {
        bencher.iter(|| {
            output.fill(0.0);
            kernels.upsample_add_row(shape, &rows[0], &rows[1], &mut output);
        });
    });
}

/// A row of Lightning's input; 2 operations a byte.
fn normalise(criterion: &mut Criterion) {
    let kernels = kernels();
    let pattern = Pattern::new([1.0 / 127.5; 3], [-1.0; 3]);
    let pixels = vec![128; 192 * 3];
    let mut output = AlignedVec::zeroed(pixels.len());
    let mut group = criterion.benchmark_group(format!("normalise/{}", kernels.isa()));
    group.throughput(Throughput::Elements(2 * pixels.len() as u64));
    group.bench_function("192x3", |bencher| {
        bencher.iter(|| kernels.normalise(&pattern, &pixels, &mut output));
    });
}

criterion_group!(benches, pointwise, sparse_pointwise, depthwise_rows, upsample_add_row, normalise);
criterion_main!(benches);
