//! Callbacks of jobs, when gateways die.

use std::{fs, time::Duration};

use cloudpose_testing::{NatsServer, Receiver, Reply, soon};
use serde_json::json;

use super::{Place, accepted, is_done, server::Server, until};

#[tokio::test]
async fn who_waits_is_called_once_though_the_process_died_before_it_was_heard() {
    dies_unheard(Place::folder()).await;
}

#[tokio::test]
async fn who_waits_for_a_job_in_a_bucket_is_called_once_though_the_process_died_before_it_was_heard() {
    dies_unheard(Place::bucket()).await;
}

async fn dies_unheard(place: Place) {
    let (receiver, secret) = (Receiver::start(), secret());
    let calling = calling(&secret);
    let calling: Vec<&str> = calling.iter().map(String::as_str).collect();
    let mut server = place.serve(&calling);
    receiver.answer("/done", Reply::Silence);
    let job = accepted(&server, 1, &format!("?callback={}", receiver.url("/done"))).await;
    called(&receiver, 1).await;
    server.signal("-KILL");
    server.exit_code();
    receiver.answer("/done", Reply::Status(200));
    let server = place.serve(&calling);
    let told = until(&server, &job, |job| job["callback"]["state"] == "delivered").await;
    assert_eq!((&told["state"], &told["callback"]["tries"]), (&json!("done"), &json!(1)), "{told}");
    let calls = receiver.calls("/done");
    assert_eq!((calls.len(), calls[1].reply), (2, Reply::Status(200)));
    assert_eq!(calls[0].headers["webhook-id"], calls[1].headers["webhook-id"]);
}

#[tokio::test]
async fn another_gateway_calls_who_waits_when_the_one_that_did_has_died() {
    let (place, nats) = (Place::bucket(), NatsServer::start());
    let (receiver, secret) = (Receiver::start(), secret());
    let calling = calling(&secret);
    let calling: Vec<&str> = calling.iter().map(String::as_str).collect();
    let mut gateways = [&place, &place].map(|place| place.ingest_with(&nats, &calling));
    let _worker = Server::worker_with("infer", &nats.url(), &["--model", "lightning"]);
    receiver.answer("/done", Reply::Silence);
    let job = accepted(&gateways[0], 1, &format!("?callback={}", receiver.url("/done"))).await;
    called(&receiver, 1).await;
    // Whichever of them it was: the other takes an answer to its own call only.
    let told = until(&gateways[0], &job, is_done).await;
    assert_eq!(told["callback"]["state"], "waiting");
    let [first, second] = &mut gateways;
    first.signal("-KILL");
    first.exit_code();
    receiver.answer("/done", Reply::Status(200));
    let told = until(second, &job, |job| job["callback"]["state"] == "delivered").await;
    assert!(told["callback"]["tries"].as_u64().unwrap() <= 2, "{told}");
    let heard = receiver.calls("/done").into_iter().filter(|call| call.reply == Reply::Status(200)).count();
    assert_eq!(heard, 1);
}

/// A secret by which callbacks are signed.
fn secret() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "0123456789abcdef0123456789abcdef").unwrap();
    file
}

/// The options of a gateway that calls this machine.
fn calling(secret: &tempfile::NamedTempFile) -> [String; 4] {
    let path = secret.path().to_str().unwrap();
    ["--callback-secret-file", path, "--callback-allow", "127.0.0.0/8"].map(str::to_owned)
}

/// Waits until so many calls have come.
async fn called(receiver: &Receiver, calls: usize) {
    soon(async {
        while receiver.calls("/done").len() < calls {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
