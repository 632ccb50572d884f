//! Pictures of many streams to batches, on threads that each keep one engine busy.
//!
//! A picture that is submitted waits until an engine takes it in a batch; when that is, says
//! [`crate::batch`]. With two engines on a device one uploads while the other computes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use cloudpose_wire::{ModelName, StreamName};
use tokio::sync::{oneshot, watch};

use super::{DeviceError, Done, Engine, Error, Picture, Place};
use crate::metrics;
use crate::postprocess::ModelPose;
use cloudpose_policy::batch::{Batcher, Device, Limits};

/// What runs batches: an [`Engine`], or in tests something that fails.
pub trait RunBatch: Send {
    /// Runs `model` on pictures that all have the same size of model input.
    ///
    /// # Errors
    /// [`Error::Device`] if nothing will run on this device any more; others say that this batch will not.
    fn run(&mut self, model: ModelName, pictures: &[Picture]) -> Result<Done, Error>;

    /// Where it runs.
    fn place(&self) -> Place;
}

impl RunBatch for Engine {
    fn run(&mut self, model: ModelName, pictures: &[Picture]) -> Result<Done, Error> {
        Engine::run(self, model, pictures)
    }

    fn place(&self) -> Place {
        Engine::place(self)
    }
}

/// Engines, and the pictures that wait for them.
#[derive(Debug)]
pub(crate) struct Batches {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// The state is another one.
    changed: Condvar,
    /// Why the device works no more.
    lost: watch::Sender<Option<DeviceError>>,
}

#[derive(Debug)]
struct State {
    waiting: Batcher<Key, StreamName, Waiting>,
    /// Batches on the device.
    running: usize,
    /// Nothing more will be submitted.
    is_closed: bool,
}

/// Pictures that can share a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    model: ModelName,
    height: usize,
    width: usize,
}

#[derive(Debug)]
struct Waiting {
    picture: Picture,
    answer: oneshot::Sender<Result<Answer, Failure>>,
}

/// What became of a picture.
#[derive(Debug)]
pub(crate) struct Answer {
    /// In coordinates of the model input.
    pub(crate) poses: Vec<ModelPose>,
    /// The picture, whose memory may be used again.
    pub(crate) picture: Picture,
}

/// Why a picture has no poses.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// Its batch cannot be run, others can.
    Refused(String),
    /// The device failed while it worked on this picture.
    Broken,
    /// The device had failed before this picture's turn.
    Lost,
}

impl Batches {
    /// Starts a thread for each engine.
    ///
    /// # Errors
    /// If the system does not start threads.
    pub(crate) fn start(engines: Vec<Box<dyn RunBatch>>, limits: Limits) -> std::io::Result<Self> {
        let state = State { waiting: Batcher::new(limits), running: 0, is_closed: false };
        let (lost, _) = watch::channel(None);
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new(), lost });
        let batches = Self { shared: shared.clone() };
        for (index, mut engine) in engines.into_iter().enumerate() {
            let shared = shared.clone();
            let thread = std::thread::Builder::new().name(format!("device-{index}"));
            thread.spawn(move || shared.work(&mut *engine))?;
        }
        Ok(batches)
    }

    /// Has `model` run on a picture of `stream`.
    ///
    /// # Errors
    /// [`Failure`], by which the caller decides about the frame.
    pub(crate) async fn submit(
        &self,
        model: ModelName,
        stream: StreamName,
        picture: Picture,
    ) -> Result<Answer, Failure> {
        let (answer, answered) = oneshot::channel();
        {
            let mut state = self.shared.state();
            if self.shared.lost.borrow().is_some() {
                return Err(Failure::Lost);
            }
            let key = Key { model, height: picture.height, width: picture.width };
            state.waiting.push(Instant::now(), key, stream, Waiting { picture, answer });
        }
        self.shared.changed.notify_all();
        // Whoever drops the sender has not worked on it.
        answered.await.unwrap_or(Err(Failure::Lost))
    }

    /// Waits until the device fails, and says why.
    pub(crate) async fn lost(&self) -> DeviceError {
        let mut lost = self.shared.lost.subscribe();
        match lost.wait_for(Option::is_some).await.map(|error| error.clone()) {
            Ok(Some(error)) => error,
            // The sender is ours and lives as long as we do.
            _ => std::future::pending().await,
        }
    }
}

impl Drop for Batches {
    /// Ends the threads. Waits for none: a driver that hangs must not hold the process.
    fn drop(&mut self) {
        self.shared.state().is_closed = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a thread does.
    fn work(&self, engine: &mut dyn RunBatch) {
        while let Some((key, batch)) = self.next() {
            let (pictures, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.picture, waiting.answer)).unzip();
            let done = catch_unwind(AssertUnwindSafe(|| engine.run(key.model, &pictures)));
            let done = done.unwrap_or_else(|_| {
                Err(Error::Device(DeviceError::says(engine.place(), "the engine panicked; see above")))
            });
            let lost = match done {
                Ok(Done { poses, .. }) => {
                    metrics::batch(pictures.len());
                    for ((answer, poses), picture) in answers.into_iter().zip(poses).zip(pictures) {
                        // Whoever waited may have gone.
                        answer.send(Ok(Answer { poses, picture })).ok();
                    }
                    None
                }
                Err(Error::Device(error)) => {
                    answers.into_iter().for_each(|answer| drop(answer.send(Err(Failure::Broken))));
                    Some(error)
                }
                Err(error) => {
                    let refused = Failure::Refused(error.to_string());
                    answers.into_iter().for_each(|answer| drop(answer.send(Err(refused.clone()))));
                    None
                }
            };
            let mut state = self.state();
            state.running -= 1;
            if let Some(error) = lost {
                self.lost.send_if_modified(|slot| {
                    let is_first = slot.is_none();
                    slot.get_or_insert(error);
                    is_first
                });
                // Their senders are dropped: nobody will work on them.
                while state.waiting.poll(Instant::now(), Device::Idle).is_some() {}
            }
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Waits for a batch. None: there will be no more.
    fn next(&self) -> Option<(Key, Vec<Waiting>)> {
        let mut state = self.state();
        loop {
            if state.is_closed || self.lost.borrow().is_some() {
                return None;
            }
            let now = Instant::now();
            let device = if state.running == 0 { Device::Idle } else { Device::Busy };
            if let Some(batch) = state.waiting.poll(now, device) {
                state.running += 1;
                return Some(batch);
            }
            state = match state.waiting.next_deadline() {
                Some(deadline) => {
                    let timeout = deadline.saturating_duration_since(now);
                    let waited = self.changed.wait_timeout(state, timeout);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, time::Duration};

    use super::*;
    use crate::gpu::Spent;

    const LIMITS: Limits = Limits { max_batch: 4, max_wait: Duration::from_millis(4) };

    /// An engine that works when it is told to, and says what it was given.
    struct Puppet {
        batches: mpsc::Sender<usize>,
        go: mpsc::Receiver<Result<(), Error>>,
    }

    impl RunBatch for Puppet {
        fn run(&mut self, _: ModelName, pictures: &[Picture]) -> Result<Done, Error> {
            self.batches.send(pictures.len()).unwrap();
            self.go.recv().expect("the test panics the engine")?;
            Ok(Done { poses: vec![Vec::new(); pictures.len()], spent: Spent::default() })
        }

        fn place(&self) -> Place {
            Place::Host
        }
    }

    struct Strings {
        batches: mpsc::Receiver<usize>,
        go: mpsc::Sender<Result<(), Error>>,
    }

    fn puppet() -> (Box<dyn RunBatch>, Strings) {
        let (batches, seen) = mpsc::channel();
        let (go, told) = mpsc::channel();
        (Box::new(Puppet { batches, go: told }), Strings { batches: seen, go })
    }

    fn stream(name: &str) -> StreamName {
        name.parse().unwrap()
    }

    type Answers = Vec<tokio::task::JoinHandle<Result<Answer, Failure>>>;

    /// Submits `count` pictures, and returns once they wait.
    async fn submit(batches: &Arc<Batches>, count: usize) -> Answers {
        let before = batches.shared.state().waiting.depth();
        let answers = (0..count).map(|_| {
            let batches = batches.clone();
            let submitted =
                async move { batches.submit(ModelName::Lightning, stream("a"), Picture::default()).await };
            #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
            tokio::spawn(submitted)
        });
        let answers = answers.collect();
        while batches.shared.state().waiting.depth() < before + count {
            tokio::task::yield_now().await;
        }
        answers
    }

    #[tokio::test]
    async fn an_idle_engine_starts_at_once_and_a_busy_one_finds_a_batch() {
        let (engine, strings) = puppet();
        let limits = Limits { max_wait: Duration::from_secs(3600), ..LIMITS };
        let batches = Arc::new(Batches::start(vec![engine], limits).unwrap());
        let first = batches.submit(ModelName::Lightning, stream("a"), Picture::default());
        let rest = async {
            assert_eq!(strings.batches.recv().unwrap(), 1);
            let rest = submit(&batches, 6).await;
            for size in [4, 2] {
                strings.go.send(Ok(())).unwrap();
                assert_eq!(strings.batches.recv().unwrap(), size);
            }
            strings.go.send(Ok(())).unwrap();
            rest
        };
        let (first, rest) = tokio::join!(biased; first, rest);
        assert!(first.is_ok());
        for answer in rest {
            assert!(answer.await.unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn a_lost_device_answers_everybody_and_takes_nothing_more() {
        let gone = || Error::Device(DeviceError::says(Place::Cuda(0), "CUDA_ERROR_LAUNCH_FAILED"));
        for panics in [false, true] {
            let (engine, strings) = puppet();
            let batches = Arc::new(Batches::start(vec![engine], LIMITS).unwrap());
            let first = batches.submit(ModelName::Lightning, stream("a"), Picture::default());
            let rest = async {
                strings.batches.recv().unwrap();
                let rest = submit(&batches, 6).await;
                if panics {
                    drop(strings)
                } else {
                    strings.go.send(Err(gone())).unwrap()
                }
                rest
            };
            let (first, rest) = tokio::join!(biased; first, rest);
            assert!(matches!(first, Err(Failure::Broken)), "{first:?}");
            for answer in rest {
                assert!(matches!(answer.await.unwrap(), Err(Failure::Lost)));
            }
            let why = batches.lost().await.to_string();
            assert!(why.contains(if panics { "panicked" } else { "LAUNCH_FAILED" }), "{why}");
            let late = batches.submit(ModelName::Lightning, stream("a"), Picture::default()).await;
            assert!(matches!(late, Err(Failure::Lost)));
        }
    }

    #[tokio::test]
    async fn a_batch_that_cannot_be_run_is_no_lost_device() {
        let (engine, strings) = puppet();
        let batches = Arc::new(Batches::start(vec![engine], LIMITS).unwrap());
        let refuse = Error::Batch { model: ModelName::Lightning, height: 0, width: 0 };
        strings.go.send(Err(refuse)).unwrap();
        strings.go.send(Ok(())).unwrap();
        let refused = batches.submit(ModelName::Lightning, stream("a"), Picture::default()).await;
        assert!(matches!(refused, Err(Failure::Refused(_))), "{refused:?}");
        assert!(batches.submit(ModelName::Lightning, stream("a"), Picture::default()).await.is_ok());
    }
}
