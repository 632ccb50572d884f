//! The Open Inference Protocol, on the wire.

use cloudpose_ingest::Config;
use cloudpose_wire::{DropReason, ModelInfo, Skeleton, Task};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};

use crate::stage::{JPEG, Server, soon};

/// A gateway whose worker says that it serves `fast`.
pub(crate) async fn server(config: Config) -> Server {
    let server = Server::with_worker(config).await;
    announce(&server);
    server
}

fn announce(server: &Server) {
    server.bus.announce(vec![ModelInfo {
        id: "fast".parse().unwrap(),
        title: "Fast".into(),
        summary: String::new(),
        task: Task::Pose { skeleton: Skeleton::coco_17() },
        input: "any".into(),
        source: "test".into(),
        licence: "Apache-2.0".into(),
    }]);
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
    let server = server(Config::default()).await;
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
async fn each_image_of_a_request_counts_for_its_tenant() {
    let quota = "photos=1,frames=0.01".parse().unwrap();
    let server = server(Config { tenant_quota: quota, ..Config::default() }).await;
    let binary = [element(JPEG), element(JPEG), element(JPEG)].concat();
    let request = json!({ "inputs": [image(3, binary.len())] });
    assert_eq!(infer(&server, &request, &binary).await.status(), 200);
    let refused = infer(&server, &request, &binary).await;
    assert_eq!(refused.status(), 429);
    // A hundredth of a frame a second.
    let again: u64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((250..=300).contains(&again), "{again}");
    assert_eq!(server.stop().await.accepted, 3);
}

#[tokio::test]
async fn statistics_tell_of_requests_and_images() {
    let server = server(Config::default()).await;
    let two = [element(JPEG), element(JPEG)].concat();
    infer(&server, &json!({ "inputs": [image(2, two.len())] }), &two).await;
    infer(&server, &json!({ "inputs": [] }), b"").await;
    let stats = async |path| -> Value {
        soon(Client::new().get(server.url(path)).send()).await.unwrap().json().await.unwrap()
    };
    let told = stats("/v2/models/fast/stats").await;
    assert_eq!(told, stats("/v2/models/stats").await);
    assert_eq!(told, stats("/v2/models/fast/versions/1/stats").await);
    let of_model = &told["model_stats"][0];
    assert_eq!((&of_model["name"], &of_model["inference_count"]), (&json!("fast"), &json!(2)));
    let sums = &of_model["inference_stats"];
    assert_eq!((&sums["success"]["count"], &sums["fail"]["count"]), (&json!(1), &json!(1)));
    let parts = ["queue", "compute_input", "compute_infer", "compute_output"];
    assert!(parts.iter().all(|part| sums[part]["count"] == 1), "{told}");
    let ns: u64 = parts.iter().map(|part| sums[part]["ns"].as_u64().unwrap()).sum();
    assert!(ns <= sums["success"]["ns"].as_u64().unwrap(), "{told}");
    assert_eq!(
        (&sums["cache_hit"], &sums["cache_miss"]),
        (&json!({"count": 0, "ns": 0}), &json!({"count": 0, "ns": 0}))
    );
    assert!(sums["success"]["ns"].as_u64() > Some(0), "{told}");
}

#[tokio::test]
async fn lengths_that_lie_are_refused_as_the_protocol_has_it() {
    let server = server(Config::default()).await;
    let body = json!({ "inputs": [image(1, 4 + JPEG.len())] }).to_string();
    let whole = [body.as_bytes(), &element(JPEG)].concat();
    let ask = async |length: &str, packing: &str, body: &[u8]| {
        let request = Client::new()
            .post(server.url("/v2/models/fast/infer"))
            .header("inference-header-content-length", length)
            .header("content-encoding", packing)
            .body(body.to_vec());
        let answer = soon(request.send()).await.unwrap();
        let status = answer.status().as_u16();
        let told: Value = answer.json().await.unwrap();
        (status, told["error"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(ask(&body.len().to_string(), "identity", &whole).await, (200, String::new()));
    for (length, packing, body, status) in [
        ("0", "identity", &whole[..], 400),
        (&(body.len() - 1).to_string(), "identity", &whole, 400),
        (&(body.len() + 1).to_string(), "identity", &whole, 400),
        ("18446744073709551615", "identity", &whole, 400),
        ("18446744073709551616", "identity", &whole, 400),
        ("-1", "identity", &whole, 400),
        (&body.len().to_string(), "identity", &whole[..whole.len() - 1], 400),
        (&body.len().to_string(), "identity", &[&whole[..], b"more"].concat(), 400),
        (&body.len().to_string(), "gzip", &whole, 400),
        (&body.len().to_string(), "deflate", &whole, 400),
        (&body.len().to_string(), "br", &whole, 415),
    ] {
        let (told, why) = ask(length, packing, body).await;
        assert_eq!(told, status, "{length} {packing}: {why}");
        assert!(!why.is_empty(), "{length} {packing}");
    }
}

#[tokio::test]
async fn errors_are_as_the_protocol_has_them() {
    let server = server(Config::default()).await;
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

#[tokio::test]
async fn problems_of_other_addresses_are_legible_too() {
    let server = server(Config::default()).await;
    let client = Client::new();
    let told = async |request: reqwest::RequestBuilder| {
        let answer = soon(request.send()).await.unwrap();
        let of_protocol = answer.url().path().starts_with("/v2/");
        let kind = if of_protocol { "application/json" } else { "application/problem+json" };
        assert_eq!(answer.headers()["content-type"], kind);
        let (status, length) = (answer.status().as_u16(), answer.content_length());
        let body = answer.bytes().await.unwrap();
        assert_eq!(length, Some(body.len() as u64));
        (status, serde_json::from_slice::<Value>(&body).unwrap())
    };
    let (status, nothing) = told(client.get(server.url("/v2/systemsharedmemory/status"))).await;
    assert_eq!((status, &nothing["type"]), (404, &json!("urn:cloudpose:problem:not-found")));
    assert!(nothing["error"].as_str().unwrap().contains("model_repository"), "{nothing}");
    let (status, method) = told(client.get(server.url("/v2/models/fast/infer"))).await;
    let words = format!("{}: {}", method["title"].as_str().unwrap(), method["detail"].as_str().unwrap());
    assert_eq!((status, method["error"].as_str()), (405, Some(&*words)));
    let (status, native) = told(client.get(server.url("/v2x"))).await;
    assert_eq!((status, native.get("error")), (404, None));
    assert_eq!(soon(client.get(server.url("/v2/")).send()).await.unwrap().status(), 200);
}

#[tokio::test]
async fn pixels_are_measured_as_they_come() {
    let server = server(Config { max_image_bytes: 48, ..Config::default() }).await;
    let pixels = |height| json!({ "name": "image", "shape": [1, height, 4, 3], "datatype": "UINT8", "parameters": { "binary_data_size": height * 12 } });
    let fits = infer(&server, &json!({ "inputs": [pixels(4)] }), &[0; 48]).await;
    assert_eq!(fits.status(), 200);
    let refused = infer(&server, &json!({ "inputs": [pixels(5)] }), &[0; 60]).await;
    assert_eq!(refused.status(), 413);
    let told: Value = refused.json().await.unwrap();
    assert!(
        told["error"].as_str().unwrap().starts_with("an image has 60 bytes (4×5×3), at most 48"),
        "{told}"
    );
    let refused = infer(&server, &json!({ "inputs": [] }), &vec![0; 1 << 20]).await;
    let told: Value = refused.json().await.unwrap();
    assert!(told["error"].as_str().unwrap().contains("send fewer images in a request, or files"), "{told}");
}

#[tokio::test]
async fn a_request_says_how_long_its_images_may_take() {
    let server = Server::start(Config::default()).await;
    announce(&server);
    let binary = element(JPEG);
    let timeout = json!({ "inputs": [image(1, binary.len())], "parameters": { "timeout": 50_000 } });
    let refused = infer(&server, &timeout, &binary).await;
    assert_eq!(refused.status(), 504);
    let told: Value = refused.json().await.unwrap();
    assert!(
        told["error"].as_str().unwrap().starts_with("no worker finished the image within 50ms; "),
        "{told}"
    );
    let longer = json!({ "inputs": [image(1, binary.len())], "parameters": { "timeout": 20_000_000 } });
    let (_, deadline) = tokio::join!(infer(&server, &longer, &binary), async {
        let frame = server.frame().await;
        let deadline = frame.frame.header.deadline_ms;
        server.bus.reply(frame.frame.header.dropped(DropReason::Expired, "")).await.unwrap();
        deadline
    });
    assert_eq!(deadline, 20_000);
}
