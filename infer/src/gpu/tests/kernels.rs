//! The kernels, compiled as C++ for the host under the sanitizers, against the references of [`super::super::ops`]:
//! started with the same launches as on a GPU, in buffers of exactly the size that they may touch.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use candle_core::{DType, Device, Tensor};

use super::super::ops::input::{ModelInput, StemWindows, WINDOW};
use super::super::ops::layers::{Depthwise, Finish, Merge, Then, Widen};
use super::super::ops::poses::{CENTER_PITCH, PoseDecoder, Poses, keypoint_pitch};
use super::super::ops::{Arg, Clamp, Maps, Op, Work};
use super::super::picture::{upload_len, write_upload};
use super::super::run::run;
use super::*;
use crate::models::movenet::arch::{Activation, FEATURES};

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

    /// Carries out the launches of `op`, and answers what they leave in `output`.
    fn run(&self, op: &dyn Op, inputs: &[&Tensor], output: &Tensor) -> Vec<f32> {
        let mut buffers: Vec<Vec<u8>> = inputs.iter().map(|input| bytes(input)).collect();
        buffers.push(bytes(output));
        for work in op.work(output.dtype()).unwrap() {
            let Work::Launch(launch) = work else { panic!("{} is no kernel", op.name()) };
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
        floats_of(&buffers[inputs.len()], output.dtype())
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

    /// Asserts that the launches leave in the first `len` numbers of `output` what the reference does.
    fn check(&self, op: &dyn Op, inputs: &[&Tensor], output: &Tensor, len: usize) {
        let got = self.run(op, inputs, output);
        run(op, inputs, output).unwrap();
        let expected = floats_of(&bytes(output), output.dtype());
        for (index, (got, expected)) in got.iter().zip(&expected).take(len).enumerate() {
            assert_eq!(
                got,
                expected,
                "{op_name} {dtype:?}: number {index}",
                op_name = op.name(),
                dtype = output.dtype()
            );
        }
    }
}

fn bytes(tensor: &Tensor) -> Vec<u8> {
    let flat = tensor.flatten_all().unwrap();
    match tensor.dtype() {
        DType::U8 => flat.to_vec1().unwrap(),
        DType::F16 => {
            flat.to_vec1::<half::f16>().unwrap().iter().flat_map(|value| value.to_le_bytes()).collect()
        }
        _ => flat.to_vec1::<f32>().unwrap().iter().flat_map(|value| value.to_le_bytes()).collect(),
    }
}

fn floats_of(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::F16 => {
            bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect()
        }
        _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
    }
}

/// Numbers between -2 and 6 that differ everywhere.
fn numbers(len: usize, seed: usize, dtype: DType) -> Tensor {
    let values: Vec<f32> =
        (0..len).map(|i| ((i * i * 13 + (i + 3) * (seed + 5) * 7) % 997) as f32 / 125.0 - 2.0).collect();
    Tensor::from_vec(values, len, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
}

fn layers(kernels: &Kernels, dtype: DType) {
    let of = |len, seed| numbers(len, seed, dtype);
    let wide = |len, seed| numbers(len, seed, DType::F32);
    // Odd numbers of tiles and of columns in the last one.
    for (maps, channels) in [
        (Maps { images: 2, height: 6, width: 10 }, 8),
        (Maps { images: 1, height: 2, width: 2 }, 24),
        (Maps { images: 3, height: 4, width: 18 }, 4),
    ] {
        let pixels = maps.pixels();
        for stride in [1, 2] {
            let after = if stride == 1 { maps } else { maps.halved() };
            for clamp in [Clamp::NONE, Activation::Relu6.into()] {
                let op = Depthwise { maps, channels, stride, clamp };
                let inputs = [&of(pixels * channels, 1), &wide(9 * channels, 2), &wide(channels, 3)];
                kernels.check(&op, &inputs, &of(after.pixels() * channels, 4), usize::MAX);
            }
        }
        let finish = |then| Finish { pixels, channels, then };
        let (bias, map) = (wide(channels, 5), || of(pixels * channels, 6));
        kernels.check(&finish(Then::Clamp(Activation::Relu.into())), &[&bias], &map(), usize::MAX);
        kernels.check(&finish(Then::Residual), &[&bias, &of(pixels * channels, 7)], &map(), usize::MAX);
        let coarse = of(maps.halved().pixels() * channels, 8);
        kernels.check(&Merge { maps, channels }, &[&bias, &coarse], &map(), usize::MAX);
        let op = Widen { count: pixels * channels, dtype };
        kernels.check(&op, &[&map()], &wide(pixels * channels, 9), usize::MAX);
        let windows = of(maps.halved().pixels() * WINDOW, 10);
        kernels.check(&StemWindows { maps }, &[&of(3 * pixels, 11)], &windows, usize::MAX);
    }
}

fn inputs(kernels: &Kernels, dtype: DType) {
    let constants =
        Tensor::new(&[127.5f32, 127.0, 126.5, 0.0078, 0.0079, 0.0077, 0.5], &Device::Cpu).unwrap();
    for (fit, crop) in [
        (Fit::Letterbox { side: 32 }, None),
        (Fit::Letterbox { side: 32 }, Some(Square { x: 70.0, y: -9.0, side: 41.0 })),
        (Fit::Aspect { longer_side: 64 }, None),
    ] {
        let pack = |width, height, subsampling| {
            let image = picture(width, height, subsampling);
            let source = Source { width, height, scale: Scale::FULL };
            let mut packed = Picture::default();
            packed.pack(&image, Preprocessor::new(fit).plan(&image, source, crop));
            packed
        };
        let pictures = [
            pack(101, 67, Subsampling::S420),
            pack(99, 66, Subsampling::Grey),
            pack(97, 65, Subsampling::S444),
        ];
        let maps = Maps { images: 3, height: pictures[0].height, width: pictures[0].width };
        let mut upload = vec![0; upload_len(&pictures.iter().collect::<Vec<_>>())];
        write_upload(&pictures.iter().collect::<Vec<_>>(), &mut upload);
        let upload = Tensor::new(upload, &Device::Cpu).unwrap();
        let output = numbers(3 * maps.pixels(), 1, dtype);
        kernels.check(&ModelInput { maps }, &[&upload, &constants], &output, usize::MAX);
    }
}

fn poses(kernels: &Kernels) {
    for (model, grid) in [
        ("lightning", Maps { images: 2, height: 48, width: 48 }),
        ("multipose", Maps { images: 2, height: 16, width: 24 }),
    ] {
        let decoder = PoseDecoder::load(&weights(model), &Device::Cpu).unwrap();
        let of = |channels: usize, seed| numbers(grid.pixels() * channels, seed, DType::F32);
        let spread = |map: Tensor| (map * 1.5).unwrap();
        let (center, keypoints) = (spread(of(CENTER_PITCH, 1)), spread(of(keypoint_pitch(17), 2)));
        let features = of(FEATURES, 3).relu().unwrap();
        let inputs = [&center, &keypoints, &features, &decoder.heads, &decoder.center_weight];
        let output = numbers(decoder.buffer_len(grid), 4, DType::F32);
        let op = Poses { decoder: &decoder, grid };
        let got = decoder.read(&kernels.run(&op, &inputs, &output)[..decoder.records_len(grid.images)]);
        run(&op, &inputs, &output).unwrap();
        let expected = floats_of(&bytes(&output), DType::F32);
        let expected = decoder.read(&expected[..decoder.records_len(grid.images)]);
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
    for dtype in [DType::F32, DType::F16] {
        inputs(&kernels, dtype);
        layers(&kernels, dtype);
    }
    poses(&kernels);
}
