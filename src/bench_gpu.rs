//! `cloudpose bench batches` and `cloudpose bench frames`: what a device does, alone and fed by the worker.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity};
use cloudpose_infer::{
    Models, StoreConfig, Worker,
    gpu::{DeviceChoice, GpuEngine, Place, Spent},
};
use cloudpose_wire::{
    Address, Frame, FrameHeader, GatewayId, Route, SessionId, Stage, StreamName, Want, event::TimingsMs,
    frame::ResultBody,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    bench::{SAMPLE, model_input},
    cli::{BenchBatches, BenchFrames},
};

/// Batches of each size before those that count.
const WARM_UP: usize = 5;
/// Frames that a stream has under way: what the gateway allows.
const WINDOW: usize = 2;
/// Time before frames count.
const SETTLING: Duration = Duration::from_secs(1);

/// Prints a line of JSON for each size of a batch.
///
/// # Errors
/// If the device is not there or fails.
pub(crate) fn batches(command: &BenchBatches) -> Result<()> {
    let BenchBatches { model, device, precision, sizes, runs } = command;
    let place = match *device {
        DeviceChoice::Cpu => Place::Host,
        DeviceChoice::Cuda(number) => Place::Cuda(number),
        DeviceChoice::Auto => bail!("say which device: --device cuda or --device cpu"),
    };
    let models = Arc::new(Models::open(&StoreConfig::default())?);
    let input = model_input(&models, model, None)?;
    let mut engine = GpuEngine::open(place, *precision, models)?;
    for size in sizes {
        let batch = vec![input.clone(); size.get()];
        for _ in 0..WARM_UP.min(runs.get()) {
            engine.run_batch(model, &batch)?;
        }
        let spent: Vec<Spent> =
            (0..runs.get()).map(|_| Ok(engine.run_batch(model, &batch)?.spent)).collect::<Result<_>>()?;
        let of = |part: fn(&Spent) -> Duration| spent.iter().map(part).collect::<Vec<_>>();
        let total = of(|s| s.upload + s.compute + s.download);
        let median = quantile(&total, 0.5);
        let line = json!({
            "device": place.to_string(), "model": model, "precision": format!("{precision:?}").to_lowercase(),
            "batch": size, "runs": runs,
            "upload_ms": quantile(&of(|s| s.upload), 0.5),
            "compute_ms": quantile(&of(|s| s.compute), 0.5),
            "download_ms": quantile(&of(|s| s.download), 0.5),
            "batch_ms": median, "batch_p99_ms": quantile(&total, 0.99),
            "frames_per_second": size.get() as f64 * 1000.0 / median,
        });
        println!("{line}");
    }
    Ok(())
}

/// Prints a line of JSON about the whole worker.
///
/// # Errors
/// If the worker cannot start or fails, or the image cannot be worked on.
pub(crate) async fn frames(command: &BenchFrames) -> Result<()> {
    let BenchFrames { image, model, streams, seconds, infer } = command;
    let image = match image {
        Some(path) => {
            Bytes::from(std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?)
        }
        None => Bytes::from_static(SAMPLE),
    };
    let (config, ready) = (infer.clone(), [model.clone()]);
    let worker = tokio::task::spawn_blocking(move || Worker::load(&config, &ready)).await??;
    let bus = Bus::local(Capacity::default());
    let gateway = GatewayId::new("bench").context("the gateway's name is a constant")?;
    let mut results = bus.results(&gateway).await;
    let stop = CancellationToken::new();
    let working = worker.run(bus.clone(), stop.clone());

    let streams = streams.get();
    let publish = async |seq: usize| -> Result<()> {
        let header = FrameHeader {
            stream: StreamName::new(&format!("cam{}", seq % streams))?,
            seq: seq as u64,
            route: Route::Live(Address { gateway: gateway.clone(), session: SessionId::new("s")? }),
            received_at: 0,
            deadline_ms: 60_000,
            want: Want::Pose,
            model: model.clone(),
            quality: 80,
            min_score: 0.2,
            top: cloudpose_wire::frame::USUAL_TOP,
            smooth: false,
            prior: None,
            retries: 0,
            caller: Default::default(),
            draw: Default::default(),
            watched: Vec::new(),
            aside: false,
            trace: None,
        };
        bus.publish(Stage::Infer, Frame { header, event: None, image: image.clone().into() }).await?;
        Ok(())
    };
    let measure = async {
        let mut begun = Vec::with_capacity(streams * WINDOW);
        for seq in 0..streams * WINDOW {
            begun.push(Instant::now());
            publish(seq).await?;
        }
        let (mut next, mut waits, mut timings, mut device) =
            (begun.len(), Vec::new(), Vec::new(), String::new());
        let counted_from = Instant::now() + SETTLING;
        let until = counted_from + Duration::from_secs(seconds.get() as u64);
        while Instant::now() < until {
            let result = results.next().await.context("the bus is gone")?;
            let slot = result.seq as usize % begun.len();
            let ResultBody::Done { event, .. } = result.body else {
                bail!("a frame was dropped: {:?}", result.body);
            };
            if Instant::now() >= counted_from {
                waits.push(begun[slot].elapsed());
                let event = event.event()?;
                timings.push(event.timings_ms);
                device = event.device.to_string();
            }
            // The next frame of the same stream takes this one's place.
            while next % begun.len() != slot {
                next += 1;
            }
            begun[slot] = Instant::now();
            publish(next).await?;
        }
        let mean = |part: fn(&TimingsMs) -> f32| {
            timings.iter().map(part).map(f64::from).sum::<f64>() / timings.len().max(1) as f64
        };
        let line = json!({
            "device": device, "model": model, "streams": streams, "frames": waits.len(),
            "frames_per_second": waits.len() as f64 / seconds.get() as f64,
            "latency_ms": quantile(&waits, 0.5), "latency_p99_ms": quantile(&waits, 0.99),
            "mean_ms": {
                "queue": mean(|t| t.queue), "decode": mean(|t| t.decode), "preprocess": mean(|t| t.preprocess),
                "inference": mean(|t| t.inference), "postprocess": mean(|t| t.postprocess),
            },
        });
        println!("{line}");
        Ok(())
    };
    tokio::pin!(working);
    let measured = tokio::select! {
        measured = measure => measured,
        ended = &mut working => {
            ended?;
            bail!("the worker ended by itself");
        }
    };
    stop.cancel();
    working.await?;
    measured
}

/// In milliseconds.
fn quantile(times: &[Duration], share: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
