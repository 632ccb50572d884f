//! The loop: takes events that are kept, stores them, acknowledges them.

use std::{
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cloudpose_bus::{
    Bus,
    nats::{Batch, Records, RecordsError},
};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    gaps::Gaps,
    metrics::{self, End},
    postgres::{Postgres, Stored},
    streams::Streams,
};

/// The durable consumer of who records into a database.
const CONSUMER: &str = "postgres";
/// Events stored together at most.
const BATCH: usize = 2000;
/// How long a batch waits for more: rows are seen so much later, and the database is asked so much less.
const LINGER: Duration = Duration::from_millis(200);
/// Pauses before a batch is offered again: the first, doubled up to the last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// How often old days are looked for.
const FORGET_EVERY: Duration = Duration::from_secs(3600);

/// Why nothing is recorded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is no broker that keeps events.
    #[error("events are recorded from NATS: name the server with --nats")]
    NoBroker,
    /// The broker does not keep them.
    #[error(transparent)]
    Records(#[from] RecordsError),
}

/// Records until it is stopped.
#[derive(Debug)]
pub struct Recorder {
    records: Records,
    postgres: Postgres,
    streams: Streams,
    keep: Option<Duration>,
}

impl Recorder {
    /// Has the broker keep events from now on. The database may come later.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load(config: Config, bus: &Bus) -> Result<Self, LoadError> {
        let Bus::Nats(nats) = bus else { return Err(LoadError::NoBroker) };
        let records = nats.records(CONSUMER, config.max_spool_bytes).await?;
        let postgres = Postgres::new(config.to);
        Ok(Self { records, postgres, streams: config.streams, keep: config.keep })
    }

    /// Records until `stop`. What is in hand then comes again to who records next.
    ///
    /// # Errors
    /// If the database says no in a way that waiting does not mend.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            failed = self.record() => failed,
        }
    }

    async fn record(&mut self) -> Result<(), Error> {
        let Self { records, postgres, streams, keep } = self;
        let mut patience = Patience::default();
        while let Err(error) = postgres.connect().await {
            patience.after(error).await?;
        }
        tracing::info!("record: ready");
        let mut gaps = records.newest().await.map(Gaps::after);
        let mut due = interval(FORGET_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut taking = pin!(records.take(BATCH, LINGER));
            // Taking goes on meanwhile: what a dropped one had taken would come late, and count as lost until then.
            let mut batch = loop {
                tokio::select! {
                    biased;
                    _ = due.tick() => {
                        if let Some(keep) = *keep {
                            forget(postgres, keep).await?;
                        }
                    }
                    batch = &mut taking => break batch,
                }
            };
            count_lost(&mut gaps, &batch);
            batch.events.retain(|recorded| {
                recorded.event.event().is_ok_and(|event| streams.have(&recorded.tenant, &event.stream))
            });
            if !batch.events.is_empty() {
                store(postgres, &batch).await?;
            }
            metrics::pending(batch.pending);
            records.ack(&batch).await;
        }
    }
}

async fn store(postgres: &mut Postgres, batch: &Batch) -> Result<(), Error> {
    let begun = Instant::now();
    let mut patience = Patience::default();
    let Stored { new, known, refused } = loop {
        match postgres.store(&batch.events).await {
            Ok(stored) => break stored,
            Err(error) => patience.after(error).await?,
        }
    };
    metrics::ended(End::Stored, new);
    metrics::ended(End::Known, known);
    metrics::ended(End::Refused, refused);
    metrics::batch(begun.elapsed(), age_of_newest(batch, SystemTime::now()));
    Ok(())
}

/// Drops the days that were kept long enough.
async fn forget(postgres: &mut Postgres, keep: Duration) -> Result<(), Error> {
    let Some(until) = SystemTime::now().checked_sub(keep) else { return Ok(()) };
    let mut patience = Patience::default();
    let days = loop {
        match postgres.forget(until).await {
            Ok(days) => break days,
            Err(error) => patience.after(error).await?,
        }
    };
    if days > 0 {
        tracing::info!(days, "dropped records that were kept long enough");
    }
    Ok(())
}

/// Waits longer and longer while the database does not do what it is asked. Events wait at the broker meanwhile.
#[derive(Debug, Default)]
struct Patience {
    pause: Option<Duration>,
}

impl Patience {
    /// Waits before the next attempt, or hands back what no waiting mends.
    async fn after(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_passing() {
            return Err(error);
        }
        metrics::failed();
        let (shortest, longest) = PAUSES;
        let pause = self.pause.map_or(shortest, |last| (2 * last).min(longest));
        if self.pause.is_none() {
            tracing::warn!(%error, "cannot record; events wait at the broker");
        }
        sleep(pause).await;
        self.pause = Some(pause);
        Ok(())
    }
}

/// Goes on after the newest event that was handed out before, or begins with the batch where nobody told which that is.
fn count_lost(gaps: &mut Option<Gaps>, batch: &Batch) {
    let first = batch.numbers.first().copied().unwrap_or_default();
    let gaps = gaps.get_or_insert_with(|| Gaps::after(first.saturating_sub(1)));
    let lost: u64 = batch.numbers.iter().map(|&number| gaps.before(number)).sum();
    if lost > 0 {
        metrics::ended(End::Lost, lost);
        tracing::warn!(lost, "events were discarded before they could be recorded: raise --max-spool-bytes");
    }
}

/// How long ago the newest event was received, by this machine's clock.
fn age_of_newest(batch: &Batch, now: SystemTime) -> Duration {
    let newest =
        batch.events.iter().filter_map(|recorded| Some(recorded.event.event().ok()?.captured_at)).max();
    let newest = newest.map(|at| UNIX_EPOCH + Duration::from_millis(at));
    newest.and_then(|at| now.duration_since(at).ok()).unwrap_or_default()
}
