//! Whether a run met its objective, and whether it can be believed at all. Pure.

use std::time::Duration;

use crate::{
    summary::Run,
    verdict::{Flaw, Objective, Verdict},
};

/// The flaws that show in the numbers themselves.
pub(crate) fn soundness(run: &Run, lag_limit: Duration) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    if run.all.count == 0 && run.streams.as_ref().is_none_or(|streams| streams.due == 0) {
        flaws.push(Flaw::Empty);
    }
    let limit_ms = lag_limit.as_secs_f64() * 1e3;
    if run.generator.lag_p99_ms > limit_ms {
        flaws.push(Flaw::SendLag { p99_ms: run.generator.lag_p99_ms, limit_ms });
    }
    flaws
}

/// Whether `run` met `objective`, and if not, why.
///
/// A generator that lags, or cannot send all, makes the load smaller, and a lag makes latency longer. So a run
/// that held in spite of it is not believed, and one that missed is only if it would have without the lag.
pub(crate) fn judge(run: &Run, objective: &Objective) -> (Verdict, Vec<String>) {
    let mut reasons = Vec::new();
    let mut beyond_lag = false;
    let success = run.all.success();
    if run.all.count > 0 && success < objective.success {
        let (good, wanted) = (100.0 * success, 100.0 * objective.success);
        let kinds: Vec<String> = run.all.failures.iter().map(|(kind, n)| format!("{n} × {kind}")).collect();
        reasons.push(format!("success {good:.2} % < {wanted} %: {}", kinds.join(", ")));
        beyond_lag = true;
    }
    for (percent, limit_ms) in [(95.0, objective.p95_ms), (99.0, objective.p99_ms)] {
        let latency = run.all.latency.and_then(|latency| latency.percentile(percent));
        if let Some(ms) = latency.filter(|ms| *ms >= limit_ms) {
            reasons.push(format!("p{percent} {ms:.0} ms ≥ {limit_ms} ms"));
            beyond_lag |= ms - run.generator.lag_p99_ms >= limit_ms;
        }
    }
    if let Some(streams) = &run.streams
        && streams.share() < objective.fps_share
    {
        let (got, wanted) = (100.0 * streams.share(), 100.0 * objective.fps_share);
        reasons.push(format!("{got:.1} % of the frames delivered < {wanted} %"));
        // Frames count from when they are due: one that is sent late is not dropped for it.
        beyond_lag = true;
    }
    let explained = |flaw: &Flaw| matches!(flaw, Flaw::SendLag { .. } | Flaw::Unsent { .. });
    match (run.flaws.is_empty(), reasons.is_empty()) {
        (true, true) => (Verdict::Held, reasons),
        (true, false) => (Verdict::Missed, reasons),
        (false, false) if beyond_lag && run.flaws.iter().all(explained) => (Verdict::Missed, reasons),
        (false, _) => (Verdict::Unsound, run.flaws.iter().map(ToString::to_string).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failure::Failure,
        record::{CallName, Recorder, UserTally, Window},
        summary::Load,
    };

    const LAG_LIMIT: Duration = Duration::from_millis(20);
    const OBJECTIVE: Objective = Objective { success: 1.0, p95_ms: 100.0, p99_ms: 200.0, fps_share: 0.95 };

    /// A hundred requests that took `ms`, sent `lag_ms` late, of which `failed` failed.
    fn run(ms: u64, lag_ms: u64, failed: u64) -> Run {
        let window = Window { from: Duration::ZERO, until: Duration::from_secs(10) };
        let recorder = Recorder::new(&[CallName { method: "POST", path: "/" }], window);
        for i in 0..100 {
            recorder.begun(Duration::ZERO, Duration::from_millis(lag_ms));
            let how = if i < failed { Err(Failure::Status(500)) } else { Ok(1) };
            recorder.ended(0, Duration::ZERO, Duration::from_millis(ms), how);
        }
        recorder.summary(Load::Users(1), false, LAG_LIMIT)
    }

    #[test]
    fn each_limit_by_itself() {
        assert_eq!(judge(&run(50, 1, 0), &OBJECTIVE), (Verdict::Held, vec![]));
        let (verdict, reasons) = judge(&run(150, 1, 0), &OBJECTIVE);
        assert_eq!(verdict, Verdict::Missed);
        assert_eq!(reasons, ["p95 150 ms ≥ 100 ms"]);
        let (verdict, reasons) = judge(&run(50, 1, 5), &OBJECTIVE);
        assert_eq!(verdict, Verdict::Missed);
        assert_eq!(reasons, ["success 95.00 % < 100 %: 5 × status 500"]);
    }

    #[test]
    fn frames_that_are_not_delivered() {
        let window = Window { from: Duration::ZERO, until: Duration::from_secs(10) };
        let recorder = Recorder::new(&[CallName { method: "WS", path: "/v1/stream" }], window);
        recorder.stream(UserTally { due: 100, delivered: 90, ids_checked: 90 });
        let (verdict, reasons) = judge(&recorder.summary(Load::Users(1), true, LAG_LIMIT), &OBJECTIVE);
        assert_eq!(
            (verdict, reasons),
            (Verdict::Missed, vec!["90.0 % of the frames delivered < 95 %".into()])
        );
    }

    #[test]
    fn a_saturated_generator_is_not_believed_unless_the_service_was_worse() {
        let (verdict, reasons) = judge(&run(50, 30, 0), &OBJECTIVE);
        assert_eq!(verdict, Verdict::Unsound);
        assert!(reasons[0].contains("saturated") && reasons[0].contains("limit 20 ms"), "{reasons:?}");
        assert_eq!(judge(&run(120, 30, 0), &OBJECTIVE).0, Verdict::Unsound, "the lag may be the reason");
        assert_eq!(judge(&run(900, 30, 0), &OBJECTIVE).0, Verdict::Missed, "the lag is not the reason");
    }

    #[test]
    fn an_incomplete_record_is_not_believed() {
        let mut incomplete = run(900, 1, 0);
        incomplete.flaws.push(Flaw::Unsent { count: 1 });
        assert_eq!(
            judge(&incomplete, &OBJECTIVE).0,
            Verdict::Missed,
            "more requests would not have helped it"
        );
        incomplete.flaws.push(Flaw::Unfinished { count: 1 });
        assert_eq!(judge(&incomplete, &OBJECTIVE).0, Verdict::Unsound);
    }
}
