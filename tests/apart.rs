//! The roles as processes of their own on a real nats-server, and what they survive.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::time::Duration;

use cloudpose_testing::{NatsServer, golden::photo, soon};
use cloudpose_wire::{
    Event,
    ws::{ErrorCode, ServerMessage},
};
use futures_util::{SinkExt as _, StreamExt as _, stream::SplitStream};
use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use reqwest::StatusCode;
use server::Server;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio_tungstenite::tungstenite::Message;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn post(url: String, accept: &'static str) -> reqwest::Response {
    let request = reqwest::Client::new().post(url).header("content-type", "image/jpeg");
    soon(request.header("accept", accept).body(photo()).send()).await.unwrap()
}

async fn status(url: String) -> StatusCode {
    soon(reqwest::get(url)).await.unwrap().status()
}

async fn until_ready(server: &Server) {
    soon(async {
        while status(server.url("/ready")).await != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn next(socket: &mut Socket) -> Option<Message> {
    soon(socket.next()).await.map(Result::unwrap)
}

/// The next result's `seq`.
async fn next_result(socket: &mut Socket) -> u64 {
    loop {
        if let Message::Text(text) = next(socket).await.expect("the session goes on")
            && let ServerMessage::Result { seq, .. } = serde_json::from_str(&text).unwrap()
        {
            return seq;
        }
    }
}

async fn open(server: &Server, query: &str) -> Socket {
    let url = server.websocket(&format!("/v1/stream?{query}"));
    soon(tokio_tungstenite::connect_async(url)).await.unwrap().0
}

#[tokio::test]
async fn three_processes_do_what_one_does_and_others_listen() {
    let nats = NatsServer::start();
    let mut gateway = Server::ingest(&nats.url(), &[]);
    let mut workers = ["infer", "annotate"].map(|role| Server::worker(role, &nats.url()));
    for server in workers.iter().chain([&gateway]) {
        until_ready(server).await;
        assert_eq!(status(server.url("/health")).await, StatusCode::OK);
        let metrics = reqwest::get(server.url("/metrics")).await.unwrap().text().await.unwrap();
        assert!(metrics.contains("cloudpose_bus_connected 1"), "{metrics}");
    }
    let listener = async_nats::connect(nats.url()).await.unwrap();
    let mut events = listener.subscribe("cloudpose.poses.>").await.unwrap();
    let mut results = listener.subscribe("cloudpose.results.>").await.unwrap();
    cloudpose_testing::subscribed(&listener).await;

    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let request = reqwest::Client::new().post(gateway.url("/v1/pose")).header("traceparent", trace);
    let answer = soon(request.header("content-type", "image/jpeg").body(photo()).send()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let pose: Event = answer.json().await.unwrap();
    assert!(!pose.output.persons().is_empty());
    let event = soon(events.next()).await.unwrap();
    let result = soon(results.next()).await.unwrap();
    for (message, name) in [(&event, "pose event"), (&result, "result")] {
        let headers = message.headers.as_ref().expect(name);
        assert_eq!(headers.get("traceparent").expect(name).as_str(), trace, "{name}");
    }
    let event: Event = serde_json::from_slice(&event.payload).unwrap();
    assert_eq!(event, pose, "listeners see what the client sees");
    let picture = post(gateway.url("/v1/pose"), "image/jpeg").await;
    assert_eq!(picture.headers()["content-type"], "image/jpeg");

    let mut socket = open(&gateway, "stream=cam&want=both&mode=complete").await;
    for _ in 0..5 {
        socket.send(Message::binary(photo())).await.unwrap();
    }
    for seq in 1..=5 {
        assert_eq!(next_result(&mut socket).await, seq);
        assert!(matches!(next(&mut socket).await, Some(Message::Binary(_))), "the overlay");
    }
    gateway.ledger_closes(7).await;
    for server in workers.iter_mut().chain([&mut gateway]) {
        server.terminate();
        assert_eq!(server.exit_code(), Some(0));
    }
}

/// Waits until so many stills and frames of complete sessions wait for an infer worker.
async fn waiting(nats: &NatsServer, frames: u64) {
    let lane = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let on_lane =
        async || lane.get_stream("cloudpose-infer-still").await.unwrap().cached_info().state.messages;
    soon(async {
        while on_lane().await < frames {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// What is known of who holds stills on the infer lane.
async fn in_hands(nats: &NatsServer) -> async_nats::jetstream::consumer::Info {
    let lane = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    let stream = lane.get_stream("cloudpose-infer-still").await.unwrap();
    let consumer: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("workers").await.unwrap();
    consumer.cached_info().clone()
}

/// A still lies in the hands of a worker that is stopped, and then gets `signal`. Answers the worker, and what
/// the client gets.
async fn with_a_still_in_stopped_hands(
    nats: &NatsServer,
    gateway: &Server,
    signal: Option<&str>,
) -> (Server, reqwest::Response) {
    let stopped = Server::worker("infer", &nats.url());
    until_ready(&stopped).await;
    // Its request for frames stands with the broker: it is given the still, and does nothing with it.
    tokio::time::sleep(Duration::from_millis(300)).await;
    stopped.signal("-STOP");
    let answer = tokio::spawn(post(gateway.url("/v1/pose"), "application/json"));
    soon(async {
        while in_hands(nats).await.num_ack_pending < 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    if let Some(signal) = signal {
        stopped.signal(signal);
    }
    let _other = Server::worker("infer", &nats.url());
    (stopped, soon(answer).await.unwrap())
}

#[tokio::test]
async fn a_still_outlives_its_killed_worker() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1m"]);
    let (_killed, answer) = with_a_still_in_stopped_hands(&nats, &gateway, Some("-KILL")).await;
    assert_eq!(answer.status(), StatusCode::OK, "another worker did it");
    gateway.ledger_closes(1).await;
}

/// A picture of few bytes that takes 48 MiB at once to decode.
fn large() -> Vec<u8> {
    let (side, mut png) = (4096, Vec::new());
    let grey = vec![90; 3 * (side * side) as usize];
    PngEncoder::new(&mut png).write_image(&grey, side, side, ExtendedColorType::Rgb8).unwrap();
    png
}

#[tokio::test]
async fn a_still_that_kills_whoever_works_on_it_is_given_up_after_two_and_harms_no_other() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1m"]);
    let photo = async || post(gateway.url("/v1/pose"), "application/json").await.status();
    let mut doomed = Vec::new();
    for _ in 0..2 {
        let worker = Server::frugal_worker("infer", &nats.url());
        until_ready(&worker).await;
        doomed.push(worker);
    }
    // They have all that they need for photos.
    for _ in 0..4 {
        let eight = std::array::from_fn::<_, 8, _>(|_| photo());
        assert_eq!(soon(futures_util::future::join_all(eight)).await, [StatusCode::OK; 8]);
    }
    doomed.iter().for_each(|worker| worker.leave_memory(24 << 20));
    let killer = async {
        let request = reqwest::Client::new().post(gateway.url("/v1/pose"));
        soon(request.header("content-type", "image/png").body(large()).send()).await.unwrap()
    };
    let replaced = async {
        let [one, other] = &mut doomed[..] else { panic!("there are two") };
        tokio::join!(one.is_killed(), other.is_killed());
        Server::worker("infer", &nats.url())
    };
    let others = futures_util::future::join_all(std::array::from_fn::<_, 6, _>(|_| photo()));
    let (answer, third, others) = tokio::join!(killer, replaced, others);
    assert_eq!(others, [StatusCode::OK; 6]);
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let problem = answer.text().await.unwrap();
    assert!(problem.contains("worker"), "it says why: {problem}");
    assert_eq!(photo().await, StatusCode::OK);
    gateway.ledger_closes(40).await;
    drop(third);
}

#[tokio::test]
async fn a_paused_workers_late_result_harms_nobody() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1m"]);
    let (paused, answer) = with_a_still_in_stopped_hands(&nats, &gateway, None).await;
    assert_eq!(answer.status(), StatusCode::OK);
    paused.signal("-CONT");
    // It does its work now, answers nobody, and takes the next one as if nothing had been.
    let again = post(gateway.url("/v1/pose"), "application/json").await;
    assert_eq!(again.status(), StatusCode::OK);
    gateway.ledger_closes(2).await;
}

#[tokio::test]
async fn a_killed_gateway_is_replaced_and_the_workers_go_on() {
    let nats = NatsServer::start();
    let workers = ["infer", "annotate"].map(|role| Server::worker(role, &nats.url()));
    let killed = Server::ingest(&nats.url(), &[]);
    let mut socket = open(&killed, "stream=cam&want=both&mode=complete").await;
    for _ in 0..4 {
        socket.send(Message::binary(photo())).await.unwrap();
    }
    assert_eq!(next_result(&mut socket).await, 1);
    drop(killed);
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1m"]);
    let picture = post(gateway.url("/v1/pose"), "image/jpeg").await;
    assert_eq!(picture.status(), StatusCode::OK);
    gateway.ledger_closes(1).await;
    for worker in &workers {
        assert_eq!(status(worker.url("/ready")).await, StatusCode::OK);
    }
}

/// A live stream of twenty pictures a second.
struct Camera {
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<u64>,
    answers: SplitStream<Socket>,
    last: u64,
}

impl Camera {
    async fn start(server: &Server, query: &str) -> Self {
        let (mut sink, answers) = open(server, &format!("mode=live&{query}")).await.split();
        let (stop, mut stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            let mut sent = 0;
            let mut tick = tokio::time::interval(Duration::from_millis(50));
            while stopped.try_recv() == Err(TryRecvError::Empty) {
                tick.tick().await;
                sink.send(Message::binary(photo())).await.unwrap();
                sent += 1;
            }
            sink.send(Message::text(r#"{"type":"end"}"#)).await.unwrap();
            sent
        });
        Self { stop: Some(stop), task, answers, last: 0 }
    }

    /// Waits for the next result; false at the end of the session.
    async fn result(&mut self) -> bool {
        loop {
            match soon(self.answers.next()).await.expect("the session goes on").unwrap() {
                Message::Text(text) => {
                    if let ServerMessage::Result { seq, .. } = serde_json::from_str(&text).unwrap() {
                        assert!(seq > self.last, "{seq} after {}", self.last);
                        self.last = seq;
                        return true;
                    }
                }
                Message::Close(_) => return false,
                _ => {}
            }
        }
    }

    async fn results(&mut self, count: usize) {
        for _ in 0..count {
            assert!(self.result().await, "the session goes on");
        }
    }

    /// Ends the stream, and answers how many pictures were sent.
    async fn end(mut self) -> u64 {
        self.stop.take().expect("a stream ends once").send(()).unwrap();
        while self.result().await {}
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn a_stream_outlives_the_nats_server() {
    let mut nats = NatsServer::start();
    let server = Server::start(&["--nats", &nats.url(), "--infer-threads", "2"]);
    let mut camera = Camera::start(&server, "want=pose").await;
    camera.results(1).await;
    nats.kill();
    soon(async {
        while status(server.url("/ready")).await == StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let refused = post(server.url("/v1/pose"), "application/json").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE, "at once, and not after the deadline");
    nats.start_again();
    until_ready(&server).await;
    let taken = post(server.url("/v1/pose"), "application/json").await;
    assert_eq!(taken.status(), StatusCode::OK);
    // Results that were on their way when the server fell may come first; the stream goes on after them.
    camera.results(10).await;
    let sent = camera.end().await;
    server.ledger_closes(sent + 2).await;
}

#[tokio::test]
async fn what_must_not_be_lost_outlives_the_nats_servers_memory() {
    let mut nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1m"]);
    let mut socket = open(&gateway, "want=pose&mode=complete").await;
    for _ in 0..3 {
        socket.send(Message::binary(photo())).await.unwrap();
    }
    let still = tokio::spawn(post(gateway.url("/v1/pose"), "application/json"));
    // Two frames of the session's window, and the still.
    waiting(&nats, 3).await;
    nats.kill();
    nats.start_again();
    let _worker = Server::worker("infer", &nats.url());
    for seq in 1..=3 {
        assert_eq!(next_result(&mut socket).await, seq);
    }
    assert_eq!(soon(still).await.unwrap().status(), StatusCode::OK);
    gateway.ledger_closes(4).await;
}

#[tokio::test]
async fn a_stream_outlives_its_workers() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &[]);
    let start = |role| Server::worker(role, &nats.url());
    let [infer, _other_infer] = [start("infer"), start("infer")];
    let [annotate, _other_annotate] = [start("annotate"), start("annotate")];
    let mut camera = Camera::start(&gateway, "want=both").await;
    camera.results(5).await;
    // Dropped, they are killed.
    drop(infer);
    camera.results(5).await;
    drop(annotate);
    camera.results(5).await;
    let sent = camera.end().await;
    gateway.ledger_closes(sent).await;
}

#[tokio::test]
async fn a_gateway_leaves_within_its_grace_though_nobody_works_on_its_frames() {
    let nats = NatsServer::start();
    let mut gateway = Server::ingest(&nats.url(), &["--grace", "2s"]);
    let mut socket = open(&gateway, "want=pose&mode=complete").await;
    socket.send(Message::binary(photo())).await.unwrap();
    gateway.in_flight(1).await;
    gateway.terminate();
    assert!(is_told_of_the_shutdown(&mut socket).await);
    assert_eq!(gateway.exit_code(), Some(0));
}

/// Whether the session is told why it ends.
async fn is_told_of_the_shutdown(socket: &mut Socket) -> bool {
    let mut told = false;
    while let Some(message) = next(socket).await {
        if let Message::Text(text) = message {
            let message = serde_json::from_str(&text).unwrap();
            told |= matches!(message, ServerMessage::Error { code: ErrorCode::ShuttingDown, .. });
        }
    }
    told
}

#[tokio::test]
async fn a_gateway_leaves_within_its_grace_though_its_broker_is_silent() {
    let nats = NatsServer::start();
    let mut gateway = Server::ingest(&nats.url(), &["--grace", "2s"]);
    let mut taken = open(&gateway, "mode=complete").await;
    taken.send(Message::binary(photo())).await.unwrap();
    waiting(&nats, 1).await;
    nats.silence();
    // What comes now the broker does not answer for.
    let mut offered = open(&gateway, "mode=complete").await;
    offered.send(Message::binary(photo())).await.unwrap();
    let still = tokio::spawn(post(gateway.url("/v1/pose"), "application/json"));
    gateway.in_flight(3).await;
    gateway.terminate();
    assert!(is_told_of_the_shutdown(&mut taken).await && is_told_of_the_shutdown(&mut offered).await);
    assert_eq!(soon(still).await.unwrap().status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(gateway.exit_code(), Some(0));
}

#[tokio::test]
async fn workers_leave_within_their_grace_though_their_broker_is_silent() {
    let nats = NatsServer::start();
    let workers =
        ["infer", "annotate"].map(|role| Server::worker_with(role, &nats.url(), &["--grace", "2s"]));
    for worker in &workers {
        until_ready(worker).await;
    }
    nats.silence();
    for mut worker in workers {
        worker.terminate();
        assert_eq!(worker.exit_code(), Some(0));
    }
}
