//! A gateway that is scaled away: its streams go on at another one.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::time::{Duration, Instant};

use cloudpose_bus::{Bus, Capacity, nats::Config, work};
use cloudpose_testing::{NatsServer, sample, soon};
use cloudpose_wire::{
    Stage,
    ws::{ErrorCode, ServerMessage},
};
use futures_util::{SinkExt as _, StreamExt as _};
use server::Server;
use tokio::task::JoinSet;
use tokio_tungstenite::{
    connect_async,
    tungstenite::{Message, protocol::frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

const STREAMS: usize = 200;
/// Frames of a stream after one another.
const EVERY: Duration = Duration::from_millis(250);
/// Results that a stream gets of the second gateway before it is content.
const ENOUGH: usize = 4;
const SMALL: &[u8] = include_bytes!("../ingest/tests/images/small.jpg");

/// Streams to `first` until that says that it goes, then to `second`, as clients do whom a load balancer leads there. Answers the
/// time from its last result of the first to its first one of the second.
async fn stream(name: String, first: String, second: String) -> Duration {
    let mut heard = Vec::new();
    for (at, url) in [first, second].into_iter().enumerate() {
        let (mut socket, _) = soon(connect_async(format!("{url}&stream={name}"))).await.unwrap();
        let mut tick = tokio::time::interval(EVERY);
        let (mut told, mut results) = (false, 0);
        loop {
            let message = tokio::select! {
                _ = tick.tick(), if !told => {
                    // It may be closing.
                    socket.send(Message::binary(SMALL)).await.ok();
                    continue;
                }
                message = socket.next() => message.unwrap().unwrap(),
            };
            match message {
                Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                    ServerMessage::Result { .. } => {
                        heard.push((at, Instant::now()));
                        results += 1;
                    }
                    ServerMessage::Error { code, .. } => {
                        assert_eq!(code, ErrorCode::ShuttingDown);
                        told = true;
                    }
                    _ => {}
                },
                Message::Close(close) => {
                    assert_eq!(close.unwrap().code, CloseCode::Away);
                    assert!(told && at == 0, "it is told before, and by the first only");
                    break;
                }
                _ => {}
            }
            if at == 1 && results == ENOUGH {
                break;
            }
        }
    }
    let last = heard.iter().filter(|(at, _)| *at == 0).map(|(_, time)| *time).max();
    let first = heard.iter().find(|(at, _)| *at == 1).map(|(_, time)| *time);
    first.unwrap() - last.expect("the first gateway served it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_a_gateway_that_goes_go_on_at_another() {
    let nats = NatsServer::start();
    let [mut first, second] = [(); 2].map(|()| Server::ingest(&nats.url(), &[]));
    let config = Config::at(nats.url());
    let bus = Bus::nats(&config, Capacity::default()).await.unwrap();
    let stop = CancellationToken::new();
    let working = tokio::spawn({
        let (bus, stop) = (bus.clone(), stop.clone());
        async move {
            work(&bus.clone(), Stage::Infer, (8, false), stop, move |delivery, _| {
                let bus = bus.clone();
                async move {
                    let header = delivery.frame.header.clone();
                    delivery.finish(&bus, header.done(sample::pose(header.seq), None)).await;
                }
            })
            .await;
        }
    });
    let [there, elsewhere] = [&first, &second].map(|gateway| gateway.websocket("/v1/stream?want=pose"));
    let mut streams = JoinSet::new();
    for number in 0..STREAMS {
        streams.spawn(stream(format!("cam{number}"), there.clone(), elsewhere.clone()));
    }
    // Until all are there.
    soon(async {
        let sessions = format!("cloudpose_sessions {STREAMS}");
        loop {
            let page = reqwest::get(first.url("/metrics")).await.unwrap().text().await.unwrap();
            if page.lines().any(|line| line == sessions) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    tokio::time::sleep(4 * EVERY).await;
    first.terminate();
    let mut cuts = Vec::new();
    while let Some(moved) = soon(streams.join_next()).await {
        cuts.push(moved.unwrap());
    }
    assert_eq!(cuts.len(), STREAMS);
    assert_eq!(soon(tokio::task::spawn_blocking(move || first.exit_code())).await.unwrap(), Some(0));
    drop(second);
    stop.cancel();
    soon(working).await.unwrap();
    cuts.sort_unstable();
    eprintln!(
        "{STREAMS} streams moved; between two results of a stream lay {:.0?} in the median, {:.0?} at most",
        cuts[STREAMS / 2],
        cuts[STREAMS - 1]
    );
}
