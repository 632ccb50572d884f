//! A gateway for the targets that are its clients.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::LazyLock,
    time::Duration,
};

use clap::Parser as _;
use cloudpose_bus::{Bus, Capacity};
use cloudpose_ingest::{Books, Config, Gateway, Ops, Patience};
use cloudpose_wire::{DropReason, Stage};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

#[derive(clap::Parser)]
struct Options {
    #[command(flatten)]
    gateway: Config,
}

/// Where it listens. It goes on as long as the process.
static GATEWAY: LazyLock<SocketAddr> = LazyLock::new(|| {
    let runtime = Box::leak(Box::new(Runtime::new().expect("there are threads")));
    runtime.block_on(async {
        let bus = Bus::local(Capacity::default());
        let store = tempfile::tempdir().expect("there is a place for files").keep();
        let options = ["fuzz", "--listen", "127.0.0.1:0", "--store-ttl", "2s", "--max-jobs", "1000000", "--store"];
        let options = options.iter().map(Into::into).chain([store.into_os_string()]);
        let config = Options::parse_from(options).gateway;
        let ops = Ops { routes: axum::Router::new(), api: Default::default() };
        let gateway = Gateway::bind(config, bus.clone(), Books::default(), ops).await.expect("a port is free");
        let address = gateway.local_addr().expect("it has a port");
        let patience = Patience { frames: Duration::ZERO, farewells: Duration::ZERO };
        tokio::spawn(gateway.run(CancellationToken::new(), patience));
        // Whatever comes is worked on at once.
        tokio::spawn(async move {
            loop {
                for delivery in bus.pull(Stage::Infer, 4).await {
                    let result = delivery.frame.header.dropped(DropReason::InferFailed, "nobody looks");
                    delivery.finish(&bus, result).await;
                }
            }
        });
        address
    })
});

/// Sends all, then listens until the gateway closes, which it does: an address that never would hangs the target, and is found.
pub fn say(bytes: &[u8]) {
    let mut stream = TcpStream::connect(*GATEWAY).expect("it listens");
    // It may close before it has read all.
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    if sent.is_ok() {
        while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
    }
}
