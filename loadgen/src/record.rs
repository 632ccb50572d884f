//! Counts what happens in a run, and sums it up. Times count from the run's begin.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    failure::Failure,
    fairness::jain,
    judge::soundness,
    summary::{Call, Generator, Latency, Load, PERCENTILES, Point, Run, Streams},
    verdict::Flaw,
};

/// Longest latency that is told from longer ones, in µs: ten minutes.
const LONGEST_US: u64 = 600_000_000;

/// A kind of call, as it stands in the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CallName {
    /// `POST`, or `WS` for frames.
    pub(crate) method: &'static str,
    /// The path.
    pub(crate) path: &'static str,
}

/// The part of a run that counts: requests and frames that are due in it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Window {
    /// When ramp and settling are over.
    pub(crate) from: Duration,
    /// When the last request is due.
    pub(crate) until: Duration,
}

impl Window {
    fn contains(&self, due: Duration) -> bool {
        (self.from..self.until).contains(&due)
    }
}

/// What one user's stream came to, within the window.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct UserTally {
    /// Frames that were due.
    pub(crate) due: u64,
    /// Frames that were delivered.
    pub(crate) delivered: u64,
    /// Ids looked up, in the whole run.
    pub(crate) ids_checked: u64,
}

/// Counts. Shared by all users of a run.
#[derive(Debug)]
pub(crate) struct Recorder {
    window: Window,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    calls: Vec<Tally>,
    lag: Histogram<u64>,
    begun: u64,
    ended: u64,
    unsent: u64,
    active: u32,
    streams: Streams,
    users: Vec<UserTally>,
    interval: Interval,
    series: Vec<Point>,
}

#[derive(Debug)]
struct Tally {
    name: CallName,
    count: u64,
    bytes: u64,
    failures: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

/// What happened since the last tick.
#[derive(Debug)]
struct Interval {
    since: Duration,
    good: u64,
    failures: u64,
    drops: BTreeMap<String, u64>,
    latency: Histogram<u64>,
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are constants that fit")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn ms(us: u64) -> f64 {
    us as f64 / 1e3
}

impl Recorder {
    /// A recorder for these kinds of calls.
    pub(crate) fn new(calls: &[CallName], window: Window) -> Self {
        let tally = |name: &CallName| Tally {
            name: *name,
            count: 0,
            bytes: 0,
            failures: BTreeMap::new(),
            latency: histogram(),
        };
        let interval = Interval {
            since: Duration::ZERO,
            good: 0,
            failures: 0,
            drops: BTreeMap::new(),
            latency: histogram(),
        };
        let inner = Inner {
            calls: calls.iter().map(tally).collect(),
            lag: histogram(),
            begun: 0,
            ended: 0,
            unsent: 0,
            active: 0,
            streams: Streams::default(),
            users: Vec::new(),
            interval,
            series: Vec::new(),
        };
        Self { window, inner: Mutex::new(inner) }
    }

    /// The part that counts.
    pub(crate) fn window(&self) -> Window {
        self.window
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user begins.
    pub(crate) fn joined(&self) {
        let mut inner = self.inner();
        inner.begun += 1;
        inner.active += 1;
    }

    /// A user is done.
    pub(crate) fn left(&self) {
        let mut inner = self.inner();
        inner.ended += 1;
        inner.active -= 1;
    }

    /// What was `due` goes out, so much later than the generator could have sent it.
    pub(crate) fn sending(&self, due: Duration, lag: Duration) {
        if self.window.contains(due) {
            self.inner().lag.saturating_record(micros(lag).max(1));
        }
    }

    /// A request that was `due` goes out. It must come to an [`end`](Self::ended).
    pub(crate) fn begun(&self, due: Duration, lag: Duration) {
        self.inner().begun += 1;
        self.sending(due, lag);
    }

    /// A request that should have gone out, and could not: too many are out already.
    pub(crate) fn unsent(&self) {
        self.inner().unsent += 1;
    }

    /// A request that had begun came to its end, `now`: with an answer of so many bytes, or not.
    pub(crate) fn ended(&self, call: usize, due: Duration, now: Duration, how: Result<u64, Failure>) {
        self.inner().ended += 1;
        self.outcome(call, due, now, how);
    }

    /// A frame or request that was due came to its end, `now`.
    pub(crate) fn outcome(&self, call: usize, due: Duration, now: Duration, how: Result<u64, Failure>) {
        let us = micros(now.saturating_sub(due)).max(1);
        let counts = self.window.contains(due);
        let inner = &mut *self.inner();
        let interval = &mut inner.interval;
        interval.latency.saturating_record(us);
        match how {
            Ok(_) => interval.good += 1,
            Err(_) => interval.failures += 1,
        }
        if !counts {
            return;
        }
        let tally = &mut inner.calls[call];
        tally.count += 1;
        tally.latency.saturating_record(us);
        match how {
            Ok(bytes) => tally.bytes += bytes,
            Err(failure) => *tally.failures.entry(failure.to_string()).or_default() += 1,
        }
    }

    /// Something failed `times` that has no latency.
    pub(crate) fn failed(&self, call: usize, failure: Failure, times: u64) {
        if times == 0 {
            return;
        }
        let inner = &mut *self.inner();
        inner.interval.failures += times;
        let tally = &mut inner.calls[call];
        tally.count += times;
        *tally.failures.entry(failure.to_string()).or_default() += times;
        if failure == Failure::OutOfOrder {
            inner.streams.order_violations += times;
        }
    }

    /// A frame that was due got no result, for this reason.
    pub(crate) fn dropped(&self, due: Duration, reason: &'static str) {
        let counts = self.window.contains(due);
        let inner = &mut *self.inner();
        *inner.interval.drops.entry(reason.into()).or_default() += 1;
        if counts {
            *inner.streams.drops.entry(reason.into()).or_default() += 1;
        }
    }

    /// A stream has ended.
    pub(crate) fn stream(&self, tally: UserTally) {
        self.inner().users.push(tally);
    }

    /// The service cut a slow reader off.
    pub(crate) fn cut_off(&self) {
        self.inner().streams.slow_readers_cut_off += 1;
    }

    /// How long the interval has lasted `now`.
    pub(crate) fn since_tick(&self, now: Duration) -> Duration {
        now.saturating_sub(self.inner().interval.since)
    }

    /// Closes the interval that ends `now`, and answers it.
    pub(crate) fn tick(&self, now: Duration) -> Point {
        let inner = &mut *self.inner();
        let Interval { since, good, failures, drops, latency } = &mut inner.interval;
        let seconds = now.saturating_sub(*since).as_secs_f64().max(1e-9);
        let quantile = |q| ms(latency.value_at_quantile(q));
        let point = Point {
            at: now.as_secs_f64(),
            users: inner.active,
            rate: *good as f64 / seconds,
            failures: *failures as f64 / seconds,
            latency_ms: (!latency.is_empty()).then(|| [0.5, 0.95, 0.99].map(quantile)),
            drops: std::mem::take(drops),
        };
        latency.reset();
        (*since, *good, *failures) = (now, 0, 0);
        inner.series.push(point.clone());
        point
    }

    /// Sums up. Sends that lag more than `lag_limit` are a flaw.
    pub(crate) fn summary(&self, load: Load, is_stream: bool, lag_limit: Duration) -> Run {
        let inner = &mut *self.inner();
        let seconds = self.window.until.saturating_sub(self.window.from).as_secs_f64();
        let mut all = Tally {
            name: CallName { method: "", path: "Aggregated" },
            count: 0,
            bytes: 0,
            failures: BTreeMap::new(),
            latency: histogram(),
        };
        for tally in &inner.calls {
            all.count += tally.count;
            all.bytes += tally.bytes;
            all.latency.add(&tally.latency).expect("the same bounds");
            for (kind, times) in &tally.failures {
                *all.failures.entry(kind.clone()).or_default() += times;
            }
        }
        let streams = is_stream.then(|| sum_of_streams(&inner.streams, &inner.users, seconds));
        let generator =
            Generator { lag_p99_ms: ms(inner.lag.value_at_quantile(0.99)), lag_max_ms: ms(inner.lag.max()) };
        let mut flaws = Vec::new();
        if inner.begun != inner.ended {
            flaws.push(Flaw::Unfinished { count: inner.begun.abs_diff(inner.ended) });
        }
        if inner.unsent > 0 {
            flaws.push(Flaw::Unsent { count: inner.unsent });
        }
        let mut run = Run {
            load,
            seconds,
            all: all.sum(),
            calls: inner.calls.iter().map(Tally::sum).collect(),
            streams,
            generator,
            series: std::mem::take(&mut inner.series),
            flaws,
        };
        run.flaws.extend(soundness(&run, lag_limit));
        run
    }
}

fn sum_of_streams(streams: &Streams, users: &[UserTally], seconds: f64) -> Streams {
    let sum = |of: fn(&UserTally) -> u64| users.iter().map(of).sum();
    let shares: Vec<f64> =
        users.iter().filter(|u| u.due > 0).map(|u| u.delivered as f64 / u.due as f64).collect();
    let delivered: u64 = sum(|u| u.delivered);
    Streams {
        due: sum(|u| u.due),
        delivered,
        fps: delivered as f64 / seconds / users.len().max(1) as f64,
        jain: jain(&shares),
        ids_checked: sum(|u| u.ids_checked),
        ..streams.clone()
    }
}

impl Tally {
    fn sum(&self) -> Call {
        let latency = (!self.latency.is_empty()).then(|| Latency {
            mean_ms: self.latency.mean() / 1e3,
            min_ms: ms(self.latency.min()),
            percentiles_ms: PERCENTILES.map(|percent| ms(self.latency.value_at_percentile(percent))),
        });
        let good = self.count - self.failures.values().sum::<u64>();
        Call {
            method: self.name.method.into(),
            name: self.name.path.into(),
            count: self.count,
            failures: self.failures.clone(),
            mean_bytes: self.bytes as f64 / good.max(1) as f64,
            latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLS: [CallName; 2] =
        [CallName { method: "POST", path: "/a" }, CallName { method: "POST", path: "/b" }];
    const LIMIT: Duration = Duration::from_millis(20);

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn recorder() -> Recorder {
        Recorder::new(&CALLS, Window { from: at(1_000), until: at(11_000) })
    }

    #[test]
    fn only_what_is_due_in_the_window_counts() {
        let recorder = recorder();
        for due in [0, 999, 1_000, 5_000, 10_999, 11_000] {
            recorder.begun(at(due), Duration::ZERO);
            recorder.ended(0, at(due), at(due + 100), Ok(10));
        }
        let run = recorder.summary(Load::Users(1), false, LIMIT);
        assert_eq!((run.all.count, run.seconds, run.rate()), (3, 10.0, 0.3));
        assert!(run.flaws.is_empty(), "{:?}", run.flaws);
    }

    #[test]
    fn latency_and_failures_by_call_and_together() {
        let recorder = recorder();
        for i in 1..=100 {
            recorder.begun(at(2_000), Duration::ZERO);
            recorder.ended(0, at(2_000), at(2_000 + i), Ok(10));
        }
        recorder.begun(at(2_000), Duration::ZERO);
        recorder.ended(1, at(2_000), at(7_000), Err(Failure::Status(503)));
        let run = recorder.summary(Load::Rate(9.0), false, LIMIT);
        let p = |call: &Call, percent| call.latency.unwrap().percentile(percent).unwrap();
        assert!((p(&run.calls[0], 95.0) - 95.0).abs() < 0.2);
        assert!((p(&run.all, 100.0) - 5_000.0).abs() < 5.0);
        assert_eq!(run.all.failures, BTreeMap::from([("status 503".into(), 1)]));
        assert_eq!((run.all.count, run.all.failed(), run.calls[0].mean_bytes), (101, 1, 10.0));
    }

    #[test]
    fn what_did_not_end_or_did_not_go_out_is_a_flaw() {
        let recorder = recorder();
        recorder.begun(at(2_000), Duration::ZERO);
        recorder.unsent();
        let run = recorder.summary(Load::Users(1), false, LIMIT);
        assert!(run.flaws.contains(&Flaw::Unfinished { count: 1 }), "{:?}", run.flaws);
        assert!(run.flaws.contains(&Flaw::Unsent { count: 1 }));
        assert!(run.flaws.contains(&Flaw::Empty));
    }

    #[test]
    fn intervals_begin_afresh() {
        let recorder = recorder();
        recorder.joined();
        recorder.outcome(0, at(100), at(150), Ok(1));
        recorder.dropped(at(100), "superseded");
        let point = recorder.tick(at(500));
        assert_eq!((point.users, point.rate, point.at), (1, 2.0, 0.5));
        assert_eq!(point.drops, BTreeMap::from([("superseded".into(), 1)]));
        let point = recorder.tick(at(1_000));
        assert_eq!((point.rate, point.latency_ms, point.drops.len()), (0.0, None, 0));
    }

    #[test]
    fn fairness_is_over_shares_so_that_slow_cameras_are_no_disadvantage() {
        let recorder = recorder();
        recorder.stream(UserTally { due: 100, delivered: 50, ids_checked: 50 });
        recorder.stream(UserTally { due: 10, delivered: 5, ids_checked: 5 });
        let streams = recorder.summary(Load::Users(2), true, LIMIT).streams.unwrap();
        assert_eq!((streams.due, streams.delivered, streams.share()), (110, 55, 0.5));
        assert_eq!((streams.jain, streams.fps), (Some(1.0), 2.75));
    }
}
