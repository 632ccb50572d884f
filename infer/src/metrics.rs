//! Every metric of the infer role.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use cloudpose_wire::{ModelName, pose::TimingsMs};
use metrics::{Unit, describe_histogram, histogram};

const SECONDS: &str = "cloudpose_infer_seconds";
const BATCH: &str = "cloudpose_infer_batch_frames";

/// Tells the installed recorder what each metric of the infer role means.
pub fn describe() {
    describe_histogram!(SECONDS, Unit::Seconds, "How long one step on one frame took, by step and model.");
    describe_histogram!(BATCH, "Frames that went to the device together.");
}

pub(crate) fn timings(model: ModelName, timings: &TimingsMs) {
    let steps = [
        ("queue", timings.queue),
        ("decode", timings.decode),
        ("preprocess", timings.preprocess),
        ("inference", timings.inference),
        ("postprocess", timings.postprocess),
    ];
    for (step, ms) in steps {
        histogram!(SECONDS, "step" => step, "model" => model.as_str()).record(f64::from(ms) / 1000.0);
    }
}

pub(crate) fn batch(frames: usize) {
    histogram!(BATCH).record(frames as f64);
}
