//! Pictures of many streams to batches, on threads that each keep one engine busy.
//!
//! A picture that is submitted waits until an engine takes it in a batch; when that is, says
//! [`crate::batch`]. With two engines on a device one uploads while the other computes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use cloudpose_policy::batch::{BatchRule, Batcher, Device};
use cloudpose_wire::{ModelId, StreamName};
use tokio::sync::{oneshot, watch};

use super::DeviceError;
use crate::contract::{Engine, Fault, Found};
use crate::metrics;
use crate::preprocess::ModelInput;

/// Where an answer arrives.
type Submitted = oneshot::Receiver<Result<Answer, Arc<Fault>>>;

/// Engines, and the inputs that wait for them.
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
    waiting: Batcher<Key, Option<StreamName>, Waiting>,
    /// Batches on the device.
    running: usize,
    /// Nothing more will be submitted.
    is_closed: bool,
}

/// Inputs that can share a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    model: ModelId,
    size: [usize; 2],
}

#[derive(Debug)]
struct Waiting {
    input: ModelInput,
    answer: oneshot::Sender<Result<Answer, Arc<Fault>>>,
}

/// What became of an input.
#[derive(Debug)]
pub(crate) struct Answer {
    /// What the model found in it.
    pub(crate) found: Found,
    /// The input, whose memory may be used again.
    pub(crate) input: ModelInput,
}

impl Batches {
    /// Starts a thread for each engine.
    ///
    /// # Errors
    /// If the system does not start threads.
    pub(crate) fn start(engines: Vec<Box<dyn Engine>>, rule: BatchRule) -> std::io::Result<Self> {
        let state = State { waiting: Batcher::new(rule), running: 0, is_closed: false };
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

    /// Has `model` run on inputs of `stream`, and waits on the spot.
    ///
    /// # Errors
    /// [`Fault`], by which the caller decides about the frame.
    pub(crate) fn run(
        &self,
        model: &ModelId,
        stream: Option<&StreamName>,
        inputs: Vec<ModelInput>,
    ) -> Result<Vec<Answer>, Arc<Fault>> {
        // Whoever drops the sender has not worked on it.
        let lost = |_| Err(Arc::new(Fault::Lost));
        let submitted = self.submit(model, stream, inputs)?;
        submitted.into_iter().map(|answer| answer.blocking_recv().unwrap_or_else(lost)).collect()
    }

    /// Lets inputs wait for an engine. They come at once, so that none takes the first of them alone.
    fn submit(
        &self,
        model: &ModelId,
        stream: Option<&StreamName>,
        inputs: Vec<ModelInput>,
    ) -> Result<Vec<Submitted>, Arc<Fault>> {
        let mut state = self.shared.state();
        if self.shared.lost.borrow().is_some() {
            return Err(Arc::new(Fault::Lost));
        }
        let now = Instant::now();
        let wait = |input: ModelInput| {
            let (answer, answered) = oneshot::channel();
            let key = Key { model: model.clone(), size: input.size() };
            state.waiting.push(now, key, stream.cloned(), Waiting { input, answer });
            answered
        };
        let submitted = inputs.into_iter().map(wait).collect();
        drop(state);
        self.shared.changed.notify_all();
        Ok(submitted)
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
    fn work(&self, engine: &mut dyn Engine) {
        while let Some((key, batch)) = self.next() {
            let (inputs, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.input, waiting.answer)).unzip();
            let done = catch_unwind(AssertUnwindSafe(|| engine.run(&key.model, &inputs)));
            let done = done.unwrap_or_else(|_| {
                Err(Fault::Device(DeviceError::says(engine.place(), "the engine panicked; see above")))
            });
            let lost = match done {
                Ok(found) => {
                    metrics::batch(inputs.len());
                    for ((answer, found), input) in answers.into_iter().zip(found).zip(inputs) {
                        // Whoever waited may have gone.
                        answer.send(Ok(Answer { found, input })).ok();
                    }
                    None
                }
                Err(fault) => {
                    let fault = Arc::new(fault);
                    answers.into_iter().for_each(|answer| drop(answer.send(Err(fault.clone()))));
                    match &*fault {
                        Fault::Device(error) => Some(error.clone()),
                        _ => None,
                    }
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
    use crate::gpu::Place;

    const RULE: BatchRule = BatchRule { max_batch: 4, max_wait: Duration::from_millis(4) };

    /// An engine that works when it is told to, and says what it was given.
    struct Puppet {
        batches: mpsc::Sender<usize>,
        go: mpsc::Receiver<Result<(), Fault>>,
    }

    impl Engine for Puppet {
        fn load(&mut self, _: &ModelId) -> Result<(), Fault> {
            Ok(())
        }

        fn run(&mut self, _: &ModelId, batch: &[ModelInput]) -> Result<Vec<Found>, Fault> {
            self.batches.send(batch.len()).unwrap();
            self.go.recv().expect("the test panics the engine")?;
            Ok(vec![Found::Poses(Vec::new()); batch.len()])
        }

        fn place(&self) -> Place {
            Place::Host
        }
    }

    struct Strings {
        batches: mpsc::Receiver<usize>,
        go: mpsc::Sender<Result<(), Fault>>,
    }

    fn puppet() -> (Box<dyn Engine>, Strings) {
        let (batches, seen) = mpsc::channel();
        let (go, told) = mpsc::channel();
        (Box::new(Puppet { batches, go: told }), Strings { batches: seen, go })
    }

    fn submit(batches: &Batches, count: usize) -> Vec<Submitted> {
        let inputs = (0..count).map(|_| ModelInput::default()).collect();
        batches.submit(&"lightning".parse().unwrap(), None, inputs).unwrap()
    }

    fn answer(submitted: Submitted) -> Result<Answer, Arc<Fault>> {
        submitted.blocking_recv().unwrap_or_else(|_| Err(Arc::new(Fault::Lost)))
    }

    #[test]
    fn an_idle_engine_starts_at_once_and_a_busy_one_finds_a_batch() {
        let (engine, strings) = puppet();
        let rule = BatchRule { max_wait: Duration::from_secs(3600), ..RULE };
        let batches = Batches::start(vec![engine], rule).unwrap();
        let first = submit(&batches, 1);
        assert_eq!(strings.batches.recv().unwrap(), 1);
        let rest = submit(&batches, 6);
        for size in [4, 2] {
            strings.go.send(Ok(())).unwrap();
            assert_eq!(strings.batches.recv().unwrap(), size);
        }
        strings.go.send(Ok(())).unwrap();
        assert!(first.into_iter().chain(rest).all(|submitted| answer(submitted).is_ok()));
    }

    #[test]
    fn a_lost_device_answers_everybody_and_takes_nothing_more() {
        let gone = || Fault::Device(DeviceError::says(Place::Cuda(0), "CUDA_ERROR_LAUNCH_FAILED"));
        for panics in [false, true] {
            let (engine, strings) = puppet();
            let batches = Batches::start(vec![engine], RULE).unwrap();
            let first = submit(&batches, 1).remove(0);
            strings.batches.recv().unwrap();
            let rest = submit(&batches, 6);
            if panics {
                drop(strings);
            } else {
                strings.go.send(Err(gone())).unwrap();
            }
            let first = answer(first).unwrap_err();
            assert!(matches!(*first, Fault::Device(_)), "{first:?}");
            for submitted in rest {
                assert!(matches!(*answer(submitted).unwrap_err(), Fault::Lost));
            }
            let why = batches.shared.lost.borrow().clone().unwrap().to_string();
            assert!(why.contains(if panics { "panicked" } else { "LAUNCH_FAILED" }), "{why}");
            let late = batches.run(&"lightning".parse().unwrap(), None, vec![ModelInput::default()]);
            assert!(matches!(*late.unwrap_err(), Fault::Lost));
        }
    }

    #[test]
    fn a_batch_that_cannot_be_run_is_no_lost_device() {
        let (engine, strings) = puppet();
        let batches = Batches::start(vec![engine], RULE).unwrap();
        let refuse = Fault::Input { model: "lightning".parse().unwrap(), what: "nothing".into() };
        strings.go.send(Err(refuse)).unwrap();
        strings.go.send(Ok(())).unwrap();
        let refused = answer(submit(&batches, 1).remove(0)).unwrap_err();
        assert!(matches!(*refused, Fault::Input { .. }), "{refused:?}");
        assert!(answer(submit(&batches, 1).remove(0)).is_ok());
    }
}
