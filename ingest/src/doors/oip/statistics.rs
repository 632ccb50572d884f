//! What is told of the work of this door: how many requests and images, and where their time went.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use cloudpose_wire::{ModelId, SharedEvent, event::TimingsMs};
use serde_json::{Value, json};

use super::models::VERSION;

/// Models that are remembered: more than any worker serves.
const MOST_MODELS: usize = 256;

/// Counts of each model, since the gateway began.
#[derive(Debug, Default)]
pub(crate) struct Statistics(Mutex<BTreeMap<ModelId, Counts>>);

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    /// Milliseconds since 1970.
    last: u64,
    images: u64,
    success: Sum,
    fail: Sum,
    queue: Sum,
    input: Sum,
    infer: Sum,
    output: Sum,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    count: u64,
    ns: u64,
}

impl Sum {
    fn add(&mut self, ns: u64) {
        self.count += 1;
        self.ns = self.ns.saturating_add(ns);
    }

    fn json(self) -> Value {
        json!({ "count": self.count, "ns": self.ns })
    }
}

impl Counts {
    fn json(&self, model: &ModelId) -> Value {
        let Self { last, images, success, fail, queue, input, infer, output } = *self;
        json!({
            "name": model,
            "version": VERSION,
            "last_inference": last,
            "inference_count": images,
            "execution_count": images,
            "inference_stats": {
                "success": success.json(),
                "fail": fail.json(),
                "queue": queue.json(),
                "compute_input": input.json(),
                "compute_infer": infer.json(),
                "compute_output": output.json(),
                // Nothing is cached; clients read them all the same.
                "cache_hit": Sum::default().json(),
                "cache_miss": Sum::default().json(),
            },
            "batch_stats": [],
        })
    }
}

/// How many of the `took` nanoseconds of a request its images waited, were read, were looked at and were made an answer of.
/// Images are worked on beside one another: where theirs are more than the request took, they are scaled down to that.
fn parts(images: &[TimingsMs], took: u64) -> [u64; 4] {
    let mut sums = [0.0; 4];
    for image in images {
        let TimingsMs { queue, decode, preprocess, inference, refine, postprocess } = *image;
        let of_image = [queue, decode + preprocess, inference + refine.unwrap_or_default(), postprocess];
        sums.iter_mut().zip(of_image).for_each(|(sum, ms)| *sum += f64::from(ms) * 1e6);
    }
    let all: f64 = sums.iter().sum();
    let scale = if all > took as f64 { took as f64 / all } else { 1.0 };
    sums.map(|sum| (sum * scale) as u64)
}

impl Statistics {
    /// A request to `model` took `took` from its arrival; what was found in each image, if it did not fail.
    pub(super) fn record(&self, model: &ModelId, took: Duration, found: Option<&[SharedEvent]>) {
        let mut all = self.all();
        if all.len() >= MOST_MODELS && !all.contains_key(model) {
            all.pop_first();
        }
        let counts = all.entry(model.clone()).or_default();
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let Some(found) = found else {
            counts.fail.add(took);
            return;
        };
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        counts.last = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        counts.success.add(took);
        counts.images += found.len() as u64;
        let timings: Vec<TimingsMs> =
            found.iter().filter_map(|event| event.event().ok()).map(|event| event.timings_ms).collect();
        let [queue, input, infer, output] = parts(&timings, took);
        counts.queue.add(queue);
        counts.input.add(input);
        counts.infer.add(infer);
        counts.output.add(output);
    }

    /// As Triton's clients read it.
    pub(super) fn of<'a>(&self, models: impl Iterator<Item = &'a ModelId>) -> Value {
        let all = self.all();
        let of = |model: &ModelId| all.get(model).copied().unwrap_or_default().json(model);
        json!({ "model_stats": models.map(of).collect::<Vec<_>>() })
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<ModelId, Counts>> {
        // Sums, of which a panic leaves at most one image half counted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_images_beside_one_another_are_no_more_than_their_request() {
        let image = TimingsMs {
            queue: 1.0,
            decode: 2.0,
            preprocess: 1.0,
            inference: 4.0,
            refine: Some(1.0),
            postprocess: 1.0,
        };
        assert_eq!(parts(&[image; 2], 30_000_000), [2_000_000, 6_000_000, 10_000_000, 2_000_000]);
        assert_eq!(parts(&[image; 2], 10_000_000), [1_000_000, 3_000_000, 5_000_000, 1_000_000]);
        assert_eq!(parts(&[], 5), [0; 4]);
    }
}
