//! Cameras that several gateways share, on a real nats-server.

use std::{collections::BTreeMap, time::Duration};

use cloudpose_bus::Capacity;
use cloudpose_testing::{NatsServer, sample::bus};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    cameras::{Camera, add, ask, config, live},
    stage::{Server, soon},
};

/// The cameras that a gateway lists, with one field of each.
async fn listed(server: &Server, field: &str) -> BTreeMap<String, Value> {
    let (_, list) = ask(server, Method::GET, "/v1/cameras", Value::Null).await;
    let cameras = list["cameras"].as_array().unwrap().iter();
    cameras.map(|camera| (camera["stream"].as_str().unwrap().to_owned(), camera[field].clone())).collect()
}

/// How many of the streams that there are come from a gateway: each camera's once.
async fn streams(server: &Server) -> BTreeMap<String, Value> {
    let (_, list) = ask(server, Method::GET, "/v1/streams", Value::Null).await;
    let streams = list["streams"].as_array().unwrap().iter();
    streams
        .map(|stream| (stream["stream"].as_str().unwrap().to_owned(), stream["sessions"].clone()))
        .collect()
}

#[tokio::test]
async fn any_gateway_tells_of_all_cameras_and_changes_them_and_who_leaves_gives_them_away() {
    let (nats, camera) = (NatsServer::start(), Camera::start().await);
    let one = Server::with_bus(config(), bus(&nats, Capacity::default()).await).await;
    let other = Server::with_bus(config(), bus(&nats, Capacity::default()).await).await;
    let names = ["a", "b", "c", "d"];
    for name in names {
        add(&one, name, &camera.url("/video")).await;
    }
    for name in names {
        live(&one, name).await;
        live(&other, name).await;
    }
    assert_eq!(listed(&one, "state").await, listed(&other, "state").await);
    // Each has one session, wherever it is.
    assert_eq!(streams(&other).await, names.map(|name| (name.to_owned(), json!(1))).into());
    for name in names {
        let path = format!("/v1/cameras/{name}");
        assert_eq!(ask(&other, Method::PATCH, &path, json!({ "fps": 4 })).await.0, 200);
        assert_eq!(ask(&one, Method::GET, &path, Value::Null).await.1["fps"], 4.0);
    }
    let again = json!({ "stream": "a", "url": camera.url("/video") });
    assert_eq!(ask(&other, Method::POST, "/v1/cameras", again).await.0, 409);
    assert_eq!(ask(&other, Method::DELETE, "/v1/cameras/a", Value::Null).await.0, 204);
    assert_eq!(ask(&one, Method::GET, "/v1/cameras/a", Value::Null).await.0, 404);
    one.stop().await;
    soon(async {
        while streams(&other).await.len() != 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for name in &names[1..] {
        live(&other, name).await;
    }
    other.stop().await;
}
