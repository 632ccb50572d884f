//! Jobs in a bucket are there again when all that held them was lost, if they were backed up as docs/runbook.md says: states
//! first, then objects, and brought back in the other order.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{fs, path::Path, time::Duration};

use async_nats::Client;
use bytes::Bytes;
use cloudpose_testing::{NatsServer, S3, golden, soon};
use futures_util::StreamExt as _;
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use server::Server;

const STATES: &str = "KV_cloudpose-jobs";

fn ingest(nats: &NatsServer, s3: &S3) -> Server {
    let options = ["--store", &s3.address(), "--model", "lightning"];
    Server::ingest_in(&s3.environment(), &nats.url(), &options)
}

fn infer(nats: &NatsServer) -> Server {
    Server::worker_with("infer", &nats.url(), &["--model", "lightning"])
}

/// Hands in a job, and returns its address.
async fn accepted(server: &Server, images: usize) -> String {
    let image = golden::jpeg("demo_f000");
    let form = (1..=images).fold(Form::new(), |form, number| {
        form.part("file", Part::bytes(image.clone()).file_name(format!("{number}.jpg")))
    });
    let request = reqwest::Client::new().post(server.url("/v1/jobs")).multipart(form);
    let response = soon(request.send()).await.unwrap();
    assert_eq!(response.status(), 202);
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// The job, as soon as so many of its images are done.
async fn until_done(server: &Server, job: &str, images: u64) {
    soon(async {
        loop {
            let told: Value = reqwest::get(server.url(job)).await.unwrap().json().await.unwrap();
            assert_eq!(told["failed"], 0, "{told}");
            if told["done"].as_u64() >= Some(images) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Waits until there are so many results of all jobs, and not longer.
async fn until_written(s3: &S3, results: usize) {
    let written = || {
        let uploads = fs::read_dir(s3.path().join("jobs")).into_iter().flatten();
        let results = uploads.filter_map(|upload| fs::read_dir(upload.unwrap().path().join("results")).ok());
        results.flatten().count()
    };
    soon(async {
        while written() < results {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn results(server: &Server, job: &str) -> String {
    let url = server.url(&format!("{job}/results"));
    soon(reqwest::get(url)).await.unwrap().text().await.unwrap()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let name = entry.unwrap().file_name();
        let (path, to) = (from.join(&name), to.join(&name));
        if path.is_dir() {
            copy(&path, &to);
        } else if !name.as_encoded_bytes().starts_with(b".") {
            // Others are no objects, or not yet.
            fs::copy(&path, &to).unwrap();
        }
    }
}

/// A stream as `nats stream backup` keeps it.
struct Backup {
    about: Value,
    chunks: Vec<Bytes>,
}

async fn ask(client: &Client, subject: String, body: Value) -> Value {
    let answer = client.request(subject, body.to_string().into()).await.unwrap();
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap();
    assert!(answer["error"].is_null(), "{answer}");
    answer
}

/// What `nats stream backup` asks for.
async fn back_up(nats: &NatsServer, stream: &str) -> Backup {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let inbox = client.new_inbox();
    let mut parts = client.subscribe(inbox.clone()).await.unwrap();
    let wanted = json!({ "deliver_subject": inbox, "chunk_size": 128 << 10 });
    let answer = ask(&client, format!("$JS.API.STREAM.SNAPSHOT.{stream}"), wanted).await;
    let about = json!({ "config": answer["config"], "state": answer["state"] });
    let mut chunks = Vec::new();
    loop {
        let part = soon(parts.next()).await.unwrap();
        if part.payload.is_empty() {
            assert_eq!(part.status.map(|status| status.as_u16()), None, "{part:?}");
            return Backup { about, chunks };
        }
        // The server sends more when it hears that some have come.
        if let Some(heard) = part.reply {
            client.publish(heard, Bytes::new()).await.unwrap();
        }
        chunks.push(part.payload);
    }
}

/// What `nats stream restore` sends.
async fn bring_back(nats: &NatsServer, stream: &str, Backup { about, chunks }: Backup) {
    let client = async_nats::connect(nats.url()).await.unwrap();
    let answer = ask(&client, format!("$JS.API.STREAM.RESTORE.{stream}"), about).await;
    let to = answer["deliver_subject"].as_str().unwrap().to_owned();
    for chunk in chunks {
        client.request(to.clone(), chunk).await.unwrap();
    }
    let done = client.request(to, Bytes::new()).await.unwrap();
    let done: Value = serde_json::from_slice(&done.payload).unwrap();
    assert!(done["error"].is_null() && done["state"]["messages"].as_u64() > Some(0), "{done}");
}

#[tokio::test]
async fn jobs_that_were_backed_up_are_there_again_and_go_on() {
    const ITEMS: usize = 100;
    let kept = tempfile::tempdir().unwrap();
    let (nats, s3) = (NatsServer::start(), S3::start());
    let (gateway, worker) = (ingest(&nats, &s3), infer(&nats));
    let done = accepted(&gateway, 2).await;
    until_done(&gateway, &done, 2).await;
    let found = results(&gateway, &done).await;
    let at_work = accepted(&gateway, ITEMS).await;
    until_written(&s3, 2 + 3).await;
    // In the middle, while the gateway works.
    worker.signal("-STOP");
    let states = back_up(&nats, STATES).await;
    copy(&s3.bucket(), kept.path());
    let written = results(&gateway, &at_work).await.lines().count();
    assert!((3..ITEMS).contains(&written), "{written} results");
    drop((gateway, worker, nats, s3));

    let (nats, s3) = (NatsServer::start(), S3::start());
    copy(kept.path(), &s3.bucket());
    bring_back(&nats, STATES, states).await;
    let (gateway, _worker) = (ingest(&nats, &s3), infer(&nats));
    assert_eq!(results(&gateway, &done).await, found);
    until_done(&gateway, &at_work, ITEMS as u64).await;
    let lines = results(&gateway, &at_work).await;
    let items: Vec<u64> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .inspect(|line| assert!(!line["event"]["persons"].as_array().unwrap().is_empty(), "{line}"))
        .map(|line| line["item"].as_u64().unwrap())
        .collect();
    assert_eq!(items, (1..=ITEMS as u64).collect::<Vec<_>>());
}
