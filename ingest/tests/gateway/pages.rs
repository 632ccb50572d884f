//! The page, the description of the API, and what monitors read.

use cloudpose_ingest::{CamerasConfig, Config};
use reqwest::{Client, Response};
use serde_json::Value;

use crate::stage::{self, Server, ops, soon};

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
        ("/docs/docs.js", "text/javascript; charset=utf-8"),
        ("/docs/docs.css", "text/css; charset=utf-8"),
        ("/docs/messages", "text/html; charset=utf-8"),
        ("/app.js", "text/javascript; charset=utf-8"),
        ("/client/cloudpose.js", "text/javascript; charset=utf-8"),
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
async fn what_monitors_ask_is_answered_beside_the_rest_and_in_its_manner() {
    let server = Server::with_worker(Config::default()).await;
    let health = get(&server, "/health", "*/*").await;
    assert_eq!(health.headers()["x-content-type-options"], "nosniff");
    assert_eq!(health.text().await.unwrap(), "alive");
    let posted = soon(Client::new().post(server.url("/health")).send()).await.unwrap();
    assert_eq!(posted.status(), 405);
    assert_eq!(posted.headers()["content-type"], "application/problem+json");
}

#[tokio::test]
async fn every_described_address_answers() {
    let camera = format!("door=file:{}/tests/images", env!("CARGO_MANIFEST_DIR"));
    let cameras = CamerasConfig { camera: vec![camera.parse().unwrap()], ..Default::default() };
    let server = Server::with_worker(Config { cameras, ..Config::default() }).await;
    let api: Value = get(&server, "/openapi.json", "*/*").await.json().await.unwrap();
    let paths = api["paths"].as_object().unwrap();
    assert!(paths.len() >= 4);
    let _sender = stage::Client::greeted(&server, "?stream=door").await;
    for path in paths.keys() {
        let status =
            get(&server, &path.replace("{stream}", "door").replace("{model}", "fast"), "*/*").await.status();
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
    let bus = cloudpose_bus::Bus::local(cloudpose_bus::Capacity::default());
    let books = cloudpose_ingest::Books::default();
    let error = cloudpose_ingest::Gateway::bind(config, bus, books, ops()).await.unwrap_err();
    assert!(error.to_string().contains(&server.address.to_string()), "{error}");
}
