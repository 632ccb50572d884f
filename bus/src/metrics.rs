//! Every metric of the bus.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use cloudpose_wire::{Lane, Stage};
use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::{Depth, models::Slots};

const LOST: &str = "cloudpose_bus_lost_total";
const CONNECTED: &str = "cloudpose_bus_connected";
const CONNECTIONS: &str = "cloudpose_bus_connections_total";
const WAITING: &str = "cloudpose_lane_frames";
const IN_HAND: &str = "cloudpose_lane_in_hand_frames";
const OLDEST: &str = "cloudpose_lane_oldest_seconds";
const JOB_RESULTS: &str = "cloudpose_job_results";
const SLOTS: &str = "cloudpose_worker_slots";
const ANNOUNCED: &str = "cloudpose_announced_slots";
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

/// Tells the installed recorder what each metric of the bus means, and starts the counts that nothing has
/// happened to: a counter that is not there until it is 1 never rises.
pub fn describe() {
    describe_counter!(LOST, "Messages that the bus lost, by reason.");
    describe_gauge!(CONNECTED, "1 while connected to NATS, 0 while not.");
    describe_counter!(CONNECTIONS, "Connections made to NATS; more than one means reconnections.");
    describe_gauge!(WAITING, "Frames that wait for a worker, by stage and kind. All gateways say the same.");
    describe_gauge!(IN_HAND, "Frames in workers' hands, by stage and kind. All gateways say the same.");
    describe_gauge!(OLDEST, "Age of the oldest frame on a lane, by stage and kind; 0 if there is none.");
    describe_gauge!(JOB_RESULTS, "Results of jobs that nobody has acknowledged. All gateways say the same.");
    describe_gauge!(SLOTS, "Frames that this process works on at once, by stage.");
    describe_gauge!(
        ANNOUNCED,
        "Frames that the workers of infer work on at once, as they say, by turn. All gateways say the same."
    );
    describe_gauge!(BUSY, "Frames that this process works on now, by stage.");
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
    let gauge = |name| gauge!(name, "stage" => lane.stage.as_str(), "kind" => lane.kind.as_str());
    gauge(WAITING).set(depth.frames as f64);
    gauge(IN_HAND).set(depth.in_hand as f64);
    gauge(OLDEST).set(depth.oldest.as_secs_f64());
}

pub(crate) fn job_results(kept: usize) {
    gauge!(JOB_RESULTS).set(kept as f64);
}

pub(crate) fn slots(stage: Stage, slots: usize) {
    gauge!(SLOTS, "stage" => stage.as_str()).set(slots as f64);
}

pub(crate) fn announced(slots: Slots) {
    gauge!(ANNOUNCED, "turn" => "first").set(slots.first as f64);
    gauge!(ANNOUNCED, "turn" => "overflow").set(slots.overflow as f64);
}

pub(crate) fn busy(stage: Stage, busy: usize) {
    gauge!(BUSY, "stage" => stage.as_str()).set(busy as f64);
}
