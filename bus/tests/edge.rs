//! An edge with its own queues on a leaf node, workers at the hub that help it, and a link that is cut.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

use std::{
    net::TcpListener as Port,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::jetstream::consumer::PullConsumer;
use cloudpose_bus::{
    Bus, Capacity, Results,
    nats::{Config, Turn},
    work,
};
use cloudpose_testing::{Link, NatsServer, sample::frame, soon};
use cloudpose_wire::{Domain, DropReason, GatewayId, Kind, Prefix, Stage, frame::ResultBody};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// A worker that answers with its site's name.
struct Site {
    done: Arc<AtomicUsize>,
    /// Work goes on while there are permits.
    gate: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Site {
    fn work(name: &'static str, bus: Bus) -> Self {
        let site =
            Self { done: Arc::default(), gate: Arc::new(Semaphore::new(1)), stop: CancellationToken::new() };
        let (done, gate, stop) = (site.done.clone(), site.gate.clone(), site.stop.clone());
        tokio::spawn(async move {
            work(&bus.clone(), Stage::Infer, (1, false), stop, move |delivery, _| {
                let (bus, done, gate) = (bus.clone(), done.clone(), gate.clone());
                async move {
                    let pass = gate.acquire().await.unwrap();
                    bus.reply(delivery.frame.header.dropped(DropReason::InferFailed, name)).await.unwrap();
                    done.fetch_add(1, Ordering::SeqCst);
                    drop(pass);
                    delivery.ack().await;
                }
            })
            .await;
        });
        site
    }

    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Every result, in the order of arrival: its `seq`, and the site that did it.
fn listen(mut results: Results) -> Arc<Mutex<Vec<(u64, String)>>> {
    let heard = Arc::<Mutex<Vec<_>>>::default();
    let writing = heard.clone();
    tokio::spawn(async move {
        while let Some(result) = results.next().await {
            let ResultBody::Dropped { detail, .. } = result.body else { panic!("{:?}", result.body) };
            writing.lock().unwrap().push((result.seq, detail));
        }
    });
    heard
}

/// Publishes frames `seqs` one after the other, each when the one before is answered; live ones that get lost
/// on the way are given up.
async fn stream(gateway: &Bus, heard: &Mutex<Vec<(u64, String)>>, kind: Kind, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        soon(gateway.publish(Stage::Infer, frame(kind, seq))).await.unwrap();
        let answered = async {
            while !heard.lock().unwrap().iter().any(|(answered, _)| *answered == seq) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match kind {
            Kind::Still => soon(answered).await,
            Kind::Live => drop(tokio::time::timeout(Duration::from_millis(500), answered).await),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_goes_on_alone_and_takes_help_when_there_is_some() {
    // Port 7422 of our configuration may be taken here.
    let leaf_port = Port::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let folder = tempfile::tempdir().unwrap();
    let shipped = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/nats/hub.conf"));
    let config = folder.path().join("hub.conf");
    std::fs::write(&config, shipped.unwrap().replace("0.0.0.0:7422", &format!("127.0.0.1:{leaf_port}")))
        .unwrap();
    let hub = NatsServer::with(&config, [("CLOUDPOSE_LEAF_PASSWORD", "secret")]);
    let mut link = Link::to(leaf_port).await;
    let port = link.port();
    let url = format!("nats-leaf://edge:secret@127.0.0.1:{port}");
    let edge = NatsServer::with("edge.conf", [("CLOUDPOSE_HUB", &*url)]);

    let bus = async |server: &NatsServer, turn, domain: Option<&str>| {
        let config = Config {
            prefix: Prefix::new("edge").unwrap(),
            domain: domain.map(|name| Domain::new(name).unwrap()),
            turn,
            ..Config::at(server.url())
        };
        soon(async {
            loop {
                // Until the leaf node has found its hub, the domain is unknown there.
                match Bus::nats(&config, Capacity::default()).await {
                    Ok(bus) => break bus,
                    Err(error) => eprintln!("not yet: {error}"),
                }
            }
        })
        .await
    };
    let gateway = bus(&edge, Turn::First, None).await;
    let heard = listen(gateway.results(&GatewayId::new("g").unwrap()).await);
    let near = Site::work("edge", bus(&edge, Turn::Overflow, None).await);
    let far = Site::work("hub", bus(&hub, Turn::First, Some("edge")).await);

    // The hub's worker asks a moment after it has come up.
    soon(async {
        let mut seq = 1;
        while far.done() == 0 {
            stream(&gateway, &heard, Kind::Live, seq..seq + 1).await;
            seq += 1;
        }
    })
    .await;
    let before = near.done();
    for seq in 1000..1020 {
        both_wait(&edge).await;
        stream(&gateway, &heard, Kind::Live, seq..seq + 1).await;
    }
    assert_eq!(near.done() - before, 0, "of 20 at the edge though the hub was free");

    // The link breaks while the hub has a still in its hands.
    let held = far.gate.clone().acquire_owned().await.unwrap();
    gateway.publish(Stage::Infer, frame(Kind::Still, 2000)).await.unwrap();
    soon(async {
        while far.gate.available_permits() > 0 || gateway.depth(infer_still()).await.frames > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    link.cut().await;
    stream(&gateway, &heard, Kind::Still, 2001..2010).await;
    stream(&gateway, &heard, Kind::Live, 3000..3020).await;
    soon(async {
        while !heard.lock().unwrap().iter().any(|(seq, _)| *seq == 2000) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let alone = heard.lock().unwrap().clone();
    assert!(alone.iter().all(|(seq, by)| *seq < 2000 || by == "edge"), "{alone:?}");
    assert!(alone.iter().filter(|(seq, _)| *seq >= 3000).count() >= 19, "{alone:?}");

    // The hub finishes what it has, which nobody hears; the link comes back, and with it its help.
    drop(held);
    link.restore();
    let before = far.done();
    soon(async {
        let mut seq = 4000;
        while far.done() < before + 10 {
            stream(&gateway, &heard, Kind::Still, seq..seq + 1).await;
            seq += 1;
        }
    })
    .await;
    assert_eq!(gateway.depth(infer_still()).await.frames, 0, "nothing is left over");
    let mut answered: Vec<u64> = heard.lock().unwrap().iter().map(|(seq, _)| *seq).collect();
    let all = answered.len();
    answered.sort_unstable();
    answered.dedup();
    assert_eq!(answered.len(), all, "nothing was done twice: {:?}", heard.lock().unwrap());
}

/// Waits until both workers' requests stand with the edge's broker.
async fn both_wait(edge: &NatsServer) {
    let broker = async_nats::jetstream::new(async_nats::connect(edge.url()).await.unwrap());
    let stream = broker.get_stream("edge-infer-live").await.unwrap();
    soon(async {
        loop {
            let consumer: PullConsumer = stream.get_consumer("workers").await.unwrap();
            if consumer.cached_info().num_waiting >= 2 {
                break;
            }
        }
    })
    .await;
}

fn infer_still() -> cloudpose_wire::Lane {
    cloudpose_wire::Lane { stage: Stage::Infer, kind: Kind::Still }
}
