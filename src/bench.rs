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
    cpu::{CpuEngine, Half, Plans},
    gpu::Precision,
    models::{Model as _, Processor, movenet::MoveNetModel},
    preprocess::{Fit, ModelInput, Preprocessor},
};
use cloudpose_kernels::Kernels;
use cloudpose_pixels::{Limits, PlanarImage};
use cloudpose_wire::ModelId;
use rustix::time::{ClockId, clock_gettime};

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

/// Prints what each step of `model` takes on one thread, as a Markdown table.
///
/// # Errors
/// If the picture is none, or the model does not load or run.
pub(crate) fn layers(model: &ModelId, runs: usize, precision: Precision, image: Option<&Path>) -> Result<()> {
    let store = StoreConfig::default().open()?;
    let (entry, file) = store.read(model)?;
    let movenet =
        MoveNetModel::open(entry, file).context("only models of the MoveNet family have layers to show")?;
    let kernels = Kernels::detect()?;
    let half = Half::of(precision, &kernels)?;
    let half = half.filter(|half| movenet.in_half(*half));
    let processor = Processor { kernels, half, pool: None };
    let peak = processor.kernels.peak_flops(Duration::from_secs(1));
    println!(
        "{model}, {}, peak {:.1} GFLOP/s, fastest of {runs} runs\n",
        half.map_or_else(|| kernels.isa().to_string(), |half| half.unit().to_string()),
        peak / 1e9
    );
    let mut plans = Plans::new(movenet.packed(&processor).clone(), None);
    let models = Models::open(&StoreConfig::default())?;
    let ModelInput { pixels, width, height, .. } = model_input(&models, model, image)?;
    let steps = plans.profile(height, width, &pixels, runs)?;
    println!("| step | output | M multiply-adds | ms | GFLOP/s | of peak |\n|---|---|---|---|---|---|");
    let row = |name: &str, output: &str, multiply_adds: usize, time: Duration| {
        let (count, flops) = (multiply_adds as f64 / 1e6, 2.0 * multiply_adds as f64 / time.as_secs_f64());
        let (ms, gflops, share) = (time.as_secs_f64() * 1e3, flops / 1e9, 100.0 * flops / peak);
        println!("| {name} | {output} | {count:.2} | {ms:.3} | {gflops:.1} | {share:.0} % |");
    };
    for step in &steps {
        let [rows, columns, channels] = step.output;
        row(&step.name, &format!("{rows}×{columns}×{channels}"), step.multiply_adds, step.shortest);
    }
    let multiply_adds = steps.iter().map(|step| step.multiply_adds).sum();
    row("**all**", "", multiply_adds, steps.iter().map(|step| step.shortest).sum());
    Ok(())
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
