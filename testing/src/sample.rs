//! Frames to send around, and a bus to send them on.

use bytes::Bytes;
use cloudpose_bus::{
    Bus, Capacity,
    nats::{self, Turn},
};
use cloudpose_wire::{
    Event, Frame, FrameHeader, GatewayId, JobId, Kind, ModelId, Output, Prefix, Reply, SessionId,
    SharedEvent, SkeletonName, StreamName, Want, event::TimingsMs,
};

use crate::NatsServer;

/// A frame with poses if `seq` is even.
pub fn frame(kind: Kind, seq: u64) -> Frame {
    Frame {
        header: FrameHeader {
            stream: StreamName::new("cam").unwrap(),
            seq,
            kind,
            reply: reply_to("g"),
            received_at: 1,
            deadline_ms: 10_000,
            want: Want::Both,
            model: ModelId::new("thunder").unwrap(),
            quality: 81,
            min_score: 0.25,
            smooth: true,
            prior: None,
            retries: 0,
            caller: Default::default(),
            trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()),
        },
        event: seq.is_multiple_of(2).then(|| pose(seq)),
        image: Bytes::from(vec![seq as u8; 3]).into(),
    }
}

/// Session `s` at a gateway.
pub fn reply_to(gateway: &str) -> Reply {
    Reply::Session { gateway: GatewayId::new(gateway).unwrap(), session: SessionId::new("s").unwrap() }
}

/// A still of a job.
pub fn frame_of_job(job: &str, seq: u64) -> Frame {
    let mut frame = frame(Kind::Still, seq);
    frame.header.reply = Reply::Job { job: JobId::new(job).unwrap() };
    frame
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

/// A bus as another process would have it, with the prefix `test`.
pub async fn bus(server: &NatsServer, limits: Capacity) -> Bus {
    bus_in_turn(server, limits, Turn::First).await
}

/// The same with workers that are served first or last.
pub async fn bus_in_turn(server: &NatsServer, limits: Capacity, turn: Turn) -> Bus {
    let config = nats::Config {
        servers: vec![server.url()],
        prefix: Prefix::new("test").unwrap(),
        turn,
        ..nats::Config::default()
    };
    Bus::nats(&config, limits).await.unwrap()
}
