//! The roles at work over a model folder, and clients.

use std::{net::SocketAddr, num::NonZeroUsize, time::Duration};

use axum::Router;
use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity};
use cloudpose_infer::{Pipeline, Worker};
use cloudpose_ingest::{Books, Config, Gateway, Ops, Patience};
use cloudpose_testing::soon;
use cloudpose_wire::{
    Event,
    ws::{ErrorCode, ServerMessage},
};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use tokio_util::sync::CancellationToken;

use crate::folder::Folder;

/// Far beyond what anything here takes: only a hang lasts longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Gateway, worker and annotator. They stop when it is dropped.
pub(crate) struct House {
    address: SocketAddr,
    _running: JoinSet<()>,
    folder: Folder,
}

impl House {
    /// All in one, with `model` for those who name none.
    pub(crate) async fn start(model: &str) -> Self {
        let bus = Bus::local(Capacity::default());
        Self::apart(model, [bus.clone(), bus.clone(), bus]).await
    }

    /// Each role on a bus of its own.
    pub(crate) async fn apart(model: &str, [ingest, infer, annotate]: [Bus; 3]) -> Self {
        let folder = Folder::new();
        let models = folder.models().unwrap();
        let pipeline = |_| Pipeline::on_cpu(models.clone(), NonZeroUsize::MIN).unwrap();
        let worker = Worker::with_pipelines(models.clone(), (0..2).map(pipeline).collect());
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            model: Some(model.parse().unwrap()),
            ..Config::default()
        };
        let ops = Ops { routes: Router::new(), api: Default::default() };
        let gateway = Gateway::bind(config, ingest, Books::default(), ops).await.unwrap();
        let address = gateway.local_addr().unwrap();
        let style = cloudpose_annotate::Style { hide_ids: true, ..Default::default() };
        let drawing = cloudpose_annotate::Config { threads: Some(NonZeroUsize::MIN), style };
        let mut running = JoinSet::new();
        let never = CancellationToken::new;
        let patience = Patience { frames: PATIENCE, farewells: PATIENCE };
        running.spawn(async move { gateway.run(never(), patience).await.unwrap() });
        running.spawn(async move { worker.run(infer, never()).await.unwrap() });
        running.spawn(async move { cloudpose_annotate::run(drawing, annotate, never()).await.unwrap() });
        let house = Self { address, _running: running, folder };
        // The worker says what it serves, and the gateway hears it.
        soon(async {
            while house.models().await["models"] == Value::Array(Vec::new()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        house
    }

    /// What the worker serves.
    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// What `GET /v1/models` answers.
    pub(crate) async fn models(&self) -> Value {
        soon(reqwest::get(self.url("/v1/models"))).await.unwrap().json().await.unwrap()
    }

    pub(crate) async fn post(&self, query: &str, accept: &str, image: Bytes) -> reqwest::Response {
        let request = reqwest::Client::new().post(self.url(&format!("/v1/pose{query}")));
        let request = request.header("content-type", "image/jpeg").header("accept", accept);
        soon(request.body(image).send()).await.unwrap()
    }

    /// What is found in an image.
    pub(crate) async fn event(&self, query: &str, image: Bytes) -> Event {
        let answer = self.post(query, "application/json", image).await;
        assert_eq!(answer.status(), 200, "{query}");
        soon(answer.json()).await.unwrap()
    }

    /// The picture with what was found in it.
    pub(crate) async fn picture(&self, query: &str, image: Bytes) -> Bytes {
        let answer = self.post(query, "image/jpeg", image).await;
        assert_eq!(
            (answer.status().as_u16(), &answer.headers()["content-type"]),
            (200, &"image/jpeg".parse().unwrap())
        );
        soon(answer.bytes()).await.unwrap()
    }
}

/// A session of `/v1/stream`.
pub(crate) struct Session(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Session {
    pub(crate) async fn open(house: &House, query: &str) -> Self {
        let url = format!("ws://{}/v1/stream?{query}", house.address);
        Self(soon(connect_async(url)).await.unwrap().0)
    }

    pub(crate) async fn text(&mut self, text: &str) {
        soon(self.0.send(Message::text(text))).await.unwrap();
    }

    pub(crate) async fn image(&mut self, image: Bytes) {
        soon(self.0.send(Message::Binary(image))).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        loop {
            match soon(self.0.next()).await.expect("the session goes on").unwrap() {
                Message::Ping(_) | Message::Pong(_) => {}
                message => return message,
            }
        }
    }

    async fn message(&mut self) -> ServerMessage {
        match self.next().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("expected text, got {other:?}"),
        }
    }

    /// The next result, and its picture if it has one.
    pub(crate) async fn result(&mut self) -> (Option<Event>, Option<Bytes>) {
        loop {
            match self.message().await {
                ServerMessage::Hello { .. } => {}
                ServerMessage::Result { event, overlay, .. } => {
                    let event = event.map(|event| event.event().unwrap().clone());
                    let Message::Binary(picture) =
                        (if overlay { self.next().await } else { return (event, None) })
                    else {
                        panic!("expected the picture")
                    };
                    return (event, Some(picture));
                }
                other => panic!("expected a result, got {other:?}"),
            }
        }
    }

    /// The next error's words.
    pub(crate) async fn error(&mut self, expected: ErrorCode) -> String {
        loop {
            match self.message().await {
                ServerMessage::Hello { .. } => {}
                ServerMessage::Error { code, message } if code == expected => return message,
                other => panic!("expected {expected:?}, got {other:?}"),
            }
        }
    }
}
