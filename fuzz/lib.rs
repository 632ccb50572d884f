//! What targets share: a gateway for those that are its clients, and panics that are no finding.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    panic,
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
        let options =
            ["fuzz", "--listen", "127.0.0.1:0", "--store-ttl", "2s", "--max-jobs", "1000000", "--store"];
        let options = options.iter().map(Into::into).chain([store.into_os_string()]);
        let config = Options::parse_from(options).gateway;
        let ops = Ops { routes: axum::Router::new(), api: Default::default() };
        let gateway =
            Gateway::bind(config, bus.clone(), Books::default(), ops).await.expect("a port is free");
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

/// Sends all, then listens until the gateway closes, or says its `last` byte. It does one of both: an address that never would
/// hangs the target, and is found.
pub fn say(bytes: &[u8], last: Option<u8>) {
    let mut stream = TcpStream::connect(*GATEWAY).expect("it listens");
    // It may close before it has read all.
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut heard = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut heard) {
        if sent.is_err() || last.is_some_and(|last| heard[..length].contains(&last)) {
            break;
        }
    }
}

/// Panics in `crates` are caught where they are called, and what made them panic is refused there.
pub fn caught(crates: &'static [&'static str]) {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        let file = panicked.location().map_or("", |location| location.file());
        if !crates.iter().any(|name| file.contains(name)) {
            hook(panicked);
        }
    }));
}
