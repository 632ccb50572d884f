//! Signals to one cancellation, and how long the draining takes.

use std::{future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use cloudpose_ingest::Patience;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Of the grace, what is kept for after the frames: two fifths, but no more than this.
const MOST_KEPT: Duration = Duration::from_secs(8);
/// Longer than anybody waits, and short enough for clocks to count.
const LONGEST: Duration = Duration::from_hours(24);

/// How a grace is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Grace {
    pub(crate) whole: Duration,
    /// For the frames of the sessions, and their farewells.
    pub(crate) sessions: Patience,
    /// For saying goodbye to the bus. What is left beside is the workers'.
    pub(crate) closing: Duration,
}

impl From<Duration> for Grace {
    fn from(whole: Duration) -> Self {
        let whole = whole.min(LONGEST);
        let kept = (whole * 2 / 5).min(MOST_KEPT);
        let farewells = kept * 3 / 8;
        Self { whole, sessions: Patience { frames: whole - kept, farewells }, closing: farewells }
    }
}

/// A token that the first SIGTERM or SIGINT cancels. A second one exits at once.
///
/// # Errors
/// If the system refuses the signal handlers.
pub(crate) fn on_signal() -> Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut next = async move || {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    };
    let token = CancellationToken::new();
    let stop = token.clone();
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process; nobody waits for it")]
    tokio::spawn(async move {
        // Waited for outside of the macros, which leave out what they would not log.
        let first = next().await;
        tracing::info!("{first}: finishing what is in flight");
        stop.cancel();
        let second = next().await;
        tracing::warn!("{second}: leaving at once");
        std::process::exit(130);
    });
    Ok(token)
}

/// Runs `work` to its end; once `stop` is cancelled it has `grace` left.
///
/// # Errors
/// What `work` fails with, or that it took longer than `grace`.
pub(crate) async fn within_grace(
    stop: CancellationToken,
    grace: Duration,
    work: impl Future<Output = Result<()>>,
) -> Result<()> {
    let out_of_time = async {
        stop.cancelled().await;
        tokio::time::sleep(grace).await;
    };
    tokio::select! {
        done = work => done,
        () = out_of_time => bail!("not everything was finished within {grace:?} after the signal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_get_the_most_of_the_grace_and_leave_time_for_what_comes_after() {
        let parts = |whole: Duration| {
            let Grace { sessions: Patience { frames, farewells }, closing, .. } = whole.into();
            assert!(frames + farewells + closing <= whole, "{whole:?}");
            [frames, farewells, closing].map(|part| part.as_secs_f64())
        };
        assert_eq!(parts(Duration::from_secs(20)), [12.0, 3.0, 3.0]);
        assert_eq!(parts(Duration::from_secs(2)), [1.2, 0.3, 0.3]);
        assert_eq!(parts(Duration::from_mins(10)), [592.0, 3.0, 3.0], "farewells take no longer for it");
        assert_eq!(parts(Duration::ZERO), [0.0; 3]);
        assert_eq!(parts(Duration::MAX)[1], 3.0);
    }
}
