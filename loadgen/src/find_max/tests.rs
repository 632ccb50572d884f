//! The whole generator, with its clock and its users, against services of which queueing theory knows how
//! many users they hold. Time is virtual: tokio's clock jumps to the next thing that is due. With it and the fixed
//! seeds a test does the same each time. The limits are many service times long, where the knee is steep.

mod theory;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};

use super::*;
use crate::{
    failure::Failure,
    http::{self, Call, Service},
    range::Range,
    record::{Recorder, Window},
    schedule::Ramp,
    stage::Stage,
    summary::Load,
};

const THINK: Range<Duration> = Range { from: Duration::from_secs(1), to: Duration::from_secs(3) };
const MEAN_THINK: f64 = 2.0;
/// Longer than any limit here.
const PATIENCE: Duration = Duration::from_secs(30);
const NO_LAG: Duration = Duration::from_millis(20);

/// So many servers, first come first served. The service time is constant, or exponentially distributed.
struct Stub {
    servers: Semaphore,
    mean: f64,
    random: Option<std::sync::Mutex<fastrand::Rng>>,
}

impl Stub {
    fn new(servers: usize, mean: f64, exponential: bool) -> Arc<Self> {
        let random = exponential.then(|| std::sync::Mutex::new(fastrand::Rng::with_seed(11)));
        Arc::new(Self { servers: Semaphore::new(servers), mean, random })
    }
}

impl Service for Stub {
    async fn call(&self, _: Call, _: u64) -> Result<u64, Failure> {
        let _server = self.servers.acquire().await.unwrap();
        let factor = self.random.as_ref().map_or(1.0, |random| -(1.0 - random.lock().unwrap().f64()).ln());
        sleep(Duration::from_secs_f64(self.mean * factor)).await;
        Ok(1)
    }
}

#[derive(Clone, Copy)]
enum By {
    Users,
    Rate,
}

struct Virtual {
    stub: Arc<Stub>,
    by: By,
    seconds: u64,
}

impl Runner for Virtual {
    async fn run(&mut self, ask: Ask) -> Run {
        let (from, time) = (Duration::from_secs(30), Duration::from_secs(self.seconds));
        let recorder = Recorder::new(&http::CALLS, Window { from, until: from + time });
        let stage = Arc::new(Stage::new(recorder, u64::from(ask.load())));
        let (stub, shared) = (Arc::clone(&self.stub), Arc::clone(&stage));
        let amount = f64::from(ask.load());
        let load = match self.by {
            By::Users => {
                let ramp = Ramp { users: Range { from: 1, to: ask.load() }, per_second: amount / 10.0 };
                stage.play(http::closed(stub, shared, ramp, THINK, PATIENCE), |_| ()).await;
                Load::Users(ask.load())
            }
            By::Rate => {
                let rate = Range { from: amount, to: amount };
                stage.play(http::open(stub, shared, rate, PATIENCE), |_| ()).await;
                Load::Rate(amount)
            }
        };
        stage.recorder.summary(load, false, NO_LAG)
    }

    fn show(&mut self, step: &Step) {
        eprintln!("{}", crate::report::words::step(step));
    }
}

fn p99_below(seconds: f64) -> Objective {
    Objective { success: 1.0, p95_ms: 1e3 * seconds, p99_ms: 1e3 * seconds, fps_share: 0.0 }
}

async fn search(stub: Arc<Stub>, by: By, seconds: u64, objective: &Objective) -> f64 {
    let mut runner = Virtual { stub, by, seconds };
    let record = find_max(Search::new(4, 2_000), objective, None, &mut runner).await;
    f64::from(record.found.expect("the virtual clock has no lag"))
}

fn assert_within_a_tenth(found: f64, theory: f64) {
    assert!((found / theory - 1.0).abs() <= 0.1, "found {found}, theory says {theory}");
}

/// Users who think: the machine-repair model.
#[tokio::test(start_paused = true)]
async fn as_many_users_as_the_machine_repair_model_says() {
    for (servers, mean, limit) in [(1, 0.1, 1.5), (2, 0.1, 1.0), (4, 0.25, 2.5)] {
        let theory =
            (1..).take_while(|n| theory::closed(*n, servers, mean, MEAN_THINK, limit) <= 0.01).count();
        let found = search(Stub::new(servers, mean, true), By::Users, 300, &p99_below(limit)).await;
        assert_within_a_tenth(found, theory as f64);
    }
}

/// With a constant service time and a limit that only a lasting queue breaks, the servers are busy all the time,
/// and `c (Z + R) / S` users wait for R (P. J. Denning, J. P. Buzen, "The Operational Analysis of Queueing Network
/// Models", ACM Computing Surveys 10, 1978). The limit is so long that chance hardly moves R.
#[tokio::test(start_paused = true)]
async fn as_many_users_as_keep_the_servers_busy() {
    for (servers, service, limit) in [(1, 0.05, 10.0), (3, 0.2, 20.0)] {
        let theory = servers as f64 * (MEAN_THINK + limit) / service;
        let found = search(Stub::new(servers, service, false), By::Users, 200, &p99_below(limit)).await;
        assert_within_a_tenth(found, theory);
    }
}

/// Requests that come at random, exponential service times.
#[tokio::test(start_paused = true)]
async fn as_many_requests_as_mmc_takes() {
    for (servers, mean, limit) in [(1, 0.05, 0.8), (4, 0.1, 1.5)] {
        let holds = |rate: &u32| theory::mmc(f64::from(*rate), servers, mean, limit) <= 0.01;
        let theory = (1..).take_while(holds).count();
        let found = search(Stub::new(servers, mean, true), By::Rate, 300, &p99_below(limit)).await;
        assert_within_a_tenth(found, theory as f64);
    }
}

/// Requests that come at random, a constant service time.
#[tokio::test(start_paused = true)]
async fn as_many_requests_as_md1_takes() {
    let (service, limit) = (0.02, 0.2);
    let holds = |rate: &u32| theory::md1(f64::from(*rate), service, limit) <= 0.01;
    let theory = (1..).take_while(holds).count();
    let found = search(Stub::new(1, service, false), By::Rate, 300, &p99_below(limit)).await;
    assert_within_a_tenth(found, theory as f64);
}

/// A runner whose generator is always late.
struct Late(u32);

impl Runner for Late {
    async fn run(&mut self, ask: Ask) -> Run {
        self.0 += 1;
        let window = Window { from: Duration::ZERO, until: Duration::from_secs(10) };
        let recorder = Recorder::new(&http::CALLS, window);
        recorder.begun(Duration::ZERO, Duration::from_millis(if ask.load() > 8 { 30 } else { 1 }));
        recorder.ended(0, Duration::ZERO, Duration::from_millis(50), Ok(1));
        recorder.summary(Load::Users(ask.load()), false, NO_LAG)
    }

    fn show(&mut self, _: &Step) {}
}

#[tokio::test]
async fn a_saturated_generator_gives_no_answer() {
    let mut runner = Late(0);
    let record = find_max(Search::new(4, 2_000), &p99_below(1.0), None, &mut runner).await;
    assert_eq!((record.found, runner.0), (None, 5), "4, 8, and 16 three times");
    assert_eq!(record.steps.last().map(|step| step.verdict), Some(Verdict::Unsound));
}
