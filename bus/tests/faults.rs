//! What the bus on NATS survives: lost servers, dead workers, slow readers, strangers' messages.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use cloudpose_bus::{
    Bound, Bus, Capacity, Delivery, Depth, PublishError, Queue,
    nats::{Config, Turn},
    work,
};
use cloudpose_testing::{
    NatsServer,
    sample::{bus, bus_in_turn, frame, frame_of_job, pose},
    soon,
};
use cloudpose_wire::{DropReason, Frame, GatewayId, Kind, Lane, Stage, frame::ResultBody};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::{sync::Semaphore, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// More than any of this takes.
const CLOSING: Duration = Duration::from_secs(10);

/// A minute is no expectation: only a test that hangs gets there.
async fn pull_one(bus: &Bus) -> Delivery {
    soon(bus.pull(Stage::Infer, 1)).await.remove(0)
}

/// Publishes as a gateway does that has nothing better: until it is taken.
async fn publish(bus: &Bus, frame: Frame) {
    soon(async {
        while bus.publish(Stage::Infer, frame.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_restarted_server_gets_its_lanes_back_and_everyone_goes_on() {
    let mut server = NatsServer::start();
    let [gateway, worker] =
        [bus(&server, Capacity::default()).await, bus(&server, Capacity::default()).await];
    let mut results = gateway.results(&GatewayId::new("g").unwrap()).await;
    // The worker waits all the while, as workers do.
    let working = {
        let worker = worker.clone();
        tokio::spawn(async move {
            let mut done = Vec::new();
            while done.len() < 3 {
                let delivery = pull_one(&worker).await;
                let header = &delivery.frame.header;
                worker.reply(header.dropped(DropReason::Expired, "")).await.unwrap();
                if !done.contains(&header.seq) {
                    done.push(header.seq);
                }
                delivery.ack().await;
            }
            done
        })
    };
    publish(&gateway, frame(Kind::Live, 1)).await;
    assert_eq!(soon(results.next()).await.unwrap().seq, 1);
    server.kill();
    soon(gateway.wait_until(false)).await;
    let refused = soon(gateway.publish(Stage::Infer, frame(Kind::Still, 9))).await;
    assert!(matches!(refused, Err(PublishError::Unreachable(_))), "{refused:?}");
    server.start_again();
    for (kind, seq) in [(Kind::Still, 2), (Kind::Live, 3)] {
        publish(&gateway, frame(kind, seq)).await;
        assert_eq!(soon(results.next()).await.unwrap().seq, seq);
    }
    assert_eq!(soon(working).await.unwrap(), [1, 2, 3]);
}

#[tokio::test]
async fn lanes_that_an_operator_deletes_are_made_again() {
    let server = NatsServer::start();
    let bus = bus(&server, Capacity::default()).await;
    let waiting = tokio::spawn({
        let bus = bus.clone();
        async move { pull_one(&bus).await.frame.header.seq }
    });
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    for stream in ["test-infer-live", "test-infer-still"] {
        admin.delete_stream(stream).await.unwrap();
    }
    publish(&bus, frame(Kind::Live, 5)).await;
    assert_eq!(soon(waiting).await.unwrap(), 5);
}

#[tokio::test]
async fn lanes_that_many_miss_are_made_once() {
    let server = NatsServer::start();
    let bus = bus(&server, Capacity::default()).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let admin = async_nats::jetstream::new(client.clone());
    admin.delete_stream("test-infer-still").await.unwrap();
    // What the server tells of each request to its API.
    let mut audit = client.subscribe("$JS.EVENT.ADVISORY.API").await.unwrap();
    client.flush().await.unwrap();
    let mut publishers = JoinSet::new();
    for seq in 0..16 {
        let bus = bus.clone();
        publishers.spawn(async move { bus.publish(Stage::Infer, frame(Kind::Still, seq)).await });
    }
    for published in soon(publishers.join_all()).await {
        published.unwrap();
    }
    // All that was asked has been told once it tells of this.
    admin.get_stream("test-annotate-live").await.unwrap();
    admin.delete_stream("test-annotate-live").await.unwrap();
    let mut made = 0;
    loop {
        let told = soon(audit.next()).await.unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.payload).unwrap();
        match told["subject"].as_str().unwrap() {
            "$JS.API.STREAM.DELETE.test-annotate-live" => break,
            subject => made += usize::from(subject.starts_with("$JS.API.CONSUMER.CREATE.test-infer-still.")),
        }
    }
    assert_eq!(made, 1);
}

#[tokio::test]
async fn a_bus_that_comes_before_its_server_waits_for_it() {
    let mut server = NatsServer::start();
    server.kill();
    // The first attempt is refused before the server is started again, on this same thread.
    let config = Config::at(server.url());
    let (bus, ()) = tokio::join!(Bus::nats(&config, Capacity::default()), async { server.start_again() });
    let bus = bus.unwrap();
    bus.publish(Stage::Infer, frame(Kind::Live, 1)).await.unwrap();
    assert_eq!(pull_one(&bus).await.frame.header.seq, 1);
}

#[tokio::test]
async fn a_lane_that_holds_too_many_bytes_does_not_speak_of_frames() {
    let server = NatsServer::start();
    let bus = bus(&server, Capacity::default()).await;
    // Less than we make it: a test need not fill 256 MiB.
    let admin = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let mut config = admin.get_stream("test-infer-still").await.unwrap().cached_info().config.clone();
    config.max_bytes = 2000;
    admin.update_stream(config).await.unwrap();
    let mut taken = 0;
    let refused = loop {
        match bus.publish(Stage::Infer, frame(Kind::Still, taken)).await {
            Ok(()) => taken += 1,
            Err(refused) => break refused,
        }
    };
    assert!((1..10).contains(&taken), "{taken}");
    let queue = Queue::Lane(Lane { stage: Stage::Infer, kind: Kind::Still });
    assert_eq!(refused, PublishError::Full { queue, bound: Bound::Bytes });
    assert!(!refused.to_string().contains("frames"), "{refused}");
}

#[tokio::test]
async fn what_a_gateway_publishes_again_goes_all_the_way_again() {
    let server = NatsServer::start();
    let [gateway, worker] =
        [bus(&server, Capacity::default()).await, bus(&server, Capacity::default()).await];
    for retries in 0..2 {
        let mut again = frame(Kind::Still, 2);
        again.header.retries = retries;
        gateway.publish(Stage::Infer, again.clone()).await.unwrap();
        let found = pull_one(&worker).await;
        worker.publish(Stage::Annotate, found.frame.clone()).await.unwrap();
        found.ack().await;
        // Drawn, and the overlay is lost on its way to the gateway, which alone has a new connection.
        let drawn = soon(worker.pull(Stage::Annotate, 1)).await.remove(0);
        assert_eq!(drawn.frame, again);
        drawn.ack().await;
    }
}

#[tokio::test]
async fn a_dead_process_keeps_no_still_and_takes_no_live_frame_back() {
    let server = NatsServer::start();
    let gateway = bus(&server, Capacity::default()).await;
    gateway.publish(Stage::Infer, frame(Kind::Live, 1)).await.unwrap();
    gateway.publish(Stage::Infer, frame(Kind::Still, 2)).await.unwrap();
    let published = Instant::now();
    let url = &server;
    // Its runtime ends with the frames in hand, as a killed process does: nobody is told.
    let mut taken = std::thread::scope(|scope| {
        let dying = scope.spawn(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let (taken, held) = runtime.block_on(async {
                let worker = bus(url, Capacity::default()).await;
                let mut held = Vec::new();
                while held.len() < 2 {
                    held.extend(soon(worker.pull(Stage::Infer, 2)).await);
                }
                (held.iter().map(|d| d.frame.header.seq).collect::<Vec<_>>(), held)
            });
            drop(runtime);
            drop(held);
            taken
        });
        dying.join().unwrap()
    });
    taken.sort_unstable();
    assert_eq!(taken, [1, 2]);
    let held = published.elapsed();
    let again = pull_one(&gateway).await;
    assert_eq!((again.frame.header.seq, again.attempt), (2, 2));
    assert!(again.waited >= held, "{:?}: counted from when it was first on the lane", again.waited);
    again.ack().await;
    // What else there is would come before what is published now.
    gateway.publish(Stage::Infer, frame(Kind::Live, 3)).await.unwrap();
    assert_eq!(pull_one(&gateway).await.frame.header.seq, 3);
}

#[tokio::test]
async fn a_still_is_kept_while_its_worker_lives() {
    let server = NatsServer::start();
    let [slow, idle] = [bus(&server, Capacity::default()).await, bus(&server, Capacity::default()).await];
    slow.publish(Stage::Infer, frame(Kind::Still, 1)).await.unwrap();
    let held = pull_one(&slow).await;
    // Longer than it takes to notice that a worker has died.
    let stolen = tokio::time::timeout(Duration::from_secs(5), idle.pull(Stage::Infer, 1)).await;
    assert!(stolen.is_err(), "{stolen:?}");
    held.ack().await;
}

#[tokio::test]
async fn a_still_that_the_broker_has_already_is_worked_on_once() {
    let server = NatsServer::start();
    let [gateway, worker] =
        [bus(&server, Capacity::default()).await, bus(&server, Capacity::default()).await];
    for _ in 0..2 {
        gateway.publish(Stage::Infer, frame(Kind::Still, 1)).await.unwrap();
    }
    pull_one(&worker).await.ack().await;
    // Also when it is done already; what was handed back is no second one.
    gateway.publish(Stage::Infer, frame(Kind::Still, 1)).await.unwrap();
    gateway.publish(Stage::Infer, frame(Kind::Still, 2)).await.unwrap();
    pull_one(&worker).await.hand_back().await;
    let last = pull_one(&worker).await;
    assert_eq!(last.frame.header.seq, 2);
    last.ack().await;
    assert_eq!(gateway.depth(Lane { stage: Stage::Infer, kind: Kind::Still }).await.frames, 0);
}

#[tokio::test]
async fn closing_hands_back_what_was_pulled_for_nobody() {
    let server = NatsServer::start();
    let [leaving, staying] =
        [bus(&server, Capacity::default()).await, bus(&server, Capacity::default()).await];
    for round in 0..5 {
        let sent = 4 * round + 1..=4 * round + 4;
        // What is asked for stands with the broker for a while after its worker has stopped waiting.
        let gone = tokio::time::timeout(Duration::from_millis(50), leaving.pull(Stage::Infer, 4)).await;
        assert!(gone.is_err());
        for seq in sent.clone() {
            leaving.publish(Stage::Infer, frame(Kind::Still, seq)).await.unwrap();
        }
        let mut seqs = Vec::new();
        while seqs.len() < 4 {
            for delivery in soon(staying.pull(Stage::Infer, 4)).await {
                assert_eq!(delivery.attempt, 1, "handing back costs no attempt");
                seqs.push(delivery.frame.header.seq);
                delivery.ack().await;
            }
        }
        seqs.sort_unstable();
        assert_eq!(seqs, sent.collect::<Vec<_>>());
    }
    leaving.close(CLOSING).await;
}

#[tokio::test]
async fn many_workers_share_a_lane_and_each_frame_is_taken_once() {
    const FRAMES: u64 = 300;
    let server = NatsServer::start();
    let capacity = Capacity { still_frames: 1000, ..Capacity::default() };
    let gateway = bus(&server, capacity).await;
    let (done, mut seen) = tokio::sync::mpsc::channel(FRAMES as usize * 2);
    for slots in [1, 2, 3] {
        let (worker, done) = (bus(&server, capacity).await, done.clone());
        tokio::spawn(async move {
            loop {
                for delivery in worker.pull(Stage::Infer, slots).await {
                    let Frame { header, .. } = &delivery.frame;
                    done.send((header.route.kind(), header.seq, delivery.attempt)).await.unwrap();
                    delivery.ack().await;
                }
            }
        });
    }
    for seq in 0..FRAMES {
        let kind = if seq % 3 == 0 { Kind::Still } else { Kind::Live };
        gateway.publish(Stage::Infer, frame(kind, seq)).await.unwrap();
    }
    let mut all = Vec::new();
    while all.len() < FRAMES as usize {
        let (_, seq, attempt) = soon(seen.recv()).await.unwrap();
        assert_eq!(attempt, 1, "frame {seq}");
        all.push(seq);
    }
    all.sort_unstable();
    assert_eq!(all, (0..FRAMES).collect::<Vec<_>>());
}

/// A worker with one slot that counts its frames; each takes a permit of `pace`.
struct Worker {
    done: Arc<AtomicUsize>,
    pace: Arc<Semaphore>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    async fn start(server: &NatsServer, turn: Turn) -> Self {
        let bus = bus_in_turn(server, Capacity::default(), turn).await;
        let (done, pace) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let stop = CancellationToken::new();
        let task = {
            let (done, pace, stop) = (done.clone(), pace.clone(), stop.clone());
            tokio::spawn(async move {
                work(&bus, Stage::Infer, (1, false), stop, |delivery, _| {
                    let (done, pace) = (done.clone(), pace.clone());
                    async move {
                        pace.acquire().await.unwrap().forget();
                        done.fetch_add(1, Ordering::Relaxed);
                        delivery.ack().await;
                    }
                })
                .await;
                bus.close(CLOSING).await;
            })
        };
        Self { done, pace, stop, task }
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn overflow_workers_take_what_the_first_have_no_hands_for() {
    let server = NatsServer::start();
    let gateway = bus(&server, Capacity::default()).await;
    let [fast, slow] =
        [Worker::start(&server, Turn::First).await, Worker::start(&server, Turn::Overflow).await];
    slow.pace.add_permits(1000);
    let both = |frames| {
        let (fast, slow) = (&fast, &slow);
        soon(async move {
            while fast.done() + slow.done() < frames {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    // Under capacity: the first is done before the next frame comes.
    fast.pace.add_permits(20);
    for seq in 0..20 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        gateway.publish(Stage::Infer, frame(Kind::Live, seq)).await.unwrap();
        both(seq as usize + 1).await;
    }
    assert!(slow.done() <= 5, "{} of 20 though the first was free", slow.done());
    // Over capacity: the first is busy with one frame.
    fast.pace.forget_permits(1000);
    let (before, next) = (slow.done(), 20 + 11);
    for seq in 20..next {
        gateway.publish(Stage::Infer, frame(Kind::Live, seq)).await.unwrap();
    }
    both(next as usize - 1).await;
    assert!(slow.done() >= before + 10, "{} of 10", slow.done() - before);
    // Alone: it takes everything.
    fast.pace.add_permits(1000);
    fast.stop.cancel();
    soon(fast.task).await.unwrap();
    let before = slow.done();
    for seq in next..next + 10 {
        gateway.publish(Stage::Infer, frame(Kind::Live, seq)).await.unwrap();
    }
    soon(async {
        while slow.done() < before + 10 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    slow.stop.cancel();
    soon(slow.task).await.unwrap();
}

#[tokio::test]
async fn a_frame_larger_than_the_server_carries_is_refused_with_the_name_of_the_setting() {
    let server = NatsServer::start();
    let bus = bus(&server, Capacity::default()).await;
    let limit = bus.max_image_bytes().unwrap();
    let of = |size| Frame { image: Bytes::from(vec![0; size]).into(), ..frame(Kind::Still, 2) };
    bus.publish(Stage::Infer, of(limit)).await.unwrap();
    assert_eq!(pull_one(&bus).await.frame.image.encode().unwrap().len(), limit);
    let refused = bus.publish(Stage::Infer, of(limit + (1 << 20))).await.unwrap_err();
    assert_eq!(refused.reason(), DropReason::TooLarge);
    assert!(refused.to_string().contains("max_payload"), "{refused}");
    // A result that has grown too large says so to its gateway.
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let overlay = Bytes::from(vec![0; limit + (1 << 20)]);
    bus.reply(frame(Kind::Still, 2).header.done(pose(2), Some(overlay))).await.unwrap();
    let told = soon(results.next()).await.unwrap();
    assert!(matches!(told.body, ResultBody::Dropped { reason: DropReason::TooLarge, .. }), "{told:?}");
}

#[tokio::test]
async fn strangers_messages_are_dropped_and_work_goes_on() {
    let server = NatsServer::start();
    let bus = bus(&server, Capacity::default()).await;
    let mut results = bus.results(&GatewayId::new("g").unwrap()).await;
    let mut events = bus.events().await;
    let stranger = async_nats::connect(server.url()).await.unwrap();
    let mut odd = async_nats::HeaderMap::new();
    odd.insert("Cloudpose-Frame", "{\"seq\":-1}");
    odd.insert("Cloudpose-Result", "null");
    let subjects = ["infer.live.x", "infer.still.x", "results.g.s", "poses.cam", "poses.x"];
    for subject in subjects.map(|subject| format!("test.{subject}")) {
        stranger.publish(subject.clone(), "hello".into()).await.unwrap();
        stranger.publish_with_headers(subject, odd.clone(), "hello".into()).await.unwrap();
    }
    // A live frame of a job, which cannot be: its job would wait for ever once it gave way to another.
    let of_job = serde_json::to_string(&frame_of_job("a", 1).header).unwrap();
    odd.insert("Cloudpose-Frame", of_job.replace(r#""kind":"still""#, r#""kind":"live""#));
    stranger.publish_with_headers("test.infer.live.job", odd, "hello".into()).await.unwrap();
    stranger.flush().await.unwrap();
    bus.publish(Stage::Infer, frame(Kind::Still, 1)).await.unwrap();
    let delivery = pull_one(&bus).await;
    assert_eq!(delivery.frame, frame(Kind::Still, 1));
    soon(async {
        let live = Lane { stage: Stage::Infer, kind: Kind::Live };
        while bus.depth(live).await != Depth::default() {
            assert_eq!(bus.pull(Stage::Infer, 1).now_or_never().map(|taken| taken.len()), None);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    bus.reply(delivery.frame.header.done(pose(1), None)).await.unwrap();
    bus.publish_event(&pose(1), &Default::default(), None, None).await;
    assert_eq!(soon(results.next()).await.unwrap().seq, 1);
    assert_eq!(soon(events.next()).await.unwrap(), pose(1));
}

#[tokio::test]
async fn a_gateway_that_does_not_read_slows_nobody_and_gets_what_comes_later() {
    let server = NatsServer::start();
    let [gateway, worker] =
        [bus(&server, Capacity::default()).await, bus(&server, Capacity::default()).await];
    let mut results = gateway.results(&GatewayId::new("g").unwrap()).await;
    let overlay = Bytes::from(vec![0; 10_000]);
    for seq in 0..3000 {
        soon(worker.reply(frame(Kind::Live, seq).header.done(pose(seq), Some(overlay.clone()))))
            .await
            .unwrap();
    }
    // Frames still flow through the very connection whose results nobody reads.
    gateway.publish(Stage::Infer, frame(Kind::Live, 1)).await.unwrap();
    pull_one(&gateway).await.ack().await;
    let mut read = 0;
    while let Ok(result) = tokio::time::timeout(Duration::from_millis(300), results.next()).await {
        assert!(result.is_some());
        read += 1;
    }
    assert!((1..3000).contains(&read), "{read}: what is kept for a slow reader is bounded");
    worker.reply(frame(Kind::Live, 3000).header.done(pose(3000), Some(overlay))).await.unwrap();
    assert_eq!(soon(results.next()).await.unwrap().seq, 3000);
}
