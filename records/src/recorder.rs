//! The loop: takes events that are kept, stores them, acknowledges them.

use std::{
    pin::pin,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cloudpose_bus::{
    Bus,
    nats::{Batch, Records, RecordsError},
};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Error,
    gaps::{self, Gaps},
    metrics::{self, End},
    place::{Place, Stored},
    streams::Streams,
};

/// Events that are gathered at most: some 2.5 kB each.
const MOST_GATHERED: usize = 20_000;
/// How long storing may take before the broker hands events out again.
const ACK_WAIT: Duration = Duration::from_secs(10);
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
    place: Place,
    streams: Streams,
    keep: Option<Duration>,
    /// How long events are gathered.
    every: Option<Duration>,
    /// What was taken and is not stored yet.
    held: Batch,
}

impl Recorder {
    /// Has the broker keep events from now on. The place may come later.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn load(config: Config, bus: &Bus) -> Result<Self, LoadError> {
        let (Bus::Nats(nats), Some(documents)) = (bus, bus.lasting_bucket("records")) else {
            return Err(LoadError::NoBroker);
        };
        let consumer = config.to.consumer();
        let place = Place::new(config.to, documents);
        let every = place.gathers(config.every);
        let ack_wait = ACK_WAIT + 2 * every.unwrap_or_default();
        let records = nats.records(consumer, config.max_spool_bytes, ack_wait).await?;
        let Config { streams, keep, .. } = config;
        Ok(Self { records, place, streams, keep, every, held: Batch::default() })
    }

    /// Records until `stop`. What a database was offered then and what cannot be stored comes again to who records next.
    ///
    /// # Errors
    /// If the place says no in a way that waiting does not mend.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), Error> {
        tokio::select! {
            () = stop.cancelled() => {}
            failed = self.record() => return failed,
        }
        if self.every.is_some() && !self.held.events.is_empty() {
            self.place.store(&self.held.events).await?;
            self.records.ack(&self.held).await;
        }
        self.place.leave().await;
        Ok(())
    }

    async fn record(&mut self) -> Result<(), Error> {
        let Self { records, place, streams, keep, every, held } = self;
        let mut patience = Patience::default();
        while let Err(error) = place.open().await {
            patience.after(error).await?;
        }
        tracing::info!("record: ready");
        let mut gaps = records.newest().await.map(Gaps::after);
        let mut due = interval(FORGET_EVERY);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut store_at = tokio::time::Instant::now();
        loop {
            let mut taking = pin!(records.take(BATCH, LINGER));
            // Taking goes on meanwhile: what a dropped one had taken would come late, and count as lost until then.
            let mut batch = loop {
                tokio::select! {
                    biased;
                    _ = due.tick() => {
                        if let Some(keep) = *keep {
                            forget(place, keep).await?;
                        }
                    }
                    () = sleep_until(store_at), if !held.numbers.is_empty() => {
                        store(place, records, held).await?;
                    }
                    batch = &mut taking => break batch,
                }
            };
            count_lost(&mut gaps, &batch, records).await;
            batch.events.retain(|recorded| {
                recorded.event.event().is_ok_and(|event| streams.have(&recorded.tenant, &event.stream))
            });
            metrics::pending(batch.pending);
            if held.numbers.is_empty() {
                store_at = tokio::time::Instant::now() + every.unwrap_or_default();
            }
            held.append(batch);
            if every.is_none() || held.events.len() >= MOST_GATHERED {
                store(place, records, held).await?;
            }
        }
    }
}

/// Stores what is held, then tells the broker.
async fn store(place: &mut Place, records: &Records, held: &mut Batch) -> Result<(), Error> {
    if !held.events.is_empty() {
        store_events(place, held).await?;
    }
    records.ack(held).await;
    *held = Batch::default();
    Ok(())
}

async fn store_events(place: &mut Place, batch: &Batch) -> Result<(), Error> {
    let begun = Instant::now();
    let mut patience = Patience::default();
    let Stored { new, known, refused } = loop {
        match place.store(&batch.events).await {
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
async fn forget(place: &mut Place, keep: Duration) -> Result<(), Error> {
    let Some(until) = SystemTime::now().checked_sub(keep) else { return Ok(()) };
    let mut patience = Patience::default();
    let days = loop {
        match place.forget(until).await {
            Ok(days) => break days,
            Err(error) => patience.after(error).await?,
        }
    };
    if days > 0 {
        tracing::info!(days, "dropped records that were kept long enough");
    }
    Ok(())
}

/// Waits longer and longer while the place does not do what it is asked. Events wait at the broker meanwhile.
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
async fn count_lost(gaps: &mut Option<Gaps>, batch: &Batch, records: &Records) {
    let first = batch.numbers.first().copied().unwrap_or_default();
    let gaps = gaps.get_or_insert_with(|| Gaps::after(first.saturating_sub(1)));
    let missing =
        batch.numbers.iter().map(|&number| gaps.before(number)).filter(|missing| !missing.is_empty());
    let missing: Vec<_> = missing.collect();
    if missing.is_empty() {
        return;
    }
    let oldest = records.oldest().await;
    let lost: u64 = missing.iter().map(|missing| gaps::lost(missing, oldest)).sum();
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
