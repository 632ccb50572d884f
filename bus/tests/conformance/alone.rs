//! A frame that may kill its worker.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cloudpose_bus::{Bus, work};
use cloudpose_testing::{sample::frame, soon};
use cloudpose_wire::{DropReason, GatewayId, Kind, Stage, frame::ResultBody};
use tokio_util::sync::CancellationToken;

use super::nothing_waits;

pub(super) async fn what_a_worker_died_with_is_worked_on_alone_and_then_given_up(bus: Bus) {
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    bus.publish(Stage::Infer, frame(Kind::Still, 1)).await.unwrap();
    drop(soon(bus.pull(Stage::Infer, 1)).await);
    for seq in 2..=4 {
        bus.publish(Stage::Infer, frame(Kind::Still, seq)).await.unwrap();
    }
    let stop = CancellationToken::new();
    let in_hand = Arc::new(AtomicUsize::new(0));
    // Frame, attempt, and how many were in hand when it was begun and when it was done.
    let done = Arc::new(Mutex::new(Vec::new()));
    let working = work(&bus, Stage::Infer, (2, false), stop.clone(), |delivery, _| {
        let (in_hand, done, stop) = (in_hand.clone(), done.clone(), stop.clone());
        async move {
            let seq = delivery.frame.header.seq;
            let begun = in_hand.fetch_add(1, SeqCst) + 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
            let ended = in_hand.fetch_sub(1, SeqCst);
            let all = {
                let mut done = done.lock().unwrap();
                done.push((seq, delivery.attempt, begun, ended));
                done.len()
            };
            if all == 4 {
                stop.cancel();
            }
            assert_ne!(seq, 1, "it kills this worker too");
            delivery.ack().await;
        }
    });
    soon(working).await;
    let mut done = done.lock().unwrap().clone();
    done.sort_unstable();
    assert_eq!(done[0], (1, 2, 1, 1), "alone from its beginning to its end: {done:?}");
    assert_eq!(done.iter().map(|(seq, ..)| *seq).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(done[1..].iter().any(|(_, attempt, begun, _)| (*attempt, *begun) == (1, 2)), "{done:?}");
    nothing_waits(&bus, Stage::Infer).await;
    let told = soon(results.next()).await.unwrap();
    assert_eq!(told.seq, 1);
    assert!(matches!(told.body, ResultBody::Dropped { reason: DropReason::InferFailed, .. }), "{told:?}");
}

pub(super) async fn of_several_with_which_workers_have_died_one_is_in_hand(bus: Bus) {
    for seq in 1..=2 {
        bus.publish(Stage::Infer, frame(Kind::Still, seq)).await.unwrap();
    }
    let mut held = Vec::new();
    while held.len() < 2 {
        held.extend(soon(bus.pull(Stage::Infer, 2)).await);
    }
    drop(held);
    let stop = CancellationToken::new();
    let done = Arc::new(Mutex::new(Vec::new()));
    let working = work(&bus, Stage::Infer, (2, false), stop.clone(), |delivery, _| {
        let (bus, done, stop) = (bus.clone(), done.clone(), stop.clone());
        async move {
            // If this one kills the worker the other has an attempt left: it is on the lane.
            soon(async {
                while bus.depth(super::still(Stage::Infer)).await.in_hand != 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            })
            .await;
            done.lock().unwrap().push(delivery.attempt);
            delivery.ack().await;
            if done.lock().unwrap().len() == 2 {
                stop.cancel();
            }
        }
    });
    soon(working).await;
    assert_eq!(*done.lock().unwrap(), [2, 2]);
    nothing_waits(&bus, Stage::Infer).await;
}
