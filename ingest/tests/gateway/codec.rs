//! Frames that come as H.264.

use std::time::Duration;

use cloudpose_ingest::Config;
use cloudpose_pixels::PlanarImage;
use cloudpose_wire::{
    DropReason, Payload,
    ws::{Codec, ErrorCode, ServerMessage, UnitHead},
};
use futures_util::{SinkExt, StreamExt};
use rusty_h264_common::YuvFrame;
use rusty_h264_encoder::{Encoder, EncoderConfig};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;

use crate::stage::{Client, Heard, JPEG, Server, soon};

const SIZE: [usize; 2] = [64, 48];

/// A key frame and those that build on it, `count` in all.
fn units(count: usize, [width, height]: [usize; 2]) -> Vec<Vec<u8>> {
    let mut config = EncoderConfig::new(width, height);
    (config.gop_size, config.qp, config.lookahead, config.bframes) = (250, 24, 0, 0);
    (config.mbtree, config.scenecut, config.num_ref_frames) = (false, 0, 1);
    let mut encoder = Encoder::new(config).unwrap();
    let chroma = vec![128; width * height / 4];
    let frame = |step: usize| YuvFrame {
        width,
        height,
        y: (0..width * height).map(|at| (16 + (at % width + 3 * step) % 200) as u8).collect(),
        u: chroma.clone(),
        v: chroma.clone(),
    };
    (0..count).map(|step| encoder.encode(&frame(step))).collect()
}

/// Behind its head: the first is a key frame, `n` thirtieths of a second after the beginning.
fn message(n: usize, unit: &[u8]) -> Vec<u8> {
    let head = UnitHead { is_key: n == 0, time: n as i64 * 33_333 };
    [&head.bytes()[..], unit].concat()
}

/// The size of the pixels of the next frame on the bus, which is answered.
async fn worked(server: &Server) -> [usize; 2] {
    let delivery = server.frame().await;
    let Payload::Decoded(decoded) = &delivery.frame.image else { panic!("it was encoded again") };
    let picture: &PlanarImage = decoded.get().unwrap();
    let size = [picture.width(), picture.height()];
    crate::stage::finish(&server.bus, delivery).await;
    size
}

#[tokio::test]
async fn pictures_of_a_stream_reach_the_workers_as_pixels_and_come_back_in_order() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::connect(&server, "?codec=h264&want=both").await;
    let hello = client.next().await;
    let Heard::Message(ServerMessage::Hello { codec: Some(Codec::H264), .. }) = hello else {
        panic!("{hello:?}")
    };
    for (n, unit) in units(6, SIZE).iter().enumerate() {
        client.image(message(n, unit)).await;
        assert_eq!(worked(&server).await, SIZE);
        assert_eq!(client.result(true).await, n as u64 + 1);
    }
    client.text(r#"{"type":"end"}"#).await;
    assert_eq!(client.next().await, Heard::Closed(1000));
    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.delivered), (6, 6));
}

/// What is not decoded yet when the client says `end` is part of what it sent.
#[tokio::test]
async fn complete_sessions_decode_every_frame_before_they_end() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::greeted(&server, "?codec=h264&mode=complete").await;
    for (n, unit) in units(12, SIZE).iter().enumerate() {
        client.image(message(n, unit)).await;
    }
    client.text(r#"{"type":"end"}"#).await;
    for n in 1..=12 {
        assert_eq!(client.result(false).await, n);
    }
    assert_eq!(client.next().await, Heard::Closed(1000));
    server.stop().await;
}

#[tokio::test]
async fn a_key_frame_is_asked_for_after_a_loss_and_makes_good_for_it() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::greeted(&server, "?codec=h264").await;
    client.text(r#"{"type":"configure","drops":true}"#).await;
    let units = units(4, SIZE);
    // It begins in the middle.
    client.image(message(1, &units[1])).await;
    assert_eq!(client.next().await, Heard::Message(ServerMessage::Keyframe));
    assert_eq!(client.dropped().await, (1, DropReason::Undecodable));
    client.image(message(0, &units[0])).await;
    assert_eq!(client.result(false).await, 2);
    // All but the head of one is lost on its way: said once, whatever builds on it.
    client.image(message(1, &units[1][..6])).await;
    assert_eq!(client.next().await, Heard::Message(ServerMessage::Keyframe));
    let words = client.error(ErrorCode::BadFrame).await;
    assert!(words.starts_with("frame 3: it is damaged"), "{words}");
    assert_eq!(client.dropped().await, (3, DropReason::Undecodable));
    for (n, unit) in units.iter().enumerate().skip(2) {
        client.image(message(n, unit)).await;
        let said = loop {
            match client.next().await {
                // It is asked for again after a second.
                Heard::Message(ServerMessage::Keyframe) => {}
                said => break said,
            }
        };
        let Heard::Message(ServerMessage::Drop { seq, reason: DropReason::Undecodable, .. }) = said else {
            panic!("{said:?}")
        };
        assert_eq!(seq, n as u64 + 2);
    }
    client.image(message(0, &units[0])).await;
    assert_eq!(client.result(false).await, 6);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_may_change_its_size() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?codec=h264").await;
    for size in [SIZE, [128, 96], SIZE] {
        for (n, unit) in units(2, size).iter().enumerate() {
            client.image(message(n, unit)).await;
            assert_eq!(worked(&server).await, size);
            client.result(false).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_no_video_is_refused_in_words_and_others_go_on() {
    let server = Server::with_worker(Config::default()).await;
    let mut other = Client::greeted(&server, "?codec=h264").await;
    let mut client = Client::greeted(&server, "?codec=h264").await;
    let key = &units(1, SIZE)[0];
    let bad: [(&[u8], &str); 4] = [
        (JPEG, "each message begins with 1 (a key frame) or 0"),
        (b"", "each message begins with"),
        (&message(0, b"no video"), "it has no start code"),
        (&message(0, &[0, 0, 1, 0x65, 0x88, 0x84]), "parameter sets (SPS and PPS) have not come"),
    ];
    let mut seq = 0;
    for (bad, words) in bad {
        client.image(bad.to_vec()).await;
        seq += 1;
        let said = loop {
            match client.next().await {
                Heard::Message(ServerMessage::Keyframe) => {}
                Heard::Message(ServerMessage::Error { code: ErrorCode::BadFrame, message }) => break message,
                heard => panic!("{heard:?}"),
            }
        };
        assert!(said.starts_with(&format!("frame {seq}: ")) && said.contains(words), "{said}");
    }
    client.image(message(0, key)).await;
    assert_eq!(client.result(false).await, seq + 1);
    other.image(message(0, key)).await;
    assert_eq!(other.result(false).await, 1);
    server.stop().await;
}

#[tokio::test]
async fn who_has_no_room_for_its_pictures_is_told_so() {
    let config = Config { max_decoder_bytes: 64 * 48 * 5 / 2 * 5, ..Config::default() };
    let server = Server::with_worker(config).await;
    let key = &units(1, SIZE)[0];
    let mut first = Client::greeted(&server, "?codec=h264").await;
    first.image(message(0, key)).await;
    first.result(false).await;
    let mut second = Client::greeted(&server, "?codec=h264").await;
    second.image(message(0, key)).await;
    assert_eq!(second.next().await, Heard::Message(ServerMessage::Keyframe));
    assert!(second.error(ErrorCode::BadFrame).await.contains("no room"));
    // When the first is gone there is.
    drop(first);
    soon(async {
        loop {
            second.image(message(0, key)).await;
            if let Heard::Message(ServerMessage::Result { .. }) = second.next().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    server.stop().await;
}

/// A burst of key frames is taken as fast as it is decoded and no faster; nothing of it piles up, and others are served.
#[tokio::test]
async fn a_flood_of_key_frames_keeps_nobody_from_being_served() {
    let server = Server::with_worker(Config::default()).await;
    let key = units(1, SIZE).remove(0);
    let (mut flood, answers) = Client::greeted(&server, "?codec=h264").await.0.split();
    let mut reader = JoinSet::new();
    reader.spawn(answers.for_each(async |_| ()));
    let mut other = Client::greeted(&server, "?codec=h264").await;
    for round in 1..=4 {
        for _ in 0..250 {
            soon(flood.send(Message::Binary(message(0, &key).into()))).await.unwrap();
        }
        other.image(message(0, &key)).await;
        assert_eq!(other.result(false).await, round);
    }
    server.ledger(|ledger| ledger.accepted == 1004 && ledger.in_flight() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn a_codec_that_is_not_known_is_a_bad_query() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::connect(&server, "?codec=vp8").await;
    assert!(client.error(ErrorCode::BadQuery).await.contains("h264"));
    assert_eq!(client.next().await, Heard::Closed(1008));
    server.stop().await;
}
