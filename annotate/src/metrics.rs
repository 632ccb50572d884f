//! Every metric of the annotate role.
#![expect(clippy::disallowed_macros, reason = "this is the module that the ban points to")]

use std::time::Duration;

/// `cloudpose_annotate_seconds{step}`: how long one step on one frame took.
pub(crate) fn step(step: &'static str, took: Duration) {
    metrics::histogram!("cloudpose_annotate_seconds", "step" => step).record(took.as_secs_f64());
}
