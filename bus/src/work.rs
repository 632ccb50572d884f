//! The loop that every worker runs: take what there are hands for, do it, go on until told to stop.

use std::{collections::HashMap, future::Future, time::Instant};

use cloudpose_policy::{
    seats::{Room, Seats},
    usage::Usage,
};
use cloudpose_wire::{Kind, Stage};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::{Bus, Delivery, Hand, metrics, trace};

/// What is in hand at one stage.
struct Hands {
    stage: Stage,
    tasks: JoinSet<()>,
    seats: Seats<Id>,
    begun: HashMap<Id, Instant>,
    usage: Usage,
}

/// Works at `stage` on up to `slots` frames at once until `stop`, then finishes those in hand.
///
/// A still that a worker has died with is worked on alone, when nothing else is in hand: if it kills this one too, it takes
/// no other frame with it.
///
/// A frame is pulled only when a slot is free for it, so that what cannot be worked on yet stays where
/// another worker finds it. `handle` settles the delivery, and does what takes long by the [`Hand`], which lets the frames of tenants go first
/// that have used little; if it panics, the frame counts as abandoned. With a seat at the side (`with_side`) a frame more is worked on whose
/// tenant would else wait for another that has all slots.
pub async fn work<H, F>(
    bus: &Bus,
    stage: Stage,
    (slots, with_side): (usize, bool),
    stop: CancellationToken,
    handle: H,
) where
    H: Fn(Delivery, Hand) -> F,
    F: Future<Output = ()> + Send + 'static,
{
    let seats = Seats::new(slots, with_side);
    let usage = Usage::new(Instant::now());
    let mut hands = Hands { stage, tasks: JoinSet::new(), seats, begun: HashMap::new(), usage };
    let mut suspect = None;
    // A suspect in hand, which is alone.
    let mut alone = None;
    bus.at_work(stage, slots);
    loop {
        metrics::busy(stage, hands.seats.busy());
        if hands.seats.busy() == 0 {
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

impl Hands {
    fn begin<H, F>(&mut self, delivery: Delivery, handle: &H)
    where
        H: Fn(Delivery, Hand) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let span = trace::stage(self.stage, &delivery.frame.header);
        let tenant = delivery.frame.header.caller.tenant.clone();
        let hand = Hand { lets_others_go_first: self.usage.is_much(&tenant) };
        let id = self.tasks.spawn(handle(delivery, hand).instrument(span)).id();
        self.begun.insert(id, Instant::now());
        self.seats.begin(id, tenant);
    }

    fn end(&mut self, done: Result<(Id, ()), JoinError>) {
        let id = match done {
            Ok((id, ())) => id,
            Err(error) => {
                tracing::error!(%error, stage = self.stage.as_str(), "a frame's work panicked");
                error.id()
            }
        };
        if let (Some(begun), Some(tenant)) = (self.begun.remove(&id), self.seats.end(id)) {
            let now = Instant::now();
            self.usage.add(&tenant, now - begun, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{thread, time::Duration};

    use cloudpose_testing::{sample::frame, soon};
    use cloudpose_wire::Tenant;
    use tokio::sync::mpsc;

    use super::*;
    use crate::Capacity;

    #[tokio::test]
    async fn who_has_used_much_lets_others_go_first() {
        let (bus, stop) = (Bus::local(Capacity::default()), CancellationToken::new());
        let (done, mut when_done) = mpsc::unbounded_channel();
        let working = work(&bus, Stage::Infer, (1, false), stop.clone(), |delivery, hand| {
            let done = done.clone();
            async move {
                let takes_long = delivery.frame.header.caller.tenant.as_str() == "flood";
                let work = move || thread::sleep(Duration::from_millis(if takes_long { 50 } else { 0 }));
                hand.run(work).await.unwrap();
                delivery.ack().await;
                done.send(hand.lets_others_go_first).unwrap();
            }
        });
        let ask = async {
            let mut found = Vec::new();
            for (seq, who) in (1..).zip(["flood", "flood", "door", "flood", "door"]) {
                let mut frame = frame(Kind::Live, seq);
                frame.header.caller.tenant = Tenant::new(who).unwrap();
                bus.publish(Stage::Infer, frame).await.unwrap();
                found.push(soon(when_done.recv()).await.unwrap());
            }
            stop.cancel();
            found
        };
        let (found, ()) = soon(async { tokio::join!(ask, working) }).await;
        assert_eq!(found, [false, false, false, true, false], "only beside another who has used little");
    }
}
