//! Those who watch a stream that somebody else sends.

use cloudpose_bus::{Bus, Delivery};
use cloudpose_ingest::Config;
use cloudpose_testing::{
    NatsServer,
    sample::{FOREIGN, bus, foreign},
};
use cloudpose_wire::{Draw, DropReason, watch::WatchMessage, ws::ErrorCode};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::stage::{Client, JPEG, Server, done, event, overlay, soon};

struct Spectator(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Spectator {
    async fn connect(server: &Server, path: &str) -> Self {
        let url = format!("ws://{}/v1/streams/{path}", server.address);
        Self(soon(connect_async(url)).await.unwrap().0)
    }

    async fn greeted(server: &Server, path: &str) -> Self {
        let mut spectator = Self::connect(server, path).await;
        let first = spectator.message().await;
        assert!(matches!(first, WatchMessage::Hello { .. }), "{first:?}");
        spectator
    }

    async fn next(&mut self) -> Message {
        soon(self.0.next()).await.unwrap().unwrap()
    }

    async fn message(&mut self) -> WatchMessage {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("expected a message, got {other:?}"),
        }
    }

    /// The next message, which must be an error with this code.
    async fn error(&mut self, expected: ErrorCode) -> String {
        match self.message().await {
            WatchMessage::Error { code, message } if code == expected => message,
            other => panic!("expected {expected:?}, got {other:?}"),
        }
    }
}

async fn streams(server: &Server) -> Value {
    let answer = soon(reqwest::get(server.url("/v1/streams"))).await.unwrap();
    assert_eq!(answer.status(), 200);
    soon(answer.json::<Value>()).await.unwrap()["streams"].clone()
}

/// Waits until `server` lists what `expected` says.
async fn listed(server: &Server, expected: impl Fn(&Value) -> bool) -> Value {
    soon(async {
        loop {
            let streams = streams(server).await;
            if expected(&streams) {
                return streams;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
}

/// Answers a frame as infer and annotate do: its session first, then those who watch.
async fn work(bus: &Bus, delivery: Delivery) {
    let header = delivery.frame.header.clone();
    bus.reply(done(&header)).await.unwrap();
    for aside in header.asides(header.budget()) {
        bus.reply(aside.done(event(&aside).into(), Some(overlay(aside.seq)))).await.unwrap();
    }
    delivery.ack().await;
}

/// Sends a frame, has it worked on, and checks whether a picture was drawn for those who watch. What the session gets
/// is as it asked for.
async fn frame(server: &Server, client: &mut Client, wants_picture: bool, watched: bool) -> u64 {
    client.image(JPEG).await;
    let delivery = server.frame().await;
    let expected = if watched { vec![Draw::Overlay] } else { vec![] };
    assert_eq!(delivery.frame.header.watched, expected);
    assert_eq!(delivery.frame.header.want.overlay(), wants_picture, "the session's own wish is left alone");
    work(&server.bus, delivery).await;
    client.result(wants_picture).await
}

/// Sends frames until one is drawn for those who watch.
async fn until_watched(server: &Server, client: &mut Client) -> u64 {
    loop {
        client.image(JPEG).await;
        let delivery = server.frame().await;
        let watched = !delivery.frame.header.watched.is_empty();
        work(&server.bus, delivery).await;
        let seq = client.result(false).await;
        if watched {
            return seq;
        }
    }
}

#[tokio::test]
async fn live_streams_are_listed_while_they_are() {
    let server = Server::with_worker(Config::default()).await;
    assert_eq!(streams(&server).await, json!([]));
    let mut client = Client::greeted(&server, "?stream=door&max_age_ms=10000").await;
    client.image(JPEG).await;
    client.result(false).await;
    let all = streams(&server).await;
    let [door] = &all.as_array().unwrap()[..] else { panic!("one stream") };
    for (field, value) in [
        ("stream", json!("door")),
        ("state", json!("live")),
        ("model", json!("fast")),
        ("width", json!(16)),
        ("height", json!(12)),
        ("sessions", json!(1)),
        ("watchers", json!(0)),
    ] {
        assert_eq!(door[field], value, "{field}");
    }
    assert!(door["since"].as_u64().is_some_and(|since| since > 1_700_000_000_000));
    drop(client);
    listed(&server, |streams| *streams == json!([])).await;
    server.stop().await;
}

#[tokio::test]
async fn who_watches_events_gets_them_as_the_worker_wrote_them() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?stream=door&max_age_ms=10000").await;
    let mut spectators = [
        Spectator::greeted(&server, "door/watch").await,
        Spectator::greeted(&server, "door/watch?want=pose").await,
    ];
    assert_eq!(streams(&server).await[0]["watchers"], 2);
    client.image(JPEG).await;
    let delivery = server.frame().await;
    assert!(delivery.frame.header.watched.is_empty(), "nothing is drawn");
    server.bus.reply(delivery.frame.header.done(foreign(), None)).await.unwrap();
    delivery.ack().await;
    for spectator in &mut spectators {
        let Message::Text(result) = spectator.next().await else { panic!("no result") };
        let expected = format!(r#"{{"type":"result","seq":1,"pose":{FOREIGN},"overlay":false,"lost":0}}"#);
        assert_eq!(result.as_str(), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn pictures_are_drawn_for_those_who_watch_and_the_session_gets_what_it_asked_for() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?stream=door&max_age_ms=10000").await;
    frame(&server, &mut client, false, false).await;
    let mut both = Spectator::greeted(&server, "door/watch?want=both").await;
    let mut only = Spectator::greeted(&server, "door/watch?want=overlay").await;
    let seq = frame(&server, &mut client, false, true).await;
    for (spectator, has_event) in [(&mut both, true), (&mut only, false)] {
        match spectator.message().await {
            WatchMessage::Result { seq: of, event, overlay: true, lost: 0 } => {
                assert_eq!((of, event.is_some()), (seq, has_event));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(spectator.next().await, Message::Binary(overlay(seq)));
    }
    // What the session has drawn for itself is not drawn again.
    client.text(r#"{"type":"configure","want":"both"}"#).await;
    let seq = frame(&server, &mut client, true, false).await;
    let Message::Text(_) = both.next().await else { panic!("no result") };
    assert_eq!(both.next().await, Message::Binary(overlay(seq)));
    drop((both, only));
    client.text(r#"{"type":"configure","want":"pose"}"#).await;
    listed(&server, |streams| streams[0]["watchers"] == 0).await;
    frame(&server, &mut client, false, false).await;
    server.stop().await;
}

/// What comes of an answer's body up to `end`.
async fn until(answer: &mut reqwest::Response, end: &str) -> Vec<u8> {
    let mut got = Vec::new();
    while !got.ends_with(end.as_bytes()) {
        got.extend_from_slice(&soon(answer.chunk()).await.unwrap().unwrap());
    }
    got
}

#[tokio::test]
async fn an_image_element_gets_one_picture_after_the_other() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?stream=door&max_age_ms=10000").await;
    let mut answer = soon(reqwest::get(server.url("/v1/streams/door.mjpeg"))).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "multipart/x-mixed-replace; boundary=cloudpose-frame");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let boundary = "\r\n--cloudpose-frame\r\n";
    assert_eq!(until(&mut answer, boundary).await, boundary.as_bytes());
    for _ in 0..2 {
        let seq = until_watched(&server, &mut client).await;
        let picture = overlay(seq);
        let mut expected =
            format!("Content-Type: image/jpeg\r\nContent-Length: {}\r\n\r\n", picture.len()).into_bytes();
        expected.extend_from_slice(&picture);
        expected.extend_from_slice(boundary.as_bytes());
        assert_eq!(until(&mut answer, boundary).await, expected, "the end of a part follows at once");
    }
    drop(answer);
    listed(&server, |streams| streams[0]["watchers"] == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_watched_is_refused_in_words() {
    let server = Server::start(Config { max_watchers: 1, ..Config::default() }).await;
    let get = async |path: &str| {
        let answer = soon(reqwest::get(server.url(path))).await.unwrap();
        let problem: Value = soon(answer.json()).await.unwrap();
        (problem["status"].as_u64().unwrap(), problem["type"].as_str().unwrap().to_owned())
    };
    let no_stream = (404, "urn:cloudpose:problem:no-stream".to_owned());
    assert_eq!(get("/v1/streams/door.mjpeg").await, no_stream);
    assert_eq!(get("/v1/streams/no%20name.mjpeg").await, no_stream);
    assert_eq!(get("/v1/streams/door").await, (404, "urn:cloudpose:problem:not-found".to_owned()));
    assert_eq!(get("/v1/streams/door/watch").await.0, 426);
    Spectator::connect(&server, "door/watch").await.error(ErrorCode::NoStream).await;

    let _client = Client::greeted(&server, "?stream=door").await;
    for bad in ["fps=0", "fps=NaN", "fps=1e9", "rate=3"] {
        assert_eq!(get(&format!("/v1/streams/door.mjpeg?{bad}")).await.0, 400, "{bad}");
        Spectator::connect(&server, &format!("door/watch?{bad}")).await.error(ErrorCode::BadQuery).await;
    }
    let mut first = Spectator::greeted(&server, "door/watch").await;
    assert_eq!(get("/v1/streams/door.mjpeg").await, (503, "urn:cloudpose:problem:no-room".to_owned()));
    soon(first.0.send(Message::text("{}"))).await.unwrap();
    first.error(ErrorCode::BadMessage).await;
    server.stop().await;
}

#[tokio::test]
async fn pictures_are_drawn_as_those_who_watch_want_them_and_as_they_may_be() {
    let server = Server::start(Config::default()).await;
    let mut client = Client::greeted(&server, "?stream=door&want=both&draw=skeleton&max_age_ms=10000").await;
    let mut plain = Spectator::greeted(&server, "door/watch?want=overlay&draw=skeleton").await;
    let mut covered = Spectator::greeted(&server, "door/watch?want=overlay&draw=redacted").await;
    client.image(JPEG).await;
    let delivery = server.frame().await;
    assert_eq!(delivery.frame.header.draw, Draw::Skeleton);
    assert_eq!(
        delivery.frame.header.watched,
        [Draw::Redacted],
        "the session's own is shown to who wants it so"
    );
    work(&server.bus, delivery).await;
    client.result(true).await;
    for spectator in [&mut plain, &mut covered] {
        spectator.message().await;
        assert_eq!(spectator.next().await, Message::Binary(overlay(1)));
    }
    server.stop().await;
}

#[tokio::test]
async fn a_gateway_that_shows_redacted_pictures_shows_no_others() {
    let server = Server::start(Config { draw_only: Some(Draw::Redacted), ..Config::default() }).await;
    let mut refused = Client::connect(&server, "?draw=overlay").await;
    let why = refused.error(ErrorCode::BadQuery).await;
    assert!(why.contains("draw=redacted"), "{why}");
    let mut client = Client::greeted(&server, "?stream=door&want=both&max_age_ms=10000").await;
    client.text(r#"{"type":"configure","draw":"skeleton"}"#).await;
    client.error(ErrorCode::BadMessage).await;
    for draw in ["skeleton", "frame"] {
        let path = format!("door/watch?draw={draw}");
        Spectator::connect(&server, &path).await.error(ErrorCode::BadQuery).await;
    }
    let http = reqwest::Client::new();
    let post = |query: &str| {
        let post = http.post(server.url(&format!("/v1/pose{query}"))).header("accept", "image/jpeg");
        soon(post.header("content-type", "image/jpeg").body(JPEG).send())
    };
    assert_eq!(post("?draw=overlay").await.unwrap().status(), 400);

    // A worker of an earlier version draws as it always did, and says nothing of how.
    let older = async || {
        let delivery = server.frame().await;
        assert_eq!(delivery.frame.header.draw, Draw::Redacted);
        let mut result = done(&delivery.frame.header);
        result.draw = Draw::Overlay;
        server.bus.reply(result).await.unwrap();
        delivery.ack().await;
    };
    let (answer, ()) = tokio::join!(post(""), older());
    assert_eq!(answer.unwrap().status(), 500);
    client.text(r#"{"type":"configure","drops":true}"#).await;
    client.image(JPEG).await;
    older().await;
    assert_eq!(client.dropped().await, (1, DropReason::AnnotateFailed));
    client.image(JPEG).await;
    assert_eq!(server.work().await, 2);
    client.result(true).await;
    server.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_says_so_to_those_who_watch() {
    let server = Server::start(Config::default()).await;
    let client = Client::greeted(&server, "?stream=door").await;
    let mut spectator = Spectator::greeted(&server, "door/watch").await;
    let pictures = soon(reqwest::get(server.url("/v1/streams/door.mjpeg"))).await.unwrap();
    server.token.cancel();
    spectator.error(ErrorCode::ShuttingDown).await;
    assert!(matches!(spectator.next().await, Message::Close(Some(frame)) if frame.code == 1001.into()));
    assert!(!soon(pictures.bytes()).await.unwrap().is_empty(), "it ends as it should");
    drop(client);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_can_be_watched_at_another_gateway_over_nats() {
    let nats = NatsServer::start();
    let bus = async || bus(&nats, cloudpose_bus::Capacity::default()).await;
    let here = Server::with_bus(Config::default(), bus().await).await;
    let there = Server::with_bus(Config::default(), bus().await).await;
    let mut client = Client::greeted(&here, "?stream=door&max_age_ms=10000").await;
    listed(&there, |streams| streams[0]["stream"] == "door").await;

    let mut spectator = Spectator::greeted(&there, "door/watch?want=both").await;
    let seq = until_watched(&here, &mut client).await;
    assert_eq!(streams(&here).await[0]["watchers"], 1);
    let (event, picture) = loop {
        // The first ones may be sent before the other gateway listens.
        match tokio::time::timeout(std::time::Duration::from_millis(200), spectator.message()).await {
            Ok(WatchMessage::Result { seq: of, event, .. }) => {
                assert!(of >= seq);
                break (event, spectator.next().await);
            }
            Ok(other) => panic!("{other:?}"),
            Err(_) => {
                until_watched(&here, &mut client).await;
            }
        }
    };
    let event = event.unwrap();
    assert_eq!(picture, Message::Binary(overlay(event.event().unwrap().seq)));
    drop(spectator);
    listed(&here, |streams| streams[0]["watchers"] == 0).await;
    frame(&here, &mut client, false, false).await;
    drop(client);
    listed(&there, |streams| *streams == json!([])).await;
    here.stop().await;
    there.stop().await;
}
