//! Users who post single images: a closed loop, in which each waits for its answer and thinks, and an open
//! one, in which requests come at a rate whatever becomes of those before.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{task::JoinSet, time::timeout};
use tokio_util::task::TaskTracker;

use crate::{
    failure::Failure,
    range::Range,
    record::CallName,
    schedule::{Arrivals, Ramp},
    stage::Stage,
};

/// The calls of the existing API, in the order of [`Call`].
pub(crate) const CALLS: [CallName; 2] = [
    CallName { method: "POST", path: "/api/pose_detection" },
    CallName { method: "POST", path: "/api/pose_detection_annotation" },
];

/// Requests of an open loop that may be unanswered at once. Beyond it nothing is sent, and the run is void.
const UNANSWERED: usize = 10_000;

/// A call of the existing API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Pose,
    Annotation,
}

impl Call {
    /// Three for poses to one for a picture, as the usual Locust scripts have it.
    fn draw(random: &mut fastrand::Rng) -> Self {
        if random.u8(..4) < 3 { Self::Pose } else { Self::Annotation }
    }
}

/// Who answers calls.
pub(crate) trait Service: Send + Sync + 'static {
    /// Makes one call, with an id that no other has, and answers the size of the answer in bytes.
    fn call(&self, call: Call, id: u64) -> impl Future<Output = Result<u64, Failure>> + Send;
}

/// Runs users until the window ends and their last requests are answered or timed out.
pub(crate) async fn closed<S: Service>(
    service: Arc<S>,
    stage: Arc<Stage>,
    ramp: Ramp,
    think: Range<Duration>,
    limit: Duration,
) {
    let mut users = JoinSet::new();
    for index in 0..ramp.users.to {
        let (service, stage) = (Arc::clone(&service), Arc::clone(&stage));
        users.spawn(async move {
            let mut due = ramp.begin(index);
            let until = stage.recorder.window().until;
            let mut random = stage.random(u64::from(index));
            if due >= until {
                return;
            }
            stage.sleep_until(due).await;
            stage.recorder.joined();
            while due < until {
                stage.sleep_until(due).await;
                request(&*service, &stage, due, &mut random, limit).await;
                due = stage.now() + think.at(random.f64());
            }
            stage.recorder.left();
        });
    }
    // One that panics has not left: the record says so.
    while users.join_next().await.is_some() {}
}

/// Sends requests at `rate` until the window ends, and waits until they are answered or timed out.
pub(crate) async fn open<S: Service>(service: Arc<S>, stage: Arc<Stage>, rate: Range<f64>, limit: Duration) {
    let until = stage.recorder.window().until;
    let requests = TaskTracker::new();
    let mut seeds = stage.random(0);
    for due in Arrivals::new(rate, until, seeds.u64(..)).take_while(|due| *due < until) {
        stage.sleep_until(due).await;
        if requests.len() >= UNANSWERED {
            stage.recorder.unsent();
            continue;
        }
        let (service, stage, mut random) = (Arc::clone(&service), Arc::clone(&stage), seeds.fork());
        requests.spawn(async move { request(&*service, &stage, due, &mut random, limit).await });
    }
    requests.close();
    requests.wait().await;
}

async fn request<S: Service>(
    service: &S,
    stage: &Stage,
    due: Duration,
    random: &mut fastrand::Rng,
    limit: Duration,
) {
    let call = Call::draw(random);
    stage.recorder.begun(due, stage.now().saturating_sub(due));
    let answer = timeout(limit, service.call(call, stage.next_id())).await.unwrap_or(Err(Failure::Timeout));
    stage.recorder.ended(call as usize, due, stage.now(), answer);
}
