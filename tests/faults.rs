//! A real gateway on a real nats-server, with workers and listeners that misbehave.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{net::TcpStream, process::Command, time::Duration};

use cloudpose_bus::{Bus, Capacity, nats::Config, work};
use cloudpose_testing::{Link, NatsServer, golden::photo, soon};
use cloudpose_wire::{
    Event, Frame, FrameHeader, FrameResult, Output, SharedEvent, SkeletonName, Stage,
    event::TimingsMs,
    ws::{ErrorCode, ServerMessage},
};
use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::StatusCode;
use serde_json::Value;
use server::Server;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use tokio_util::sync::{CancellationToken, DropGuard};

async fn post(gateway: &Server, image: Vec<u8>) -> reqwest::Response {
    let request = reqwest::Client::new().post(gateway.url("/v1/pose")).header("content-type", "image/jpeg");
    soon(request.body(image).send()).await.unwrap()
}

/// A bus as the workers of a process have it.
async fn bus(nats: &NatsServer) -> Bus {
    let config = Config::at(nats.url());
    Bus::nats(&config, Capacity::default()).await.unwrap()
}

/// Nobody in the picture.
fn nobody(header: &FrameHeader) -> FrameResult {
    header.done(nobody_seen(header), None)
}

fn nobody_seen(header: &FrameHeader) -> SharedEvent {
    let event = Event {
        stream: header.stream.clone(),
        seq: header.seq,
        captured_at: header.received_at,
        width: 16,
        height: 12,
        model: header.model.clone(),
        device: "stub".into(),
        output: Output::Poses { skeleton: SkeletonName::default(), persons: vec![] },
        timings_ms: TimingsMs::default(),
    };
    event.into()
}

/// A worker in which every image panics that is as large as `poison`. It works until the guard is dropped.
fn easily_poisoned_worker(bus: Bus, poison: usize) -> DropGuard {
    let stop = CancellationToken::new();
    let guard = stop.clone().drop_guard();
    tokio::spawn(async move {
        work(&bus.clone(), Stage::Infer, (2, false), stop, move |delivery, _| {
            let bus = bus.clone();
            async move {
                assert_ne!(delivery.frame.image.encode().unwrap().len(), poison, "poisoned");
                let header = &delivery.frame.header;
                bus.publish_event(&nobody_seen(header), &Default::default(), None, None).await;
                let result = nobody(header);
                delivery.finish(&bus, result).await;
            }
        })
        .await;
    });
    guard
}

#[tokio::test]
async fn a_poisoned_image_is_answered_with_an_error_and_the_workers_live_on() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1m"]);
    let poison = [photo(), b"poison".to_vec()].concat();
    let workers = [bus(&nats).await, bus(&nats).await].map(|bus| easily_poisoned_worker(bus, poison.len()));
    let refused = post(&gateway, poison).await;
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let problem: Value = refused.json().await.unwrap();
    assert!(problem["detail"].as_str().unwrap().contains("2 workers took it"), "{problem}");
    for _ in 0..4 {
        assert_eq!(post(&gateway, photo()).await.status(), StatusCode::OK);
    }
    drop(workers);
    gateway.ledger_closes(5).await;
}

#[tokio::test]
async fn an_image_that_breaks_off_is_the_clients_fault_and_the_worker_lives_on() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1m"]);
    let _worker = Server::worker("infer", &nats.url());
    let half = photo()[..20_000].to_vec();
    assert_eq!(post(&gateway, half).await.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(post(&gateway, photo()).await.status(), StatusCode::OK);
    gateway.ledger_closes(2).await;
}

#[tokio::test]
async fn frames_and_results_that_come_twice_and_in_the_wrong_order_reach_the_client_once_and_in_order() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &[]);
    let worker = bus(&nats).await;
    // Every frame comes twice.
    let broker = async_nats::connect(nats.url()).await.unwrap();
    let mut frames = broker.subscribe("cloudpose.infer.>").await.unwrap();
    broker.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(frame) = frames.next().await {
            let mut headers = frame.headers.unwrap();
            if headers.get("Repeated").is_none() {
                headers.insert("Repeated", "yes");
                // Or the broker would take it for what it has already.
                headers.insert("Nats-Msg-Id", "");
                broker.publish_with_headers(frame.subject, headers, frame.payload).await.unwrap();
            }
        }
    });
    // The later of two frames is answered first, and both are answered twice.
    tokio::spawn(async move {
        loop {
            let mut taken = Vec::new();
            while taken.len() < 2 {
                taken.extend(worker.pull(Stage::Infer, 2 - taken.len()).await);
            }
            for delivery in taken.iter().rev().chain(&taken) {
                worker.reply(nobody(&delivery.frame.header)).await.unwrap();
            }
            for delivery in taken {
                delivery.ack().await;
            }
        }
    });
    let (mut socket, _) = soon(connect_async(gateway.websocket("/v1/stream?mode=complete"))).await.unwrap();
    for _ in 0..10 {
        socket.send(Message::binary(photo())).await.unwrap();
    }
    socket.send(Message::text(r#"{"type":"end"}"#)).await.unwrap();
    let mut seqs = Vec::new();
    while let Some(Ok(message)) = soon(socket.next()).await {
        if let Message::Text(text) = message
            && let ServerMessage::Result { seq, .. } = serde_json::from_str(&text).unwrap()
        {
            seqs.push(seq);
        }
    }
    assert_eq!(seqs, (1..=10).collect::<Vec<_>>());
    assert_eq!(post(&gateway, photo()).await.status(), StatusCode::OK);
    gateway.ledger_closes(11).await;
}

#[tokio::test]
async fn a_listener_that_does_not_read_keeps_nothing_from_others() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &[]);
    let worker = bus(&nats).await;
    // Subscribes, and never reads again.
    let mut listener = TcpStream::connect(("127.0.0.1", nats.port())).unwrap();
    std::io::Write::write_all(
        &mut listener,
        b"CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB cloudpose.poses.> 1\r\nPING\r\n",
    )
    .unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"PONG\r\n") {
        let mut byte = [0];
        std::io::Read::read_exact(&mut listener, &mut byte).unwrap();
        heard.extend(byte);
    }
    // More than the server keeps for it.
    let flood = async_nats::connect(nats.url()).await.unwrap();
    let event = bytes::Bytes::from(vec![b' '; 1 << 20]);
    let flooding = tokio::spawn(async move {
        for _ in 0..96 {
            flood.publish("cloudpose.poses.flood", event.clone()).await.unwrap();
            flood.flush().await.unwrap();
        }
    });
    let attentive = async_nats::connect(nats.url()).await.unwrap();
    let mut events = attentive.subscribe("cloudpose.poses.door").await.unwrap();
    attentive.flush().await.unwrap();
    let query = "/v1/stream?stream=door&mode=complete";
    let (mut socket, _) = soon(connect_async(gateway.websocket(query))).await.unwrap();
    let _worker = easily_poisoned_worker(worker, 0);
    for seq in 1..=100 {
        socket.send(Message::binary(photo())).await.unwrap();
        loop {
            if let Some(Ok(Message::Text(text))) = soon(socket.next()).await
                && let ServerMessage::Result { seq: done, .. } = serde_json::from_str(&text).unwrap()
            {
                assert_eq!(done, seq);
                break;
            }
        }
        let event = soon(events.next()).await.unwrap();
        let event: Event = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(event.seq, seq, "who reads gets every event");
    }
    soon(flooding).await.unwrap();
    // It is cut off, and finds out when it reads at last.
    listener.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let told = tokio::task::spawn_blocking(move || {
        let mut rest = Vec::new();
        match std::io::Read::read_to_end(&mut listener, &mut rest) {
            Ok(_) => rest.len() < 96 << 20,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    });
    assert!(soon(told).await.unwrap(), "the server kept everything for it");
    gateway.ledger_closes(100).await;
}

/// How many stills have ended with `outcome`.
async fn ended(gateway: &Server, outcome: &str) -> Option<String> {
    let page = reqwest::get(gateway.url("/metrics")).await.unwrap().text().await.unwrap();
    let counts = [format!("outcome=\"{outcome}\""), "kind=\"still\"".into()];
    let line = page.lines().find(|line| counts.iter().all(|label| line.contains(label)))?;
    line.rsplit(' ').next().map(str::to_owned)
}

#[tokio::test]
async fn a_still_that_nobody_finishes_is_lost_and_one_whose_broker_goes_is_not() {
    let mut nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "1s"]);
    let worker = bus(&nats).await;
    let (answer, held) = tokio::join!(post(&gateway, photo()), soon(worker.pull(Stage::Infer, 1)));
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    drop(held);
    let (answer, ()) = tokio::join!(post(&gateway, photo()), async {
        // Once it is with a worker, the broker goes. The one before has no time left: it is not handed out again.
        drop(soon(worker.pull(Stage::Infer, 1)).await);
        nats.kill();
    });
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    for outcome in ["bus_lost", "bus_down"] {
        assert_eq!(ended(&gateway, outcome).await.as_deref(), Some("1"), "{outcome}");
    }
    gateway.ledger_closes(2).await;
}

#[tokio::test]
async fn a_broker_that_hangs_does_not_hold_a_still_beyond_its_deadline() {
    let nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--still-deadline", "300ms"]);
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &nats.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    };
    signal("-STOP");
    // By then the broker would have been given up: 503.
    assert_eq!(post(&gateway, photo()).await.status(), StatusCode::GATEWAY_TIMEOUT);
    signal("-CONT");
    gateway.ledger_closes(1).await;
}

// The link works while the gateway is waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overlay_that_is_lost_with_the_gateways_connection_is_drawn_again() {
    let nats = NatsServer::start();
    let mut link = Link::to(nats.port()).await;
    let by_link = format!("nats://127.0.0.1:{}", link.port());
    let gateway = Server::ingest(&by_link, &["--still-deadline", "1m"]);
    let worker = bus(&nats).await;
    let url = gateway.url("/v1/pose");
    let request = reqwest::Client::new().post(url).header("content-type", "image/jpeg");
    let answer = tokio::spawn(request.header("accept", "image/jpeg").body(photo()).send());
    for lost in [true, false] {
        let found = soon(worker.pull(Stage::Infer, 1)).await.remove(0);
        let event = nobody_seen(&found.frame.header);
        let next = Frame { event: Some(event.clone()), ..found.frame.clone() };
        worker.publish(Stage::Annotate, next).await.unwrap();
        found.ack().await;
        let drawn = soon(worker.pull(Stage::Annotate, 1)).await.remove(0);
        if lost {
            link.cut().await;
        }
        let result = drawn.frame.header.done(event, Some("overlay".into()));
        drawn.finish(&worker, result).await;
        if lost {
            link.restore();
        }
    }
    let answer = soon(answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    assert_eq!(&answer.bytes().await.unwrap()[..], b"overlay");
    gateway.ledger_closes(1).await;
}

#[tokio::test]
async fn a_session_whose_broker_stays_away_is_told_so_and_closed() {
    let mut nats = NatsServer::start();
    let gateway = Server::ingest(&nats.url(), &["--idle-timeout", "1s"]);
    let (mut socket, _) = soon(connect_async(gateway.websocket("/v1/stream?mode=complete"))).await.unwrap();
    nats.kill();
    socket.send(Message::binary(photo())).await.unwrap();
    let mut error = None;
    loop {
        match soon(socket.next()).await.unwrap().unwrap() {
            Message::Text(text) => {
                if let ServerMessage::Error { code, .. } = serde_json::from_str(&text).unwrap() {
                    error = Some(code);
                }
            }
            Message::Close(close) => {
                assert_eq!(close.unwrap().code, CloseCode::Again);
                break;
            }
            _ => {}
        }
    }
    assert_eq!(error, Some(ErrorCode::Unavailable));
    gateway.ledger_closes(1).await;
}
