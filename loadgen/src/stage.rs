//! What the users of a run share: its clock, its record, ids and chance.

use std::{
    future::Future,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::{record::Recorder, summary::Point};

/// A run under way.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) recorder: Recorder,
    begin: Instant,
    seed: u64,
    ids: AtomicU64,
}

impl Stage {
    /// Begins now. The same `seed` gives the same users.
    pub(crate) fn new(recorder: Recorder, seed: u64) -> Self {
        Self { recorder, begin: Instant::now(), seed, ids: AtomicU64::new(0) }
    }

    /// Since the begin.
    pub(crate) fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// The point of the clock that lies `at` after the begin.
    pub(crate) fn instant(&self, at: Duration) -> Instant {
        self.begin + at
    }

    pub(crate) async fn sleep_until(&self, at: Duration) {
        sleep_until(self.instant(at)).await;
    }

    /// A number that no other request of the run has.
    pub(crate) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// The chances of one user.
    pub(crate) fn random(&self, user: u64) -> fastrand::Rng {
        fastrand::Rng::with_seed(self.seed.wrapping_add(user.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// Lets `users` do their work, and shows each interval of it to `watch`.
    pub(crate) async fn play(&self, users: impl Future<Output = ()>, mut watch: impl FnMut(&Point)) {
        let every = (self.recorder.window().until / POINTS).max(SHORTEST);
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.tick().await;
        tokio::pin!(users);
        loop {
            tokio::select! {
                () = &mut users => break,
                _ = ticks.tick() => watch(&self.recorder.tick(self.now())),
            }
        }
        // A rate over a moment says nothing.
        if self.recorder.since_tick(self.now()) >= every / 2 {
            watch(&self.recorder.tick(self.now()));
        }
    }
}

/// Intervals of a run, about; bounds the record of a run of any length.
const POINTS: u32 = 600;
/// Shortest interval.
const SHORTEST: Duration = Duration::from_secs(1);
