//! Cameras have their part of what their tenant may use.

use std::time::Duration;

use cloudpose_ingest::Config;
use reqwest::Method;
use serde_json::Value;
use tokio_tungstenite::connect_async;

use crate::{
    cameras::{Camera, add, ask, config, live, trouble},
    stage::{Server, soon},
};

fn with(quota: &str) -> Config {
    Config { tenant_quota: quota.parse().unwrap(), ..config() }
}

async fn can_stream(server: &Server) -> bool {
    let url = server.url("/v1/stream?stream=x").replace("http", "ws");
    soon(connect_async(url)).await.is_ok()
}

#[tokio::test]
async fn a_camera_is_one_of_its_tenants_sessions() {
    let (server, camera) = (Server::with_worker(with("sessions=1")).await, Camera::start().await);
    add(&server, "door", &camera.url("/video")).await;
    live(&server, "door").await;
    assert!(!can_stream(&server).await);
    add(&server, "yard", &camera.url("/video")).await;
    trouble(&server, "yard", "waiting", "as many sessions as it may: 1").await;
    ask(&server, Method::DELETE, "/v1/cameras/door", Value::Null).await;
    live(&server, "yard").await;
    ask(&server, Method::DELETE, "/v1/cameras/yard", Value::Null).await;
    soon(async {
        while !can_stream(&server).await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn no_more_of_its_frames_are_worked_on_than_its_tenant_may_send() {
    // A hundredth of a frame a second: the first one gets in, and uses up 100 s.
    let (server, camera) = (Server::with_worker(with("frames=0.01")).await, Camera::start().await);
    add(&server, "door", &camera.url("/video")).await;
    trouble(&server, "door", "live", "0.01 frames a second").await;
    let ledger = server.stop().await;
    assert_eq!(ledger.accepted, 1);
}
