//! Who asks goes with the frame, whichever way he has said who he is.

use std::{net::SocketAddr, time::Duration};

use cloudpose_bus::{Bus, Capacity};
use cloudpose_wire::{DropReason, Output, Prefix, Stage, Tenant, subject};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::{Books, Config, Gateway, Ops, Patience};

/// Only a hang lasts longer.
const HANGS: Duration = Duration::from_secs(60);
const JPEG: &[u8] = include_bytes!("../../tests/images/small.jpg");

#[tokio::test]
async fn caller_travels_to_header_subject_ledger_and_metrics() {
    let recorder = PrometheusBuilder::new().build_recorder();
    // For this thread, on which all tasks of this test run.
    let _recording = ::metrics::set_default_local_recorder(&recorder);
    let caller = Caller {
        tenant: Tenant::new("acme").unwrap(),
        key: "door".parse().unwrap(),
        scopes: ["pose".parse().unwrap()].into(),
    };
    let config = Config { listen: SocketAddr::from(([127, 0, 0, 1], 0)), ..Config::default() };
    let (bus, books) = (Bus::local(Capacity::default()), Books::default());
    let ops = Ops { routes: axum::Router::new(), api: Default::default() };
    let mut gateway = Gateway::bind(config, bus.clone(), books.clone(), ops).await.unwrap();
    gateway.auth = Auth::Fixed(caller.clone());
    let url = format!("http://{}/v1/pose", gateway.local_addr().unwrap());
    let stop = CancellationToken::new();
    let patience = Patience { frames: HANGS, farewells: HANGS };
    let mut running = JoinSet::new();
    running.spawn(gateway.run(stop.clone(), patience));
    let mut posting = JoinSet::new();
    posting.spawn(reqwest::Client::new().post(url).header("content-type", "image/jpeg").body(JPEG).send());

    let delivery = bus.pull(Stage::Infer, 1).await.remove(0);
    let header = &delivery.frame.header;
    assert_eq!(header.caller, caller);
    let seated = r#"cloudpose_sessions{tenant="acme"} 1"#;
    assert!(recorder.handle().render().contains(seated), "{}", recorder.handle().render());
    let (tenant, classes) = (&header.caller.tenant, Output::Classes(Vec::new()));
    let to = subject::event(&Prefix::default(), tenant, &header.stream, &classes);
    assert_eq!(to, format!("cloudpose.tenants.acme.classes.{}", header.stream));
    bus.reply(header.dropped(DropReason::InferFailed, "")).await.unwrap();
    posting.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(books.total().dropped.get(&DropReason::InferFailed), Some(&1));
    let text = recorder.handle().render();
    let counted = r#"cloudpose_frames_total{kind="still",outcome="infer_failed",tenant="acme"} 1"#;
    assert!(text.contains(counted), "{text}");
    assert!(text.contains(r#"cloudpose_sessions{tenant="acme"} 0"#), "{text}");
    assert!(!text.contains("door"), "by tenant only: {text}");
    stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
}
