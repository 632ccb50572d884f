//! Every metric of the annotate role.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use std::time::Duration;

use metrics::{Unit, describe_histogram, histogram};

const SECONDS: &str = "cloudpose_annotate_seconds";

/// Tells the installed recorder what each metric of the annotate role means.
pub fn describe() {
    describe_histogram!(SECONDS, Unit::Seconds, "How long one step on one frame took, by step.");
}

pub(crate) fn step(step: &'static str, took: Duration) {
    histogram!(SECONDS, "step" => step).record(took.as_secs_f64());
}
