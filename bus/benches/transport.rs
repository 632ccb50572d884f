//! What a frame costs on its way: through the local bus and through a real nats-server.
//!
//!     cargo bench -p cloudpose-bus --bench transport
//!
//! Every frame goes gateway → infer → annotate → gateway with workers that do nothing, in three connections as
//! three processes would have them. Processor time counts this process and nats-server.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark fails by panicking, waits for its tasks, and prints"
)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity, work};
use cloudpose_testing::{NatsServer, sample, soon};
use cloudpose_wire::{Frame, GatewayId, Kind, Stage};
use tokio_util::sync::CancellationToken;

const IMAGE_BYTES: usize = 100_000;
const ALONE: usize = 2000;
const TOGETHER: usize = 10_000;
const WINDOW: usize = 16;

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    println!(
        "| bus | median latency, one frame at a time | frames per second, {WINDOW} in flight | CPU per frame |"
    );
    println!("|---|---|---|---|");
    runtime.block_on(async {
        let local = Bus::local(Capacity::default());
        measure("local", [local.clone(), local.clone(), local], &[std::process::id()]).await;
        let server = NatsServer::start();
        let mut buses = Vec::new();
        for _ in 0..3 {
            buses.push(sample::bus(&server, Capacity::default()).await);
        }
        let pids = [std::process::id(), server.pid()];
        measure("NATS", buses.try_into().unwrap(), &pids).await;
    });
}

async fn measure(name: &str, [gateway, infer, annotate]: [Bus; 3], pids: &[u32]) {
    let stop = CancellationToken::new();
    for (bus, stage) in [(infer, Stage::Infer), (annotate, Stage::Annotate)] {
        let stop = stop.clone();
        tokio::spawn(async move {
            work(&bus, stage, (4, false), stop, |delivery, _| {
                let bus = bus.clone();
                async move {
                    let frame = delivery.frame.clone();
                    match stage {
                        Stage::Infer => {
                            let event = sample::pose(frame.header.seq);
                            bus.publish(Stage::Annotate, Frame { event: Some(event), ..frame })
                                .await
                                .unwrap();
                        }
                        Stage::Annotate => {
                            bus.reply(frame.header.done(frame.event.unwrap(), frame.image.encode().ok()))
                                .await
                                .unwrap();
                        }
                    }
                    delivery.ack().await;
                }
            })
            .await;
        });
    }
    let mut results = gateway.results(&GatewayId::new("g").unwrap()).await;
    let image = Bytes::from(vec![7; IMAGE_BYTES]);
    let frame = |seq| Frame { image: image.clone().into(), ..sample::frame(Kind::Live, seq) };

    let mut times = Vec::with_capacity(ALONE);
    for seq in 0..ALONE {
        let begun = Instant::now();
        gateway.publish(Stage::Infer, frame(seq as u64)).await.unwrap();
        soon(results.next()).await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort_unstable();

    let (begun, before) = (Instant::now(), processor_time(pids));
    let mut sent = 0;
    for done in 0..TOGETHER {
        while sent < TOGETHER && sent - done < WINDOW {
            gateway.publish(Stage::Infer, frame(sent as u64)).await.unwrap();
            sent += 1;
        }
        soon(results.next()).await.unwrap();
    }
    let (took, spent) = (begun.elapsed(), processor_time(pids) - before);
    println!(
        "| {name} | {:.3} ms | {:.0} | {:.3} ms |",
        times[ALONE / 2].as_secs_f64() * 1e3,
        TOGETHER as f64 / took.as_secs_f64(),
        spent.as_secs_f64() * 1e3 / TOGETHER as f64,
    );
    stop.cancel();
}

/// User and system time of the processes so far, to a hundredth of a second (Linux).
fn processor_time(pids: &[u32]) -> Duration {
    let ticks = pids.iter().map(|pid| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        // Fields 14 and 15; the second, in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    });
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
