//! Streaming sessions that go as they should.

use std::time::{Duration, Instant};

use cloudpose_bus::{Bus, Capacity};
use cloudpose_ingest::Config;
use cloudpose_wire::{
    DropReason, Kind, Mode, Stage, Want,
    ws::{ErrorCode, ServerMessage},
};

use crate::stage::{Client, Heard, JPEG, PNG, Server, WEBP, done, soon};

const END: &str = r#"{"type":"end"}"#;
const TELL_DROPS: &str = r#"{"type":"configure","drops":true}"#;

#[tokio::test]
async fn hello_tells_what_is_in_force() {
    let server = Server::with_worker(Config::default()).await;
    let query = "?stream=cam-1&want=both&model=thunder&mode=complete&max_age_ms=400&quality=60";
    let Heard::Message(ServerMessage::Hello {
        session,
        stream,
        codec: None,
        mode,
        want,
        draw: _,
        model,
        quality,
        smooth,
        limits,
    }) = Client::connect(&server, query).await.next().await
    else {
        panic!("no hello");
    };
    assert!(smooth);
    assert!(!session.as_str().is_empty());
    assert_eq!(stream.as_str(), "cam-1");
    assert_eq!((mode, want, model.as_str(), quality), (Mode::Complete, Want::Both, "thunder", 60));
    assert_eq!((limits.max_image_bytes, limits.window, limits.max_age_ms), (8 << 20, 2, 400));
    server.stop().await;
}

#[tokio::test]
async fn each_format_gets_its_poses_then_its_picture() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::greeted(&server, "?want=both&stream=cam").await;
    for (seq, image) in (1..).zip([JPEG, PNG, WEBP]) {
        let sent = Instant::now();
        client.image(image).await;
        let Heard::Message(ServerMessage::Result { event: Some(event), latency_ms, dropped, .. }) =
            client.next().await
        else {
            panic!("no result with poses");
        };
        let event = event.event().unwrap();
        assert_eq!((event.seq, event.stream.as_str(), event.output.persons().len()), (seq, "cam", 1));
        assert!(latency_ms > 0.0 && dropped.is_empty());
        assert!(Duration::from_secs_f32(latency_ms / 1000.0) <= sent.elapsed(), "{latency_ms} ms");
        assert_eq!(client.next().await, Heard::Overlay(crate::stage::overlay(seq)));
    }
    client.text(END).await;
    assert_eq!(client.next().await, Heard::Closed(1000));
    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.delivered), (3, 3));
}

#[tokio::test]
async fn poses_or_picture_alone() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::greeted(&server, "?want=overlay").await;
    client.image(JPEG).await;
    assert!(matches!(client.next().await, Heard::Message(ServerMessage::Result { event: None, .. })));
    assert!(matches!(client.next().await, Heard::Overlay(_)));
    client.text(r#"{"type":"configure","want":"pose"}"#).await;
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, 2);
}

#[tokio::test]
async fn live_session_that_is_sent_too_much_drops_all_but_the_newest_and_says_so() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?max_age_ms=10000").await;
    client.text(TELL_DROPS).await;
    for _ in 1..=6 {
        client.image(JPEG).await;
    }
    for seq in 3..=5 {
        assert_eq!(client.dropped().await, (seq, DropReason::Superseded));
    }
    server.ledger(|l| l.accepted == 6 && l.in_flight() == 3).await;
    for seq in [1, 2, 6] {
        let frame = server.frame().await;
        assert_eq!((frame.frame.header.seq, frame.frame.header.route.kind()), (seq, Kind::Live));
        server.bus.reply(done(&frame.frame.header)).await.unwrap();
        frame.ack().await;
        assert_eq!(client.result(false).await, seq);
    }
    let ledger = server.stop().await;
    assert_eq!((ledger.delivered, ledger.dropped.get(&DropReason::Superseded)), (3, Some(&3)));
}

#[tokio::test]
async fn live_result_that_is_overtaken_is_late() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?max_age_ms=10000").await;
    client.text(TELL_DROPS).await;
    client.image(JPEG).await;
    client.image(JPEG).await;
    let (first, second) = (server.frame().await, server.frame().await);
    server.bus.reply(done(&second.frame.header)).await.unwrap();
    assert_eq!(client.result(false).await, 2);
    server.bus.reply(done(&first.frame.header)).await.unwrap();
    assert_eq!(client.dropped().await, (1, DropReason::Late));
}

#[tokio::test]
async fn live_frame_that_no_worker_takes_or_finishes_expires() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?max_age_ms=200").await;
    client.text(TELL_DROPS).await;
    client.image(JPEG).await;
    assert_eq!(client.dropped().await, (1, DropReason::Expired));
    client.image(JPEG).await;
    let slow = server.frame().await;
    assert_eq!(slow.frame.header.seq, 2, "what has expired is not handed out");
    assert_eq!(client.dropped().await, (2, DropReason::Expired));
    server.bus.reply(done(&slow.frame.header)).await.unwrap();
    client.text(END).await;
    assert_eq!(client.next().await, Heard::Closed(1000), "a result after the end is ignored");
}

#[tokio::test]
async fn complete_session_processes_every_frame_in_order_though_workers_do_not() {
    const FRAMES: u64 = 30;
    let server = Server::start(Config { window: 3, ..Config::default() }).await;
    let mut client = Client::greeted(&server, "?mode=complete&want=both").await;
    for _ in 0..FRAMES {
        client.image(JPEG).await;
    }
    client.text(END).await;
    for first in (1..=FRAMES).step_by(3) {
        let frames = [server.frame().await, server.frame().await, server.frame().await];
        assert!(frames.iter().all(|f| f.frame.header.route.kind() == Kind::Still));
        for frame in frames.into_iter().rev() {
            server.bus.reply(done(&frame.frame.header)).await.unwrap();
            frame.ack().await;
        }
        for seq in first..first + 3 {
            assert_eq!(client.result(true).await, seq);
        }
    }
    assert_eq!(client.next().await, Heard::Closed(1000));
    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.delivered), (FRAMES, FRAMES));
}

#[tokio::test]
async fn complete_session_survives_a_full_lane_and_a_dying_worker() {
    const FRAMES: u64 = 8;
    let bus = Bus::local(Capacity { still_frames: 1, ..Capacity::default() });
    let server = Server::with_bus(Config { window: 4, ..Config::default() }, bus).await;
    let mut client = Client::greeted(&server, "?mode=complete").await;
    for _ in 0..FRAMES {
        client.image(JPEG).await;
    }
    client.text(END).await;
    drop(server.frame().await);
    for _ in 0..FRAMES {
        server.work().await;
    }
    for seq in 1..=FRAMES {
        assert_eq!(client.result(false).await, seq);
    }
    assert_eq!(client.next().await, Heard::Closed(1000));
}

#[tokio::test]
async fn sessions_of_one_gateway_do_not_get_each_others_results() {
    let server = Server::with_worker(Config::default()).await;
    let mut clients = vec![];
    for name in ["a", "b", "c"] {
        clients.push((name, Client::greeted(&server, &format!("?stream={name}")).await));
    }
    for (_, client) in &mut clients {
        client.image(JPEG).await;
    }
    for (name, client) in &mut clients {
        let Heard::Message(ServerMessage::Result { event: Some(event), .. }) = client.next().await else {
            panic!("no result");
        };
        assert_eq!(event.event().unwrap().stream.as_str(), *name);
    }
}

#[tokio::test]
async fn stopping_gateway_finishes_what_is_in_flight_then_says_so() {
    let server = Server::start(Config::default()).await;
    let mut busy = Client::greeted(&server, "?mode=complete").await;
    let mut quiet = Client::greeted(&server, "").await;
    busy.image(JPEG).await;
    let frame = server.frame().await;
    server.token.cancel();
    quiet.error(ErrorCode::ShuttingDown).await;
    assert_eq!(quiet.next().await, Heard::Closed(1001));
    server.bus.reply(done(&frame.frame.header)).await.unwrap();
    assert_eq!(busy.result(false).await, 1);
    busy.error(ErrorCode::ShuttingDown).await;
    assert_eq!(busy.next().await, Heard::Closed(1001));
    let url = server.url("/health");
    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.delivered), (1, 1));
    assert!(soon(reqwest::get(url)).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn live_frame_carries_what_the_worker_needs() {
    let server = Server::start(Config { min_score: 0.4, ..Config::default() }).await;
    let mut client = Client::greeted(&server, "?stream=cam&want=both&model=lightning&quality=33").await;
    client.image(JPEG).await;
    let frame = server.frame().await.frame.clone();
    let header = &frame.header;
    assert_eq!(frame.image.encode().unwrap(), JPEG);
    assert_eq!((header.stream.as_str(), header.seq, header.route.kind()), ("cam", 1, Kind::Live));
    assert_eq!((header.want, header.model.as_str(), header.quality), (Want::Both, "lightning", 33));
    assert_eq!(header.min_score, 0.4);
    assert!((1..=1000).contains(&header.deadline_ms) && header.received_at > 1_700_000_000_000);
    assert!(frame.event.is_none());
    let lane = cloudpose_wire::Lane { stage: Stage::Annotate, kind: Kind::Live };
    assert_eq!(server.bus.depth(lane).await.frames, 0);
}

#[tokio::test]
async fn a_stream_that_is_sent_is_shared_refused_or_taken_over() {
    let server = Server::with_worker(Config::default()).await;
    let mut first = Client::greeted(&server, "?stream=cam").await;
    let mut second = Client::greeted(&server, "?stream=cam").await;
    second.image(JPEG).await;
    assert_eq!(second.result(false).await, 1, "as it always was");
    let mut third = Client::connect(&server, "?stream=cam&if_taken=refuse").await;
    let why = third.error(ErrorCode::StreamTaken).await;
    assert!(why.contains("another session"), "{why}");
    assert_eq!(third.next().await, Heard::Closed(1008));
    let mut fourth = Client::greeted(&server, "?stream=cam&if_taken=take_over").await;
    for client in [&mut first, &mut second] {
        client.error(ErrorCode::StreamTaken).await;
        assert_eq!(client.next().await, Heard::Closed(1008));
    }
    fourth.image(JPEG).await;
    assert_eq!(fourth.result(false).await, 1);
    let mut fifth = Client::connect(&server, "?stream=cam").await;
    fifth.error(ErrorCode::StreamTaken).await;
    Client::greeted(&server, "?stream=other").await;
    drop(fourth);
    server.stop().await;
}
