//! The Open Inference Protocol, on the wire.

use cloudpose_ingest::Config;
use cloudpose_wire::{ModelInfo, Skeleton, Task};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::stage::{JPEG, Server, soon};

/// A gateway whose worker says that it serves `fast`.
async fn server() -> Server {
    let server = Server::with_worker(Config::default()).await;
    server.bus.announce(vec![ModelInfo {
        id: "fast".parse().unwrap(),
        title: "Fast".into(),
        summary: String::new(),
        task: Task::Pose { skeleton: Skeleton::coco_17() },
        input: "any".into(),
        source: "test".into(),
        licence: "Apache-2.0".into(),
    }]);
    server
}

async fn infer(server: &Server, json: &Value, binary: &[u8]) -> Response {
    let json = json.to_string();
    let request = Client::new()
        .post(server.url("/v2/models/fast/infer"))
        .header("inference-header-content-length", json.len())
        .body([json.as_bytes(), binary].concat());
    soon(request.send()).await.unwrap()
}

fn image(count: usize, size: usize) -> Value {
    json!({ "name": "image", "shape": [count], "datatype": "BYTES", "parameters": { "binary_data_size": size } })
}

fn element(file: &[u8]) -> Vec<u8> {
    [&u32::try_from(file.len()).unwrap().to_le_bytes()[..], file].concat()
}

#[tokio::test]
async fn images_of_a_request_are_found_in_their_order() {
    let server = server().await;
    let binary = [element(JPEG), element(JPEG)].concat();
    let outputs = json!([{ "name": "boxes" }, { "name": "scores", "parameters": { "binary_data": true } }]);
    let request = json!({ "inputs": [image(2, binary.len())], "outputs": outputs });
    let answer = infer(&server, &request, &binary).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/octet-stream");
    let length: usize =
        answer.headers()["inference-header-content-length"].to_str().unwrap().parse().unwrap();
    let body = answer.bytes().await.unwrap();
    let told: Value = serde_json::from_slice(&body[..length]).unwrap();
    assert_eq!(told["outputs"][0]["data"], json!([1.0, 2.0, 3.5, 4.0, 1.0, 2.0, 3.5, 4.0]));
    assert_eq!(body[length..], [0.75f32, 0.75].map(f32::to_le_bytes).concat());
    let ledger = server.stop().await;
    assert_eq!(ledger.accepted, 2);
}

#[tokio::test]
async fn errors_are_as_the_protocol_has_them() {
    let server = server().await;
    let damaged = [element(JPEG), element(b"no image")].concat();
    let refused = infer(&server, &json!({ "inputs": [image(2, damaged.len())] }), &damaged).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused.headers()["content-type"], "application/json");
    let told: Value = refused.json().await.unwrap();
    assert!(told["error"].as_str().unwrap().starts_with("image 1: "), "{told}");
    let unready = soon(Client::new().get(server.url("/v2/models/yolo/ready")).send()).await.unwrap();
    assert_eq!(unready.status(), 404);
    let nobody = Server::start(Config::default()).await;
    let unready = soon(Client::new().get(nobody.url("/v2/health/ready")).send()).await.unwrap();
    assert_eq!(unready.status(), 503);
}
