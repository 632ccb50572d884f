//! Services that lie, each in one way, on a free port.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{
        State, WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

/// In which way it lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lie {
    /// Not at all.
    None,
    /// One answer in ten carries another's id.
    WrongId,
    /// One answer in ten never comes.
    NoAnswer,
    /// Of each ten results two change places.
    OutOfOrder,
    /// One answer in twenty is an error 500; of streams, the fifth frame ends them.
    Errors,
    /// One answer in ten lacks what it should hold.
    Empty,
    /// One answer in ten comes twice.
    Twice,
    /// Honest, but reads nothing for a second after the fifth frame.
    Stalls,
    /// Who has not asked to be told of drops, as a slow reader has not, gets a megabyte per frame.
    Flood,
}

/// Answers until dropped.
pub(crate) struct Stub {
    address: SocketAddr,
    shared: Arc<Shared>,
    _server: JoinSet<()>,
}

struct Shared {
    lie: Lie,
    count: AtomicU64,
    /// Bytes that the flood got rid of.
    poured: AtomicU64,
    /// What was shown in `Authorization`, and with how many requests.
    shown: Mutex<BTreeMap<String, u64>>,
}

impl Shared {
    fn see(&self, headers: &HeaderMap) {
        let shown = headers.get(AUTHORIZATION).map_or("", |value| value.to_str().unwrap());
        *self.shown.lock().unwrap().entry(shown.to_owned()).or_default() += 1;
    }
}

impl Stub {
    pub(crate) async fn start(lie: Lie) -> Self {
        let shared = Arc::new(Shared {
            lie,
            count: AtomicU64::new(0),
            poured: AtomicU64::new(0),
            shown: Mutex::default(),
        });
        let router = Router::new()
            .route("/api/pose_detection", post(pose))
            .route("/api/pose_detection_annotation", post(annotation))
            .route("/v1/stream", get(stream))
            .route("/ready", get(|| async { "ready" }))
            .layer(axum::extract::DefaultBodyLimit::max(64 << 20))
            .with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, shared, _server: server }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn shown(&self) -> BTreeMap<String, u64> {
        self.shared.shown.lock().unwrap().clone()
    }

    pub(crate) fn poured(&self) -> u64 {
        self.shared.poured.load(Ordering::Relaxed)
    }
}

async fn pose(State(stub): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    stub.see(&headers);
    let person = vec![[0.5, 0.5, 0.9]; 17];
    answer(&stub, &body, |id| json!({"id": id, "count": 1, "boxes": [], "keypoints": [person]})).await
}

async fn annotation(State(stub): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    stub.see(&headers);
    answer(&stub, &body, |id| json!({"id": id, "image": "/9j/4AAQSkZJRg=="})).await
}

async fn answer(stub: &Shared, body: &[u8], good: impl FnOnce(&str) -> Value) -> Response {
    let request: Value = serde_json::from_slice(body).unwrap();
    let id = request["id"].as_str().unwrap();
    let n = stub.count.fetch_add(1, Ordering::Relaxed) + 1;
    match stub.lie {
        Lie::WrongId if n.is_multiple_of(10) => Json(good("another")).into_response(),
        Lie::NoAnswer if n.is_multiple_of(10) => std::future::pending().await,
        Lie::Errors if n.is_multiple_of(20) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        Lie::Empty if n.is_multiple_of(10) => Json(json!({"id": id})).into_response(),
        _ => Json(good(id)).into_response(),
    }
}

async fn stream(State(stub): State<Arc<Shared>>, headers: HeaderMap, upgrade: WebSocketUpgrade) -> Response {
    stub.see(&headers);
    upgrade.max_message_size(64 << 20).on_upgrade(async move |socket| talk(&stub, socket).await)
}

const HELLO: &str = r#"{"type":"hello","session":"s","stream":"cam","mode":"live","want":"pose","model":"multipose",
    "quality":85,"smooth":true,
    "limits":{"max_image_bytes":8388608,"max_image_pixels":16777216,"window":2,"max_age_ms":1000}}"#;

fn result(seq: u64, of: u64, padding: usize) -> Message {
    let pose = json!({
        "stream": "cam", "seq": of, "captured_at": 0, "width": 640, "height": 480, "model": "multipose",
        "device": "x".repeat(padding + 1), "persons": [],
        "timings_ms": {"queue": 0.0, "decode": 0.0, "preprocess": 0.0, "inference": 0.0, "postprocess": 0.0},
    });
    let result = json!({"type": "result", "seq": seq, "pose": pose, "latency_ms": 1.0, "overlay": false, "dropped": {}});
    Message::text(result.to_string())
}

async fn talk(stub: &Shared, mut socket: WebSocket) {
    if socket.send(Message::text(HELLO)).await.is_err() {
        return;
    }
    let mut seq = 0;
    let mut asked = false;
    while let Some(Ok(message)) = socket.recv().await {
        let messages = match message {
            Message::Binary(_) => {
                seq += 1;
                match (stub.lie, seq % 10) {
                    (Lie::WrongId, 0) => vec![result(seq, seq + 1, 0)],
                    (Lie::NoAnswer, 0) => vec![],
                    (Lie::OutOfOrder, 4) => vec![],
                    (Lie::OutOfOrder, 5) => vec![result(seq, seq, 0), result(seq - 1, seq - 1, 0)],
                    (Lie::Errors, 5) => {
                        vec![
                            Message::text(r#"{"type":"error","code":"unavailable","message":"no"}"#),
                            Message::Close(None),
                        ]
                    }
                    (Lie::Empty, 0) => vec![Message::text(r#"{"type":"result"}"#)],
                    (Lie::Twice, 0) => vec![result(seq, seq, 0), result(seq, seq, 0)],
                    (Lie::Stalls, 5) if seq == 5 => {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        vec![result(seq, seq, 0)]
                    }
                    (Lie::Flood, _) if !asked => vec![result(seq, seq, 1 << 20)],
                    _ => vec![result(seq, seq, 0)],
                }
            }
            Message::Text(text) if text.contains("\"end\"") => vec![Message::Close(None)],
            Message::Text(_) => {
                asked = true;
                vec![]
            }
            _ => vec![],
        };
        for message in messages {
            let size = match &message {
                Message::Text(text) if !asked => text.len(),
                _ => 0,
            };
            if socket.send(message).await.is_err() {
                return;
            }
            stub.poured.fetch_add(size as u64, Ordering::Relaxed);
        }
    }
}
