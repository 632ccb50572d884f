//! Where monitors find health, readiness and metrics: the application as a library, in this process. Metrics belong to a
//! process, and nextest gives each test its own.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its task"
)]

use std::{net::SocketAddr, time::Duration};

use cloudpose::{App, Config};
use reqwest::{Client, Response};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Served {
    clients: SocketAddr,
    ops: Option<SocketAddr>,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Served {
    /// Every role, ready.
    async fn start(options: &[&str]) -> Self {
        let line = [&["serve", "--listen", "127.0.0.1:0", "--model", "lightning"], options].concat();
        let app = App::load(Config::from_arguments(line).unwrap()).await.unwrap();
        let (clients, ops, stop) = (app.clients().unwrap(), app.ops(), CancellationToken::new());
        let ended = tokio::spawn(app.run(stop.clone(), Duration::from_secs(60)));
        let served = Self { clients, ops, stop, ended };
        while get(clients, "/ready").await.status() != 200 {
            tokio::task::yield_now().await;
        }
        served
    }

    async fn end(self) {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

async fn get(address: SocketAddr, path: &str) -> Response {
    Client::new().get(format!("http://{address}{path}")).send().await.unwrap()
}

/// What the address answers: status, content type, body.
async fn answer(address: SocketAddr, path: &str) -> (u16, String, String) {
    let response = get(address, path).await;
    let kind = response.headers()["content-type"].to_str().unwrap().to_owned();
    (response.status().as_u16(), kind, response.text().await.unwrap())
}

fn word(status: u16, word: &str) -> (u16, String, String) {
    (status, "application/json".into(), format!(r#"{{"status":"{word}"}}"#))
}

async fn are_metrics(address: SocketAddr) {
    let (status, kind, page) = answer(address, "/metrics").await;
    assert_eq!((status, kind.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    for metric in [r#"cloudpose_ready{role="serve"} 1"#, "cloudpose_frames_accepted_total{", "process_"] {
        assert!(page.contains(metric), "{metric} in {page}");
    }
}

/// What `/openapi.json` describes is there.
async fn described(address: SocketAddr) -> Vec<String> {
    let api: serde_json::Value = get(address, "/openapi.json").await.json().await.unwrap();
    let paths: Vec<String> = api["paths"].as_object().unwrap().keys().cloned().collect();
    for path in &paths {
        let answer = get(address, &path.replace("{model}", "fast").replace("{version}", "1")).await;
        // A stream that nobody sends is not there either, nor its camera.
        let is_there = answer.status() != 404 || {
            let problem = answer.text().await.unwrap();
            problem.contains("no-stream") || problem.contains("no-camera")
        };
        assert!(is_there, "{path}");
    }
    assert!(api["components"]["schemas"]["Status"].is_object());
    paths
}

#[tokio::test]
async fn without_a_port_of_their_own_monitors_ask_where_clients_come() {
    let served = Served::start(&[]).await;
    assert_eq!(served.ops, None);
    assert_eq!(answer(served.clients, "/health").await, word(200, "ok"));
    assert_eq!(answer(served.clients, "/ready").await, word(200, "ready"));
    are_metrics(served.clients).await;
    assert!(described(served.clients).await.contains(&"/metrics".to_owned()));
    served.end().await;
}

#[tokio::test]
async fn with_a_port_of_their_own_clients_are_not_told_the_metrics() {
    let served = Served::start(&["--ops-listen", "127.0.0.1:0"]).await;
    let ops = served.ops.unwrap();
    for address in [served.clients, ops] {
        assert_eq!(answer(address, "/health").await, word(200, "ok"));
        assert_eq!(answer(address, "/ready").await, word(200, "ready"));
    }
    are_metrics(ops).await;
    let (status, kind, problem) = answer(served.clients, "/metrics").await;
    assert_eq!((status, kind.as_str()), (404, "application/problem+json"));
    assert!(problem.contains("urn:cloudpose:problem:not-found"), "{problem}");
    assert!(!described(served.clients).await.contains(&"/metrics".to_owned()));
    served.end().await;
}

/// What `cloudpose` says to `line` with environment variables `set`, none of which it understands.
fn refused(line: &str, set: &[(&str, &str)]) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpose"));
    let told = command.args(line.split(' ')).envs(set.iter().copied()).output().unwrap();
    assert_eq!(told.status.code(), Some(64), "{told:?}");
    String::from_utf8(told.stderr).unwrap()
}

#[test]
fn workers_still_know_the_earlier_variable_and_gateways_never_did() {
    let old = ("CLOUDPOSE_METRICS_LISTEN", "by-the-old-name");
    let new = ("CLOUDPOSE_OPS_LISTEN", "by-the-new-name");
    for role in ["infer", "annotate"] {
        let line = format!("{role} --nats nats://a");
        assert!(refused(&line, &[old]).contains(old.1));
        assert!(refused(&line, &[old, new]).contains(new.1), "the new name counts first");
    }
    for line in ["serve --max-age nothing", "ingest --nats nats://a --max-age nothing"] {
        assert!(refused(line, &[old]).contains("--max-age"));
        assert!(refused(&line.replace(" --max-age nothing", ""), &[new]).contains(new.1));
    }
}
