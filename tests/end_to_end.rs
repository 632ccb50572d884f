//! The real binary, from outside: what a user of `cloudpose serve` sees.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{collections::BTreeMap, time::Duration};

use cloudpose_pixels::{Decoder, Limits, PlanarImage};
use cloudpose_testing::golden;
use cloudpose_wire::{
    DropReason, Event, Skeleton,
    ws::{ErrorCode, ServerMessage},
};
use futures_util::{SinkExt as _, StreamExt as _};
use server::Server;
use tokio_tungstenite::tungstenite::Message;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

const FRAMES: [&str; 6] =
    ["demo_f000", "demo_f060", "demo_f120", "demo_f180", "multi_cam01_f000", "multi_cam01_f050"];

async fn next(socket: &mut Socket) -> Option<Message> {
    let message = tokio::time::timeout(Duration::from_secs(60), socket.next());
    message.await.expect("the server answers within a minute").map(Result::unwrap)
}

async fn next_text(socket: &mut Socket) -> ServerMessage {
    loop {
        match next(socket).await.expect("the session goes on") {
            Message::Text(text) => return serde_json::from_str(&text).unwrap(),
            Message::Ping(_) | Message::Pong(_) => {}
            other => panic!("expected text, got {other:?}"),
        }
    }
}

async fn open(server: &Server, query: &str) -> Socket {
    let (mut socket, _) =
        tokio_tungstenite::connect_async(server.websocket(&format!("/v1/stream?{query}"))).await.unwrap();
    let hello = next_text(&mut socket).await;
    assert!(matches!(hello, ServerMessage::Hello { .. }), "{hello:?}");
    socket
}

fn decode(image: &[u8]) -> PlanarImage {
    let mut planar = PlanarImage::default();
    Decoder::new(Limits::default()).unwrap().decode(image, &mut planar).unwrap();
    planar
}

/// Mean absolute difference in luma of the pixels for which `pick` is true, looking at one in nine.
fn difference(a: &PlanarImage, b: &PlanarImage, pick: impl Fn(f32, f32) -> bool) -> f64 {
    let (mut sum, mut count) = (0_u64, 0_u64);
    for y in (0..a.height()).step_by(3) {
        for (x, (a, b)) in a.luma().row(y).iter().zip(b.luma().row(y)).enumerate().step_by(3) {
            if pick(x as f32 + 0.5, y as f32 + 0.5) {
                sum += u64::from(a.abs_diff(*b));
                count += 1;
            }
        }
    }
    assert!(count > 0, "nothing to compare");
    sum as f64 / count as f64
}

/// Distance from a point to the nearest limb whose two joints are sure.
fn distance_to_skeletons(event: &Event, x: f32, y: f32) -> f32 {
    let coco = Skeleton::coco_17();
    let limbs = event.output.persons().iter().flat_map(|person| {
        coco.limbs().iter().filter_map(|&[a, b]| {
            let (a, b) = (&person.keypoints[a], &person.keypoints[b]);
            (a.score.min(b.score) > 0.4).then_some((a, b))
        })
    });
    limbs
        .map(|(a, b)| {
            let (dx, dy) = (b.x - a.x, b.y - a.y);
            let t = (((x - a.x) * dx + (y - a.y) * dy) / (dx * dx + dy * dy).max(1e-6)).clamp(0.0, 1.0);
            (a.x + t * dx - x).hypot(a.y + t * dy - y)
        })
        .fold(f32::INFINITY, f32::min)
}

#[tokio::test]
async fn a_stream_comes_back_in_order_with_skeletons_where_the_people_are() {
    let server = Server::start(&[]);
    let mut socket = open(&server, "stream=golden&want=both&mode=complete").await;
    for name in FRAMES {
        socket.send(Message::binary(golden::jpeg(name))).await.unwrap();
    }
    socket.send(Message::text(r#"{"type":"end"}"#)).await.unwrap();
    for (name, number) in FRAMES.into_iter().zip(1..) {
        let ServerMessage::Result { seq, event, overlay, dropped, .. } = next_text(&mut socket).await else {
            panic!("expected a result")
        };
        let event = event.expect("want=both brings the poses");
        let pose = event.event().unwrap();
        assert_eq!((seq, overlay, dropped), (number, true, BTreeMap::new()), "{name}");
        assert_eq!((pose.seq, pose.stream.as_str()), (seq, "golden"));
        assert!(!pose.output.persons().is_empty(), "{name} shows people");
        let Some(Message::Binary(jpeg)) = next(&mut socket).await else { panic!("expected the overlay") };
        let (before, after) = (decode(&golden::jpeg(name)), decode(&jpeg));
        assert_eq!((after.width(), after.height()), (before.width(), before.height()));
        assert_eq!((pose.width as usize, pose.height as usize), (before.width(), before.height()));
        let on = difference(&before, &after, |x, y| distance_to_skeletons(pose, x, y) < 1.0);
        let off = difference(&before, &after, |x, y| distance_to_skeletons(pose, x, y) > 60.0);
        assert!(on > 15.0 && off < 3.0, "{name}: {on} on the limbs, {off} elsewhere");
    }
    assert!(matches!(next(&mut socket).await, Some(Message::Close(_))), "`end` closes the session");
    server.ledger_closes(FRAMES.len() as u64).await;
}

#[tokio::test]
async fn persons_of_a_stream_keep_their_ids() {
    let server = Server::start(&[]);
    let mut socket = open(&server, "want=pose&mode=complete").await;
    const SENT: usize = 10;
    for _ in 0..SENT {
        socket.send(Message::binary(golden::photo())).await.unwrap();
    }
    let mut ids = Vec::new();
    for _ in 0..SENT {
        let ServerMessage::Result { event: Some(event), .. } = next_text(&mut socket).await else {
            panic!("expected poses")
        };
        ids.push(
            event.event().unwrap().output.persons().iter().map(|person| person.track_id).collect::<Vec<_>>(),
        );
    }
    assert!(ids[0].iter().all(Option::is_none), "one sight makes no track: {ids:?}");
    assert_eq!(ids[SENT - 1][..2], [Some(1), Some(2)], "{ids:?}");
    assert_eq!(ids[SENT - 1], ids[SENT - 2]);
}

#[tokio::test]
async fn a_flood_is_thinned_and_every_frame_is_accounted_for() {
    let server = Server::start(&["--infer-threads", "1"]);
    let mut socket = open(&server, "want=pose&mode=live").await;
    socket.send(Message::text(r#"{"type":"configure","drops":true}"#)).await.unwrap();
    let jpeg = golden::photo();
    const SENT: u64 = 100;
    for _ in 0..SENT {
        socket.send(Message::binary(jpeg.clone())).await.unwrap();
    }
    socket.send(Message::text(r#"{"type":"end"}"#)).await.unwrap();
    let (mut last, mut delivered, mut dropped) = (0, 0, BTreeMap::new());
    loop {
        match next(&mut socket).await {
            Some(Message::Text(text)) => match serde_json::from_str(&text).unwrap() {
                ServerMessage::Result { seq, .. } => {
                    assert!(seq > last, "{seq} after {last}");
                    last = seq;
                    delivered += 1;
                }
                ServerMessage::Drop { reason, .. } => *dropped.entry(reason).or_insert(0) += 1,
                other => panic!("{other:?}"),
            },
            Some(Message::Close(_)) | None => break,
            Some(_) => {}
        }
    }
    assert_eq!(last, SENT, "the newest frame is always worked on");
    assert_eq!(delivered + dropped.values().sum::<u64>(), SENT, "{dropped:?}");
    assert!(dropped[&DropReason::Superseded] > 0, "{dropped:?}");
    server.ledger_closes(SENT).await;
}

#[tokio::test]
async fn bad_frames_are_told_and_the_session_goes_on() {
    let server = Server::start(&[]);
    let mut socket = open(&server, "want=pose&mode=complete").await;
    let good = golden::photo();
    let bad: [Vec<u8>; 5] = [
        vec![],
        b"this is no image".to_vec(),
        good[..200].to_vec(),
        good[..good.len() / 2].to_vec(),
        server::png_header(60_000, 60_000),
    ];
    for frame in &bad {
        socket.send(Message::binary(frame.clone())).await.unwrap();
    }
    socket.send(Message::text("hello?")).await.unwrap();
    socket.send(Message::binary(good)).await.unwrap();
    let mut codes = Vec::new();
    let seq = loop {
        match next_text(&mut socket).await {
            ServerMessage::Error { code, message } => {
                assert!(message.len() > 10, "{message:?} helps nobody");
                codes.push(code);
            }
            ServerMessage::Result { seq, dropped, .. } => {
                assert_eq!(dropped, BTreeMap::from([(DropReason::Undecodable, bad.len() as u64)]));
                break seq;
            }
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(seq, bad.len() as u64 + 1);
    assert_eq!(codes.iter().filter(|c| **c == ErrorCode::BadFrame).count(), bad.len(), "{codes:?}");
    assert_eq!(codes.iter().filter(|c| **c == ErrorCode::BadMessage).count(), 1, "{codes:?}");
    drop(socket);
    server.ledger_closes(bad.len() as u64 + 1).await;
}

#[tokio::test]
async fn a_photo_gets_poses_or_a_picture() {
    let server = Server::start(&[]);
    let client = reqwest::Client::new();
    let photo = golden::photo();
    let post = |query: &str| {
        client
            .post(server.url(&format!("/v1/pose{query}")))
            .header("content-type", "image/jpeg")
            .body(photo.clone())
    };
    for (model, people) in
        [("multipose", 2), ("lightning", 1), ("thunder", 1), ("fast", 2), ("balanced", 2), ("accurate", 2)]
    {
        let answer = post(&format!("?model={model}")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let pose: Event = answer.json().await.unwrap();
        assert!(pose.output.persons().len() >= people, "{model}: {pose:?}");
        assert_eq!(pose.model.as_str(), model);
        for person in pose.output.persons() {
            let inside = |v: f32, max: u32| v > -50.0 && v < max as f32 + 50.0;
            assert!(person.keypoints.iter().all(|k| inside(k.x, pose.width) && inside(k.y, pose.height)));
        }
    }
    let usual: Event = post("").send().await.unwrap().json().await.unwrap();
    assert_eq!(usual.model.as_str(), "accurate");
    assert!(usual.timings_ms.refine.is_some_and(|ms| ms > 0.0));
    let picture = post("").header("accept", "image/jpeg").send().await.unwrap();
    assert_eq!(picture.headers()["content-type"], "image/jpeg");
    let picture = decode(&picture.bytes().await.unwrap());
    assert!(difference(&decode(&photo), &picture, |_, _| true) > 0.5);
    let nonsense = post("?model=yolo").send().await.unwrap();
    assert_eq!(nonsense.status(), 404);
    assert_eq!(nonsense.headers()["content-type"], "application/problem+json");
    server.ledger_closes(8).await;
}

#[test]
fn health_asks_as_an_image_without_a_shell_must() {
    let health = |url: String| {
        let asked =
            std::process::Command::new(env!("CARGO_BIN_EXE_cloudpose")).args(["health", &url]).output();
        let asked = asked.unwrap();
        (asked.status.code(), String::from_utf8_lossy(&asked.stderr).into_owned())
    };
    let server = Server::start(&[]);
    assert_eq!(health(server.url("/health")), (Some(0), String::new()));
    assert_eq!(health(server.url("/ready")), (Some(0), String::new()));
    let (code, told) = health(server.url("/nowhere"));
    assert_eq!(code, Some(1));
    assert!(told.contains("answers 404"), "{told}");
    let gone = server.url("/health");
    drop(server);
    let (code, told) = health(gone);
    assert_eq!(code, Some(1));
    assert!(told.contains("does not answer"), "{told}");
}

/// Macros of `tracing` leave out what they would not log, and with it whatever is written inside of them.
#[tokio::test]
async fn a_quieter_log_changes_nothing_else() {
    let mut server = Server::start(&["--log", "error,cloudpose::roles=info"]);
    assert_eq!(reqwest::get(server.url("/ready")).await.unwrap().status(), reqwest::StatusCode::OK);
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
}

#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_exits_0() {
    let mut server = Server::start(&[]);
    let mut socket = open(&server, "want=both&mode=complete").await;
    for name in FRAMES {
        socket.send(Message::binary(golden::jpeg(name))).await.unwrap();
    }
    // One result shows that work is under way; then the signal comes in the middle of it.
    assert!(matches!(next_text(&mut socket).await, ServerMessage::Result { seq: 1, .. }));
    server.terminate();
    let (mut results, mut told) = (1, false);
    while let Some(message) = next(&mut socket).await {
        match message {
            Message::Text(text) => match serde_json::from_str(&text).unwrap() {
                ServerMessage::Result { .. } => results += 1,
                ServerMessage::Error { code, .. } => told = code == ErrorCode::ShuttingDown,
                other => panic!("{other:?}"),
            },
            Message::Close(_) => break,
            _ => {}
        }
    }
    assert!(told, "the session is told why it ends");
    assert!(results >= 2, "what was in flight is delivered, got {results}");
    assert_eq!(server.exit_code(), Some(0));
}
