//! Results of jobs on NATS: what becomes of them when nats-server, whoever asked, or both are gone for a while.

use bytes::Bytes;
use std::time::Duration;

use cloudpose_bus::{Bus, Capacity, JobResult, PublishError};
use cloudpose_testing::{
    NatsServer,
    sample::{bus, frame_of_job, pose},
    soon,
};
use cloudpose_wire::FrameResult;

fn result(seq: u64) -> FrameResult {
    frame_of_job("a", seq).header.done(pose(seq), Some(Bytes::from_static(b"jpeg")))
}

async fn next(bus: &Bus) -> JobResult {
    soon(bus.job_results(1)).await.remove(0)
}

/// Sends a result as [`Delivery::finish`](cloudpose_bus::Delivery::finish) does: until it is kept.
async fn keep(bus: &Bus, seq: u64) {
    soon(async {
        while bus.reply(result(seq)).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn they_outlive_the_server_the_worker_and_who_asked_for_them() {
    let mut server = NatsServer::start();
    let worker = bus(&server, Capacity::default()).await;
    for seq in 1..=2 {
        worker.reply(result(seq)).await.unwrap();
    }
    worker.close(Duration::from_secs(3)).await;
    drop(worker);
    let gateway = bus(&server, Capacity::default()).await;
    // In its hands when the server dies, and the gateway with it.
    let held = next(&gateway).await;
    assert_eq!(held.result, result(1));
    server.kill();
    let refused = soon(gateway.reply(result(3))).await;
    assert!(matches!(refused, Err(PublishError::Unreachable(_))), "{refused:?}");
    drop(held);
    drop(gateway);
    server.start_again();
    let gateway = bus(&server, Capacity::default()).await;
    let mut seqs = Vec::new();
    while seqs.len() < 2 {
        for taken in soon(gateway.job_results(9)).await {
            assert_eq!(taken.result, result(taken.result.seq));
            seqs.push(taken.result.seq);
            taken.ack().await;
        }
    }
    seqs.sort_unstable();
    assert_eq!(seqs, [1, 2]);
    keep(&gateway, 4).await;
    assert_eq!(next(&gateway).await.result.seq, 4, "what was acknowledged does not come again");
}

#[tokio::test]
async fn who_dies_with_one_in_hand_leaves_it_to_the_next() {
    let server = NatsServer::start();
    let staying = bus(&server, Capacity::default()).await;
    staying.reply(result(1)).await.unwrap();
    let url = &server;
    // Its runtime ends with the result in hand, as a killed process does: nobody is told.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let held = runtime.block_on(async { next(&bus(url, Capacity::default()).await).await });
            drop(runtime);
            drop(held);
        });
    });
    assert_eq!(next(&staying).await.result, result(1));
}

#[tokio::test]
async fn a_waiting_gateway_gets_what_comes_after_the_server_was_gone_or_its_queue_deleted() {
    let mut server = NatsServer::start();
    let [gateway, worker] =
        [bus(&server, Capacity::default()).await, bus(&server, Capacity::default()).await];
    let ask = async || {
        let taken = next(&gateway).await;
        let seq = taken.result.seq;
        taken.ack().await;
        seq
    };
    let (seq, ()) = tokio::join!(ask(), async {
        server.kill();
        soon(worker.wait_until(false)).await;
        server.start_again();
        keep(&worker, 1).await;
    });
    assert_eq!(seq, 1);
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let (seq, ()) = tokio::join!(ask(), async {
        admin.delete_stream("test-jobs").await.unwrap();
        keep(&worker, 2).await;
    });
    assert_eq!(seq, 2);
}

#[tokio::test]
async fn a_server_without_files_keeps_them_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("memory.conf");
    std::fs::write(&config, "max_payload: 8MB\njetstream { max_memory_store: 1GB, max_file_store: 0 }")
        .unwrap();
    let server = NatsServer::with(&config, []);
    let bus = bus(&server, Capacity::default()).await;
    bus.reply(result(1)).await.unwrap();
    let taken = next(&bus).await;
    assert_eq!(taken.result, result(1));
    taken.ack().await;
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let stream = admin.get_stream("test-jobs").await.unwrap();
    assert_eq!(stream.cached_info().config.storage, async_nats::jetstream::stream::StorageType::Memory);
}

#[tokio::test]
async fn who_has_no_jobs_has_no_queue_for_their_results() {
    let server = NatsServer::start();
    let bus = bus(&server, Capacity::default()).await;
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    assert!(admin.get_stream("test-jobs").await.is_err());
    bus.reply(result(1)).await.unwrap();
    assert!(admin.get_stream("test-jobs").await.is_ok());
}
