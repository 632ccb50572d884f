//! A gateway on a free port, the workers' side of its bus, and clients.

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity, Delivery};
use cloudpose_ingest::{Books, Config, Error, Gateway, Ledger, Ops, Patience};
use cloudpose_wire::{
    DropReason, Event, FrameHeader, FrameResult, Keypoint, Output, Person, Skeleton, SkeletonName, Stage,
    event::{BoundingBox, TimingsMs},
    skeleton::KeypointKind,
    ws::{ErrorCode, ServerMessage},
};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};
use tokio_util::sync::CancellationToken;

/// 16×12 pixels.
pub(crate) const JPEG: &[u8] = include_bytes!("../images/small.jpg");
pub(crate) const PNG: &[u8] = include_bytes!("../images/small.png");
pub(crate) const WEBP: &[u8] = include_bytes!("../images/small.webp");

/// Far beyond what anything here takes: only a hang lasts longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Nobody is cut short by it.
const PATIENT: Patience = Patience { frames: PATIENCE, farewells: PATIENCE };

/// What stands for the answers to monitors.
pub(crate) fn ops() -> Ops {
    let routes =
        Router::new().route("/health", get(async || "alive")).route("/metrics", get(async || "counts"));
    Ops { routes, api: Default::default() }
}

pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("this must not hang")
}

/// A PNG whose header claims `width` × `height` pixels, and that has none.
pub(crate) fn claiming_png(width: u32, height: u32) -> Vec<u8> {
    let mut png = PNG.to_vec();
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    png
}

/// PNG specification, annex D.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) bus: Bus,
    pub(crate) token: CancellationToken,
    books: Books,
    gateway: JoinSet<Result<(), Error>>,
    worker: JoinSet<()>,
}

impl Server {
    /// A gateway whose frames nobody works on but the test.
    pub(crate) async fn start(config: Config) -> Self {
        Self::with_bus(config, Bus::local(Capacity::default())).await
    }

    /// A gateway with a worker that finds one person in every image at once.
    pub(crate) async fn with_worker(config: Config) -> Self {
        let mut server = Self::start(config).await;
        let bus = server.bus.clone();
        server.worker.spawn(async move {
            loop {
                for delivery in bus.pull(Stage::Infer, 4).await {
                    finish(&bus, delivery).await;
                }
            }
        });
        server
    }

    pub(crate) async fn with_bus(config: Config, bus: Bus) -> Self {
        let books = Books::default();
        let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..config };
        let gateway = Gateway::bind(config, bus.clone(), books.clone(), ops()).await.unwrap();
        let address = gateway.local_addr().unwrap();
        let token = CancellationToken::new();
        let mut running = JoinSet::new();
        running.spawn(gateway.run(token.clone(), PATIENT));
        Self { address, bus, token, books, gateway: running, worker: JoinSet::new() }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The next frame that the gateway put on the bus.
    pub(crate) async fn frame(&self) -> Delivery {
        soon(self.bus.pull(Stage::Infer, 1)).await.remove(0)
    }

    /// Works on the next frame.
    pub(crate) async fn work(&self) -> u64 {
        let delivery = self.frame().await;
        let seq = delivery.frame.header.seq;
        finish(&self.bus, delivery).await;
        seq
    }

    /// Waits until the ledger is as `expected`, and returns it.
    pub(crate) async fn ledger(&self, expected: impl Fn(&Ledger) -> bool) -> Ledger {
        soon(async {
            loop {
                let ledger = self.books.total();
                if expected(&ledger) {
                    return ledger;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await
    }

    /// Ends the gateway as it is, in the middle of what it does.
    pub(crate) async fn kill(&mut self) {
        self.gateway.shutdown().await;
    }

    /// Stops the gateway and checks that it stopped well and that the ledger closed.
    pub(crate) async fn stop(mut self) -> Ledger {
        self.token.cancel();
        soon(self.gateway.join_next()).await.unwrap().unwrap().unwrap();
        let ledger = self.books.total();
        assert_eq!(ledger.in_flight(), 0, "{ledger:?}");
        ledger
    }
}

/// Answers `delivery` as a good worker does: a JPEG that breaks off is undecodable, else see [`event`].
pub(crate) async fn finish(bus: &Bus, delivery: Delivery) {
    let frame = &delivery.frame;
    let image = frame.image.encode().unwrap();
    let broken = image.starts_with(&[0xFF, 0xD8]) && !image.ends_with(&[0xFF, 0xD9]);
    let result = if broken {
        frame.header.dropped(DropReason::Undecodable, "the image is cut off")
    } else {
        done(&frame.header)
    };
    bus.reply(result).await.unwrap();
    delivery.ack().await;
}

pub(crate) fn done(header: &FrameHeader) -> FrameResult {
    let overlay = header.want.overlay().then(|| overlay(header.seq));
    header.done(event(header).into(), overlay)
}

/// What stands for the annotated picture of frame `seq`.
pub(crate) fn overlay(seq: u64) -> Bytes {
    Bytes::from(format!("\u{ff}\u{d8} picture {seq}"))
}

/// One person: keypoint i at (i, 2i) of 16×12 pixels.
pub(crate) fn event(header: &FrameHeader) -> Event {
    let keypoint = |(i, kind): (usize, &KeypointKind)| Keypoint {
        name: kind.name.clone(),
        x: i as f32,
        y: 2.0 * i as f32,
        score: 0.5,
    };
    let person = Person {
        track_id: None,
        score: 0.75,
        bounding_box: BoundingBox { x: 1.0, y: 2.0, width: 3.5, height: 4.0 },
        keypoints: Skeleton::coco_17().keypoints().iter().enumerate().map(keypoint).collect(),
        coarse: false,
    };
    Event {
        stream: header.stream.clone(),
        seq: header.seq,
        captured_at: header.received_at,
        width: 16,
        height: 12,
        model: header.model.clone(),
        device: "stub".into(),
        output: Output::Poses { skeleton: SkeletonName::default(), persons: vec![person] },
        timings_ms: TimingsMs {
            queue: 1.0,
            decode: 2.0,
            preprocess: 0.5,
            inference: 10.0,
            postprocess: 0.25,
            refine: None,
        },
    }
}

#[derive(Debug, PartialEq)]
pub(crate) enum Heard {
    Message(ServerMessage),
    Overlay(Bytes),
    Closed(u16),
    /// The connection went away without a close.
    Lost,
}

pub(crate) struct Client<S = MaybeTlsStream<TcpStream>>(pub(crate) WebSocketStream<S>);

impl Client {
    pub(crate) async fn connect(server: &Server, query: &str) -> Self {
        let url = format!("ws://{}/v1/stream{query}", server.address);
        Self(soon(connect_async(url)).await.unwrap().0)
    }

    /// Connects, and reads the `hello`.
    pub(crate) async fn greeted(server: &Server, query: &str) -> Self {
        let mut client = Self::connect(server, query).await;
        let first = client.next().await;
        assert!(matches!(first, Heard::Message(ServerMessage::Hello { .. })), "{first:?}");
        client
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) async fn image(&mut self, image: impl Into<Bytes>) {
        soon(self.0.send(Message::Binary(image.into()))).await.unwrap();
    }

    pub(crate) async fn text(&mut self, text: &str) {
        soon(self.0.send(Message::text(text))).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Heard {
        soon(async {
            loop {
                match self.0.next().await {
                    Some(Ok(Message::Text(text))) => {
                        return Heard::Message(serde_json::from_str(&text).unwrap());
                    }
                    Some(Ok(Message::Binary(bytes))) => return Heard::Overlay(bytes),
                    Some(Ok(Message::Close(frame))) => {
                        return Heard::Closed(frame.map_or(1005, |frame| frame.code.into()));
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Heard::Lost,
                }
            }
        })
        .await
    }

    /// The `seq` of the next `result`, which must be the next message, and must have an overlay or not.
    pub(crate) async fn result(&mut self, with_overlay: bool) -> u64 {
        match self.next().await {
            Heard::Message(ServerMessage::Result { seq, overlay: has, .. }) if has == with_overlay => {
                if with_overlay {
                    assert_eq!(self.next().await, Heard::Overlay(overlay(seq)));
                }
                seq
            }
            other => panic!("expected a result, got {other:?}"),
        }
    }

    /// The next message, which must be an `error` with this code. Returns its words.
    pub(crate) async fn error(&mut self, expected: ErrorCode) -> String {
        match self.next().await {
            Heard::Message(ServerMessage::Error { code, message }) if code == expected => message,
            other => panic!("expected {expected:?}, got {other:?}"),
        }
    }

    pub(crate) async fn dropped(&mut self) -> (u64, DropReason) {
        match self.next().await {
            Heard::Message(ServerMessage::Drop { seq, reason, .. }) => (seq, reason),
            other => panic!("expected a drop, got {other:?}"),
        }
    }
}
