//! Jobs on the real binary, in a folder and in a bucket: what becomes of them when processes die, when the store is away, and
//! when it is full.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "jobs/callbacks.rs"]
mod callbacks;
#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cloudpose_testing::{NatsServer, S3, golden, soon};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};
use server::Server;
use tempfile::TempDir;

/// Of a job, where it is not said otherwise.
const ITEMS: usize = 100;

/// Where jobs lie.
enum Place {
    Folder(TempDir),
    Bucket(S3),
}

impl Place {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    fn bucket() -> Self {
        Self::Bucket(S3::start())
    }

    fn options(&self) -> Vec<String> {
        let address = match self {
            Self::Folder(folder) => folder.path().to_str().unwrap().to_owned(),
            Self::Bucket(s3) => s3.address(),
        };
        ["--store", &address, "--model", "lightning"].map(str::to_owned).into()
    }

    fn environment(&self) -> Vec<(String, String)> {
        match self {
            Self::Folder(_) => Vec::new(),
            Self::Bucket(s3) => s3.environment(),
        }
    }

    /// What is in it, as files.
    fn path(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.path().to_owned(),
            Self::Bucket(s3) => s3.path(),
        }
    }

    /// Starts all roles in one process.
    fn serve(&self, more: &[&str]) -> Server {
        let options = self.options();
        let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Server::start_in(&self.environment(), &options)
    }

    fn ingest(&self, nats: &NatsServer) -> Server {
        self.ingest_with(nats, &[])
    }

    fn ingest_with(&self, nats: &NatsServer, more: &[&str]) -> Server {
        let options = self.options();
        let options: Vec<&str> = options.iter().map(String::as_str).chain(more.iter().copied()).collect();
        Server::ingest_in(&self.environment(), &nats.url(), &options)
    }
}

async fn hand_in(server: &Server, images: usize, query: &str) -> reqwest::Response {
    let image = golden::jpeg("demo_f000");
    let form = (1..=images).fold(Form::new(), |form, number| {
        form.part("file", Part::bytes(image.clone()).file_name(format!("{number}.jpg")))
    });
    let request = reqwest::Client::new().post(server.url(&format!("/v1/jobs{query}"))).multipart(form);
    soon(request.send()).await.unwrap()
}

/// Hands in a job, and returns its address.
async fn accepted(server: &Server, images: usize, query: &str) -> String {
    let response = hand_in(server, images, query).await;
    assert_eq!(response.status(), 202);
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// The job, as soon as it is as `expected`, whatever happens to who tells meanwhile.
async fn until(server: &Server, job: &str, expected: impl Fn(&Value) -> bool) -> Value {
    soon(async {
        loop {
            if let Ok(response) = reqwest::get(server.url(job)).await
                && let Ok(told) = response.json::<Value>().await
                && expected(&told)
            {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

fn is_done(job: &Value) -> bool {
    job["state"] == "done"
}

/// The results that are written, with what they say.
fn written(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let uploads = fs::read_dir(store.join("jobs"))
        .into_iter()
        .flatten()
        .map(|upload| upload.unwrap().path().join("results"));
    let results = uploads.filter_map(|results| fs::read_dir(results).ok()).flatten();
    let read = |file: fs::DirEntry| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap());
    results.map(|file| read(file.unwrap())).collect()
}

/// Waits until there are so many results, and not longer: what is to die dies in the middle.
async fn until_written(store: &Path, results: usize) {
    soon(async {
        while written(store).len() < results {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn lines(server: &Server, job: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let url = server.url(&format!("{job}/results?after={}", all.len()));
        let response = soon(reqwest::get(url)).await.unwrap();
        let more = response.headers().contains_key("link");
        let text = response.text().await.unwrap();
        all.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        if !more {
            return all;
        }
    }
}

/// Every image has one result, and people on it.
async fn all_are_found(server: &Server, job: &str, items: usize) {
    let lines = lines(server, job).await;
    let items: Vec<Value> = (1..=items).map(Value::from).collect();
    assert_eq!(lines.iter().map(|line| line["item"].clone()).collect::<Vec<_>>(), items);
    for line in &lines {
        assert!(!line["event"]["persons"].as_array().unwrap().is_empty(), "{line}");
        assert_eq!(line["name"], format!("{}.jpg", line["item"]));
    }
}

#[tokio::test]
async fn a_job_survives_the_death_of_the_only_process() {
    dies_alone(Place::folder()).await;
}

#[tokio::test]
async fn a_job_in_a_bucket_survives_the_death_of_the_only_process() {
    dies_alone(Place::bucket()).await;
}

async fn dies_alone(place: Place) {
    let store = place.path();
    let mut server = place.serve(&[]);
    let job = accepted(&server, ITEMS, "").await;
    until_written(&store, 3).await;
    server.signal("-KILL");
    server.exit_code();
    let before = written(&store);
    assert!((3..ITEMS).contains(&before.len()), "{} results", before.len());
    let server = place.serve(&[]);
    let told = until(&server, &job, is_done).await;
    assert_eq!((told["done"].as_u64(), told["failed"].as_u64()), (Some(ITEMS as u64), Some(0)), "{told}");
    all_are_found(&server, &job, ITEMS).await;
    let after = written(&store);
    assert!(before.iter().all(|(item, result)| after[item] == *result), "what was written stays as it was");
}

#[tokio::test]
async fn a_full_disk_is_told_to_who_needs_it_and_to_nobody_else() {
    let store = tempfile::tempdir().unwrap();
    let options = ["--store", store.path().to_str().unwrap(), "--model", "lightning"];
    // No file may be larger than half the image.
    let server = Server::with_room_for(golden::jpeg("demo_f000").len() / 2, &options);
    let refused = hand_in(&server, 1, "").await;
    assert_eq!(refused.status(), 507);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:cloudpose:problem:store-full", "{problem}");
    assert_eq!(fs::read_dir(store.path().join("new")).unwrap().count(), 0, "half a file is removed");
    photo_is_answered(&server).await;
}

async fn photo_is_answered(server: &Server) {
    let photo = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    let photo = soon(photo.body(golden::jpeg("demo_f000")).send()).await.unwrap();
    assert_eq!(photo.status(), 200);
}

#[tokio::test]
async fn a_store_that_cannot_be_used_is_said_before_anything_is_served() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpose"))
        .args(["serve", "--listen", "127.0.0.1:0", "--store", file.path().to_str().unwrap()])
        .output()
        .unwrap();
    let words = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && words.contains("--store"), "{words}");
}

#[tokio::test]
async fn a_job_survives_the_death_of_gateway_worker_and_broker() {
    all_die(Place::folder()).await;
}

#[tokio::test]
async fn a_job_in_a_bucket_survives_the_death_of_gateway_worker_and_broker() {
    all_die(Place::bucket()).await;
}

async fn all_die(place: Place) {
    let store = place.path();
    let mut nats = NatsServer::start();
    let mut gateways = [place.ingest(&nats), place.ingest(&nats)];
    let mut worker = Server::worker_with("infer", &nats.url(), &["--model", "lightning"]);
    let job = accepted(&gateways[0], ITEMS, "").await;
    until_written(&store, 3).await;
    worker.signal("-KILL");
    worker.exit_code();
    let _worker = Server::worker_with("infer", &nats.url(), &["--model", "lightning"]);
    until_written(&store, 20).await;
    nats.kill();
    nats.start_again();
    until_written(&store, 40).await;
    // Whichever works on the job, the other goes on.
    gateways[0].signal("-KILL");
    gateways[0].exit_code();
    let told = until(&gateways[1], &job, is_done).await;
    assert_eq!((told["done"].as_u64(), told["failed"].as_u64()), (Some(ITEMS as u64), Some(0)), "{told}");
    all_are_found(&gateways[1], &job, ITEMS).await;
}

#[tokio::test]
async fn a_bucket_that_is_away_for_a_while_is_told_to_who_needs_it_and_the_job_goes_on() {
    let place = Place::bucket();
    let server = place.serve(&[]);
    let Place::Bucket(s3) = &place else { unreachable!() };
    let job = accepted(&server, ITEMS, "").await;
    until_written(&s3.path(), 3).await;
    s3.refuse(Some(503));
    let refused = hand_in(&server, 1, "").await;
    assert_eq!((refused.status().as_u16(), &refused.headers()["retry-after"]), (503, &"1".parse().unwrap()));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:cloudpose:problem:store-unavailable", "{problem}");
    let before = written(&s3.path());
    s3.refuse(None);
    until(&server, &job, is_done).await;
    all_are_found(&server, &job, ITEMS).await;
    let after = written(&s3.path());
    assert!(before.iter().all(|(item, result)| after[item] == *result), "what was written stays as it was");
}

#[tokio::test]
async fn a_job_whose_acceptance_was_not_heard_of_is_one_all_the_same() {
    let place = Place::bucket();
    let server = place.serve(&[]);
    let Place::Bucket(s3) = &place else { unreachable!() };
    s3.lose_the_answer("/documents/");
    let job = accepted(&server, 2, "").await;
    until(&server, &job, is_done).await;
    all_are_found(&server, &job, 2).await;
}

/// What `/ready` says of the store, as soon as it is `expected`.
async fn ready_says(server: &Server, expected: &Value) {
    soon(async {
        loop {
            let answer = reqwest::get(server.url("/ready")).await.unwrap();
            assert_eq!(answer.status(), 200, "streams and photos go on");
            if answer.json::<Value>().await.unwrap() == *expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn who_asks_whether_a_gateway_is_ready_is_told_of_its_store() {
    let (place, nats) = (Place::bucket(), NatsServer::start());
    let gateway = place.ingest(&nats);
    let Place::Bucket(s3) = &place else { unreachable!() };
    let well = json!({ "status": "ready" });
    ready_says(&gateway, &well).await;
    s3.refuse(Some(503));
    ready_says(&gateway, &json!({ "status": "ready", "away": ["store"] })).await;
    s3.refuse(None);
    ready_says(&gateway, &well).await;
    let admin = async_nats::jetstream::new(async_nats::connect(nats.url()).await.unwrap());
    // Its subjects are another's: no gateway can make it anew.
    admin.delete_stream("KV_cloudpose-jobs").await.unwrap();
    let other = async_nats::jetstream::stream::Config {
        name: "other".into(),
        subjects: vec!["$KV.cloudpose-jobs.>".into()],
        ..Default::default()
    };
    admin.create_stream(other).await.unwrap();
    ready_says(&gateway, &json!({ "status": "ready", "away": ["states"] })).await;
    admin.delete_stream("other").await.unwrap();
    ready_says(&gateway, &well).await;
}

#[tokio::test]
async fn who_asks_whether_a_server_is_ready_is_told_of_its_folder() {
    let place = Place::folder();
    let server = place.serve(&[]);
    ready_says(&server, &json!({ "status": "ready" })).await;
    let away = place.path().with_extension("away");
    fs::rename(place.path(), &away).unwrap();
    ready_says(&server, &json!({ "status": "ready", "away": ["store"] })).await;
    fs::rename(&away, place.path()).unwrap();
    ready_says(&server, &json!({ "status": "ready" })).await;
}

#[tokio::test]
async fn a_full_bucket_is_told_to_who_needs_it_and_to_nobody_else() {
    let place = Place::bucket();
    let server = place.serve(&[]);
    let Place::Bucket(s3) = &place else { unreachable!() };
    s3.refuse(Some(507));
    let refused = hand_in(&server, 1, "").await;
    assert_eq!(refused.status(), 507);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:cloudpose:problem:store-full", "{problem}");
    photo_is_answered(&server).await;
    s3.refuse(None);
    let job = accepted(&server, 1, "").await;
    until(&server, &job, is_done).await;
}

#[tokio::test]
async fn a_job_in_a_bucket_is_removed_when_its_time_is_over() {
    let place = Place::bucket();
    let server = place.serve(&["--store-ttl", "2s"]);
    let job = accepted(&server, 2, "?want=both").await;
    soon(async {
        while reqwest::get(server.url(&job)).await.unwrap().status() != 404 || files(&place.path()) > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

/// Files in a folder and those in it.
fn files(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { files(&path) } else { 1 }).sum()
}

#[tokio::test]
async fn two_gateways_that_are_handed_one_job_at_the_same_time_make_one_of_it() {
    let (place, nats) = (Place::bucket(), NatsServer::start());
    let gateways = [place.ingest(&nats), place.ingest(&nats)];
    let _worker = Server::worker_with("infer", &nats.url(), &["--model", "lightning"]);
    for key in ["a", "b", "c", "d"] {
        let client = reqwest::Client::new();
        let send = async |server: &Server| {
            let image = Part::bytes(golden::jpeg("demo_f000")).file_name("1.jpg");
            let request = client.post(server.url("/v1/jobs")).header("idempotency-key", key);
            let response = soon(request.multipart(Form::new().part("file", image)).send()).await.unwrap();
            assert_eq!(response.status(), 202);
            response.headers()["location"].to_str().unwrap().to_owned()
        };
        let (one, other) = tokio::join!(send(&gateways[0]), send(&gateways[1]));
        assert_eq!(one, other);
        until(&gateways[1], &one, is_done).await;
        all_are_found(&gateways[0], &one, 1).await;
    }
    // What the other had uploaded is removed.
    soon(async {
        while fs::read_dir(place.path().join("jobs"))
            .unwrap()
            .filter(|upload| files(&upload.as_ref().unwrap().path()) > 0)
            .count()
            != 4
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Runs `cloudpose jobs`, and returns whether it succeeded, and what it said.
async fn command(server: &Server, arguments: &[&str]) -> (bool, String, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpose"));
    command.arg("jobs").args(arguments).args(["--server", &server.url("")]);
    let said = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (said.status.success(), text(said.stdout), text(said.stderr))
}

#[tokio::test]
async fn a_folder_is_handed_in_and_fetched_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let [store, album, out] = ["store", "album", "out"].map(|name| folder.path().join(name));
    let paths = [&store, &album, &out].map(|path| path.to_str().unwrap().to_owned());
    let [store, album, out] = paths.each_ref().map(String::as_str);
    let server = Server::start(&["--store", store, "--model", "lightning"]);
    fs::create_dir(album).unwrap();
    for name in ["a.jpg", "b.jpg"] {
        fs::write(Path::new(album).join(name), golden::jpeg("demo_f000")).unwrap();
    }
    let (well, job, said) = command(&server, &["submit", album, "--want", "both"]).await;
    assert!(well, "{said}");
    let job = job.trim();
    let (well, _, said) = command(&server, &["fetch", job, "-o", out]).await;
    assert!(well, "{said}");
    let lines = fs::read_to_string(Path::new(out).join("results.jsonl")).unwrap();
    let names: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["name"].clone()).collect();
    assert_eq!(names, ["a.jpg", "b.jpg"]);
    for picture in ["00001-a.jpg", "00002-b.jpg"] {
        assert!(fs::read(Path::new(out).join(picture)).unwrap().starts_with(&[0xFF, 0xD8]));
    }
    let (_, told, _) = command(&server, &["status", job]).await;
    assert_eq!(told.trim(), format!("{job}: done, 2 of 2 done, 0 failed"));

    fs::write(Path::new(album).join("c.jpg"), "no image").unwrap();
    let (_, job, _) = command(&server, &["submit", album]).await;
    let (well, lines, said) = command(&server, &["fetch", job.trim()]).await;
    assert!(!well && said.contains("3. c.jpg") && said.contains("1 of 3"), "{said}");
    assert_eq!(lines.lines().count(), 3);
    let (well, _, said) = command(&server, &["status", "nobody"]).await;
    assert!(!well && said.contains("404") && said.contains("no job"), "{said}");
}
