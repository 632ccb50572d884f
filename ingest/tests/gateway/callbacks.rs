//! Callbacks of jobs: who is called, by whom, how often, and what their clients see of it.

use std::{fs, path::PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use cloudpose_ingest::{CallbackSecret, Config, JobsConfig};
use cloudpose_testing::{Call, Receiver, Reply};
use cloudpose_wire::Tenant;
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    jobs::{done, form, get, refused, status},
    stage::{JPEG, Server, soon},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A store, and the secret beside it.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.secret(), SECRET).unwrap();
        place
    }

    fn secret(&self) -> PathBuf {
        self.0.path().join("secret")
    }

    /// What may call this machine, and nobody else.
    fn config(&self) -> Config {
        let jobs = JobsConfig {
            store: Some(self.0.path().join("store").as_path().into()),
            callback_secret_file: Some(self.secret()),
            callback_allow: vec!["127.0.0.1".parse().unwrap()],
            ..JobsConfig::default()
        };
        Config { jobs, ..Config::default() }
    }
}

async fn hand_in(server: &Server, callback: &str, key: Option<&str>) -> reqwest::Response {
    let callback: String = url::form_urlencoded::byte_serialize(callback.as_bytes()).collect();
    let request = reqwest::Client::new().post(server.url(&format!("/v1/jobs?callback={callback}")));
    let request = request.multipart(form(&[("a", JPEG)]));
    let request = key.into_iter().fold(request, |request, key| request.header("idempotency-key", key));
    soon(request.send()).await.unwrap()
}

/// Hands in a job whose callback goes to `url`, and returns its address.
async fn calling(server: &Server, url: &str) -> String {
    let response = hand_in(server, url, None).await;
    assert_eq!(response.status(), 202);
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// The job, as soon as its callback is as `expected`.
async fn until(server: &Server, job: &str, expected: impl Fn(&Value) -> bool) -> Value {
    soon(async {
        loop {
            let job = status(server, job).await;
            if expected(&job["callback"]) {
                return job;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn again(server: &Server, job: &str) -> reqwest::Response {
    soon(reqwest::Client::new().post(server.url(&format!("{job}/callback"))).send()).await.unwrap()
}

/// Whether a receiver that was told the tenant's key finds that it signed this call.
fn is_signed(call: &Call, place: &Place) -> bool {
    let key = CallbackSecret::read(&place.secret()).unwrap().of(&Tenant::default());
    let key = STANDARD.decode(key.strip_prefix("whsec_").unwrap()).unwrap();
    let header = |name: &str| call.headers[name].as_str();
    let signed =
        [header("webhook-id"), header("webhook-timestamp"), std::str::from_utf8(&call.body).unwrap()];
    let signature = header("webhook-signature").strip_prefix("v1,").unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
    hmac::verify(&key, signed.join(".").as_bytes(), &signature).is_ok()
}

#[tokio::test]
async fn who_waits_is_called_when_the_job_is_done_and_can_tell_who_calls() {
    let (place, receiver) = (Place::new(), Receiver::start());
    let server = Server::with_worker(place.config()).await;
    let job = calling(&server, &receiver.url("/done?a=b#c")).await;
    let told = until(&server, &job, |callback| callback["state"] == "delivered").await;
    assert_eq!(
        told["callback"],
        json!({ "state": "delivered", "tries": 1, "last_error": null, "next_try_at": null })
    );
    let calls = receiver.calls("/done?a=b");
    let [call] = &calls[..] else { panic!("{calls:?}") };
    assert!(is_signed(call, &place));
    let mut forged = call.clone();
    forged.body[0] ^= 1;
    assert!(!is_signed(&forged, &place));
    assert_eq!(call.headers["content-type"], "application/json");
    let message: Value = serde_json::from_slice(&call.body).unwrap();
    let mut without = told.clone();
    without.as_object_mut().unwrap().remove("callback");
    assert_eq!((&message["type"], &message["data"]), (&json!("job.done"), &without));
    assert_eq!(message["links"], json!({ "job": job, "results": format!("{job}/results") }));
    let timestamp = message["timestamp"].as_str().unwrap();
    assert!(timestamp.ends_with('Z') && timestamp.len() == 24, "{timestamp}");

    // It wants it again: it sees that it is the same.
    let response = again(&server, &job).await;
    assert_eq!(response.status(), 202);
    until(&server, &job, |callback| callback["state"] == "delivered").await;
    let calls = receiver.calls("/done?a=b");
    assert_eq!((calls.len(), &calls[1].headers["webhook-id"]), (2, &call.headers["webhook-id"]));
    server.stop().await;
}

#[tokio::test]
async fn only_what_may_be_reached_is_called_whatever_its_name_leads_to() {
    let (place, receiver) = (Place::new(), Receiver::start());
    let server = Server::with_worker(place.config()).await;
    for url in [
        "app.example.com",
        "ftp://app.example.com/",
        "https://joe:hunter2@app.example.com/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706434/",
    ] {
        let detail = refused(hand_in(&server, url, None).await, 400, "bad-callback").await;
        assert!(!detail.contains("hunter2"), "{detail}");
    }
    // A name is looked up when it is called.
    let mut config = place.config();
    config.jobs.callback_allow.clear();
    config.jobs.store = Some(place.0.path().join("strict").as_path().into());
    let strict = Server::with_worker(config).await;
    let job = calling(&strict, &receiver.url("/").replace("127.0.0.1", "localhost")).await;
    let told = until(&strict, &job, |callback| callback["tries"] == 1).await;
    let why = told["callback"]["last_error"].as_str().unwrap();
    assert!(why.contains("this machine's own") && why.contains("--callback-allow"), "{why}");
    assert_eq!((&told["callback"]["state"], receiver.calls("/").len()), (&json!("waiting"), 0));
    strict.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn another_secret_signs_from_when_it_is_in_its_file() {
    let (place, receiver) = (Place::new(), Receiver::start());
    let server = Server::with_worker(place.config()).await;
    let job = calling(&server, &receiver.url("/done")).await;
    until(&server, &job, |callback| callback["state"] == "delivered").await;
    fs::write(place.secret(), SECRET.replace('0', "1")).unwrap();
    assert!(!is_signed(&receiver.calls("/done")[0], &place));
    soon(async {
        while !is_signed(receiver.calls("/done").last().unwrap(), &place) {
            assert_eq!(again(&server, &job).await.status(), 202);
            until(&server, &job, |callback| callback["state"] == "delivered").await;
        }
    })
    .await;
}

#[tokio::test]
async fn without_a_secret_none_is_promised() {
    let place = Place::new();
    let mut config = place.config();
    config.jobs.callback_secret_file = None;
    let server = Server::with_worker(config).await;
    let detail = refused(hand_in(&server, "https://app.example.com/", None).await, 501, "no-callbacks").await;
    assert!(detail.contains("--callback-secret-file"), "{detail}");
    server.stop().await;
}

#[tokio::test]
async fn one_that_never_answers_is_told_of_and_hinders_nobody() {
    let (place, silent, well) = (Place::new(), Receiver::start(), Receiver::start());
    silent.answer("/", Reply::Silence);
    well.answer("/flood", Reply::Flood);
    let server = Server::with_worker(place.config()).await;
    let mut waiting = Vec::new();
    for _ in 0..6 {
        waiting.push(calling(&server, &silent.url("/")).await);
    }
    for job in &waiting {
        done(&server, job).await;
    }
    let job = calling(&server, &well.url("/")).await;
    until(&server, &job, |callback| callback["state"] == "delivered").await;
    assert_eq!(well.calls("/").len(), 1);
    let flooding = calling(&server, &well.url("/flood")).await;
    until(&server, &flooding, |callback| callback["state"] == "delivered").await;
    let told = until(&server, &waiting[0], |callback| callback["tries"] == 1).await;
    let (callback, finished) = (&told["callback"], told["finished_at"].as_u64().unwrap());
    assert_eq!((&callback["state"], &told["state"]), (&json!("waiting"), &json!("done")));
    assert!(callback["last_error"].as_str().unwrap().contains("did not answer"), "{callback}");
    assert!(callback["next_try_at"].as_u64().unwrap() > finished + 10_000, "{callback}");
    server.token.cancel();
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_and_redirects_lead_nowhere() {
    let (place, receiver) = (Place::new(), Receiver::start());
    receiver.answer("/down", Reply::Status(503));
    receiver.answer("/moved", Reply::Status(302));
    let server = Server::with_worker(place.config()).await;
    let [down, moved] = [receiver.url("/down"), receiver.url("/moved")];
    let [down, moved] = [calling(&server, &down).await, calling(&server, &moved).await];
    for (job, status) in [(&down, "503"), (&moved, "302")] {
        let told = until(&server, job, |callback| callback["tries"] == 1).await;
        assert!(told["callback"]["last_error"].as_str().unwrap().contains(status), "{told}");
        assert_eq!(told["callback"]["state"], "waiting");
    }
    receiver.answer("/down", Reply::Status(204));
    let told = until(&server, &down, |callback| callback["state"] == "delivered").await;
    assert_eq!((&told["callback"]["tries"], &told["callback"]["last_error"]), (&json!(2), &Value::Null));
    let [first, second] = &receiver.calls("/down")[..] else { panic!("two calls") };
    assert_eq!(first.headers["webhook-id"], second.headers["webhook-id"]);
    assert!(is_signed(first, &place) && is_signed(second, &place));
    assert_eq!(receiver.calls("/elsewhere").len(), 0);
    server.stop().await;
}

#[tokio::test]
async fn what_is_given_up_is_listed_and_sent_again_when_somebody_asks() {
    let (place, receiver) = (Place::new(), Receiver::start());
    receiver.answer("/gone", Reply::Status(410));
    let server = Server::with_worker(place.config()).await;
    let dead = calling(&server, &receiver.url("/gone")).await;
    let told = until(&server, &dead, |callback| callback["state"] == "failed").await;
    assert_eq!((&told["callback"]["tries"], &told["callback"]["next_try_at"]), (&json!(1), &Value::Null));
    assert!(told["callback"]["last_error"].as_str().unwrap().contains("410"), "{told}");
    let well = calling(&server, &receiver.url("/")).await;
    until(&server, &well, |callback| callback["state"] == "delivered").await;
    let plain = reqwest::Client::new().post(server.url("/v1/jobs")).multipart(form(&[("a", JPEG)])).send();
    let plain = soon(plain).await.unwrap().headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(done(&server, &plain).await.get("callback"), None);

    let listed = async |query: &str| {
        let list: Value = get(&server, &format!("/v1/jobs{query}")).await.json().await.unwrap();
        let ids = list["jobs"].as_array().unwrap().iter();
        ids.map(|job| format!("/v1/jobs/{}", job["id"].as_str().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(listed("?callback=failed").await, [dead.as_str()]);
    assert_eq!(listed("?callback=waiting").await, [""; 0]);
    assert_eq!(listed("").await, [&*plain, &*well, &*dead], "the newest first");
    refused(get(&server, "/v1/jobs?callback=lost").await, 400, "bad-query").await;
    let detail = refused(again(&server, &plain).await, 409, "no-callback").await;
    assert!(detail.contains("without"), "{detail}");
    refused(again(&server, "/v1/jobs/job-0").await, 404, "no-job").await;

    receiver.answer("/gone", Reply::Status(200));
    assert_eq!(again(&server, &dead).await.status(), 202);
    until(&server, &dead, |callback| callback["state"] == "delivered").await;
    assert_eq!((receiver.calls("/gone").len(), listed("?callback=failed").await.len()), (2, 0));
    server.stop().await;
}

#[tokio::test]
async fn a_key_stands_for_one_callback() {
    let (place, receiver) = (Place::new(), Receiver::start());
    let server = Server::start(place.config()).await;
    let url = receiver.url("/");
    let first: Value = hand_in(&server, &url, Some("k")).await.json().await.unwrap();
    let same: Value = hand_in(&server, &url, Some("k")).await.json().await.unwrap();
    assert_eq!(first["id"], same["id"]);
    refused(hand_in(&server, &receiver.url("/other"), Some("k")).await, 422, "idempotency-key-reused").await;
    let job = format!("/v1/jobs/{}", first["id"].as_str().unwrap());
    let detail = refused(again(&server, &job).await, 409, "no-callback").await;
    assert!(detail.contains("not done"), "{detail}");
    server.work().await;
    until(&server, &job, |callback| callback["state"] == "delivered").await;
    assert_eq!(receiver.calls("/").len(), 1);
    server.stop().await;
}
