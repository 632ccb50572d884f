//! `POST /v1/pose` in all its forms, and what can be wrong with it.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use cloudpose_bus::{Bus, Capacity};
use cloudpose_ingest::Config;
use cloudpose_wire::{DropReason, Event, Kind, Want};
use reqwest::{
    Client, RequestBuilder, Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    task::JoinSet,
};

use crate::stage::{JPEG, PNG, Server, WEBP, claiming_png, overlay, soon};

fn post(server: &Server, query: &str) -> RequestBuilder {
    Client::new().post(server.url(&format!("/v1/pose{query}")))
}

fn raw(server: &Server, kind: &str, image: &[u8]) -> RequestBuilder {
    post(server, "").header("content-type", kind).body(image.to_vec())
}

async fn send(request: RequestBuilder) -> Response {
    soon(request.send()).await.unwrap()
}

/// The problem that `response` tells, which must have this status and type.
async fn problem(response: Response, status: u16, kind: &str) -> String {
    assert_eq!(response.status(), status, "{kind}");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["type"], format!("urn:cloudpose:problem:{kind}"));
    assert_eq!(problem["status"], status);
    assert!(problem["title"].is_string());
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_form_of_body_gets_the_poses() {
    let server = Server::with_worker(Config::default()).await;
    let base64 = BASE64_STANDARD.encode(JPEG);
    let file = |name: &'static str| Form::new().text("note", "x").part(name, Part::bytes(JPEG));
    let requests = [
        raw(&server, "image/jpeg", JPEG),
        raw(&server, "image/png", PNG),
        raw(&server, "Image/WebP; q=1", WEBP),
        post(&server, "").multipart(file("file")),
        post(&server, "").json(&json!({ "id": "photo-1", "image": base64 })),
        post(&server, "").json(&json!({ "image": format!("data:image/jpeg;base64,{base64}") })),
    ];
    let sent = requests.len() as u64;
    for request in requests {
        let response = send(request).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        assert_eq!(response.headers()["vary"], "accept");
        let event: Event = response.json().await.unwrap();
        assert_eq!((event.output.persons().len(), event.width, event.seq), (1, 16, 1));
    }
    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.delivered), (sent, sent));
}

#[tokio::test]
async fn id_comes_back_as_the_streams_name() {
    let server = Server::with_worker(Config::default()).await;
    let body = json!({ "id": "photo-1", "image": BASE64_STANDARD.encode(JPEG) });
    let event: Event = send(post(&server, "").json(&body)).await.json().await.unwrap();
    assert_eq!(event.stream.as_str(), "photo-1");
}

#[tokio::test]
async fn accepting_jpeg_gets_the_picture() {
    let server = Server::with_worker(Config::default()).await;
    for accept in ["image/jpeg", "image/*", "image/jpeg,application/json;q=0.5"] {
        let response = send(raw(&server, "image/jpeg", JPEG).header("accept", accept)).await;
        assert_eq!(response.headers()["content-type"], "image/jpeg", "{accept}");
        assert_eq!(response.headers()["vary"], "accept");
        assert_eq!(response.bytes().await.unwrap(), overlay(1));
    }
    let response = send(raw(&server, "image/jpeg", JPEG).header("accept", "text/html")).await;
    problem(response, 406, "not-acceptable").await;
}

#[tokio::test]
async fn query_reaches_the_worker() {
    let server = Server::start(Config::default()).await;
    let mut client = JoinSet::new();
    let request = post(&server, "?model=thunder&quality=42&min_score=0.5")
        .header("content-type", "image/jpeg")
        .header("accept", "image/jpeg")
        .body(JPEG);
    client.spawn(send(request));
    let frame = server.frame().await;
    let header = &frame.frame.header;
    assert_eq!(
        (header.route.kind(), header.want, header.model.as_str()),
        (Kind::Still, Want::Overlay, "thunder")
    );
    assert_eq!((header.quality, header.min_score, header.deadline_ms), (42, 0.5, 5000));
    crate::stage::finish(&server.bus, frame).await;
    assert_eq!(soon(client.join_next()).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn bad_queries_are_refused() {
    let server = Server::with_worker(Config::default()).await;
    for query in [
        "?model=no.name",
        "?quality=0",
        "?quality=101",
        "?quality=high",
        "?min_score=1.5",
        "?min_score=-1",
        "?min_score=NaN",
        "?size=3",
    ] {
        let response = send(post(&server, query).header("content-type", "image/jpeg").body(JPEG)).await;
        let detail = problem(response, 400, "bad-query").await;
        let name = query[1..].split('=').next().unwrap();
        assert!(detail.contains(name), "{query}: {detail}");
    }
    assert_eq!(server.stop().await.accepted, 0);
}

#[tokio::test]
async fn what_is_told_of_megabytes_is_short() {
    let server = Server::with_worker(Config::default()).await;
    let text = json!("x".repeat(8_000_000)).to_string();
    let request = post(&server, "").header("content-type", "application/json").body(text);
    let detail = problem(send(request).await, 400, "bad-body").await;
    assert!(detail.len() < 2000 && detail.contains("line 1"), "{}", detail.len());
    let detail =
        problem(send(raw(&server, &"x".repeat(50_000), JPEG)).await, 415, "unsupported-content-type").await;
    assert!(detail.len() < 2000 && detail.contains("image/webp"), "{}", detail.len());
}

#[tokio::test]
async fn bad_bodies_are_refused() {
    let server = Server::with_worker(Config::default()).await;
    let claims = claiming_png(60_000, 60_000);
    for (image, word) in [
        (&b""[..], "empty"),
        (b"not an image", "JPEG"),
        (&JPEG[..25], ""),
        (&JPEG[..JPEG.len() - 30], "cut off"),
        (&claims, "60000×60000"),
    ] {
        let detail = problem(send(raw(&server, "image/jpeg", image)).await, 422, "undecodable-image").await;
        assert!(detail.contains(word), "{word}: {detail}");
    }

    let json =
        |body: &str| post(&server, "").header("content-type", "application/json").body(body.to_owned());
    for body in ["", "{", "[]", "null", r#"{"image": 5}"#, r#"{"id": 5, "image": ""}"#] {
        problem(send(json(body)).await, 400, "bad-body").await;
    }
    for body in [r#"{"image": "!!!!"}"#, r#"{"image": "aGVsb"}"#] {
        problem(send(json(body)).await, 400, "bad-base64").await;
    }
    problem(send(json(r#"{"id": "a"}"#)).await, 422, "missing-image").await;
    problem(send(json(r#"{"image": ""}"#)).await, 422, "undecodable-image").await;
    let body = json!({ "id": "a b", "image": BASE64_STANDARD.encode(JPEG) });
    problem(send(post(&server, "").json(&body)).await, 422, "bad-id").await;

    let other = Form::new().part("picture", Part::bytes(JPEG));
    problem(send(post(&server, "").multipart(other)).await, 422, "missing-image").await;
    for (kind, body) in [("multipart/form-data", "x"), ("multipart/form-data; boundary=b", "--b\r\nbroken")] {
        let request = post(&server, "").header("content-type", kind).body(body);
        problem(send(request).await, 400, "bad-body").await;
    }

    for kind in ["text/plain", "application/x-www-form-urlencoded", "image/gif", "video/mp4"] {
        let detail = problem(send(raw(&server, kind, JPEG)).await, 415, "unsupported-content-type").await;
        assert!(detail.contains(kind) && detail.contains("image/jpeg"), "{detail}");
    }
    problem(send(post(&server, "").body(JPEG)).await, 415, "unsupported-content-type").await;

    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.dropped.get(&DropReason::Undecodable)), (6, Some(&6)));
}

/// Posts a JPEG that does not say how large it is, `count` chunks of `size` bytes.
async fn in_chunks(server: &Server, count: usize, size: usize) -> String {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/pose HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/jpeg\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
    let request = format!("{head}{}0\r\n\r\n", chunk.repeat(count));
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(socket.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn body_beyond_the_limit_is_refused_in_every_form() {
    const LIMIT: usize = 10_000;
    let server = Server::with_worker(Config { max_image_bytes: LIMIT, ..Config::default() }).await;
    let large = vec![0xFF; LIMIT + 1];
    // Larger than the image in base64, and than what stands around it.
    let larger = vec![0xFF; 4 * LIMIT + (1 << 20)];
    for image in [large, larger] {
        let requests = [
            raw(&server, "image/jpeg", &image),
            raw(&server, "image/jpeg", &image).header("expect", "100-continue"),
            post(&server, "").multipart(Form::new().part("file", Part::bytes(image.clone()))),
            post(&server, "").json(&json!({ "image": BASE64_STANDARD.encode(&image) })),
        ];
        for request in requests {
            let detail = problem(send(request).await, 413, "too-large").await;
            assert!(detail.contains("bytes"), "{detail}");
        }
    }
    let answer = in_chunks(&server, 40, 1000).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(server.stop().await.accepted, 0);
}

/// The first line of the answer to the head of a request that waits for it before it sends a body of `size` bytes,
/// and the connection.
async fn expecting(server: &Server, size: usize) -> (String, BufReader<TcpStream>) {
    let mut socket = BufReader::new(TcpStream::connect(server.address).await.unwrap());
    let head = format!(
        "POST /v1/pose HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/jpeg\r\n\
         Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut line = String::new();
    soon(socket.read_line(&mut line)).await.unwrap();
    (line, socket)
}

#[tokio::test]
async fn who_waits_for_a_go_ahead_need_not_send_a_body_that_is_too_large() {
    let server = Server::with_worker(Config { max_image_bytes: 10_000, ..Config::default() }).await;
    let (line, mut socket) = expecting(&server, 10_001).await;
    assert!(line.starts_with("HTTP/1.1 413"), "{line}");
    let mut rest = String::new();
    soon(socket.read_to_string(&mut rest)).await.unwrap();
    assert!(rest.contains("urn:cloudpose:problem:too-large"), "{rest}");

    let (line, mut socket) = expecting(&server, JPEG.len()).await;
    assert!(line.starts_with("HTTP/1.1 100"), "{line}");
    socket.write_all(JPEG).await.unwrap();
    let mut answer = String::new();
    soon(socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.trim_start().starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn full_queue_is_told_at_once() {
    let bus = Bus::local(Capacity { still_frames: 1, ..Capacity::default() });
    let server = Server::with_bus(Config::default(), bus).await;
    let mut waiting = JoinSet::new();
    waiting.spawn(send(raw(&server, "image/jpeg", JPEG)));
    server.ledger(|l| l.accepted == 1).await;
    let lane = cloudpose_wire::Lane { stage: cloudpose_wire::Stage::Infer, kind: Kind::Still };
    while server.bus.depth(lane).await.frames == 0 {
        tokio::task::yield_now().await;
    }
    let response = send(raw(&server, "image/jpeg", JPEG)).await;
    assert_eq!(response.headers()["retry-after"], "1");
    problem(response, 503, "queue-full").await;
    server.work().await;
    assert_eq!(soon(waiting.join_next()).await.unwrap().unwrap().status(), 200);
    let ledger = server.stop().await;
    assert_eq!((ledger.delivered, ledger.dropped.get(&DropReason::QueueFull)), (1, Some(&1)));
}

#[tokio::test]
async fn missed_deadline_is_told() {
    let config = Config { still_deadline: Duration::from_millis(50), ..Config::default() };
    let server = Server::start(config).await;
    let response = send(raw(&server, "image/jpeg", JPEG)).await;
    problem(response, 504, "deadline-missed").await;
    assert_eq!(server.stop().await.dropped.get(&DropReason::BusLost), Some(&1));
}

#[tokio::test]
async fn workers_word_becomes_a_status() {
    let server = Server::start(Config::default()).await;
    for (reason, status, kind) in [
        (DropReason::Undecodable, 422, "undecodable-image"),
        (DropReason::Expired, 504, "deadline-missed"),
        (DropReason::InferFailed, 500, "processing-failed"),
        (DropReason::AnnotateFailed, 500, "processing-failed"),
        (DropReason::ShuttingDown, 503, "shutting-down"),
    ] {
        let mut client = JoinSet::new();
        client.spawn(send(raw(&server, "image/jpeg", JPEG)));
        let frame = server.frame().await;
        server.bus.reply(frame.frame.header.dropped(reason, "why")).await.unwrap();
        frame.ack().await;
        problem(soon(client.join_next()).await.unwrap().unwrap(), status, kind).await;
    }
}

#[tokio::test]
async fn still_survives_a_dying_worker() {
    let server = Server::start(Config::default()).await;
    let mut client = JoinSet::new();
    client.spawn(send(raw(&server, "image/jpeg", JPEG)));
    drop(server.frame().await);
    server.work().await;
    assert_eq!(soon(client.join_next()).await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn client_that_hangs_up_is_counted() {
    let server = Server::start(Config::default()).await;
    let mut client = JoinSet::new();
    client.spawn(send(raw(&server, "image/jpeg", JPEG)));
    let frame = server.frame().await;
    client.shutdown().await;
    let ledger = server.ledger(|l| l.accepted == 1 && l.in_flight() == 0).await;
    assert_eq!(ledger.dropped.get(&DropReason::ClientGone), Some(&1));
    server.bus.reply(crate::stage::done(&frame.frame.header)).await.unwrap();
}

#[tokio::test]
async fn still_in_flight_is_answered_though_the_gateway_stops() {
    let server = Server::start(Config::default()).await;
    let mut client = JoinSet::new();
    client.spawn(send(raw(&server, "image/jpeg", JPEG)));
    let frame = server.frame().await;
    server.token.cancel();
    crate::stage::finish(&server.bus, frame).await;
    assert_eq!(soon(client.join_next()).await.unwrap().unwrap().status(), 200);
    assert_eq!(server.stop().await.delivered, 1);
}
