//! The kernels, compiled as C++ for the host under the sanitizers, against the references of [`super::super::ops`]:
//! started with the same launches as on a GPU, in buffers of exactly the size that they may touch.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use half::f16;

use super::super::host::Host;
use super::super::memory::{Number, Values};
use super::super::ops::layers::{Depthwise, Merge, Stem, Widen};
use super::super::ops::pointwise::{Pointwise, TILES_F16, TILES_F32, Then, Tile};
use super::super::ops::{Arg, Clamp, Launch, Maps, Op};
use super::*;
use crate::models::movenet::Decoder;
use crate::models::movenet::arch::{Activation, FEATURES};
use crate::models::movenet::decoder::{CROWD, PUBLISHED, People};
use crate::models::movenet::gpu::{CENTER_PITCH, PoseDecoder, Poses, keypoint_pitch};

/// The kernels as a program of the host.
struct Kernels {
    program: PathBuf,
    _folder: tempfile::TempDir,
}

impl Kernels {
    fn compile() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("kernels");
        let compiled = Command::new("g++")
            .args(["-std=c++20", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-pthread"])
            // A product and a sum are two roundings, as in the references.
            .arg("-ffp-contract=off")
            .args(["-fsanitize=address,undefined", "-fno-sanitize-recover=all"])
            .arg(format!("-I{}", here.join("tests/stand-in").display()))
            .arg(format!("-I{}", here.join("src/gpu/kernels").display()))
            .arg(here.join("tests/stand-in/run_on_host.cpp"))
            .arg("-o")
            .arg(&program)
            .output()
            .expect("g++ is installed (deploy/setup.sh test)");
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        Self { program, _folder: folder }
    }

    /// Carries out launches, and answers what they leave in `output`.
    fn run(&self, launches: &[Launch], inputs: &[&Values], output: &Values) -> Vec<f32> {
        let mut buffers: Vec<Vec<u8>> = inputs.iter().map(|input| input.bytes()).collect();
        buffers.push(output.bytes());
        for launch in launches {
            let mut job = Vec::new();
            let u32s = |values: &[u32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            job.extend(u32s(&[launch.kernel.len() as u32]));
            job.extend(launch.kernel.as_bytes());
            job.extend(u32s(&[launch.blocks, launch.threads, launch.args.len() as u32]));
            let mut order = Vec::new();
            for arg in &launch.args {
                match *arg {
                    Arg::U32(value) => job.extend([&b"u"[..], &value.to_le_bytes()].concat()),
                    Arg::F32(value) => job.extend([&b"f"[..], &value.to_le_bytes()].concat()),
                    Arg::Input(_) | Arg::Output => {
                        let index = if let Arg::Input(index) = *arg { index } else { inputs.len() };
                        order.push(index);
                        job.push(b'b');
                        job.extend((buffers[index].len() as u32).to_le_bytes());
                        job.extend(&buffers[index]);
                    }
                }
            }
            let mut rest = &self.start(&job, &launch.kernel)[..];
            for index in order {
                let (now, after) = rest.split_at(buffers[index].len());
                assert!(index == inputs.len() || buffers[index] == now, "{} writes an input", launch.kernel);
                buffers[index] = now.to_vec();
                rest = after;
            }
        }
        floats_of(&buffers[inputs.len()], output.number())
    }

    fn start(&self, job: &[u8], kernel: &str) -> Vec<u8> {
        let mut child = Command::new(&self.program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It reads everything before it writes anything.
        child.stdin.take().unwrap().write_all(job).ok();
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{kernel}: {}", String::from_utf8_lossy(&done.stderr));
        done.stdout
    }

    /// Asserts that each of `ways` leaves in `output` what the reference does; `near` says what is near enough.
    fn check_near(
        &self,
        op: &dyn Op,
        ways: &[Vec<Launch>],
        inputs: &[&Values],
        mut output: Values,
        near: impl Fn(f32, f32) -> bool,
    ) {
        let got: Vec<_> = ways.iter().map(|launches| self.run(launches, inputs, &output)).collect();
        op.compute(inputs, &mut output).unwrap();
        let expected = output.floats();
        for (got, launches) in got.iter().zip(ways) {
            for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let kernel = &launches[0].kernel;
                assert!(near(*got, *expected), "{op:?}: {index} is {got}, not {expected}, by {kernel}");
            }
        }
    }

    /// As [`check_near`](Self::check_near), where sums are made in the same order.
    fn check(&self, op: &dyn Op, inputs: &[&Values], output: Values) {
        let ways = [op.launches(output.number()).unwrap()];
        self.check_near(op, &ways, inputs, output, |got, expected| got == expected);
    }
}

fn floats_of(bytes: &[u8], number: Number) -> Vec<f32> {
    match number {
        Number::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        Number::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
        Number::U8 => bytes.iter().map(|b| f32::from(*b)).collect(),
    }
}

/// Numbers between -2 and 6 that differ everywhere.
fn numbers(len: usize, seed: usize, number: Number) -> Values {
    let values =
        (0..len).map(|i| ((i * i * 13 + (i + 3) * (seed + 5) * 7) % 997) as f32 / 125.0 - 2.0).collect();
    Values::of(values, number)
}

fn layers(kernels: &Kernels, number: Number) {
    let of = |len, seed| numbers(len, seed, number);
    let wide = |len, seed| numbers(len, seed, Number::F32);
    let constants = Values::F32(vec![127.5, 127.0, 126.5, 0.0078, 0.0079, 0.0077, 0.5]);
    // Odd numbers of tiles and of columns in the last one.
    for (maps, channels) in [
        (Maps { images: 2, height: 6, width: 10 }, 16),
        (Maps { images: 1, height: 2, width: 2 }, 24),
        (Maps { images: 3, height: 4, width: 18 }, 8),
    ] {
        let pixels = maps.pixels();
        for stride in [1, 2] {
            let after = if stride == 1 { maps } else { maps.halved() };
            for clamp in [Clamp::NONE, Activation::Relu6.into()] {
                let op = Depthwise { maps, channels, stride, clamp };
                let inputs = [&of(pixels * channels, 1), &of(9 * channels, 2), &wide(channels, 3)];
                kernels.check(&op, &inputs, of(after.pixels() * channels, 4));
            }
        }
        // Of inputs widths are multiples of 32.
        let maps = Maps { width: 16, ..maps };
        let pixels = maps.pixels();
        let op = Stem { maps, channels, clamp: Activation::Relu6.into() };
        let colours = Values::U8(noise(3 * pixels, 5));
        let inputs = [&colours, &constants, &wide(27 * channels, 6), &wide(channels, 7)];
        kernels.check(&op, &inputs, of(maps.halved().pixels() * channels, 8));
        let coarse = of(maps.halved().pixels() * channels, 9);
        kernels.check(&Merge { maps, channels }, &[&coarse], of(pixels * channels, 10));
        let op = Widen { count: pixels * channels, number };
        kernels.check(&op, &[&of(pixels * channels, 11)], wide(pixels * channels, 12));
    }
}

/// Products in other orders than the reference's.
fn pointwise(kernels: &Kernels, number: Number) {
    let of = |len, seed| numbers(len, seed, number);
    // More than a tile of rows, tiles that are not full, depths that end within a slice or have several.
    for (rows, depth, columns) in [(130, 8, 8), (7, 24, 40), (129, 40, 72), (65, 160, 24)] {
        let (map, weight, bias) =
            (of(rows * depth, 1), of(columns * depth, 2), numbers(columns, 3, Number::F32));
        let residual = of(rows * columns, 4);
        let clamped = Then::Clamp(Activation::Relu6.into());
        for (then, inputs) in [
            (clamped, &[&map, &weight, &bias][..]),
            (Then::Clamp(Clamp::NONE), &[&map, &weight, &bias]),
            (Then::Residual, &[&map, &weight, &bias, &residual]),
        ] {
            let near = |got: f32, expected: f32| {
                let rounding = if number == Number::F16 { 1.0 / 1024.0 } else { 1e-5 };
                (got - expected).abs() <= rounding * expected.abs() + 1e-4
            };
            let op = Pointwise { rows, depth, columns, then };
            let tiles: &[Tile] = if number == Number::F16 { &TILES_F16 } else { &TILES_F32 };
            let ways: Vec<_> = tiles
                .iter()
                .filter(|tile| op.is_for(**tile))
                .map(|tile| vec![op.launch(*tile, number).unwrap()])
                .collect();
            kernels.check_near(&op, &ways, inputs, of(rows * columns, 5), near);
        }
    }
}

fn poses(kernels: &Kernels) {
    for (model, grid, people) in [
        ("lightning", Maps { images: 2, height: 48, width: 48 }, PUBLISHED),
        ("multipose", Maps { images: 2, height: 16, width: 24 }, PUBLISHED),
        // Few cells are so sure.
        ("multipose", Maps { images: 2, height: 16, width: 24 }, People { least_center: 0.85, ..CROWD }),
    ] {
        let mut host = Host::new();
        let decoder = Decoder::of(&weights(model), people);
        let decoder = Arc::new(PoseDecoder::load(&weights(model), decoder, &mut host).unwrap());
        let of = |channels: usize, seed| numbers(grid.pixels() * channels, seed, Number::F32).floats();
        let spread = |map: Vec<f32>| Values::F32(map.into_iter().map(|value| 1.5 * value).collect());
        let (center, keypoints) = (spread(of(CENTER_PITCH, 1)), spread(of(keypoint_pitch(17), 2)));
        let features = Values::F32(of(FEATURES, 3).into_iter().map(|value| value.max(0.0)).collect());
        let (heads, weight) = (host.values(decoder.heads), host.values(decoder.center_weight));
        let inputs = [&center, &keypoints, &features, heads, weight];
        let mut output = numbers(decoder.buffer_len(grid), 4, Number::F32);
        let op = Poses { decoder: decoder.clone(), grid };
        let len = decoder.records_len(grid.images) * Number::F32.bytes();
        let got = Values::F32(kernels.run(&op.launches(Number::F32).unwrap(), &inputs, &output));
        let got = decoder.read(&got.bytes()[..len]);
        op.compute(&inputs, &mut output).unwrap();
        let expected = decoder.read(&output.bytes()[..len]);
        assert_eq!(got.len(), grid.images);
        for (got, expected) in got.iter().flatten().zip(expected.iter().flatten()) {
            let (got, expected) = (row(got), row(expected));
            let worst = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            // The same cells: another one would be off by a cell. Sums are in the same order, but the two C
            // libraries' exponentials may differ in the last bit.
            assert!(worst <= 1e-5, "{model}: off by {worst:e}");
        }
    }
}

#[test]
fn every_kernel_computes_what_its_reference_does() {
    let kernels = Kernels::compile();
    for number in [Number::F32, Number::F16] {
        layers(&kernels, number);
        pointwise(&kernels, number);
    }
    poses(&kernels);
}
