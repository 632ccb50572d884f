//! The loop that every worker runs: take what there are hands for, do it, go on until told to stop.

use std::{collections::VecDeque, future::Future, sync::Arc};

use cloudpose_wire::{Kind, Stage};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{Bus, Delivery, metrics, trace};

/// Works at `stage` on up to `slots` frames at once until `stop`, then finishes those in hand.
///
/// A still that a worker has died with is worked on alone, when nothing else is in hand: if it kills this one too, it takes
/// no other frame with it.
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
    let mut suspects = VecDeque::new();
    bus.at_work(stage, slots);
    loop {
        metrics::busy(stage, in_hand.len());
        if in_hand.is_empty()
            && let Some(suspect) = suspects.pop_front()
        {
            // All of them, so that nothing is pulled meanwhile.
            let slots = u32::try_from(free.available_permits()).unwrap_or(u32::MAX);
            let slots = free.clone().try_acquire_many_owned(slots).ok();
            begin(&mut in_hand, stage, &handle, (suspect, slots));
        }
        let taken = async {
            if !suspects.is_empty() {
                return std::future::pending().await;
            }
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
            if is_suspect(&delivery) {
                suspects.push_back(delivery);
                continue;
            }
            let slot = slot.take().or_else(|| free.clone().try_acquire_owned().ok());
            debug_assert!(slot.is_some(), "only this loop takes slots");
            begin(&mut in_hand, stage, &handle, (delivery, slot));
        }
    }
    // Nobody should reckon with it any more.
    bus.at_work(stage, 0);
    for suspect in suspects {
        suspect.hand_back().await;
    }
    while let Some(done) = in_hand.join_next().await {
        metrics::busy(stage, in_hand.len());
        if let Err(error) = done {
            tracing::error!(%error, stage = stage.as_str(), "a frame's work panicked");
        }
    }
}

/// Whether a worker has died with the frame.
fn is_suspect(delivery: &Delivery) -> bool {
    delivery.attempt > 1 && delivery.frame.header.route.kind() == Kind::Still
}

fn begin<H, F>(
    in_hand: &mut JoinSet<()>,
    stage: Stage,
    handle: &H,
    (delivery, slot): (Delivery, Option<OwnedSemaphorePermit>),
) where
    H: Fn(Delivery) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let span = trace::stage(stage, &delivery.frame.header);
    let work = handle(delivery).instrument(span);
    in_hand.spawn(async move {
        work.await;
        drop(slot);
    });
}
