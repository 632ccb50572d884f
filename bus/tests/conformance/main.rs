//! One suite for every kind of bus: what `cloudpose-bus` promises in its crate documentation.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

mod alone;
mod beside;
mod buckets;
mod gateways;
mod jobs;
mod shares;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use alone::{
    of_several_with_which_workers_have_died_one_is_in_hand,
    what_a_worker_died_with_is_worked_on_alone_and_then_given_up,
};
use buckets::{
    of_several_who_write_over_the_same_one_does, the_keys_of_many_are_told,
    what_is_removed_or_has_lasted_is_nothing, who_wants_to_know_is_told_of_changes,
};
use cloudpose_bus::{Bound, Bus, Capacity, MAX_DELIVERIES, PublishError, Queue, work};
use cloudpose_testing::{
    sample::{frame, pose},
    soon,
};
use cloudpose_wire::{
    DropReason, GatewayId, Kind, Lane, ModelInfo, Skeleton, Stage, Task, frame::ResultBody,
};
use gateways::{gateways_tell_and_show_each_other, results_reach_the_gateway_they_name};
use jobs::{
    a_job_is_told_of_a_frame_that_was_given_up, a_jobs_result_comes_again_until_it_is_acknowledged,
    a_jobs_result_is_there_for_who_asks_later_whole_and_once,
    results_of_jobs_that_nobody_takes_are_bounded_and_those_that_are_kept_stay,
};
use shares::{
    a_tenant_that_fills_the_still_lane_keeps_no_other_out, a_tenants_flood_keeps_no_other_from_its_turns,
    frames_of_a_tenant_are_settled_as_any_are, who_holds_nothing_is_worked_on_beside_who_holds_all,
    who_takes_many_gets_some_of_every_tenants,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

const LIMITS: Capacity =
    Capacity { still_frames: 4, live_frames: 6, live_max_age: Duration::from_secs(5), job_results: 3 };

fn live(stage: Stage) -> Lane {
    Lane { stage, kind: Kind::Live }
}

fn still(stage: Stage) -> Lane {
    Lane { stage, kind: Kind::Still }
}

async fn seqs(bus: &Bus, stage: Stage, max: usize) -> Vec<u64> {
    let mut seqs = Vec::new();
    for delivery in bus.pull(stage, max).await {
        seqs.push(delivery.frame.header.seq);
        delivery.ack().await;
    }
    seqs
}

/// Pulls until there were `count` frames: one pull gives what is there, and the last ones may still be on their way.
async fn seqs_until(bus: &Bus, stage: Stage, count: usize) -> Vec<u64> {
    let mut all = Vec::new();
    while all.len() < count {
        all.extend(seqs(bus, stage, count - all.len()).await);
    }
    all.sort_unstable();
    all
}

/// Waits until the lanes of `stage` say that nothing is on them, and nothing in anybody's hands. A worker asks for
/// frames meanwhile, and gets none.
async fn nothing_waits(bus: &Bus, stage: Stage) {
    let empty = soon(async {
        for lane in [live(stage), still(stage)] {
            loop {
                let depth = bus.depth(lane).await;
                if depth.frames + depth.in_hand == 0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
    tokio::select! {
        () = empty => {}
        pulled = bus.pull(stage, 9) => panic!("expected an empty lane, got {pulled:?}"),
    }
}

async fn frames_arrive_whole_in_order_and_once(bus: Bus) {
    for seq in 1..=3 {
        bus.publish(Stage::Infer, frame(Kind::Live, seq)).await.unwrap();
    }
    let first = bus.pull(Stage::Infer, 1).await.remove(0);
    assert_eq!(first.frame, frame(Kind::Live, 1));
    assert_eq!(first.attempt, 1);
    first.ack().await;
    let second = bus.pull(Stage::Infer, 1).await.remove(0);
    assert_eq!(second.frame, frame(Kind::Live, 2), "poses travel with the frame");
    second.ack().await;
    assert_eq!(seqs(&bus, Stage::Infer, 9).await, [3]);
    nothing_waits(&bus, Stage::Infer).await;
}

async fn stages_are_apart_and_a_pull_takes_both_kinds(bus: Bus) {
    bus.publish(Stage::Annotate, frame(Kind::Live, 1)).await.unwrap();
    nothing_waits(&bus, Stage::Infer).await;
    bus.publish(Stage::Annotate, frame(Kind::Still, 2)).await.unwrap();
    assert_eq!(seqs_until(&bus, Stage::Annotate, 2).await, [1, 2]);
}

async fn full_still_lane_refuses_and_recovers(bus: Bus) {
    for seq in 0..4 {
        bus.publish(Stage::Infer, frame(Kind::Still, seq)).await.unwrap();
    }
    let refused = bus.publish(Stage::Infer, frame(Kind::Still, 4)).await;
    let queue = Queue::Lane(still(Stage::Infer));
    assert_eq!(refused, Err(PublishError::Full { queue, bound: Bound::Frames(4) }));
    assert_eq!(bus.depth(still(Stage::Infer)).await.frames, 4);
    assert_eq!(seqs(&bus, Stage::Infer, 1).await, [0]);
    bus.publish(Stage::Infer, frame(Kind::Still, 5)).await.unwrap();
    assert_eq!(seqs_until(&bus, Stage::Infer, 4).await, [1, 2, 3, 5]);
}

async fn full_live_lane_lets_the_oldest_go(bus: Bus) {
    for seq in 0..8 {
        bus.publish(Stage::Infer, frame(Kind::Live, seq)).await.unwrap();
    }
    assert_eq!(seqs_until(&bus, Stage::Infer, 6).await, [2, 3, 4, 5, 6, 7]);
}

async fn stills_beyond_their_time_are_not_handed_out(bus: Bus) {
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let mut late = frame(Kind::Still, 1);
    late.header.deadline_ms = 100;
    bus.publish(Stage::Annotate, late).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    bus.publish(Stage::Annotate, frame(Kind::Still, 2)).await.unwrap();
    assert_eq!(seqs(&bus, Stage::Annotate, 9).await, [2]);
    let told = results.next().await.unwrap();
    assert_eq!(told.seq, 1);
    assert!(matches!(told.body, ResultBody::Dropped { reason: DropReason::Expired, .. }), "{told:?}");
    nothing_waits(&bus, Stage::Annotate).await;
}

async fn live_frames_with_less_than_half_of_their_time_left_are_not_handed_out(bus: Bus) {
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    for (kind, seq) in [(Kind::Live, 1), (Kind::Still, 2)] {
        let mut frame = frame(kind, seq);
        frame.header.deadline_ms = 400;
        bus.publish(Stage::Infer, frame).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    bus.publish(Stage::Infer, frame(Kind::Live, 3)).await.unwrap();
    let taken = bus.pull(Stage::Infer, 9).await;
    assert_eq!(taken.iter().map(|d| d.frame.header.seq).collect::<Vec<_>>(), [2, 3]);
    assert!(taken[0].waited >= Duration::from_millis(250), "{:?}", taken[0].waited);
    assert!(taken[1].waited < taken[0].waited, "{:?}", taken[1].waited);
    let told = results.next().await.unwrap();
    assert_eq!(told.seq, 1);
    assert!(matches!(told.body, ResultBody::Dropped { reason: DropReason::Expired, .. }), "{told:?}");
}

async fn live_and_still_frames_are_handed_out_in_turn(bus: Bus) {
    for (kind, seq) in [(Kind::Still, 1), (Kind::Still, 2), (Kind::Live, 3), (Kind::Live, 4)] {
        bus.publish(Stage::Infer, frame(kind, seq)).await.unwrap();
    }
    let mut kinds = Vec::new();
    for _ in 0..4 {
        let delivery = bus.pull(Stage::Infer, 1).await.remove(0);
        kinds.push(delivery.frame.header.route.kind());
        delivery.ack().await;
    }
    assert!(kinds.windows(2).all(|pair| pair[0] != pair[1]), "{kinds:?}");
}

async fn a_dead_workers_still_comes_again_once(bus: Bus) {
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    bus.publish(Stage::Infer, frame(Kind::Still, 7)).await.unwrap();
    for attempt in 1..=MAX_DELIVERIES {
        let delivery = bus.pull(Stage::Infer, 1).await.remove(0);
        assert_eq!((delivery.frame.header.seq, delivery.attempt), (7, attempt));
        drop(delivery);
    }
    nothing_waits(&bus, Stage::Infer).await;
    let told = results.next().await.unwrap();
    assert_eq!(told.seq, 7);
    assert!(
        matches!(told.body, ResultBody::Dropped { reason: DropReason::InferFailed, .. }),
        "its gateway is told that it was given up: {told:?}"
    );
}

async fn a_dead_workers_live_frame_is_lost(bus: Bus) {
    bus.publish(Stage::Infer, frame(Kind::Live, 1)).await.unwrap();
    drop(bus.pull(Stage::Infer, 1).await);
    nothing_waits(&bus, Stage::Infer).await;
    assert_eq!(bus.depth(live(Stage::Infer)).await.frames, 0);
}

async fn what_is_handed_back_goes_to_the_next_worker(bus: Bus) {
    for kind in [Kind::Live, Kind::Still] {
        bus.publish(Stage::Infer, frame(kind, 1)).await.unwrap();
        bus.pull(Stage::Infer, 1).await.remove(0).hand_back().await;
        let again = bus.pull(Stage::Infer, 1).await.remove(0);
        assert_eq!((again.frame.header.seq, again.attempt), (1, 1), "{kind:?}");
        again.ack().await;
    }
}

async fn a_cancelled_pull_loses_nothing(bus: Bus) {
    for _ in 0..3 {
        let pulled = tokio::time::timeout(Duration::from_millis(20), bus.pull(Stage::Infer, 9)).await;
        assert!(pulled.is_err(), "{pulled:?}");
    }
    let waiting = [bus.clone(), bus.clone()].map(|bus| async move { seqs(&bus, Stage::Infer, 1).await });
    let [a, b] = waiting;
    let publish = async {
        bus.publish(Stage::Infer, frame(Kind::Live, 1)).await.unwrap();
        bus.publish(Stage::Infer, frame(Kind::Live, 2)).await.unwrap();
    };
    let (mut a, b, ()) = tokio::join!(a, b, publish);
    a.extend(b);
    a.sort_unstable();
    assert_eq!(a, [1, 2], "two waiting workers share two frames");
}

async fn everyone_who_listens_gets_events_and_slow_ones_slow_nobody(bus: Bus) {
    bus.publish_event(&pose(0), &Default::default(), None, None).await;
    let mut one = bus.events().await;
    let mut two = bus.events().await;
    bus.publish_event(&pose(1), &Default::default(), None, None).await;
    assert_eq!(one.next().await.unwrap(), pose(1));
    for seq in 2..2000 {
        bus.publish_event(&pose(seq), &Default::default(), None, None).await;
    }
    let next = two.next().await.unwrap().event().unwrap().seq;
    assert!(next >= 1, "a listener gets nothing from before it listened");
}

async fn what_workers_announce_is_known_and_what_they_say_later_counts(bus: Bus) {
    let models = bus.models();
    let one = r#"{"name":"one","keypoints":[{"name":"top","sigma":0.1}]}"#;
    let [one, coco] = [Arc::new(serde_json::from_str(one).unwrap()), Skeleton::coco_17()];
    let model = |id: &str, skeleton: &Arc<Skeleton>| ModelInfo {
        id: id.parse().unwrap(),
        title: id.into(),
        summary: String::new(),
        task: Task::Pose { skeleton: skeleton.clone() },
        input: String::new(),
        source: String::new(),
        licence: String::new(),
    };
    let multipose = "multipose".parse().unwrap();
    assert!(models.may_be_served(&multipose), "nobody has said anything");
    bus.announce(vec![model("tiny", &one)]);
    assert_eq!(soon(models.wait_for_skeleton(one.name())).await, Some(one.clone()));
    assert!(!models.may_be_served(&multipose));
    bus.announce(vec![model("multipose", &coco)]);
    while models.get(&"tiny".parse().unwrap()).is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(models.skeleton(one.name()), Some(one), "frames of it are under way");
    assert_eq!(models.list(), [Arc::new(model("multipose", &coco))]);
    // Who comes later hears it too.
    assert_eq!(bus.models().get(&multipose).as_deref(), Some(&model("multipose", &coco)));
}

async fn work_takes_no_more_than_it_has_slots_for_and_finishes_what_it_took(bus: Bus) {
    for seq in 0..4 {
        bus.publish(Stage::Infer, frame(Kind::Still, seq)).await.unwrap();
    }
    let stop = CancellationToken::new();
    let gate = Arc::new(Semaphore::new(0));
    let done = Arc::new(Mutex::new(Vec::new()));
    let worker = {
        let (bus, stop, gate, done) = (bus.clone(), stop.clone(), gate.clone(), done.clone());
        tokio::spawn(async move {
            work(&bus, Stage::Infer, (2, false), stop, |delivery, _| {
                let (gate, done) = (gate.clone(), done.clone());
                async move {
                    gate.acquire().await.unwrap().forget();
                    let seq = delivery.frame.header.seq;
                    assert_ne!(seq, 0, "the first frame's work panics");
                    done.lock().unwrap().push(seq);
                    delivery.ack().await;
                }
            })
            .await;
        })
    };
    while bus.depth(still(Stage::Infer)).await.frames != 2 {
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(bus.depth(still(Stage::Infer)).await.frames, 2, "two slots, two frames");
    stop.cancel();
    gate.add_permits(2);
    worker.await.unwrap();
    assert_eq!(*done.lock().unwrap(), [1]);
    let left = seqs_until(&bus, Stage::Infer, 3).await;
    assert_eq!(left, [0, 2, 3], "what panicked comes again, what was not begun stayed");
    nothing_waits(&bus, Stage::Infer).await;
}

macro_rules! conformance {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(#[tokio::test(start_paused = true)]
            async fn $name() {
                super::$name(super::Bus::local(super::LIMITS)).await;
            })*

            #[tokio::test(start_paused = true)]
            async fn what_is_known_of_a_frame_is_handed_on_uncopied() {
                super::beside::what_is_known_of_a_frame_is_handed_on_as_it_came(super::Bus::local(super::LIMITS), true).await;
                super::beside::listeners_get_the_event_as_it_was_written(super::Bus::local(super::LIMITS), true).await;
            }

            #[tokio::test(start_paused = true)]
            async fn attachments_leave_no_process_and_come_once() {
                super::beside::attachments_leave_no_process_and_come_once(super::Bus::local(super::LIMITS), true).await;
            }

            #[tokio::test(start_paused = true)]
            async fn decoded_images_arrive_as_pixels() {
                super::beside::decoded_images_arrive_as_pixels_or_encoded(super::Bus::local(super::LIMITS), true).await;
            }
        }
        mod nats {
            $(#[tokio::test]
            async fn $name() {
                let server = cloudpose_testing::NatsServer::start();
                super::$name(cloudpose_testing::sample::bus(&server, super::LIMITS).await).await;
            })*

            #[tokio::test]
            async fn what_is_known_of_a_frame_is_handed_on_as_it_came() {
                let server = cloudpose_testing::NatsServer::start();
                let bus = cloudpose_testing::sample::bus(&server, super::LIMITS).await;
                super::beside::what_is_known_of_a_frame_is_handed_on_as_it_came(bus.clone(), false).await;
                super::beside::listeners_get_the_event_as_it_was_written(bus, false).await;
            }

            #[tokio::test]
            async fn attachments_leave_no_process_and_come_once() {
                let server = cloudpose_testing::NatsServer::start();
                let bus = cloudpose_testing::sample::bus(&server, super::LIMITS).await;
                super::beside::attachments_leave_no_process_and_come_once(bus, false).await;
            }

            #[tokio::test]
            async fn decoded_images_arrive_encoded() {
                let server = cloudpose_testing::NatsServer::start();
                let bus = cloudpose_testing::sample::bus(&server, super::LIMITS).await;
                super::beside::decoded_images_arrive_as_pixels_or_encoded(bus, false).await;
            }
        }
    };
}

conformance!(
    frames_arrive_whole_in_order_and_once,
    stages_are_apart_and_a_pull_takes_both_kinds,
    full_still_lane_refuses_and_recovers,
    full_live_lane_lets_the_oldest_go,
    live_frames_with_less_than_half_of_their_time_left_are_not_handed_out,
    stills_beyond_their_time_are_not_handed_out,
    live_and_still_frames_are_handed_out_in_turn,
    a_dead_workers_still_comes_again_once,
    a_dead_workers_live_frame_is_lost,
    what_is_handed_back_goes_to_the_next_worker,
    a_cancelled_pull_loses_nothing,
    results_reach_the_gateway_they_name,
    everyone_who_listens_gets_events_and_slow_ones_slow_nobody,
    what_workers_announce_is_known_and_what_they_say_later_counts,
    a_jobs_result_is_there_for_who_asks_later_whole_and_once,
    a_jobs_result_comes_again_until_it_is_acknowledged,
    results_of_jobs_that_nobody_takes_are_bounded_and_those_that_are_kept_stay,
    a_job_is_told_of_a_frame_that_was_given_up,
    work_takes_no_more_than_it_has_slots_for_and_finishes_what_it_took,
    gateways_tell_and_show_each_other,
    of_several_who_write_over_the_same_one_does,
    the_keys_of_many_are_told,
    what_is_removed_or_has_lasted_is_nothing,
    who_wants_to_know_is_told_of_changes,
    who_holds_nothing_is_worked_on_beside_who_holds_all,
    a_tenants_flood_keeps_no_other_from_its_turns,
    who_takes_many_gets_some_of_every_tenants,
    a_tenant_that_fills_the_still_lane_keeps_no_other_out,
    frames_of_a_tenant_are_settled_as_any_are,
    of_several_with_which_workers_have_died_one_is_in_hand,
    what_a_worker_died_with_is_worked_on_alone_and_then_given_up,
);
