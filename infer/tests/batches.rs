//! The worker over engines that run batches: with the CPU in a GPU's place, and with devices that fail.
//!
//! `CLOUDPOSE_TEST_DEVICE=cuda:0` runs them on a GPU.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use bytes::Bytes;
use clap::Parser as _;
use cloudpose_bus::{Bus, Capacity};
use cloudpose_infer::{
    Config, Detail, Error, Image, Job, Models, Pipeline, StoreConfig, Worker,
    contract::{Engine, Fault, Found},
    gpu::{DeviceChoice, DeviceError, GpuEngine, Place, Precision},
    preprocess::ModelInput,
};
use cloudpose_testing::sample;
use cloudpose_wire::{
    DropReason, Frame, FrameHeader, FrameResult, GatewayId, Kind, ModelId, Person, Stage, StreamName, Want,
    frame::ResultBody,
};
use tokio_util::sync::CancellationToken;

fn place() -> Place {
    match std::env::var("CLOUDPOSE_TEST_DEVICE").as_deref().unwrap_or("cpu").parse().unwrap() {
        DeviceChoice::Cuda(number) => Place::Cuda(number),
        _ => Place::Host,
    }
}

fn config(arguments: &[&str]) -> Config {
    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        infer: Config,
    }
    Cli::parse_from(std::iter::once(&"test").chain(arguments)).infer
}

fn image(name: &str) -> Bytes {
    cloudpose_testing::golden::jpeg(name).into()
}

fn model() -> ModelId {
    ModelId::new("lightning").unwrap()
}

fn gateway() -> GatewayId {
    GatewayId::new("g").unwrap()
}

fn frame(stream: &str, seq: u64, kind: Kind, image: Bytes) -> Frame {
    let header = FrameHeader {
        stream: StreamName::new(stream).unwrap(),
        deadline_ms: 60_000,
        want: Want::Pose,
        model: model(),
        min_score: 0.2,
        ..sample::header(kind, seq)
    };
    Frame { header, event: None, image: image.into() }
}

fn bus() -> Bus {
    Bus::local(Capacity { still_frames: 64, live_frames: 64, ..Capacity::default() })
}

/// An engine on the CPU, which counts its batches and fails in the one that is told, or never.
struct Faulty {
    engine: GpuEngine,
    batches: Arc<AtomicUsize>,
    fails_at: usize,
    how: fn() -> DeviceError,
}

impl Engine for Faulty {
    fn run(&mut self, model: &ModelId, batch: &[ModelInput]) -> Result<Vec<Found>, Fault> {
        if self.batches.fetch_add(1, SeqCst) + 1 == self.fails_at {
            return Err((self.how)().into());
        }
        self.engine.run(model, batch)
    }

    fn load(&mut self, model: &ModelId) -> Result<(), Fault> {
        self.engine.load(model)
    }

    fn place(&self) -> Place {
        self.engine.place()
    }
}

fn out_of_memory() -> DeviceError {
    DeviceError::says(Place::Cuda(0), "DriverError(CUDA_ERROR_OUT_OF_MEMORY)")
}

fn lost() -> DeviceError {
    DeviceError::says(Place::Cuda(0), "DriverError(CUDA_ERROR_ILLEGAL_ADDRESS)")
}

fn worker(arguments: &[&str], fails_at: usize, how: fn() -> DeviceError) -> (Worker, Arc<AtomicUsize>) {
    let batches = Arc::new(AtomicUsize::new(0));
    let models = Arc::new(Models::open(&StoreConfig::default()).unwrap());
    let engine = GpuEngine::open(place(), Precision::F32, models.clone()).unwrap();
    let engine = Faulty { engine, batches: batches.clone(), fails_at, how };
    (Worker::with_engines(&config(arguments), vec![Box::new(engine)], models).unwrap(), batches)
}

#[tokio::test]
async fn a_gpu_worker_says_that_it_serves_what_gpus_run() {
    let bus = bus();
    let (worker, _) = worker(&["--infer-threads", "1"], usize::MAX, lost);
    let stop = CancellationToken::new();
    stop.cancel();
    worker.run(bus.clone(), stop).await.unwrap();
    let served: Vec<String> = bus.models().list().iter().map(|info| info.id.to_string()).collect();
    assert_eq!(served, ["fast", "balanced", "accurate", "multipose", "lightning", "thunder"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_find_what_the_cpu_finds() {
    let names = ["demo_f000", "demo_f060", "demo_f120", "demo_f180", "multi_cam01_f000"];
    let models = Arc::new(Models::open(&StoreConfig::default()).unwrap());
    let mut pipeline = Pipeline::on_cpu(models, NonZeroUsize::MIN).unwrap();

    let bus = bus();
    let mut results = bus.results(&gateway()).await;
    let mut events = bus.events().await;
    for (name, seq) in names.iter().zip(1..) {
        bus.publish(Stage::Infer, frame(&format!("cam{}", seq % 2), seq, Kind::Live, image(name)))
            .await
            .unwrap();
    }
    bus.publish(Stage::Infer, frame("cam0", 6, Kind::Still, Bytes::from_static(b"no image"))).await.unwrap();
    let (worker, batches) = worker(&["--max-batch", "4", "--infer-threads", "2"], usize::MAX, lost);
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker.run(bus.clone(), stop.clone()));
    for _ in 0..6 {
        let FrameResult { seq, body, .. } = results.next().await.unwrap();
        let name = match body {
            ResultBody::Dropped { reason, .. } => {
                assert_eq!((seq, reason), (6, DropReason::Undecodable));
                continue;
            }
            ResultBody::Done { event, .. } => {
                let event = event.event().unwrap();
                assert_eq!(*event.device, place().to_string());
                let name = names[seq as usize - 1];
                let image = image(name);
                let model = model();
                let job = Job {
                    image: Image::Encoded(&image),
                    detail: Detail::Model,
                    model: &model,
                    min_score: 0.2,
                    top: cloudpose_wire::frame::USUAL_TOP,
                    past: None,
                    stream: None,
                    pictures: None,
                };
                let expected = pipeline.detect(job).unwrap();
                assert_eq!((event.width, event.height), (expected.width, expected.height));
                let (got, expected) = (event.output.persons(), expected.output.persons());
                assert_eq!(got.len(), expected.len(), "{name}");
                for (got, expected) in got.iter().zip(expected) {
                    for (got, expected) in got.keypoints.iter().zip(&expected.keypoints) {
                        let off = (got.x - expected.x).hypot(got.y - expected.y);
                        assert!(off < 0.1, "{name} {:?}: {off} px", got.name);
                    }
                }
                name
            }
        };
        assert!(names.contains(&name));
        assert_eq!(events.next().await.unwrap().event().unwrap().model, model());
    }
    stop.cancel();
    working.await.unwrap().unwrap();
    assert!((2..=5).contains(&batches.load(SeqCst)), "{} batches for 5 frames", batches.load(SeqCst));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_people_of_a_frame_are_looked_at_again_in_one_batch() {
    let accurate = ModelId::new("accurate").unwrap();
    let models = Arc::new(Models::open(&StoreConfig::default()).unwrap());
    let mut pipeline = Pipeline::on_cpu(models, NonZeroUsize::MIN).unwrap();
    let bus = bus();
    let mut results = bus.results(&gateway()).await;
    let names = ["multi_cam01_f000", "multi_cam01_f050"];
    for (name, seq) in names.iter().zip(1..) {
        let mut frame = frame(&format!("cam{seq}"), seq, Kind::Live, image(name));
        frame.header.model = accurate.clone();
        frame.header.min_score = 0.05;
        bus.publish(Stage::Infer, frame).await.unwrap();
    }
    let (worker, batches) = worker(&["--max-batch", "8", "--infer-threads", "2"], usize::MAX, lost);
    let stop = CancellationToken::new();
    let working = tokio::spawn(worker.run(bus.clone(), stop.clone()));
    let mut looked_at = 0;
    for _ in names {
        let FrameResult { seq, body, .. } = results.next().await.unwrap();
        let ResultBody::Done { event, .. } = body else { panic!("{body:?}") };
        let event = event.event().unwrap();
        let image = image(names[seq as usize - 1]);
        let job = Job {
            image: Image::Encoded(&image),
            detail: Detail::Model,
            model: &accurate,
            min_score: 0.05,
            top: cloudpose_wire::frame::USUAL_TOP,
            past: None,
            stream: None,
            pictures: None,
        };
        let expected = pipeline.detect(job).unwrap();
        let (got, expected) = (event.output.persons(), expected.output.persons());
        assert_eq!(got.len(), expected.len());
        looked_at += got.len();
        let joints =
            |persons: &[Person]| persons.iter().flat_map(|p| p.keypoints.clone()).collect::<Vec<_>>();
        for (got, expected) in joints(got).iter().zip(&joints(expected)) {
            let off = (got.x - expected.x).hypot(got.y - expected.y);
            assert!(off < 0.5, "{:?}: {off} px", got.name);
        }
    }
    stop.cancel();
    working.await.unwrap().unwrap();
    let batches = batches.load(SeqCst);
    assert!(looked_at >= 4 && batches <= 4, "{batches} batches for 2 frames and {looked_at} people");
}

/// The seqs of all frames that wait, with the attempt that each would be.
async fn waiting(bus: &Bus, count: usize) -> Vec<(u64, u32)> {
    let mut waiting = Vec::new();
    while waiting.len() < count {
        for delivery in bus.pull(Stage::Infer, count).await {
            waiting.push((delivery.frame.header.seq, delivery.attempt));
            delivery.ack().await;
        }
    }
    waiting.sort_unstable();
    waiting
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_fails_gives_its_frames_to_another_worker() {
    for (how, says) in
        [(out_of_memory as fn() -> DeviceError, "lower --max-batch"), (lost, "ILLEGAL_ADDRESS")]
    {
        let bus = bus();
        let mut results = bus.results(&gateway()).await;
        let picture = image("demo_f000");
        for seq in 1..=3 {
            bus.publish(Stage::Infer, frame("cam", seq, Kind::Still, picture.clone())).await.unwrap();
        }
        bus.publish(Stage::Infer, frame("cam", 4, Kind::Live, picture)).await.unwrap();
        // One frame a batch, one decoded at a time: the first works, the second fails, the others have not begun.
        let (worker, batches) = worker(&["--max-batch", "1", "--infer-threads", "1"], 2, how);
        let stop = CancellationToken::new();
        let ended = worker.run(bus.clone(), stop.clone()).await;
        let error = ended.expect_err("the device failed");
        assert!(matches!(error, Error::Device(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
        assert!(stop.is_cancelled(), "it is not ready any more");
        assert_eq!(batches.load(SeqCst), 2);

        let done = results.next().await.unwrap();
        assert!(matches!(done.body, ResultBody::Done { .. }));
        let left = waiting(&bus, 3).await;
        let seqs: Vec<u64> = left.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(seqs, (1..=4).filter(|seq| *seq != done.seq).collect::<Vec<_>>());
        // The frame that it failed on may be why: that one has used an attempt, if it is a still.
        let tried: Vec<_> = left.iter().filter(|(_, attempt)| *attempt == 2).collect();
        assert!(tried.len() <= 1 && left.iter().all(|(_, attempt)| *attempt <= 2), "{left:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_still_that_breaks_every_device_is_given_up() {
    let bus = bus();
    let mut results = bus.results(&gateway()).await;
    bus.publish(Stage::Infer, frame("cam", 1, Kind::Still, image("demo_f000"))).await.unwrap();
    for _ in 0..cloudpose_bus::MAX_DELIVERIES {
        let (worker, _) = worker(&["--max-batch", "1"], 1, lost);
        worker.run(bus.clone(), CancellationToken::new()).await.expect_err("the device failed");
    }
    let given_up = results.next().await.unwrap();
    let ResultBody::Dropped { reason, .. } = given_up.body else { panic!("{given_up:?}") };
    assert_eq!(reason, DropReason::InferFailed);
}

#[test]
fn a_machine_without_a_gpu_works_on_the_cpu_unless_told_otherwise() {
    Worker::load(&config(&["--infer-threads", "1"]), &[model()]).unwrap();
    // No machine has so many.
    let error = Worker::load(&config(&["--device", "cuda:4000"]), &[model()]).unwrap_err().to_string();
    assert!(error.contains("cuda:4000") && error.contains("nvidia-smi"), "{error}");
}
