//! Every metric of the bus.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use metrics::{counter, describe_counter, describe_gauge, gauge};

const LOST: &str = "cloudpose_bus_lost_total";
const CONNECTED: &str = "cloudpose_bus_connected";
const CONNECTIONS: &str = "cloudpose_bus_connections_total";

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
    const fn as_str(self) -> &'static str {
        match self {
            Self::SlowConsumer => "slow_consumer",
            Self::Malformed => "malformed",
            Self::Disconnected => "disconnected",
        }
    }
}

/// Tells the installed recorder what each metric of the bus means.
pub fn describe() {
    describe_counter!(LOST, "Messages that the bus lost, by reason.");
    describe_gauge!(CONNECTED, "1 while connected to NATS, 0 while not.");
    describe_counter!(CONNECTIONS, "Connections made to NATS; more than one means reconnections.");
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
