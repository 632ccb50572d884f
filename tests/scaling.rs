//! Kubernetes' rule over real workers: replicas follow the queue up and down, and nobody loses anything by it.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use cloudpose_loadgen::scaling::hpa::{Behavior, Change, Hpa, Policy, Rules, Select, by_average};
use cloudpose_testing::{NatsServer, golden::photo, soon};
use cloudpose_wire::ws::ServerMessage;
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::StatusCode;
use server::Server;
use tokio::task::JoinSet;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

const MOST: u32 = 3;
/// A decision a second, where Kubernetes has one in 15: everything else is in proportion.
const SYNC: Duration = Duration::from_secs(1);
/// Samples of the queue that are averaged.
const AVERAGED: usize = 4;

/// What stands in for the autoscaler and the Deployment.
struct Controller {
    nats: String,
    hpa: Hpa,
    began: Instant,
    workers: Vec<Server>,
    samples: VecDeque<f64>,
    /// Replicas after each decision.
    decided: Vec<u32>,
    /// Further options of its workers.
    options: &'static [&'static str],
}

impl Controller {
    fn new(nats: &NatsServer, options: &'static [&'static str]) -> Self {
        let policy =
            |pods, seconds| Policy { change: Change::Pods(pods), period: Duration::from_secs(seconds) };
        let up =
            Behavior { stabilisation: Duration::ZERO, policies: vec![policy(4, 1)], select: Select::Max };
        let down = Behavior {
            stabilisation: Duration::from_secs(8),
            policies: vec![policy(1, 2)],
            select: Select::Min,
        };
        let rules = Rules { min: 1, max: MOST, sync: SYNC, up, down };
        let mut controller = Self {
            nats: nats.url(),
            hpa: Hpa::new(rules),
            began: Instant::now(),
            workers: Vec::new(),
            samples: VecDeque::new(),
            decided: Vec::new(),
            options,
        };
        controller.start_one();
        controller
    }

    fn start_one(&mut self) {
        let options = [&["--infer-threads", "1"], self.options].concat();
        self.workers.push(Server::worker_with("infer", &self.nats, &options));
    }

    fn replicas(&self) -> u32 {
        self.workers.len() as u32
    }

    /// One look at the queue, one decision, carried out.
    async fn decide(&mut self, gateway: &Server) {
        tokio::time::sleep(SYNC).await;
        let page = soon(reqwest::get(gateway.url("/metrics"))).await.unwrap().text().await.unwrap();
        let queue = page.lines().filter(|line| {
            line.starts_with("cloudpose_lane_")
                && line.contains("_frames{")
                && line.contains("stage=\"infer\"")
        });
        let depth: f64 = queue.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        // As the chart's rule: less what those take that are served before, if these are overflow.
        let before = if self.options.is_empty() { 0.0 } else { served_first(&page) };
        self.samples.push_back((depth - before).max(0.0));
        if self.samples.len() > AVERAGED {
            self.samples.pop_front();
        }
        let mean = self.samples.iter().sum::<f64>() / self.samples.len() as f64;
        let wanted = by_average(mean, 1.0, self.replicas());
        let decided = self.hpa.decide(self.began.elapsed(), self.replicas(), wanted);
        eprintln!("{mean:.1} frames on {} replicas: {decided}", self.replicas());
        while self.replicas() < decided {
            self.start_one();
        }
        while self.replicas() > decided {
            let mut leaving = self.workers.pop().unwrap();
            leaving.terminate();
            let left = tokio::task::spawn_blocking(move || leaving.exit_code());
            assert_eq!(soon(left).await.unwrap(), Some(0), "a worker that is scaled away drains");
        }
        self.decided.push(decided);
    }

    /// How often the direction turned around.
    fn turns(&self) -> usize {
        let steps = self.decided.windows(2).map(|pair| pair[1].cmp(&pair[0])).filter(|step| step.is_ne());
        let steps: Vec<_> = steps.collect();
        steps.windows(2).filter(|pair| pair[0] != pair[1]).count()
    }
}

/// Frames that workers say they take which are served before those of an overflow pool.
fn served_first(page: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with("cloudpose_announced_slots{turn=\"first\"}"));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).expect("a gateway tells it")
}

/// Streams until `stop`, then says goodbye; answers how many frames were sent and how many results came.
async fn camera(url: String, frames_per_second: f64, stop: CancellationToken) -> (u64, u64) {
    let (socket, _) = soon(connect_async(url)).await.unwrap();
    let (mut sink, mut answers) = socket.split();
    let sending = async {
        let mut sent = 0;
        let mut tick = tokio::time::interval(Duration::from_secs_f64(1.0 / frames_per_second));
        while !stop.is_cancelled() {
            tick.tick().await;
            sink.send(Message::binary(photo())).await.unwrap();
            sent += 1;
        }
        sink.send(Message::text(r#"{"type":"end"}"#)).await.unwrap();
        sent
    };
    let hearing = async {
        let mut results = 0;
        loop {
            match soon(answers.next()).await.expect("the session is not broken off").unwrap() {
                Message::Text(text) => {
                    let message = serde_json::from_str(&text).unwrap();
                    results += u64::from(matches!(message, ServerMessage::Result { .. }));
                }
                Message::Close(close) => {
                    assert_eq!(close.unwrap().code, CloseCode::Normal);
                    return results;
                }
                _ => {}
            }
        }
    };
    tokio::join!(sending, hearing)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_follow_the_load_and_nobody_loses_anything() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "2m"]);
    let mut controller = Controller::new(&nats, &[]);
    let url = gateway.websocket("/v1/stream?mode=live&want=pose");
    let (all_day, at_noon) = (CancellationToken::new(), CancellationToken::new());
    let mut steady = JoinSet::new();
    steady.spawn(camera(url.clone(), 2.0, all_day.clone()));
    for _ in 0..4 {
        controller.decide(&gateway).await;
    }
    assert_eq!(controller.replicas(), 1, "one stream needs one worker");

    // A hundred times as many frames.
    let mut crowd = JoinSet::new();
    for _ in 0..12 {
        crowd.spawn(camera(url.clone(), 17.0, at_noon.clone()));
    }
    soon(async {
        while controller.replicas() < MOST {
            controller.decide(&gateway).await;
        }
    })
    .await;
    for _ in 0..3 {
        controller.decide(&gateway).await;
    }
    assert_eq!(controller.replicas(), MOST, "and they stay while the load lasts");

    // The crowd leaves; single images come while the workers go.
    at_noon.cancel();
    let mut frames = 0;
    while let Some(ended) = soon(crowd.join_next()).await {
        let (sent, results) = ended.unwrap();
        assert!(results > 0, "every stream was served");
        frames += sent;
    }
    let stills = tokio::spawn({
        let url = gateway.url("/v1/pose");
        async move {
            let client = reqwest::Client::new();
            let mut answered = 0;
            for _ in 0..30 {
                let request = client.post(&url).header("content-type", "image/jpeg").body(photo());
                assert_eq!(soon(request.send()).await.unwrap().status(), StatusCode::OK);
                answered += 1;
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            answered
        }
    });
    soon(async {
        while controller.replicas() > 1 {
            controller.decide(&gateway).await;
        }
    })
    .await;
    frames += soon(stills).await.unwrap();
    all_day.cancel();
    frames += soon(steady.join_next()).await.unwrap().unwrap().0;
    assert_eq!(controller.turns(), 1, "up once and down once: {:?}", controller.decided);
    gateway.ledger_closes(frames).await;
}

/// What GPUs are on a cluster: a pool that is served first, and one day is not there. The overflow pool, which had been
/// told of nothing while they took everything, follows what they leave.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_overflow_pool_takes_over_when_the_first_vanishes() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &[]);
    // More hands than the streams have frames.
    let first = Server::worker_with("infer", &nats.url(), &["--infer-threads", "8"]);
    let mut controller = Controller::new(&nats, &["--overflow"]);
    let stop = CancellationToken::new();
    let mut cameras = JoinSet::new();
    for _ in 0..3 {
        cameras.spawn(camera(gateway.websocket("/v1/stream?mode=live&want=pose"), 17.0, stop.clone()));
    }
    for _ in 0..4 {
        controller.decide(&gateway).await;
    }
    assert_eq!(controller.replicas(), 1, "the first pool takes everything");

    // Killed, as by a node that is lost: it says nothing any more.
    first.signal("-KILL");
    soon(async {
        while controller.replicas() < MOST {
            controller.decide(&gateway).await;
        }
    })
    .await;
    // Until nobody reckons with it any more.
    soon(async {
        loop {
            let page = reqwest::get(gateway.url("/metrics")).await.unwrap().text().await.unwrap();
            if served_first(&page) == 0.0 {
                break;
            }
            tokio::time::sleep(SYNC).await;
        }
    })
    .await;

    stop.cancel();
    let mut frames = 0;
    while let Some(ended) = soon(cameras.join_next()).await {
        let (sent, results) = ended.unwrap();
        assert!(results > 0);
        frames += sent;
    }
    gateway.ledger_closes(frames).await;
}
