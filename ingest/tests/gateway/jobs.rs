//! Jobs: what a client sees, with a worker in the test's hands.

use std::{fs, path::Path, time::Duration};

use cloudpose_ingest::{
    AuthConfig, Config, JobsConfig,
    keys::{Digest, Key, KeyFile, Scope},
};
use cloudpose_wire::{Kind, Lane, Stage};
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

use crate::stage::{JPEG, PNG, Server, finish, overlay, soon};

pub(crate) struct Store(TempDir);

impl Store {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn jobs(&self) -> JobsConfig {
        JobsConfig { store: Some(self.path().into()), ..JobsConfig::default() }
    }

    pub(crate) fn config(&self) -> Config {
        Config { jobs: self.jobs(), ..Config::default() }
    }

    /// Waits until what was uploaded is in so many folders.
    pub(crate) async fn has(&self, uploads: usize) {
        soon(async {
            while self.uploads() != uploads {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Files that are being written.
    pub(crate) fn new_files(&self) -> usize {
        fs::read_dir(self.path().join("new")).unwrap().count()
    }

    /// Folders of what was uploaded.
    fn uploads(&self) -> usize {
        fs::read_dir(self.path().join("jobs")).map_or(0, Iterator::count)
    }
}

pub(crate) fn form(images: &[(&str, &'static [u8])]) -> Form {
    images.iter().fold(Form::new().text("note", "hello"), |form, (name, image)| {
        form.part("file", Part::bytes(*image).file_name((*name).to_owned()))
    })
}

async fn hand_in(server: &Server, query: &str, images: &[(&str, &'static [u8])]) -> Response {
    let request =
        reqwest::Client::new().post(server.url(&format!("/v1/jobs{query}"))).multipart(form(images));
    soon(request.send()).await.unwrap()
}

/// Hands in a job and returns its address.
pub(crate) async fn accepted(server: &Server, query: &str, images: &[(&str, &'static [u8])]) -> String {
    let response = hand_in(server, query, images).await;
    assert_eq!(response.status(), 202);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let job: Value = response.json().await.unwrap();
    assert_eq!(location, format!("/v1/jobs/{}", job["id"].as_str().unwrap()));
    assert_eq!((&job["items"], &job["done"]), (&json!(images.len()), &json!(0)));
    location
}

pub(crate) async fn get(server: &Server, path: &str) -> Response {
    soon(reqwest::get(server.url(path))).await.unwrap()
}

pub(crate) async fn status(server: &Server, job: &str) -> Value {
    get(server, job).await.json().await.unwrap()
}

/// Waits until the job is done.
pub(crate) async fn done(server: &Server, job: &str) -> Value {
    soon(async {
        loop {
            let job = status(server, job).await;
            if job["state"] == "done" {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

pub(crate) async fn lines(server: &Server, job: &str, query: &str) -> (Vec<Value>, Option<String>) {
    let response = get(server, &format!("{job}/results{query}")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/jsonl");
    let next = response.headers().get("link").map(|link| link.to_str().unwrap().to_owned());
    let text = response.text().await.unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), next)
}

pub(crate) async fn refused(response: Response, status: u16, kind: &str) -> String {
    assert_eq!(response.status(), status);
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["type"], format!("urn:cloudpose:problem:{kind}"), "{problem}");
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_job_tells_how_far_it_is_and_what_became_of_each_image() {
    let store = Store::new();
    let server = Server::with_worker(store.config()).await;
    let broken = &JPEG[..JPEG.len() - 2];
    let images: [(&str, &'static [u8]); 4] =
        [("a.jpg", JPEG), ("cut off.jpg", broken), ("no image", b"hello"), ("ä.png", PNG)];
    let job = accepted(&server, "?want=both&model=multipose", &images).await;
    let told = done(&server, &job).await;
    assert_eq!((&told["items"], &told["done"], &told["failed"]), (&json!(4), &json!(4), &json!(2)), "{told}");
    assert_eq!(
        (&told["progress"], &told["model"], &told["want"]),
        (&json!(1.0), &json!("multipose"), &json!("both"))
    );
    let errors = told["errors"].as_array().unwrap();
    let error =
        |at: usize| [&errors[at]["item"], &errors[at]["name"], &errors[at]["reason"]].map(Value::clone);
    assert_eq!(errors.len(), 2);
    assert_eq!(error(0), [json!(2), json!("cut off.jpg"), json!("undecodable")]);
    assert_eq!(error(1), [json!(3), json!("no image"), json!("undecodable")]);

    let (all, next) = lines(&server, &job, "").await;
    assert_eq!((all.len(), next), (4, None));
    for (line, (name, _)) in all.iter().zip(images) {
        assert_eq!(line["name"], name);
    }
    assert_eq!((&all[0]["item"], &all[0]["event"]["seq"]), (&json!(1), &json!(1)));
    assert_eq!(all[0]["event"]["persons"].as_array().unwrap().len(), 1);
    assert_eq!(all[2]["error"]["reason"], "undecodable");
    let (page, next) = lines(&server, &job, "?after=1&limit=2").await;
    assert_eq!(page, all[1..3]);
    assert_eq!(next, Some(format!("<{job}/results?after=3&limit=2>; rel=\"next\"")));

    let picture = get(&server, &format!("{job}/items/4/overlay")).await;
    assert_eq!(
        (picture.status().as_u16(), &picture.headers()["content-type"]),
        (200, &"image/jpeg".parse().unwrap())
    );
    assert_eq!(picture.bytes().await.unwrap(), overlay(4));
    let detail = refused(get(&server, &format!("{job}/items/2/overlay")).await, 404, "no-picture").await;
    assert!(detail.contains("see its result"), "{detail}");
    for item in ["0", "5", "x"] {
        let detail = refused(get(&server, &format!("{job}/items/{item}/overlay")).await, 404, "no-job").await;
        assert!(detail.contains("1 to 4"), "{detail}");
    }
    server.stop().await;
}

#[tokio::test]
async fn results_are_told_up_to_the_first_image_that_is_not_done() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let job = accepted(&server, "", &[("a", JPEG), ("b", JPEG), ("c", JPEG)]).await;
    let first = server.frame().await;
    let second = server.frame().await;
    assert_eq!((first.frame.header.seq, second.frame.header.seq), (1, 2));
    finish(&server.bus, second).await;
    soon(async {
        while status(&server, &job).await["done"] != 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(status(&server, &job).await["state"], "running");
    let (told, next) = lines(&server, &job, "").await;
    assert_eq!((told.len(), next.unwrap().contains("after=0")), (0, true));
    finish(&server.bus, first).await;
    soon(async {
        while lines(&server, &job, "").await.0.len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    server.work().await;
    assert_eq!(done(&server, &job).await["failed"], 0);
    refused(get(&server, &format!("{job}/items/1/overlay")).await, 404, "no-picture").await;
    for query in ["?limit=0", "?limit=101", "?after=x", "?begin=2"] {
        refused(get(&server, &format!("{job}/results{query}")).await, 400, "bad-query").await;
    }
}

#[tokio::test]
async fn another_gateway_goes_on_with_what_has_no_result() {
    let store = Store::new();
    let mut server = Server::start(store.config()).await;
    let job = accepted(&server, "", &[("a", JPEG), ("b", JPEG), ("c", JPEG)]).await;
    assert_eq!(server.work().await, 1);
    let lost = server.frame().await;
    assert_eq!(lost.frame.header.seq, 2);
    // As a killed process: nobody is told, and its lease runs out.
    server.kill().await;
    let server = Server::start(store.config()).await;
    let mut offered = Vec::new();
    while offered.len() < 2 {
        offered.push(server.work().await);
    }
    offered.sort_unstable();
    assert_eq!(offered, [2, 3], "what has a result is not worked on again");
    assert_eq!(done(&server, &job).await["done"], 3);
    assert_eq!(lines(&server, &job, "").await.0.len(), 3);
}

#[tokio::test]
async fn whoever_hands_in_a_job_twice_with_one_key_has_one_job() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let send = async |key: &str, query: &str, images: &[(&str, &'static [u8])]| {
        let request = reqwest::Client::new().post(server.url(&format!("/v1/jobs{query}")));
        soon(request.header("idempotency-key", key).multipart(form(images)).send()).await.unwrap()
    };
    let images: [(&str, &'static [u8]); 2] = [("a", JPEG), ("b", PNG)];
    let answers = tokio::join!(send("k", "", &images), send("k", "", &images), send("k", "", &images));
    let mut locations = Vec::new();
    for answer in [answers.0, answers.1, answers.2] {
        assert_eq!(answer.status(), 202);
        locations.push(answer.headers()["location"].to_str().unwrap().to_owned());
    }
    assert!(locations.iter().all(|location| *location == locations[0]), "{locations:?}");
    // The others' images are not kept.
    store.has(1).await;
    refused(send("k", "", &images[..1]).await, 422, "idempotency-key-reused").await;
    refused(send("k", "?want=both", &images).await, 422, "idempotency-key-reused").await;
    assert_ne!(send("l", "", &images).await.headers()["location"], locations[0]);
    refused(send(&"x".repeat(256), "", &images).await, 400, "bad-query").await;
    // What is gone may be handed in anew.
    let gone = soon(reqwest::Client::new().delete(server.url(&locations[0])).send()).await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(send("k", "", &images[..1]).await.headers()["location"], locations[0]);
}

#[tokio::test]
async fn a_job_that_is_deleted_is_gone_with_its_images_and_late_results() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let job = accepted(&server, "", &[("a", JPEG), ("b", JPEG)]).await;
    let begun = server.frame().await;
    let delete = async || soon(reqwest::Client::new().delete(server.url(&job)).send()).await.unwrap();
    assert_eq!(delete().await.status(), 204);
    refused(get(&server, &job).await, 404, "no-job").await;
    refused(get(&server, &format!("{job}/results")).await, 404, "no-job").await;
    refused(delete().await, 404, "no-job").await;
    store.has(0).await;
    finish(&server.bus, begun).await;
    // The next job's result comes after the late one.
    let job = accepted(&server, "", &[("c", JPEG)]).await;
    while status(&server, &job).await["state"] != "done" {
        let next = soon(server.bus.pull(Stage::Infer, 1));
        tokio::select! {
            mut taken = next => finish(&server.bus, taken.remove(0)).await,
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
    assert_eq!(store.uploads(), 1, "a late result makes nothing");
}

#[tokio::test]
async fn bounds_are_told_and_what_is_refused_leaves_nothing() {
    let store = Store::new();
    let jobs = JobsConfig {
        max_job_items: 3,
        max_job_bytes: 3 * JPEG.len() as u64 - 1,
        max_jobs: 2,
        ..store.jobs()
    };
    let server = Server::start(Config { jobs, max_image_bytes: 5000, ..Config::default() }).await;
    let many = [("a", PNG); 4];
    let detail = refused(hand_in(&server, "", &many).await, 413, "too-large").await;
    assert!(detail.contains("3 images"), "{detail}");
    refused(hand_in(&server, "", &[("a", JPEG); 3]).await, 413, "too-large").await;
    let large: &'static [u8] = &[0; 5001];
    refused(hand_in(&server, "", &[("a", large)]).await, 413, "too-large").await;
    refused(hand_in(&server, "", &[]).await, 422, "missing-image").await;
    refused(hand_in(&server, "?model=nobody&quality=0", &[("a", JPEG)]).await, 400, "bad-query").await;
    refused(hand_in(&server, "?priority=x", &[("a", JPEG)]).await, 400, "bad-query").await;
    let plain = reqwest::Client::new().post(server.url("/v1/jobs")).body("hello");
    refused(soon(plain.send()).await.unwrap(), 415, "unsupported-content-type").await;
    store.has(0).await;
    let raw =
        reqwest::Client::new().post(server.url("/v1/jobs")).header("content-type", "image/jpeg").body(JPEG);
    assert_eq!(soon(raw.send()).await.unwrap().status(), 202);
    accepted(&server, "", &[("a", JPEG)]).await;
    let detail = refused(hand_in(&server, "", &[("a", JPEG)]).await, 429, "too-many-jobs").await;
    assert!(detail.contains("delete"), "{detail}");
}

#[tokio::test]
async fn a_tenant_stores_no_more_than_it_may_until_it_deletes_some() {
    let store = Store::new();
    let quota = format!("stored={}", 2 * JPEG.len() + 1).parse().unwrap();
    let server = Server::start(Config { tenant_quota: quota, ..store.config() }).await;
    // Neither knows of the other before both are there.
    let (twice, again) = ([("a", JPEG); 2], [("b", JPEG); 2]);
    let both = tokio::join!(hand_in(&server, "", &twice), hand_in(&server, "", &again));
    let mut taken = [both.0, both.1].into_iter().filter(|response| response.status() == 202);
    let job = match taken.next() {
        Some(response) => response.headers()["location"].to_str().unwrap().to_owned(),
        None => accepted(&server, "", &twice).await,
    };
    assert!(taken.next().is_none(), "both are more than there may be");
    let detail = refused(hand_in(&server, "", &[("a", JPEG)]).await, 429, "over-quota").await;
    assert!(detail.contains("bytes of jobs") && detail.contains("delete"), "{detail}");
    let legacy = reqwest::Client::new().post(server.url("/upload")).multipart(form(&[("a", JPEG)]));
    assert_eq!(soon(legacy.send()).await.unwrap().status(), 429);
    store.has(1).await;
    // It is refused by its head: nobody reads how long it is.
    let video = reqwest::Client::new().post(server.url("/v1/jobs")).header("content-type", "video/mp4");
    let video = video.body(vec![0; 2 * JPEG.len() + 2]);
    soon(reqwest::Client::new().delete(server.url(&job)).send()).await.unwrap();
    refused(soon(video.send()).await.unwrap(), 429, "over-quota").await;
    accepted(&server, "", &twice).await;
}

#[tokio::test]
async fn a_job_is_removed_when_its_time_is_over() {
    let store = Store::new();
    let jobs = JobsConfig { store_ttl: Duration::from_secs(2), ..store.jobs() };
    let server = Server::start(Config { jobs, ..Config::default() }).await;
    let job = accepted(&server, "", &[("a", JPEG)]).await;
    soon(async {
        while store.uploads() > 0 || get(&server, &job).await.status() != 404 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    refused(get(&server, &job).await, 404, "no-job").await;
}

#[tokio::test]
async fn without_a_store_it_is_said_how_to_have_one() {
    let server = Server::start(Config::default()).await;
    let detail = refused(hand_in(&server, "", &[("a", JPEG)]).await, 501, "no-store").await;
    assert!(detail.contains("--store"), "{detail}");
    refused(get(&server, "/v1/jobs/x").await, 501, "no-store").await;
}

#[tokio::test]
async fn a_store_that_breaks_is_told_to_who_needs_it_and_disturbs_nobody_else() {
    let store = Store::new();
    let server = Server::with_worker(store.config()).await;
    let job = accepted(&server, "", &[("a", JPEG)]).await;
    done(&server, &job).await;
    let away = store.path().with_extension("away");
    fs::rename(store.path(), &away).unwrap();
    fs::write(store.path(), "").unwrap();
    for response in [hand_in(&server, "", &[("a", JPEG)]).await, get(&server, &job).await] {
        assert_eq!(response.headers()["retry-after"], "1");
        let detail = refused(response, 503, "store-unavailable").await;
        assert!(!detail.contains(store.path().to_str().unwrap()), "where it is stays here: {detail}");
    }
    let photo =
        reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg").body(JPEG);
    assert_eq!(soon(photo.send()).await.unwrap().status(), 200);
    fs::remove_file(store.path()).unwrap();
    fs::rename(&away, store.path()).unwrap();
    assert_eq!(status(&server, &job).await["state"], "done");
    let job = accepted(&server, "", &[("a", JPEG)]).await;
    done(&server, &job).await;
    server.stop().await;
}

#[tokio::test]
async fn who_waits_goes_before_jobs() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let job = accepted(&server, "", &[("a", JPEG); 20]).await;
    let waiting = async |frames| {
        let lane = Lane { stage: Stage::Infer, kind: Kind::Still };
        soon(async {
            while server.bus.depth(lane).await.frames != frames {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    };
    waiting(1).await;
    let photo = reqwest::Client::new().post(server.url("/v1/pose"));
    let photo = photo.header("content-type", "image/jpeg").body(JPEG).send();
    let work = async {
        // One item was offered before it, and no other is while it waits.
        waiting(2).await;
        for who in ["job", "still"] {
            let delivery = server.frame().await;
            assert!(delivery.frame.header.stream.as_str().starts_with(who), "{delivery:?}");
            finish(&server.bus, delivery).await;
        }
    };
    let (photo, ()) = tokio::join!(soon(photo), work);
    assert_eq!(photo.unwrap().status(), 200);
    for _ in 1..20 {
        server.work().await;
    }
    assert_eq!(done(&server, &job).await["done"], 20);
}

#[tokio::test]
async fn tenants_do_not_see_each_others_jobs() {
    let store = Store::new();
    let keys = store.path().with_extension("keys.json");
    for tenant in ["acme", "other"] {
        let key = Key {
            name: tenant.parse().unwrap(),
            tenant: tenant.parse().unwrap(),
            scopes: [Scope::Jobs].into(),
            expires: None,
            sha256: Digest::of(tenant),
        };
        KeyFile::new(keys.clone()).add(key).unwrap();
    }
    let auth = AuthConfig { keys: Some(keys.clone()), ..AuthConfig::default() };
    let jobs = JobsConfig { max_jobs: 1, ..store.jobs() };
    let server = Server::with_worker(Config { auth, jobs, ..Config::default() }).await;
    let ask = async |request: reqwest::RequestBuilder, tenant: &str| {
        soon(request.bearer_auth(tenant).send()).await.unwrap()
    };
    let client = reqwest::Client::new();
    let post =
        || client.post(server.url("/v1/jobs")).header("idempotency-key", "k").multipart(form(&[("a", JPEG)]));
    let acme = ask(post(), "acme").await;
    assert_eq!(acme.status(), 202);
    let acme = server.url(acme.headers()["location"].to_str().unwrap());
    assert_eq!(ask(client.get(&acme), "acme").await.status(), 200);
    refused(ask(client.get(&acme), "other").await, 404, "no-job").await;
    refused(ask(client.delete(&acme), "other").await, 404, "no-job").await;
    // The same key of another tenant is another job, and each has its own room.
    let other = ask(post(), "other").await;
    assert_eq!(other.status(), 202);
    assert_ne!(server.url(other.headers()["location"].to_str().unwrap()), acme);
    assert_eq!(ask(post(), "acme").await.status(), 202, "it is the one that there is");
    fs::remove_file(keys).unwrap();
}

#[tokio::test]
async fn who_goes_away_while_sending_leaves_nothing() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let mut client = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let part = |name: &str| {
        format!("--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\r\n")
            .into_bytes()
    };
    let head = "POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: multipart/form-data; boundary=b\r\ncontent-length: 100000\r\n\r\n";
    let sent = [head.as_bytes(), &part("a"), JPEG, b"\r\n", &part("b"), &JPEG[..20]].concat();
    client.write_all(&sent).await.unwrap();
    store.has(1).await;
    drop(client);
    store.has(0).await;
}
