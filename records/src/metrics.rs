//! Every metric of the record role.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

const EVENTS: &str = "cloudpose_record_events_total";
const FAILURES: &str = "cloudpose_record_failures_total";
const PENDING: &str = "cloudpose_record_pending_events";
const LAG: &str = "cloudpose_record_lag_seconds";
const BATCH: &str = "cloudpose_record_batch_seconds";

/// How an event ends here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The place has it now.
    Stored,
    /// The place had it already.
    Known,
    /// The broker discarded it before it could be recorded: too many waited.
    Lost,
    /// The place takes no such event.
    Refused,
}

impl End {
    const ALL: [Self; 4] = [Self::Stored, Self::Known, Self::Lost, Self::Refused];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Known => "known",
            Self::Lost => "lost",
            Self::Refused => "refused",
        }
    }
}

/// Tells the installed recorder what each metric of the record role means, and starts the counts at 0.
pub fn describe() {
    describe_counter!(EVENTS, "Events to record, by how they ended.");
    describe_counter!(FAILURES, "Times that the place did not take a batch; it is offered again.");
    describe_gauge!(PENDING, "Events that wait to be recorded.");
    describe_gauge!(LAG, Unit::Seconds, "Age of the newest event of the last batch when it was recorded.");
    describe_histogram!(BATCH, Unit::Seconds, "How long the place took for a batch.");
    for end in End::ALL {
        counter!(EVENTS, "end" => end.as_str()).increment(0);
    }
    counter!(FAILURES).increment(0);
}

pub(crate) fn ended(end: End, events: u64) {
    counter!(EVENTS, "end" => end.as_str()).increment(events);
}

pub(crate) fn failed() {
    counter!(FAILURES).increment(1);
}

pub(crate) fn pending(events: u64) {
    gauge!(PENDING).set(events as f64);
}

pub(crate) fn batch(took: Duration, lag: Duration) {
    histogram!(BATCH).record(took.as_secs_f64());
    gauge!(LAG).set(lag.as_secs_f64());
}
