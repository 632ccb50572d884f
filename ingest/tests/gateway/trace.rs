//! The client's trace goes with its frames, however they come in.

use cloudpose_ingest::Config;
use cloudpose_wire::TraceParent;
use reqwest::RequestBuilder;
use tokio::task::JoinSet;
use tokio_tungstenite::{connect_async, tungstenite::client::IntoClientRequest};

use crate::stage::{Client, JPEG, Server, finish, soon};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The trace that the worker sees of what `request` posts.
async fn seen(server: &Server, request: RequestBuilder) -> Option<TraceParent> {
    let mut client = JoinSet::new();
    client.spawn(request.send());
    let frame = server.frame().await;
    let trace = frame.frame.header.trace;
    finish(&server.bus, frame).await;
    assert_eq!(soon(client.join_next()).await.unwrap().unwrap().unwrap().status(), 200);
    trace
}

#[tokio::test]
async fn posted_images_belong_to_the_trace_of_their_request() {
    let server = Server::start(Config::default()).await;
    let image = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, JPEG);
    let existing = serde_json::json!({ "id": "1", "image": image });
    let post = |path| reqwest::Client::new().post(server.url(path));
    let raw = || post("/v1/pose").header("content-type", "image/jpeg").body(JPEG);
    for (request, expected) in [
        (raw().header("traceparent", TRACE), Some(TRACE)),
        (post("/api/pose_detection").json(&existing).header("traceparent", TRACE), Some(TRACE)),
        (raw(), None),
        (raw().header("traceparent", "00-nonsense"), None),
        (raw().header("traceparent", TRACE).header("traceparent", TRACE), None),
    ] {
        let expected = expected.map(|trace| trace.parse().unwrap());
        assert_eq!(seen(&server, request).await, expected);
    }
}

#[tokio::test]
async fn every_frame_of_a_session_belongs_to_the_trace_it_was_opened_in() {
    let server = Server::start(Config::default()).await;
    let mut request =
        format!("ws://{}/v1/stream?mode=complete", server.address).into_client_request().unwrap();
    request.headers_mut().insert("traceparent", TRACE.parse().unwrap());
    let mut client = Client(soon(connect_async(request)).await.unwrap().0);
    for _ in 0..2 {
        client.image(JPEG).await;
        let frame = server.frame().await;
        assert_eq!(frame.frame.header.trace, Some(TRACE.parse().unwrap()));
        finish(&server.bus, frame).await;
    }
}
