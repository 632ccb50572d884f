//! Frames to send around, and a bus to send them on.

use bytes::Bytes;
use cloudpose_bus::{
    Bus, Capacity,
    nats::{self, Turn},
};
use cloudpose_wire::{
    Address, Draw, Event, Frame, FrameHeader, GatewayId, JobId, Kind, ModelId, News, Output, Prefix, Reply,
    Route, SessionId, SharedEvent, SkeletonName, StreamName, Tenant, View, Want,
    event::TimingsMs,
    watch::{Hosted, LiveStream, StreamState, WantedPicture, Watched},
};

use crate::NatsServer;

/// What is said of a frame of session `s` at gateway `g`.
pub fn header(kind: Kind, seq: u64) -> FrameHeader {
    FrameHeader {
        stream: StreamName::new("cam").unwrap(),
        seq,
        route: Route::to_client(kind, address("g")),
        received_at: 1,
        deadline_ms: 10_000,
        want: Want::Both,
        model: ModelId::new("thunder").unwrap(),
        quality: 81,
        min_score: 0.25,
        top: cloudpose_wire::frame::USUAL_TOP,
        smooth: true,
        prior: None,
        retries: 0,
        caller: Default::default(),
        draw: Default::default(),
        watched: Vec::new(),
        aside: false,
        trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()),
    }
}

/// A frame with poses if `seq` is even.
pub fn frame(kind: Kind, seq: u64) -> Frame {
    Frame {
        header: header(kind, seq),
        event: seq.is_multiple_of(2).then(|| pose(seq)),
        image: Bytes::from(vec![seq as u8; 3]).into(),
    }
}

/// Session `s` at a gateway.
pub fn address(gateway: &str) -> Address {
    Address { gateway: GatewayId::new(gateway).unwrap(), session: SessionId::new("s").unwrap() }
}

/// A still of a job.
pub fn frame_of_job(job: &str, seq: u64) -> Frame {
    let mut frame = frame(Kind::Still, seq);
    frame.header.route = Route::Still(Reply::Job { job: JobId::new(job).unwrap() });
    frame
}

/// What gateway `gateway` says of itself: it holds stream `cam`, and a client watches it.
pub fn news(gateway: &str) -> News {
    let stream = StreamName::new("cam").unwrap();
    let live = LiveStream {
        stream: stream.clone(),
        state: StreamState::Live,
        model: ModelId::new("thunder").unwrap(),
        width: 4,
        height: 3,
        since: 1,
        fps: 2.5,
        sessions: 1,
        watchers: 1,
    };
    let pictures = vec![WantedPicture { draw: Draw::Overlay, fps: Some(5.0) }];
    News {
        gateway: GatewayId::new(gateway).unwrap(),
        asks: true,
        streams: vec![Hosted { tenant: Tenant::default(), live }],
        watched: vec![Watched { tenant: Tenant::default(), stream, watchers: 1, events: true, pictures }],
        claims: Vec::new(),
    }
}

/// A frame as those who watch at other gateways see it, with a picture if `seq` is even.
pub fn view(seq: u64) -> View {
    View {
        gateway: GatewayId::new("g").unwrap(),
        seq,
        event: pose(seq),
        draw: Draw::Overlay,
        again: false,
        picture: seq.is_multiple_of(2).then(|| Bytes::from(vec![seq as u8; 3])),
    }
}

/// Nobody on a picture of 4 × 3 pixels.
pub fn pose(seq: u64) -> SharedEvent {
    let event = Event {
        stream: StreamName::new("cam").unwrap(),
        seq,
        captured_at: 5,
        width: 4,
        height: 3,
        model: ModelId::new("thunder").unwrap(),
        device: "cpu".into(),
        output: Output::Poses { skeleton: SkeletonName::default(), persons: vec![] },
        timings_ms: TimingsMs::default(),
    };
    event.into()
}

/// An event of a version that knows another task, written as we would not: who reads and writes it anew changes it.
pub const FOREIGN: &str =
    r#"{ "stream": "cam", "seq": 1, "width": 4, "height": 3, "boxes": [[1.50, 2e0]], "model": "later" }"#;

/// [`FOREIGN`] as it came. Nobody here can read it.
pub fn foreign() -> SharedEvent {
    serde_json::from_str(FOREIGN).unwrap()
}

/// `event` as somebody else would write it, with spaces.
pub fn spaced(event: &SharedEvent) -> SharedEvent {
    serde_json::from_str(&event.json().get().replace(',', ", ")).unwrap()
}

/// A bus as another process would have it, with the prefix `test`.
pub async fn bus(server: &NatsServer, capacity: Capacity) -> Bus {
    bus_in_turn(server, capacity, Turn::First).await
}

/// The same with workers that are served first or last.
pub async fn bus_in_turn(server: &NatsServer, capacity: Capacity, turn: Turn) -> Bus {
    let config =
        nats::Config { prefix: Prefix::new("test").unwrap(), turn, ..nats::Config::at(server.url()) };
    Bus::nats(&config, capacity).await.unwrap()
}
