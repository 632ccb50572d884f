//! Whose pages may use the gateway from a browser.

use cloudpose_ingest::{
    AuthConfig, Config,
    keys::{Digest, Key, KeyFile, Scope},
};
use reqwest::{Method, Response};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, client::IntoClientRequest as _},
};

use crate::stage::{JPEG, Server, soon};

const APP: &str = "https://app.example.com";
/// Another site, one whose page has no origin, and what is no origin.
const FOREIGN: [&str; 4] = ["https://evil.example", "http://app.example.com", "null", "nonsense"];
const CALLS: [&str; 5] =
    ["/v1/pose", "/v1/classify", "/predict", "/api/pose_detection", "/api/pose_detection_annotation"];

async fn server() -> Server {
    let auth = AuthConfig { allow_origin: vec![APP.parse().unwrap()], ..AuthConfig::default() };
    Server::with_worker(Config { auth, ..Config::default() }).await
}

async fn send(server: &Server, method: Method, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = reqwest::Client::new().request(method, server.url(path));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    soon(request.body(JPEG).send()).await.unwrap()
}

/// The status of an attempt to open a WebSocket.
async fn connect(server: &Server, origin: Option<&str>) -> u16 {
    let mut request = format!("ws://{}/v1/stream", server.address).into_client_request().unwrap();
    if let Some(origin) = origin {
        request.headers_mut().insert("origin", origin.parse().unwrap());
    }
    match soon(connect_async(request)).await {
        Ok((_, response)) => response.status().as_u16(),
        Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn pages_of_other_sites_are_refused_wherever_they_would_do_something() {
    let server = server().await;
    for origin in FOREIGN {
        for path in CALLS {
            // What a page may send without asking first, and what it may not.
            for kind in ["text/plain", "multipart/form-data; boundary=b", "application/json", "image/jpeg"] {
                let response =
                    send(&server, Method::POST, path, &[("origin", origin), ("content-type", kind)]).await;
                assert_eq!(response.status(), 403, "{origin} {path} {kind}");
                assert!(!response.headers().contains_key("access-control-allow-origin"));
                let problem: serde_json::Value = soon(response.json()).await.unwrap();
                assert_eq!(problem["type"], "urn:cloudpose:problem:foreign-origin");
            }
            let without = send(&server, Method::POST, path, &[("origin", origin)]).await;
            assert_eq!(without.status(), 403, "{origin} {path}: no content type");
        }
        assert_eq!(connect(&server, Some(origin)).await, 403, "{origin}");
    }
}

#[tokio::test]
async fn our_own_pages_allowed_sites_and_programs_pass() {
    let server = server().await;
    let own = format!("http://{}", server.address);
    for origin in [None, Some(own.as_str()), Some(APP)] {
        let headers = [("content-type", "image/jpeg"), ("origin", origin.unwrap_or_default())];
        let headers = &headers[..1 + usize::from(origin.is_some())];
        let response = send(&server, Method::POST, "/v1/pose", headers).await;
        assert_eq!(response.status(), 200, "{origin:?}");
        let allowed = response.headers().get("access-control-allow-origin");
        assert_eq!(allowed.map(|value| value.to_str().unwrap()), origin.filter(|origin| *origin == APP));
        assert_eq!(connect(&server, origin).await, 101, "{origin:?}");
    }
}

#[tokio::test]
async fn browsers_learn_before_they_send_what_allowed_sites_may() {
    let server = server().await;
    let ask = async |origin: &str| {
        let asks = [("origin", origin), ("access-control-request-method", "POST")];
        send(&server, Method::OPTIONS, "/v1/pose", &asks).await
    };
    let yes = ask(APP).await;
    assert_eq!(yes.status(), 204);
    let header = |name: &str| yes.headers()[name].to_str().unwrap();
    assert_eq!(header("access-control-allow-origin"), APP);
    assert!(header("access-control-allow-headers").contains("authorization"));
    assert_eq!(header("vary"), "origin");
    for origin in FOREIGN {
        let no = ask(origin).await;
        assert_eq!(no.status(), 405, "{origin}");
        assert!(!no.headers().contains_key("access-control-allow-origin"), "{origin}");
    }
}

#[tokio::test]
async fn a_key_does_not_help_a_foreign_page_and_an_allowed_one_reads_why_it_is_not_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let key = Key {
        name: "door".parse().unwrap(),
        tenant: Default::default(),
        scopes: [Scope::Photo].into(),
        expires: None,
        sha256: Digest::of("door"),
    };
    KeyFile::new(&path).add(key).unwrap();
    let auth =
        AuthConfig { keys: Some(path), allow_origin: vec![APP.parse().unwrap()], ..AuthConfig::default() };
    let server = Server::with_worker(Config { auth, ..Config::default() }).await;
    let photo = ("content-type", "image/jpeg");
    let shown = ("authorization", "Bearer door");
    let post = async |headers: &[(&str, &str)]| send(&server, Method::POST, "/v1/pose", headers).await;
    assert_eq!(post(&[photo, shown, ("origin", FOREIGN[0])]).await.status(), 403);
    assert_eq!(post(&[photo, shown, ("origin", APP)]).await.status(), 200);
    let denied = post(&[photo, ("origin", APP)]).await;
    assert_eq!(denied.status(), 401);
    assert_eq!(denied.headers()["access-control-allow-origin"], APP);
}
