//! The loop that every worker runs: take what there are hands for, do it, go on until told to stop.

use std::{collections::HashMap, future::Future};

use cloudpose_policy::seats::{Room, Seats};
use cloudpose_wire::{Kind, Stage};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{Bus, Delivery, Rest, metrics, trace};

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
    work_with_rests(bus, stage, (slots, false), stop, |delivery, _| handle(delivery)).await;
}

/// What is in hand at one stage.
struct Hands {
    stage: Stage,
    tasks: JoinSet<()>,
    seats: Seats<Id>,
    rests: HashMap<Id, Rest>,
}

/// Works as [`work`] does, and with a seat at the side on a frame more whose tenant would else wait for another that has all slots:
/// one of that tenant's frames rests meanwhile, if `handle` asks its [`Rest`] often.
pub async fn work_with_rests<H, F>(
    bus: &Bus,
    stage: Stage,
    (slots, with_side): (usize, bool),
    stop: CancellationToken,
    handle: H,
) where
    H: Fn(Delivery, Rest) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let seats = Seats::new(slots, with_side);
    let mut hands = Hands { stage, tasks: JoinSet::new(), seats, rests: HashMap::new() };
    let mut suspect = None;
    // A suspect in hand, which is alone.
    let mut alone = None;
    bus.at_work(stage, slots);
    loop {
        metrics::busy(stage, hands.seats.busy());
        if hands.seats.are_empty() {
            alone = suspect.take().map(|suspect| hands.begin(suspect, &handle));
        }
        let room = if alone.is_some() || suspect.is_some() { Room::None } else { hands.seats.room() };
        let taken = async {
            match room {
                Room::Anybody(max) => bus.pull(stage, max).await,
                Room::Others(but) => vec![bus.pull_others(stage, &but).await],
                Room::None => std::future::pending().await,
            }
        };
        let deliveries = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(done) = hands.tasks.join_next_with_id() => {
                hands.end(done);
                continue;
            }
            taken = taken => taken,
        };
        for delivery in deliveries {
            if !is_suspect(&delivery) {
                hands.begin(delivery, &handle);
            } else if suspect.is_none() {
                suspect = Some(delivery);
            } else {
                // It would die with the other, and have no attempt left.
                delivery.hand_back().await;
            }
        }
    }
    // Nobody should reckon with it any more.
    bus.at_work(stage, 0);
    if let Some(suspect) = suspect {
        suspect.hand_back().await;
    }
    while let Some(done) = hands.tasks.join_next_with_id().await {
        hands.end(done);
        metrics::busy(stage, hands.seats.busy());
    }
}

/// Whether a worker has died with the frame.
fn is_suspect(delivery: &Delivery) -> bool {
    delivery.attempt > 1 && delivery.frame.header.route.kind() == Kind::Still
}

impl Drop for Hands {
    fn drop(&mut self) {
        // Whoever rests does so on a thread, which would never end.
        self.rests.values().for_each(|rest| rest.set(false));
    }
}

impl Hands {
    fn begin<H, F>(&mut self, delivery: Delivery, handle: &H)
    where
        H: Fn(Delivery, Rest) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let span = trace::stage(self.stage, &delivery.frame.header);
        let tenant = delivery.frame.header.caller.tenant.clone();
        let rest = Rest::default();
        let id = self.tasks.spawn(handle(delivery, rest.clone()).instrument(span)).id();
        self.rests.insert(id, rest);
        if let Some(rests) = self.seats.begin(id, tenant) {
            self.set(rests, true);
        }
    }

    fn end(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, stage = self.stage.as_str(), "a frame's work panicked");
                error.id()
            }
        };
        self.rests.remove(&id);
        if let Some(goes_on) = self.seats.end(id) {
            self.set(goes_on, false);
        }
    }

    fn set(&self, id: Id, rests: bool) {
        if let Some(rest) = self.rests.get(&id) {
            rest.set(rests);
        }
    }
}
