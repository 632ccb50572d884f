//! Spans of a frame's way through three processes, as a collector gets them.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::collections::BTreeMap;

use axum::{Router, body::Bytes, extract::State, routing::post};
use cloudpose_testing::{NatsServer, golden::photo, soon};
use futures_util::{SinkExt as _, StreamExt as _};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value, trace::v1::Span,
};
use prost::Message as _;
use reqwest::StatusCode;
use server::Server;
use tokio::sync::mpsc;
use tokio_tungstenite::{connect_async, tungstenite::Message};

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A collector: its address, and the spans that it is sent, each with its service's name.
async fn collector() -> (String, mpsc::UnboundedReceiver<(String, Span)>) {
    let (sender, spans) = mpsc::unbounded_channel();
    let take = async |State(sender): State<mpsc::UnboundedSender<(String, Span)>>, body: Bytes| {
        for of_service in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
            let attributes = of_service.resource.unwrap().attributes;
            let name = attributes.into_iter().find(|attribute| attribute.key == "service.name").unwrap();
            let Some(Value::StringValue(service)) = name.value.unwrap().value else { panic!("no name") };
            for span in of_service.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                sender.send((service.clone(), span)).unwrap();
            }
        }
    };
    let router = Router::new().route("/v1/traces", post(take)).with_state(sender);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    #[expect(clippy::disallowed_methods, reason = "it ends with the test")]
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (address, spans)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frames_spans_belong_to_its_clients_trace_in_every_process() {
    let nats = NatsServer::start();
    let (address, mut spans) = collector().await;
    // The gateway decides, and the others go by it.
    let traced = ["--otlp-endpoint", &address, "--trace-share", "0"];
    let decides = ["--otlp-endpoint", &address, "--trace-share", "1", "--still-deadline", "1m"];
    let mut gateway = Server::ingest(&nats.url(), &decides);
    let mut infer = Server::worker_with("infer", &nats.url(), &traced);
    let mut annotate = Server::worker_with("annotate", &nats.url(), &traced);
    // That the client does not want to be traced says nothing either.
    ask(&gateway, &format!("00-{TRACE_ID}-{CALLER}-00")).await;

    let mut by_service = BTreeMap::new();
    while by_service.len() < 3 {
        let (service, span) = soon(spans.recv()).await.unwrap();
        assert_eq!(hex(&span.trace_id), TRACE_ID, "{span:?}");
        assert!(by_service.insert(service, span).is_none(), "one span for each stage");
    }
    // What is left is sent at the end.
    for process in [&mut gateway, &mut infer, &mut annotate] {
        process.terminate();
        assert_eq!(process.exit_code(), Some(0));
    }
    assert!(spans.try_recv().is_err(), "nothing else is traced");
    let names: Vec<_> =
        by_service.iter().map(|(service, span)| (service.as_str(), span.name.as_str())).collect();
    assert_eq!(
        names,
        [("cloudpose-annotate", "annotate"), ("cloudpose-infer", "infer"), ("cloudpose-ingest", "frame"),]
    );
    let frame = &by_service["cloudpose-ingest"];
    assert_eq!(hex(&frame.parent_span_id), CALLER);
    let outcome = frame.attributes.iter().find(|attribute| attribute.key == "outcome").unwrap();
    let outcome = outcome.value.clone().unwrap().value;
    assert_eq!(outcome, Some(Value::StringValue("delivered".into())));
    for service in ["cloudpose-infer", "cloudpose-annotate"] {
        let stage = &by_service[service];
        assert_eq!(stage.parent_span_id, frame.span_id, "{service}");
        assert!(frame.start_time_unix_nano <= stage.start_time_unix_nano, "{service}");
    }
}

/// Has a photo drawn on, within a trace.
async fn ask(server: &Server, trace: &str) {
    let request = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    let request = request.header("accept", "image/jpeg").header("traceparent", trace).body(photo());
    assert_eq!(soon(request.send()).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_traced_is_not_for_clients_to_say() {
    let (address, mut spans) = collector().await;
    let mut server = Server::start(&["--otlp-endpoint", &address, "--trace-share", "0"]);
    // Sampled, and with the id that any share above nothing would take.
    ask(&server, &format!("00-{TRACE_ID}-{CALLER}-01")).await;
    ask(&server, &format!("00-00000000000000000000000000000001-{CALLER}-01")).await;
    let (mut socket, _) = soon(connect_async(server.websocket("/v1/stream?stream=cam"))).await.unwrap();
    socket.send(Message::binary(photo())).await.unwrap();
    socket.send(Message::text(r#"{"type":"end"}"#)).await.unwrap();
    while let Some(Ok(_)) = soon(socket.next()).await {}
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
    assert!(spans.try_recv().is_err(), "nothing is traced");
}

#[tokio::test]
async fn log_lines_about_a_frame_name_its_trace() {
    let mut server = Server::start(&["--log", "cloudpose=debug", "--log-format", "json"]);
    let request = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    let request = request.header("traceparent", format!("00-{TRACE_ID}-{CALLER}-01"));
    // It breaks off, which the worker finds out.
    let half = photo()[..20_000].to_vec();
    assert_eq!(soon(request.body(half).send()).await.unwrap().status(), StatusCode::UNPROCESSABLE_ENTITY);
    server.terminate();
    assert_eq!(server.exit_code(), Some(0));
    let lines = server.log();
    let about = lines.iter().find(|line| line.contains("cannot be worked on")).expect("the worker says so");
    let line: serde_json::Value = serde_json::from_str(about).unwrap();
    assert_eq!(line["span"]["trace_id"], TRACE_ID, "{about}");
    assert_eq!(line["span"]["stage"], "infer", "{about}");
}
