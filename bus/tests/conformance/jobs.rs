//! Results of jobs are kept for whoever asks.

use std::time::Duration;

use bytes::Bytes;
use cloudpose_bus::{Bound, Bus, JobResult, MAX_DELIVERIES, PublishError, Queue};
use cloudpose_testing::{
    sample::{frame_of_job, pose},
    soon,
};
use cloudpose_wire::{DropReason, FrameResult, Stage, frame::ResultBody};

use super::{nothing_waits, still};

/// A result of frame `seq` of a job, as a worker sends it.
fn job_result(job: &str, seq: u64) -> FrameResult {
    frame_of_job(job, seq).header.done(pose(seq), Some(Bytes::from_static(b"jpeg")))
}

async fn next_job_result(bus: &Bus) -> JobResult {
    soon(bus.job_results(1)).await.remove(0)
}

pub(super) async fn a_jobs_result_is_there_for_who_asks_later_whole_and_once(bus: Bus) {
    for seq in 1..=2 {
        bus.reply(job_result("a", seq)).await.unwrap();
    }
    let first = next_job_result(&bus).await;
    assert_eq!(first.result, job_result("a", 1));
    first.ack().await;
    bus.reply(job_result("b", 1)).await.unwrap();
    let mut rest = Vec::new();
    while rest.len() < 2 {
        for taken in soon(bus.job_results(9)).await {
            rest.push(taken.result.clone());
            taken.ack().await;
        }
    }
    assert_eq!(rest, [job_result("a", 2), job_result("b", 1)], "the oldest first, and none twice");
    // Who asks before there is one waits for it.
    let (late, ()) = tokio::join!(next_job_result(&bus), async {
        bus.reply(job_result("c", 1)).await.unwrap();
    });
    assert_eq!(late.result, job_result("c", 1));
    late.ack().await;
}

pub(super) async fn a_jobs_result_comes_again_until_it_is_acknowledged(bus: Bus) {
    bus.reply(job_result("a", 1)).await.unwrap();
    for _ in 0..MAX_DELIVERIES + 2 {
        assert_eq!(next_job_result(&bus).await.result, job_result("a", 1));
    }
    next_job_result(&bus).await.ack().await;
    bus.reply(job_result("a", 2)).await.unwrap();
    assert_eq!(next_job_result(&bus).await.result.seq, 2);
}

pub(super) async fn results_of_jobs_that_nobody_takes_are_bounded_and_those_that_are_kept_stay(bus: Bus) {
    for seq in 1..=3 {
        bus.reply(job_result("a", seq)).await.unwrap();
    }
    let full = PublishError::Full { queue: Queue::Jobs, bound: Bound::Results(3) };
    assert_eq!(bus.reply(job_result("a", 4)).await, Err(full.clone()));
    let held = next_job_result(&bus).await;
    assert_eq!(bus.reply(job_result("a", 4)).await, Err(full), "one in hand is one that is kept");
    // A worker offers it again until there is room, and has its frame until then.
    bus.publish(Stage::Infer, frame_of_job("a", 4)).await.unwrap();
    let delivery = bus.pull(Stage::Infer, 1).await.remove(0);
    let finish = delivery.finish(&bus, job_result("a", 4));
    let make_room = async {
        assert_eq!(bus.depth(still(Stage::Infer)).await.in_hand, 1);
        held.ack().await;
    };
    soon(async { tokio::join!(finish, make_room) }).await;
    nothing_waits(&bus, Stage::Infer).await;
    let mut seqs = Vec::new();
    while seqs.len() < 3 {
        for taken in soon(bus.job_results(9)).await {
            seqs.push(taken.result.seq);
            taken.ack().await;
        }
    }
    assert_eq!(seqs, [2, 3, 4]);
}

pub(super) async fn a_job_is_told_of_a_frame_that_was_given_up(bus: Bus) {
    bus.publish(Stage::Infer, frame_of_job("a", 1)).await.unwrap();
    for seq in 11..=13 {
        bus.reply(job_result("b", seq)).await.unwrap();
    }
    for _ in 0..MAX_DELIVERIES {
        drop(soon(bus.pull(Stage::Infer, 1)).await);
    }
    // There is no room to say so yet. What a worker gets meanwhile it can only drop.
    let dropping = async {
        loop {
            drop(bus.pull(Stage::Infer, 1).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let told = async {
        loop {
            let taken = next_job_result(&bus).await;
            let result = taken.result.clone();
            taken.ack().await;
            if result.seq == 1 {
                break result;
            }
        }
    };
    let told = tokio::select! {
        told = soon(told) => told,
        never = dropping => never,
    };
    assert!(matches!(told.body, ResultBody::Dropped { reason: DropReason::InferFailed, .. }), "{told:?}");
    nothing_waits(&bus, Stage::Infer).await;
}
