//! Cameras of several gateways, as real processes: who is killed loses them to another.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cloudpose_testing::{NatsServer, golden, soon};
use serde_json::Value;
use server::Server;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// The cameras, once a gateway says that all are live; each since when, in milliseconds since 1970.
async fn live(gateway: &Server, cameras: usize, after: u64) -> Vec<u64> {
    soon(async {
        loop {
            let told: Value = reqwest::get(gateway.url("/v1/cameras")).await.unwrap().json().await.unwrap();
            let since: Vec<u64> = told["cameras"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|camera| camera["state"] == "live")
                .map(|camera| camera["since"].as_u64().unwrap())
                .collect();
            if since.len() == cameras && since.iter().any(|since| *since > after) {
                return since;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

/// Prints how long the cameras of the gateway that was killed were gone.
#[tokio::test]
async fn the_cameras_of_a_gateway_that_is_killed_are_fetched_by_another() {
    let nats = NatsServer::start();
    let pictures = tempfile::tempdir().unwrap();
    fs::write(pictures.path().join("1.jpg"), golden::jpeg("demo_f000")).unwrap();
    let camera = |name: &str| format!("{name}=file:{}", pictures.path().display());
    let (door, yard) = (camera("door"), camera("yard"));
    let options = ["--camera", &*door, "--camera", &*yard];
    let mut gateways = [Server::ingest(&nats.url(), &options), Server::ingest(&nats.url(), &options)];
    // Each fetches one: the other one's come and go by themselves.
    live(&gateways[0], 2, 0).await;
    soon(async {
        for gateway in &gateways {
            while taken(gateway).await == 0.0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    })
    .await;
    let killed = now();
    gateways[0].signal("-KILL");
    gateways[0].exit_code();
    let since = live(&gateways[1], 2, killed).await;
    let again: Vec<u64> =
        since.into_iter().filter(|since| *since > killed).map(|since| since - killed).collect();
    assert_eq!(again.len(), 1, "the other camera was fetched all the time");
    println!("live again {} ms after its gateway was killed", again[0]);
}

/// Frames that a gateway has taken from cameras.
async fn taken(gateway: &Server) -> f64 {
    let page = reqwest::get(gateway.url("/metrics")).await.unwrap().text().await.unwrap();
    let name = "cloudpose_camera_frames_total{outcome=\"taken\"} ";
    page.lines().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or_default()
}
