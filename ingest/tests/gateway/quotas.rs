//! What one tenant or one address may use.

use cloudpose_ingest::{
    AuthConfig, Config,
    keys::{Digest, Key, KeyFile, Scope},
};
use cloudpose_wire::DropReason;
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_tungstenite::{connect_async, tungstenite};

use crate::stage::{Client, Heard, JPEG, Server, soon};

fn of_tenant(quota: &str) -> Config {
    Config { tenant_quota: quota.parse().unwrap(), ..Config::default() }
}

fn of_address(quota: &str) -> Config {
    Config { address_quota: quota.parse().unwrap(), ..Config::default() }
}

async fn photo(server: &Server, key: &str) -> Response {
    let request = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    soon(request.bearer_auth(key).body(JPEG).send()).await.unwrap()
}

/// The problem of a request that was refused, and when to come again.
async fn refusal(response: Response) -> (String, u64) {
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let again = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    let problem: Value = soon(response.json()).await.unwrap();
    assert_eq!(problem["type"], "urn:cloudpose:problem:over-quota");
    (problem["detail"].as_str().unwrap().to_owned(), again)
}

#[tokio::test]
async fn photos_beyond_a_rate_are_refused_and_told_when_to_come_again() {
    for (config, whose, what) in [
        // A hundredth of a photo a second: the first one gets in, and uses up 100 s.
        (of_tenant("frames=0.01"), "your tenant", "frames a second"),
        (of_address("bytes=1"), "your address", "bytes a second"),
        (of_tenant("megapixels=0.000001"), "your tenant", "megapixels a second"),
        (of_tenant("cpu=0.0001"), "your tenant", "seconds of work a second"),
    ] {
        let server = Server::with_worker(config).await;
        assert_eq!(photo(&server, "").await.status(), StatusCode::OK, "{what}");
        let (detail, again) = refusal(photo(&server, "").await).await;
        assert!(detail.contains(whose) && detail.contains(what), "{detail}");
        assert!((20..=1000).contains(&again), "{what}: {again}");
        let ledger = server.stop().await;
        assert_eq!(ledger.accepted, 1, "{what}");
    }
}

#[tokio::test]
async fn photos_at_once_are_counted_until_they_are_answered() {
    let server = Server::start(of_address("photos=1")).await;
    let first = photo(&server, "");
    let then = async {
        let delivery = server.frame().await;
        let (detail, again) = refusal(photo(&server, "").await).await;
        assert!(detail.contains("images being worked on"), "{detail}");
        assert_eq!(again, 1);
        crate::stage::finish(&server.bus, delivery).await;
    };
    let (first, ()) = tokio::join!(first, then);
    assert_eq!(first.status(), StatusCode::OK);
    soon(first.bytes()).await.unwrap();
    let again = async {
        while photo(&server, "").await.status() != StatusCode::OK {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let work = async { server.work().await };
    soon(async { tokio::join!(again, work) }).await;
    server.stop().await;
}

#[tokio::test]
async fn sessions_at_once_are_counted_until_they_end() {
    let server = Server::with_worker(of_tenant("sessions=1")).await;
    let client = Client::greeted(&server, "").await;
    let url = format!("ws://{}/v1/stream", server.address);
    match soon(connect_async(&url)).await {
        Err(tungstenite::Error::Http(response)) => {
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()["retry-after"], "1");
            let body = String::from_utf8_lossy(response.body().as_deref().unwrap_or_default()).into_owned();
            assert!(body.contains("your tenant has as many sessions as it may: 1"), "{body}");
        }
        other => panic!("{other:?}"),
    }
    drop(client);
    soon(async {
        while connect_async(&url).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A connection on which something was asked for, and the head of the answer.
async fn asked(server: &Server, path: &str) -> (TcpStream, String) {
    let mut stream = soon(TcpStream::connect(server.address)).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    soon(stream.write_all(request.as_bytes())).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    (stream, String::from_utf8(head).unwrap().to_lowercase())
}

#[tokio::test]
async fn connections_of_a_tenant_are_counted_until_they_end() {
    for (config, whose) in
        [(of_tenant("connections=2"), "your tenant"), (of_address("connections=2"), "your address")]
    {
        let server = Server::with_worker(config).await;
        let client = Client::greeted(&server, "").await;
        let (kept, head) = asked(&server, "/v1/models").await;
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let (mut refused, head) = asked(&server, "/v1/models").await;
        assert!(head.starts_with("http/1.1 429") && head.contains("connection: close"), "{head}");
        let mut problem = String::new();
        soon(refused.read_to_string(&mut problem)).await.unwrap();
        assert!(problem.contains("over-quota") && problem.contains(whose), "{problem}");
        let (_, head) = asked(&server, "/openapi.json").await;
        assert!(head.starts_with("http/1.1 200"), "who is not asked for a key is not counted: {head}");
        drop((kept, client));
        for _ in 0..2 {
            soon(async {
                while !asked(&server, "/v1/models").await.1.starts_with("http/1.1 200") {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn live_frames_over_a_quota_are_dropped_with_their_reason() {
    let server = Server::with_worker(of_address("frames=0.01")).await;
    let mut client = Client::greeted(&server, "").await;
    client.text(r#"{"type":"configure","drops":true}"#).await;
    client.image(JPEG).await;
    assert_eq!(client.result(false).await, 1);
    client.image(JPEG).await;
    assert_eq!(client.dropped().await, (2, DropReason::OverQuota));
    client.text(r#"{"type":"end"}"#).await;
    assert!(matches!(client.next().await, Heard::Closed(1000)));
    let ledger = server.stop().await;
    assert_eq!((ledger.accepted, ledger.dropped[&DropReason::OverQuota]), (2, 1));
}

#[tokio::test]
async fn a_session_that_loses_no_frame_is_read_more_slowly_instead() {
    let server = Server::with_worker(of_tenant("frames=20")).await;
    let mut client = Client::greeted(&server, "?mode=complete").await;
    for _ in 0..30 {
        client.image(JPEG).await;
    }
    for seq in 1..=30 {
        assert_eq!(client.result(false).await, seq);
    }
    drop(client);
    assert_eq!(server.stop().await.dropped.len(), 0);
}

#[tokio::test]
async fn the_file_of_keys_says_what_each_tenant_may_use() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, json!({"keys": [], "quotas": {"acme": {"frames": 0.01}}}).to_string()).unwrap();
    for tenant in ["acme", "other"] {
        let key = Key {
            name: "door".parse().unwrap(),
            tenant: tenant.parse().unwrap(),
            scopes: [Scope::Photo].into(),
            expires: None,
            sha256: Digest::of(tenant),
        };
        KeyFile::new(&path).add(key).unwrap();
    }
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(kept["quotas"], json!({"acme": {"frames": 0.01}}), "changing keys leaves quotas as they are");
    let auth = AuthConfig { keys: Some(path.clone()), ..AuthConfig::default() };
    let server = Server::with_worker(Config { auth, ..Config::default() }).await;
    assert_eq!(photo(&server, "acme").await.status(), StatusCode::OK);
    refusal(photo(&server, "acme").await).await;
    for _ in 0..3 {
        assert_eq!(photo(&server, "other").await.status(), StatusCode::OK);
    }
    std::fs::write(&path, json!({"keys": [], "quotas": {"acme": {"luck": 1}}}).to_string()).unwrap();
    let error = KeyFile::new(&path).read().unwrap_err().to_string();
    assert!(error.contains("tenant acme") && error.contains("luck"), "{error}");
}
