//! The page, the description of the API, and what monitors read.

use cloudpose_ingest::Config;
use reqwest::{Client, Response};
use serde_json::{Value, json};

use crate::stage::{Server, soon};

async fn get(server: &Server, path: &str, accept: &str) -> Response {
    soon(Client::new().get(server.url(path)).header("accept", accept).send()).await.unwrap()
}

#[tokio::test]
async fn browsers_get_the_page_and_programs_a_word() {
    let server = Server::with_worker(Config::default()).await;
    let page = get(&server, "/", "text/html,application/xhtml+xml,*/*;q=0.8").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert!(page.text().await.unwrap().contains("<title>CloudPose"));
    let word: Value = get(&server, "/", "*/*").await.json().await.unwrap();
    assert!(word["message"].as_str().unwrap().contains("CloudPose"), "{word}");
}

#[tokio::test]
async fn pages_take_nothing_from_outside() {
    let server = Server::with_worker(Config::default()).await;
    for (path, kind) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs.js", "text/javascript; charset=utf-8"),
        ("/docs.css", "text/css; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
    ] {
        let response = get(&server, path, "*/*").await;
        assert_eq!(response.status(), 200, "{path}");
        assert_eq!(response.headers()["content-type"], kind, "{path}");
        let text = response.text().await.unwrap();
        assert!(!text.contains("https://") && !text.contains("http://"), "{path}");
    }
}

#[tokio::test]
async fn alive_and_ready_are_two_things() {
    let server = Server::with_worker(Config::default()).await;
    let ready = async || get(&server, "/ready", "*/*").await.status().as_u16();
    assert_eq!(ready().await, 200);
    server.ready.send(false).unwrap();
    assert_eq!(ready().await, 503);
    let health = get(&server, "/health", "*/*").await;
    assert_eq!(health.status(), 200);
    assert_eq!(health.json::<Value>().await.unwrap(), json!({ "status": "ok" }));
}

#[tokio::test]
async fn metrics_are_the_recorders() {
    let server = Server::with_worker(Config::default()).await;
    let response = get(&server, "/metrics", "*/*").await;
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert_eq!(response.text().await.unwrap(), "a_metric 1\n");
}

#[tokio::test]
async fn every_described_address_answers() {
    let server = Server::with_worker(Config::default()).await;
    let api: Value = get(&server, "/openapi.json", "*/*").await.json().await.unwrap();
    let paths = api["paths"].as_object().unwrap();
    assert!(paths.len() >= 7);
    for path in paths.keys() {
        let status = get(&server, path, "*/*").await.status();
        assert_ne!(status, 404, "{path}");
    }
    assert_eq!(get(&server, "/v1/stream", "*/*").await.status(), 426);
}

#[tokio::test]
async fn wrong_address_and_wrong_method_are_problems() {
    let server = Server::with_worker(Config::default()).await;
    for path in ["/nothing", "/v1/nothing", "/../etc/passwd", "/index.html"] {
        let response = get(&server, path, "*/*").await;
        assert_eq!(response.status(), 404, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json");
    }
    let response = get(&server, "/v1/pose", "*/*").await;
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "POST");
    assert_eq!(response.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn taken_address_is_an_error_that_names_it() {
    let server = Server::with_worker(Config::default()).await;
    let config = Config { listen: server.address, ..Config::default() };
    let probes = cloudpose_ingest::Probes {
        ready: tokio::sync::watch::channel(true).1,
        metrics: std::sync::Arc::new(String::new),
    };
    let bus = cloudpose_bus::Bus::local(cloudpose_bus::Limits::default());
    let error = cloudpose_ingest::Gateway::bind(config, bus, probes).await.unwrap_err();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}
