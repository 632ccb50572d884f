//! Every metric of the infer role.
#![expect(clippy::disallowed_macros, reason = "this is the module that the ban points to")]

use cloudpose_wire::{ModelName, pose::TimingsMs};

/// `cloudpose_infer_seconds{step, model}`: how long one step on one frame took.
pub(crate) fn timings(model: ModelName, timings: &TimingsMs) {
    let steps = [
        ("queue", timings.queue),
        ("decode", timings.decode),
        ("preprocess", timings.preprocess),
        ("inference", timings.inference),
        ("postprocess", timings.postprocess),
    ];
    for (step, ms) in steps {
        metrics::histogram!("cloudpose_infer_seconds", "step" => step, "model" => model.as_str())
            .record(f64::from(ms) / 1000.0);
    }
}

/// `cloudpose_infer_batch_frames`: frames that went to the device together.
pub(crate) fn batch(frames: usize) {
    metrics::histogram!("cloudpose_infer_batch_frames").record(frames as f64);
}
