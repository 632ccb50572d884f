//! On NATS, where a lane is first come, first served, a gateway's streams have turns all the same.

use std::time::Duration;

use cloudpose_bus::{Capacity, Delivery};
use cloudpose_ingest::Config;
use cloudpose_policy::gate::most_out;
use cloudpose_testing::{NatsServer, sample::bus};
use cloudpose_wire::Stage;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::stage::{Client, JPEG, Server, finish, soon};

const SLOTS: usize = 1;

#[tokio::test]
async fn a_stream_that_sends_little_waits_for_one_frame_of_a_busy_one_behind_those_that_are_out() {
    let broker = NatsServer::start();
    let server = Server::with_bus(Config::default(), bus(&broker, Capacity::default()).await).await;
    let works = bus(&broker, Capacity::default()).await;
    works.announce(Vec::new());
    let (hand, mut handed) = mpsc::channel::<(Delivery, oneshot::Sender<()>)>(1);
    let (stop, of_worker) = (CancellationToken::new(), works.clone());
    let mut worker = JoinSet::new();
    let stopped = stop.clone();
    worker.spawn(async move {
        cloudpose_bus::work(&of_worker, Stage::Infer, (SLOTS, false), stopped, |delivery, _| {
            let hand = hand.clone();
            async move {
                let (done, is_done) = oneshot::channel();
                hand.send((delivery, done)).await.unwrap();
                is_done.await.unwrap();
            }
        })
        .await;
    });
    soon(async {
        while server.bus.first_come_slots() != Some(SLOTS) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;

    let mut busy = Vec::new();
    for _ in 0..12 {
        let mut client = Client::greeted(&server, "?stream=busy&mode=complete").await;
        client.image(JPEG).await;
        client.image(JPEG).await;
        busy.push(client);
    }
    server.ledger(|ledger| ledger.accepted == 24).await;
    let mut calm = Client::greeted(&server, "?stream=calm&mode=complete").await;
    calm.image(JPEG).await;
    server.ledger(|ledger| ledger.accepted == 25).await;
    let mut order = Vec::new();
    for _ in 0..25 {
        let (delivery, done) = soon(handed.recv()).await.unwrap();
        order.push(delivery.frame.header.stream.to_string());
        finish(&works, delivery).await;
        done.send(()).unwrap();
    }
    let place = order.iter().position(|stream| stream == "calm").unwrap();
    assert!(place <= most_out(SLOTS) + 1, "{place}: {order:?}");
    assert_eq!(calm.result(false).await, 1);
    for client in &mut busy {
        assert_eq!((client.result(false).await, client.result(false).await), (1, 2));
    }
    stop.cancel();
    server.stop().await;
}
