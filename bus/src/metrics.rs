//! Every metric of the bus.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use cloudpose_wire::{Lane, Stage};
use metrics::{Gauge, Unit, counter, describe_counter, describe_gauge, gauge};

use crate::Depth;

const LOST: &str = "cloudpose_bus_lost_total";
const CONNECTED: &str = "cloudpose_bus_connected";
const CONNECTIONS: &str = "cloudpose_bus_connections_total";
const LANE_FRAMES: &str = "cloudpose_lane_frames";
const LANE_OLDEST: &str = "cloudpose_lane_oldest_seconds";
const SLOTS: &str = "cloudpose_worker_slots";
const BUSY: &str = "cloudpose_worker_busy";

/// Why the bus itself lost a message. The frame behind it is closed by its gateway's deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The client's buffer of a subscription was full: async-nats drops the newest message then.
    SlowConsumer,
    /// Not a message of ours, or of another version.
    Malformed,
    /// There was no connection to send it on.
    Disconnected,
}

impl Loss {
    const ALL: [Self; 3] = [Self::SlowConsumer, Self::Malformed, Self::Disconnected];

    const fn as_str(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::Malformed => "malformed",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Tells the installed recorder what each metric of the bus means, and starts at 0 what counts.
pub fn describe() {
    describe_counter!(LOST, "Messages that the bus lost, by reason.");
    describe_gauge!(CONNECTED, "1 while connected to NATS, 0 while not.");
    describe_counter!(CONNECTIONS, "Connections made to NATS; more than one means reconnections.");
    describe_gauge!(LANE_FRAMES, "Frames waiting, by lane; those in workers' hands not counted.");
    describe_gauge!(
        LANE_OLDEST,
        Unit::Seconds,
        "Age of the oldest frame that waits, by lane; 0 if none does."
    );
    describe_gauge!(SLOTS, "Frames that the workers of this process work on at once, by stage.");
    describe_gauge!(BUSY, "Frames in the hands of the workers of this process, by stage.");
    for loss in Loss::ALL {
        counter!(LOST, "reason" => loss.as_str()).increment(0);
    }
    counter!(CONNECTIONS).increment(0);
}

pub(crate) fn lost(loss: Loss) {
    counter!(LOST, "reason" => loss.as_str()).increment(1);
}

pub(crate) fn connected(yes: bool) {
    gauge!(CONNECTED).set(if yes { 1.0 } else { 0.0 });
    if yes {
        counter!(CONNECTIONS).increment(1);
    }
}

pub(crate) fn lane(lane: Lane, depth: Depth) {
    let labels = [("stage", lane.stage.as_str()), ("kind", lane.kind.as_str())];
    gauge!(LANE_FRAMES, &labels).set(depth.frames as f64);
    gauge!(LANE_OLDEST, &labels).set(depth.oldest.as_secs_f64());
}

/// A worker's slots; gone when dropped.
pub(crate) struct Slots {
    stage: Stage,
    slots: usize,
}

impl Slots {
    pub(crate) fn open(stage: Stage, slots: usize) -> Self {
        gauge!(SLOTS, "stage" => stage.as_str()).increment(slots as f64);
        gauge!(BUSY, "stage" => stage.as_str()).increment(0.0);
        Self { stage, slots }
    }

    /// One of them in use, until what it returns is dropped.
    pub(crate) fn take(&self) -> Busy {
        let gauge = gauge!(BUSY, "stage" => self.stage.as_str());
        gauge.increment(1.0);
        Busy(gauge)
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        gauge!(SLOTS, "stage" => self.stage.as_str()).decrement(self.slots as f64);
    }
}

/// A slot in use.
pub(crate) struct Busy(Gauge);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
