//! Every metric of the infer role.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use cloudpose_wire::{ModelId, event::TimingsMs};
use metrics::{Unit, describe_gauge, describe_histogram, gauge, histogram};

const SECONDS: &str = "cloudpose_infer_seconds";
const BATCH: &str = "cloudpose_infer_batch_frames";
const MODEL: &str = "cloudpose_model_info";

/// Tells the installed recorder what each metric of the infer role means.
pub fn describe() {
    describe_histogram!(SECONDS, Unit::Seconds, "What one step on one frame took, by step and model.");
    describe_histogram!(BATCH, "Frames that went to the device together.");
    describe_gauge!(MODEL, "1 for a model that is ready; on which device, with which instructions.");
}

/// How long each step on one frame took.
pub(crate) fn timings(model: &ModelId, timings: &TimingsMs) {
    let steps = [
        ("queue", Some(timings.queue)),
        ("decode", Some(timings.decode)),
        ("preprocess", Some(timings.preprocess)),
        ("inference", Some(timings.inference)),
        ("refine", timings.refine),
        ("postprocess", Some(timings.postprocess)),
    ];
    for (step, ms) in steps.into_iter().filter_map(|(step, ms)| Some((step, ms?))) {
        histogram!(SECONDS, "step" => step, "model" => model.to_string()).record(f64::from(ms) / 1000.0);
    }
}

pub(crate) fn batch(frames: usize) {
    histogram!(BATCH).record(frames as f64);
}

pub(crate) fn model_ready(model: &ModelId, device: &str, isa: &str) {
    gauge!(MODEL, "model" => model.to_string(), "device" => device.to_owned(), "isa" => isa.to_owned())
        .set(1.0);
}
