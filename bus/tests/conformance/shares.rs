//! Tenants share the workers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use cloudpose_bus::{Bus, Delivery, PublishError, work};
use cloudpose_testing::{sample::frame, soon};
use cloudpose_wire::{Frame, Kind, Lane, Stage, StreamName, Tenant};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{live, nothing_waits, still};

fn of(tenant: &str, stream: &str, kind: Kind, seq: u64) -> Frame {
    let mut frame = frame(kind, seq);
    frame.header.caller.tenant = Tenant::new(tenant).unwrap();
    frame.header.stream = StreamName::new(stream).unwrap();
    // The broker takes a still of one session and number for one that it has already.
    frame.header.retries = u32::try_from(seq).unwrap();
    frame
}

async fn next(bus: &Bus) -> Delivery {
    soon(bus.pull(Stage::Infer, 1)).await.remove(0)
}

fn tenant(delivery: &Delivery) -> String {
    delivery.frame.header.caller.tenant.to_string()
}

pub(super) async fn a_tenants_flood_keeps_no_other_from_its_turns(bus: Bus) {
    for seq in 1..=4 {
        bus.publish(Stage::Infer, of("flood", &format!("s{seq}"), Kind::Live, seq)).await.unwrap();
        bus.publish(Stage::Infer, of("flood", &format!("t{seq}"), Kind::Still, seq)).await.unwrap();
    }
    // Frames of others come later.
    bus.publish(Stage::Infer, of("door", "cam", Kind::Live, 11)).await.unwrap();
    bus.publish(Stage::Infer, of("door", "photo", Kind::Still, 12)).await.unwrap();
    bus.publish(Stage::Infer, of("default", "cam", Kind::Live, 21)).await.unwrap();
    bus.publish(Stage::Infer, of("default", "photo", Kind::Still, 22)).await.unwrap();
    let mut turns = Vec::new();
    for _ in 0..12 {
        let delivery = next(&bus).await;
        turns.push(tenant(&delivery));
        delivery.ack().await;
    }
    let mut counts = HashMap::<&str, usize>::new();
    turns[..6].iter().for_each(|tenant| *counts.entry(tenant).or_default() += 1);
    assert_eq!(counts, HashMap::from([("flood", 2), ("door", 2), ("default", 2)]), "{turns:?}");
    nothing_waits(&bus, Stage::Infer).await;
}

pub(super) async fn who_takes_many_gets_some_of_every_tenants(bus: Bus) {
    for seq in 1..=4 {
        bus.publish(Stage::Infer, of("flood", "cam", Kind::Live, seq)).await.unwrap();
    }
    for seq in 11..=12 {
        bus.publish(Stage::Infer, of("door", "cam", Kind::Live, seq)).await.unwrap();
    }
    let taken = soon(bus.pull(Stage::Infer, 4)).await;
    let mut seqs: Vec<u64> = taken.iter().map(|delivery| delivery.frame.header.seq).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2, 11, 12]);
    for delivery in taken {
        delivery.ack().await;
    }
}

pub(super) async fn a_tenant_that_fills_the_still_lane_keeps_no_other_out(bus: Bus) {
    let mut seq = 0;
    loop {
        seq += 1;
        match bus.publish(Stage::Infer, of("flood", "cam", Kind::Still, seq)).await {
            Ok(()) => assert!(seq <= 4, "its bound"),
            Err(PublishError::Full { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    for seq in 11..=12 {
        bus.publish(Stage::Infer, of("door", "photo", Kind::Still, seq)).await.unwrap();
    }
    let first = [next(&bus).await, next(&bus).await];
    let mut tenants = first.each_ref().map(tenant);
    tenants.sort_unstable();
    assert_eq!(tenants, ["door", "flood"]);
    for delivery in first {
        delivery.ack().await;
    }
}

pub(super) async fn frames_of_a_tenant_are_settled_as_any_are(bus: Bus) {
    for lane in [live(Stage::Infer), still(Stage::Infer)] {
        bus.publish(Stage::Infer, of("acme", "cam", lane.kind, 1)).await.unwrap();
        assert_eq!(bus.depth(lane).await.frames, 1, "{lane}");
    }
    for _ in 0..2 {
        next(&bus).await.hand_back().await;
    }
    let both = [next(&bus).await, next(&bus).await];
    for delivery in both {
        assert_eq!((delivery.attempt, delivery.frame.header.seq), (1, 1), "handing back is no attempt");
        let lane = Lane { stage: Stage::Infer, kind: delivery.frame.header.route.kind() };
        assert_eq!(bus.depth(lane).await.in_hand, 1, "{lane}");
        delivery.ack().await;
    }
    nothing_waits(&bus, Stage::Infer).await;
    bus.publish(Stage::Infer, of("acme", "cam", Kind::Still, 2)).await.unwrap();
    drop(next(&bus).await);
    let again = next(&bus).await;
    assert_eq!((again.attempt, again.frame.header.seq), (2, 2));
    again.ack().await;
    nothing_waits(&bus, Stage::Infer).await;
}

pub(super) async fn who_holds_nothing_is_worked_on_beside_who_holds_all(bus: Bus) {
    for seq in 1..=3 {
        bus.publish(Stage::Infer, of("flood", "cam", Kind::Live, seq)).await.unwrap();
    }
    let (begun, door_done) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (stop, done) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
    let working = work(&bus, Stage::Infer, (2, true), stop.clone(), |delivery, _| {
        let (begun, door_done, done, stop) = (begun.clone(), door_done.clone(), done.clone(), stop.clone());
        async move {
            begun.add_permits(1);
            let seq = delivery.frame.header.seq;
            if tenant(&delivery) == "door" {
                done.lock().unwrap().push(seq);
                door_done.add_permits(3);
            } else {
                door_done.acquire().await.unwrap().forget();
                done.lock().unwrap().push(seq);
            }
            delivery.ack().await;
            if seq == 3 {
                stop.cancel();
            }
        }
    });
    let door_comes = async {
        soon(begun.acquire_many(2)).await.unwrap().forget();
        bus.publish(Stage::Infer, of("door", "cam", Kind::Live, 11)).await.unwrap();
    };
    soon(async { tokio::join!(working, door_comes) }).await;
    assert_eq!(done.lock().unwrap()[0], 11, "all others were in hand until it was done");
    nothing_waits(&bus, Stage::Infer).await;
}
