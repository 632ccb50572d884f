//! Streaming clients that do what they should not, or are treated badly.

use std::time::Duration;

use bytes::Bytes;
use cloudpose_ingest::Config;
use cloudpose_wire::{
    DropReason,
    ws::{ErrorCode, ServerMessage},
};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::stage::{Client, Heard, JPEG, Server, claiming_png, done, event, soon};

#[tokio::test]
async fn query_that_we_do_not_understand_is_told_on_the_socket() {
    let server = Server::with_worker(Config::default()).await;
    for (query, word) in [
        ("?mode=fast", "mode"),
        ("?model=no.name", "'.'"),
        ("?want=all", "want"),
        ("?stream=a.b", "only letters"),
        ("?stream=", "empty"),
        ("?quality=0", "quality"),
        ("?quality=101", "quality"),
        ("?quality=300", "quality"),
        ("?max_age_ms=0", "max_age_ms"),
        ("?max_age_ms=99999", "max_age_ms"),
        ("?max_age_ms=soon", "max_age_ms"),
        ("?speed=9", "speed"),
        ("?model=thunder&model=thunder", "model"),
    ] {
        let mut client = Client::connect(&server, query).await;
        let message = client.error(ErrorCode::BadQuery).await;
        assert!(message.contains(word), "{query}: {message}");
        assert_eq!(client.next().await, Heard::Closed(1008));
    }
    assert_eq!(server.stop().await.accepted, 0);
}

#[tokio::test]
async fn text_where_binary_is_due_is_told_and_the_session_goes_on() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::greeted(&server, "").await;
    for text in [
        "hello",
        "",
        "{}",
        r#"{"type":"configure","quality":0}"#,
        r#"{"type":"configure","model":"no.name"}"#,
    ] {
        client.text(text).await;
        client.error(ErrorCode::BadMessage).await;
    }
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, 1);
}

#[tokio::test]
async fn what_is_told_of_megabytes_is_short() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::greeted(&server, "").await;
    client.text(&format!(r#"{{"type":"{}"}}"#, "x".repeat(8_000_000))).await;
    let message = client.error(ErrorCode::BadMessage).await;
    assert!(message.len() < 2000 && message.contains("`configure`"), "{}", message.len());
    let mut client = Client::connect(&server, &format!("?mode={}", "x".repeat(50_000))).await;
    let message = client.error(ErrorCode::BadQuery).await;
    assert!(message.len() < 2000 && message.contains("`complete`"), "{}", message.len());
}

#[tokio::test]
async fn bytes_that_are_no_image_are_told_and_counted() {
    let server = Server::with_worker(Config::default()).await;
    let mut client = Client::greeted(&server, "").await;
    let claims = claiming_png(60_000, 60_000);
    let bad: [(&[u8], &str); 6] = [
        (b"", "empty"),
        (b"not an image", "JPEG"),
        (b"GIF89a........", "JPEG"),
        (&JPEG[..20], "frame 4"),
        (&claims, "60000×60000"),
        // The header is whole: this one is found out by the worker.
        (&JPEG[..JPEG.len() - 30], "cut off"),
    ];
    let sent = bad.len() as u64;
    for (image, word) in bad {
        client.image(image.to_vec()).await;
        let message = client.error(ErrorCode::BadFrame).await;
        assert!(message.contains(word), "{word}: {message}");
    }
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, sent + 1);
    drop(client);
    let ledger = server.stop().await;
    assert_eq!((ledger.delivered, ledger.dropped.get(&DropReason::Undecodable)), (1, Some(&sent)));
}

#[tokio::test]
async fn message_beyond_the_limit_is_refused_with_words() {
    const LIMIT: usize = 10_000;
    let server = Server::with_worker(Config { max_image_bytes: LIMIT, ..Config::default() }).await;
    // The last is so large that it is not even read.
    for size in [LIMIT + 1, 2 * LIMIT, 5 * LIMIT] {
        let mut client = Client::greeted(&server, "").await;
        client.image(vec![0xFF; size]).await;
        let message = client.error(ErrorCode::TooLarge).await;
        assert!(message.contains("10000"), "{message}");
        assert_eq!(client.next().await, Heard::Closed(1009));
    }
    let mut client = Client::greeted(&server, "").await;
    client.text(&" ".repeat(LIMIT + 1)).await;
    client.error(ErrorCode::TooLarge).await;
    assert_eq!(server.stop().await.accepted, 0);
}

#[tokio::test]
async fn client_that_does_not_read_is_cut_off_and_its_frames_are_counted() {
    let config = Config { write_timeout: Duration::from_secs(3), ..Config::default() };
    let server = Server::start(config).await;
    let mut client = Client::greeted(&server, "?want=overlay&max_age_ms=10000").await;
    for _ in 0..2 {
        client.image(JPEG).await;
        let frame = server.frame().await;
        // More than the sockets' buffers hold, and just what the client takes.
        let picture = Bytes::from(vec![7; 15 << 20]);
        server
            .bus
            .reply(frame.frame.header.done(event(&frame.frame.header).into(), Some(picture)))
            .await
            .unwrap();
        frame.ack().await;
    }
    for _ in 0..10 {
        client.image(JPEG).await;
    }
    let ledger = server.ledger(|l| l.accepted == 12 && l.in_flight() == 0).await;
    assert_eq!(ledger.delivered, 0);
    assert_eq!(ledger.dropped.get(&DropReason::Superseded), Some(&9), "it was read all the while");
    assert_eq!(ledger.dropped.get(&DropReason::ClientGone), Some(&3));

    // It reads again within the farewell: the end of the first picture, and why it was cut off.
    let mut last = client.next().await;
    while !matches!(last, Heard::Closed(_) | Heard::Lost) {
        if let Heard::Message(ServerMessage::Error { code, .. }) = &last {
            assert_eq!(*code, ErrorCode::SlowReader);
        }
        last = client.next().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn client_that_vanishes_leaves_no_frame_open() {
    let server = Server::start(Config::default()).await;
    for goodbye in [false, true] {
        let mut client = Client::greeted(&server, "?max_age_ms=10000").await;
        for _ in 0..3 {
            client.image(JPEG).await;
        }
        let frames = [server.frame().await, server.frame().await];
        if goodbye {
            soon(client.0.close(None)).await.unwrap();
        }
        drop(client);
        server.ledger(|l| l.accepted % 3 == 0 && l.accepted > 0 && l.in_flight() == 0).await;
        for frame in frames {
            server.bus.reply(done(&frame.frame.header)).await.unwrap();
        }
    }
    let mut other = Client::greeted(&server, "").await;
    other.image(JPEG).await;
    assert_eq!(server.work().await, 1);
    assert_eq!(other.result(false).await, 1);
    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.delivered), (7, 1));
    assert_eq!(ledger.dropped.get(&DropReason::ClientGone), Some(&6));
}

/// A WebSocket by hand, which answers no ping. Returns all that the server sends until it closes.
async fn deaf_client(server: &Server, then: &[u8]) -> String {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /v1/stream HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    socket.write_all(then).await.unwrap();
    let mut heard = Vec::new();
    soon(socket.read_to_end(&mut heard)).await.unwrap();
    String::from_utf8_lossy(&heard).into_owned()
}

#[tokio::test]
async fn client_that_answers_no_ping_is_cut_off() {
    let config = Config { idle_timeout: Duration::from_millis(200), ..Config::default() };
    let server = Server::with_worker(config).await;
    let heard = deaf_client(&server, b"").await;
    assert!(heard.contains("hello") && heard.contains("idle_timeout"), "{heard}");
}

#[tokio::test]
async fn client_that_breaks_the_protocol_is_told() {
    let server = Server::with_worker(Config::default()).await;
    // A frame without a mask, and one with a reserved opcode (RFC 6455, sections 5.1 and 5.2).
    for frame in [&[0x82, 0x01, 0x00][..], &[0x8F, 0x80, 0, 0, 0, 0]] {
        let heard = deaf_client(&server, frame).await;
        assert!(heard.contains("bad_message"), "{heard}");
    }
    // Text that is no UTF-8, in one frame with the mask 0.
    let heard = deaf_client(&server, &[0x81, 0x82, 0, 0, 0, 0, 0xC3, 0x28]).await;
    assert!(heard.contains("bad_message"), "{heard}");
}

#[tokio::test]
async fn quiet_client_that_answers_pings_stays() {
    let config = Config { idle_timeout: Duration::from_secs(1), ..Config::default() };
    let server = Server::with_worker(config).await;
    let mut client = Client::greeted(&server, "").await;
    // One comes every half of the idle time, and reading answers it.
    for _ in 0..4 {
        let message = soon(client.0.next()).await.unwrap().unwrap();
        assert!(message.is_ping(), "{message:?}");
    }
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, 1);
}

#[tokio::test]
async fn session_beyond_the_limit_is_refused_until_one_ends() {
    let server = Server::with_worker(Config { max_sessions: 1, ..Config::default() }).await;
    let first = Client::greeted(&server, "").await;
    let url = format!("ws://{}/v1/stream", server.address);
    let error = soon(tokio_tungstenite::connect_async(&url)).await.unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(response) = error else { panic!("{error}") };
    assert_eq!(response.status(), 503);
    assert_eq!(response.headers()["retry-after"], "1");
    drop(first);
    soon(async {
        while tokio_tungstenite::connect_async(&url).await.is_err() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn frame_that_a_worker_gives_up_is_told_with_its_reason() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?max_age_ms=10000").await;
    client.text(r#"{"type":"configure","drops":true}"#).await;
    for reason in [DropReason::InferFailed, DropReason::AnnotateFailed, DropReason::Expired] {
        client.image(JPEG).await;
        let frame = server.frame().await;
        server.bus.reply(frame.frame.header.dropped(reason, "why")).await.unwrap();
        assert_eq!(client.dropped().await.1, reason);
        frame.ack().await;
    }
}
