//! `cloudpose bench worker`: inferences on demand, for measuring beside other runtimes.
#![expect(clippy::print_stdout, reason = "the protocol of the worker")]

use std::{
    io::{BufRead as _, Write as _},
    num::NonZeroUsize,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use cloudpose_infer::{
    Models, StoreConfig,
    contract::Engine as _,
    cpu::{CpuEngine, Effort, Half, Plans, StepProfile},
    gpu::Precision,
    models::{Model as _, Processor, movenet::MoveNetModel},
    preprocess::{Fit, ModelInput, Preprocessor},
};
use cloudpose_pixels::{Limits, PlanarImage};
use cloudpose_wire::ModelId;
use rustix::time::{ClockId, clock_gettime};

use crate::cli::BenchLayers;

/// The picture that is worked on where none is named.
pub(crate) const SAMPLE: &[u8] = include_bytes!("../ingest/web/sample.jpg");

/// Inferences before `ready`.
const WARM_UP: u32 = 30;

/// How an engine works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Engine {
    /// Threads that share an inference.
    pub(crate) threads: NonZeroUsize,
    pub(crate) precision: Precision,
}

/// Prints `ready`, then answers each number N on standard input with the times of N inferences of `batch` pictures:
/// `{"wall": [nanoseconds, …], "cpu": nanoseconds}`.
///
/// # Errors
/// If the picture is none, the model does not load or run, or a line is no number.
pub(crate) fn worker(
    store: &StoreConfig,
    model: &ModelId,
    engine: Engine,
    batch: NonZeroUsize,
    image: Option<&Path>,
) -> Result<()> {
    let models = Arc::new(Models::open(store)?);
    let picture = model_input(&models, model, image)?;
    let mut engine = CpuEngine::new(models, engine.threads)?.in_precision(engine.precision)?;
    let mut inputs = vec![picture.clone(); batch.get()];
    let mut infer = || -> Result<()> {
        inputs.iter_mut().for_each(|input| input.pixels.copy_from_slice(&picture.pixels));
        std::hint::black_box(engine.run(model, &inputs)?);
        Ok(())
    };
    for _ in 0..WARM_UP {
        infer()?;
    }
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let n: usize = line.trim().parse().with_context(|| format!("expected a number, got {line:?}"))?;
        let mut wall = Vec::with_capacity(n);
        let cpu = process_cpu_ns();
        for _ in 0..n {
            let begun = Instant::now();
            infer()?;
            wall.push(begun.elapsed().as_nanos() as u64);
        }
        let cpu = process_cpu_ns() - cpu;
        println!("{}", serde_json::json!({"wall": wall, "cpu": cpu}));
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// Prints what each step of a model takes, as a Markdown table.
///
/// # Errors
/// If the picture is none, or the model does not load or run.
pub(crate) fn layers(command: &BenchLayers) -> Result<()> {
    let BenchLayers { model, runs, threads, batch, image, numbers } = command;
    let store = StoreConfig::default().open()?;
    let (entry, file) = store.read(model)?;
    let movenet =
        MoveNetModel::open(entry, file).context("only models of the MoveNet family have layers to show")?;
    let mut processor = Processor::of(*threads)?;
    let half = Half::of(numbers.precision, &processor.kernels)?;
    processor.half = half.filter(|half| movenet.in_half(*half));
    let speeds = Speeds::measure(&processor);
    println!("{model}, {batch} at once, {threads} thread(s), fastest of {runs} runs. {speeds}\n");
    let plans = Plans::new(movenet.packed(&processor).clone(), processor.pool.clone());
    let models = Models::open(&StoreConfig::default())?;
    let ModelInput { pixels, width, height, .. } = model_input(&models, model, image.as_deref())?;
    let steps = plans.profile(height, width, &vec![&*pixels; batch.get()], *runs)?;
    println!(
        "| step | output | M multiply-adds | ms | GFLOP/s | products, ms | depthwise, ms | weights, ms | of all |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut all = (Effort::default(), Duration::ZERO);
    for StepProfile { name, output: [rows, columns, channels], effort, shortest } in &steps {
        row(name, &format!("{rows}×{columns}×{channels}"), *effort, *shortest, (&speeds, batch.get()));
        all.0.weights += effort.weights;
        all.0.pointwise += effort.pointwise;
        all.0.depthwise += effort.depthwise;
        all.1 += *shortest;
    }
    row("**all**", "", all.0, all.1, (&speeds, batch.get()));
    Ok(())
}

/// A row of the table: what a step took for so many pictures, and what its parts would take at full speed.
fn row(name: &str, output: &str, effort: Effort, time: Duration, (speeds, pictures): (&Speeds, usize)) {
    let ms = time.as_secs_f64() * 1e3;
    let flops = |multiply_adds: usize| (2 * pictures * multiply_adds) as f64;
    let (pointwise, depthwise) = (flops(effort.pointwise), flops(effort.depthwise));
    let [products, windows] = [pointwise / speeds.products, depthwise / speeds.single].map(|s| s * 1e3);
    let weights = (effort.weights * speeds.weight_bytes) as f64 / speeds.cache * 1e3;
    let (count, gflops) = ((pointwise + depthwise) / 2e6, (pointwise + depthwise) / ms / 1e6);
    let share = 100.0 * (products + windows) / ms;
    println!(
        "| {name} | {output} | {count:.2} | {ms:.3} | {gflops:.1} | {products:.3} | {windows:.3} | {weights:.3} | {share:.0} % |"
    );
}

/// What one thread of the processor reaches at most now.
struct Speeds {
    /// Who multiplies matrices.
    unit: String,
    /// Operations a second of products of matrices, and of float32 on registers, in which windows are.
    products: f64,
    single: f64,
    /// Bytes a second of reading as many as a model's weights have again and again.
    cache: f64,
    weight_bytes: usize,
}

impl Speeds {
    fn measure(processor: &Processor) -> Self {
        let second = Duration::from_secs(1);
        let single = processor.kernels.peak_flops(second);
        let (unit, products, weight_bytes) = match processor.half {
            Some(half) => (half.unit().to_string(), half.peak_flops(second), 2),
            None => (processor.kernels.isa().to_string(), single, 4),
        };
        Self { unit, products, single, cache: read_speed(), weight_bytes }
    }
}

impl std::fmt::Display for Speeds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [products, single, cache] = [self.products, self.single, self.cache].map(|speed| speed / 1e9);
        write!(f, "At most, one thread: products {products:.0} GFLOP/s ({}), ", self.unit)?;
        write!(f, "float32 {single:.0} GFLOP/s, weights {cache:.0} GB/s")
    }
}

/// Bytes a second that this thread reads of more than the second cache holds: the best of ten times.
fn read_speed() -> f64 {
    const BYTES: usize = 12 << 20;
    let words = vec![1_u64; BYTES / size_of::<u64>()];
    let mut best = f64::MAX;
    for _ in 0..10 {
        let begun = Instant::now();
        let mut sums = [0_u64; 32];
        for line in std::hint::black_box(&words).chunks_exact(sums.len()) {
            sums.iter_mut().zip(line).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        }
        std::hint::black_box(sums);
        best = best.min(begun.elapsed().as_secs_f64());
    }
    BYTES as f64 / best
}

/// A picture as a model input.
pub(crate) fn model_input(models: &Models, model: &ModelId, image: Option<&Path>) -> Result<ModelInput> {
    let bytes = match image {
        None => Bytes::from_static(SAMPLE),
        Some(path) => std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?.into(),
    };
    // The largest input that there can be.
    let fit = match models.get(model)?.fit() {
        Fit::Aspect { longer_side: side } => Fit::Letterbox { side },
        fit => fit,
    };
    let (mut image, mut input) = (PlanarImage::default(), ModelInput::default());
    cloudpose_pixels::Decoder::new(Limits::default())?.decode(&bytes, &mut image)?;
    Preprocessor::new(fit).run(&image, None, &mut input);
    Ok(input)
}

/// Processor time of all threads of this process so far.
fn process_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
