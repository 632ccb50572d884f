//! Users who stream video over `GET /v1/stream`. Each is one task that sends and reads at the same time, and
//! holds one frame at most: what the service does not take waits on the camera's schedule, not in memory.

mod camera;
mod connection;
mod extras;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::{
    config::{StreamOptions, Target},
    key::Key,
    range::Range,
    record::CallName,
    schedule::Ramp,
    stage::Stage,
};

/// What the tables call a frame.
pub(crate) const CALLS: [CallName; 1] = [CallName { method: "WS", path: "/v1/stream" }];

/// What every stream has.
#[derive(Debug)]
pub(crate) struct Streams {
    /// With the query.
    pub(crate) url: String,
    pub(crate) pictures: Vec<Bytes>,
    pub(crate) options: StreamOptions,
    /// Of which each user shows one.
    pub(crate) keys: Vec<Key>,
    /// For connecting, and after the end for what is still on its way.
    pub(crate) timeout: Duration,
}

impl Streams {
    /// `url`: `http://…` without a path.
    pub(crate) fn new(url: &str, pictures: Vec<Bytes>, options: StreamOptions, target: &Target) -> Self {
        let word = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let (want, mode) = (serde_json::json!(options.want), serde_json::json!(options.mode));
        let mut query = format!("want={}&mode={}", word(want), word(mode));
        if let Some(model) = &options.model {
            query += &format!("&model={model}");
        }
        if let Some(age) = options.max_age {
            query += &format!("&max_age_ms={}", age.as_millis());
        }
        let url = format!("ws{}/v1/stream?{query}", url.trim_end_matches('/').trim_start_matches("http"));
        Self { url, pictures, options, keys: target.keys.clone(), timeout: target.timeout }
    }
}

/// Runs streams until the window ends and what was sent is answered, or not in time.
pub(crate) async fn run(streams: Arc<Streams>, stage: Arc<Stage>, ramp: Ramp) {
    let mut users = JoinSet::new();
    let Range { from: least, to: most } = streams.options.fps;
    for index in 0..ramp.users.to {
        let (streams, stage) = (Arc::clone(&streams), Arc::clone(&stage));
        users.spawn(async move {
            let mut random = stage.random(u64::from(index));
            let fps = least + (most - least) * random.f64();
            let begin = ramp.begin(index);
            if begin >= stage.recorder.window().until {
                return;
            }
            stage.sleep_until(begin).await;
            stage.recorder.joined();
            camera::run((&streams, index), &stage, fps.max(0.01), random).await;
            stage.recorder.left();
        });
    }
    for index in 0..streams.options.idle {
        let (streams, stage) = (Arc::clone(&streams), Arc::clone(&stage));
        users.spawn(async move {
            stage.recorder.joined();
            extras::idle((&streams, index), &stage).await;
            stage.recorder.left();
        });
    }
    for index in 0..streams.options.slow_readers {
        let (streams, stage) = (Arc::clone(&streams), Arc::clone(&stage));
        users.spawn(async move {
            stage.recorder.joined();
            extras::slow_reader((&streams, index), &stage, most).await;
            stage.recorder.left();
        });
    }
    // One that panics has not left: the record says so.
    while users.join_next().await.is_some() {}
}
