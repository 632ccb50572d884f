//! The loop that every worker runs: take what there are hands for, do it, go on until told to stop.

use std::{future::Future, sync::Arc};

use cloudpose_wire::Stage;
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{Bus, Delivery, metrics, trace};

/// Works at `stage` on up to `slots` frames at once until `stop`, then finishes those in hand.
///
/// A frame is pulled only when a slot is free for it, so that what cannot be worked on yet stays where
/// another worker finds it. `handle` settles the delivery; if it panics, the frame counts as abandoned.
pub async fn work<H, F>(bus: &Bus, stage: Stage, slots: usize, stop: CancellationToken, handle: H)
where
    H: Fn(Delivery) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(slots));
    let mut in_hand = JoinSet::new();
    bus.at_work(stage, slots);
    loop {
        metrics::busy(stage, in_hand.len());
        let taken = async {
            let slot = free.clone().acquire_owned().await.expect("the semaphore is never closed");
            let more = free.available_permits();
            (slot, bus.pull(stage, 1 + more).await)
        };
        let (slot, deliveries) = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(done) = in_hand.join_next() => {
                if let Err(error) = done {
                    tracing::error!(%error, stage = stage.as_str(), "a frame's work panicked");
                }
                continue;
            }
            taken = taken => taken,
        };
        let mut slot = Some(slot);
        for delivery in deliveries {
            let slot = slot.take().or_else(|| free.clone().try_acquire_owned().ok());
            debug_assert!(slot.is_some(), "only this loop takes slots");
            let span = trace::stage(stage, &delivery.frame.header);
            let work = handle(delivery).instrument(span);
            in_hand.spawn(async move {
                work.await;
                drop(slot);
            });
        }
    }
    // Nobody should reckon with it any more.
    bus.at_work(stage, 0);
    while let Some(done) = in_hand.join_next().await {
        metrics::busy(stage, in_hand.len());
        if let Err(error) = done {
            tracing::error!(%error, stage = stage.as_str(), "a frame's work panicked");
        }
    }
}
