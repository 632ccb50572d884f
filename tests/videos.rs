//! Videos as jobs on the real binary, in a folder and in a bucket: what becomes of them when processes die.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    time::Duration,
};

use cloudpose_pixels::PlanarImage;
use cloudpose_testing::{NatsServer, S3, soon};
use cloudpose_video::{Video, Writer};
use serde_json::Value;
use server::Server;

const CLIP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/video/tests/clips/high_b_frames.mp4");
/// How often the clip is in the video, which has 24 frames of one person.
const TIMES: usize = 5;
const FRAMES: usize = 24 * TIMES;

/// Where the jobs of a test lie, and what servers must know of it.
struct Place {
    path: PathBuf,
    options: [String; 4],
    environment: Vec<(String, String)>,
}

impl Place {
    fn folder(folder: &Path) -> Self {
        Self::new(folder.join("store"), folder.join("store").to_str().unwrap().to_owned(), Vec::new())
    }

    fn bucket(s3: &S3) -> Self {
        Self::new(s3.path(), s3.address(), s3.environment())
    }

    fn new(path: PathBuf, address: String, environment: Vec<(String, String)>) -> Self {
        Self { path, options: ["--store".into(), address, "--model".into(), "lightning".into()], environment }
    }

    fn options(&self) -> Vec<&str> {
        self.options.iter().map(String::as_str).collect()
    }

    fn serve(&self) -> Server {
        Server::start_in(&self.environment, &self.options())
    }

    fn ingest(&self, nats: &NatsServer) -> Server {
        Server::ingest_in(&self.environment, &nats.url(), &self.options())
    }
}

/// Somebody who moves, several times over.
fn video(path: &Path) {
    let mut writer: Option<Writer> = None;
    for time in 0..TIMES {
        let mut clip = Video::open(CLIP.as_ref()).unwrap();
        let (info, mut picture) = (clip.info().clone(), PlanarImage::default());
        let length = Duration::from_secs_f64(24.0 / info.rate);
        while let Some(at) = clip.next_into(&mut picture).unwrap() {
            let create =
                || Writer::new(File::create(path).unwrap(), [info.width, info.height], info.rate).unwrap();
            writer.get_or_insert_with(create).push(&picture, at + length * time as u32).unwrap();
        }
    }
    writer.unwrap().finish().unwrap();
}

/// Hands a video in as the command line does, and returns the address of its job.
async fn submit(server: &Server, video: &Path) -> String {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpose"));
    command.args(["jobs", "submit", "--server", &server.url("")]).arg(video);
    let said = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    format!("/v1/jobs/{}", String::from_utf8(said.stdout).unwrap().trim())
}

/// The results that are written, with what they say.
fn written(store: &Path) -> BTreeMap<String, Vec<u8>> {
    let uploads = fs::read_dir(store.join("jobs")).into_iter().flatten();
    let results =
        uploads.filter_map(|upload| fs::read_dir(upload.unwrap().path().join("results")).ok()).flatten();
    let read = |file: fs::DirEntry| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap());
    results.map(|file| read(file.unwrap())).collect()
}

async fn until_written(store: &Path, results: usize) {
    soon(async {
        while written(store).len() < results {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn done(server: &Server, job: &str) -> Value {
    soon(async {
        loop {
            if let Ok(response) = reqwest::get(server.url(job)).await
                && let Ok(told) = response.json::<Value>().await
                && told["state"] == "done"
            {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

async fn lines(server: &Server, job: &str) -> Vec<Value> {
    let mut all: Vec<Value> = Vec::new();
    loop {
        let response =
            soon(reqwest::get(server.url(&format!("{job}/results?after={}", all.len())))).await.unwrap();
        let more = response.headers().contains_key("link");
        let text = response.text().await.unwrap();
        all.extend(text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()));
        if !more {
            return all;
        }
    }
}

/// Every frame has one result, in the order of time, and who is there is always the same.
async fn all_are_found(server: &Server, job: &str) {
    let told = done(server, job).await;
    let counts = ["items", "done", "failed"].map(|name| told[name].as_u64().unwrap());
    assert_eq!(counts, [FRAMES as u64, FRAMES as u64, 0], "{told}");
    let lines = lines(server, job).await;
    assert_eq!(lines.len(), FRAMES);
    for (number, line) in lines.iter().enumerate() {
        assert_eq!(line["item"], number + 1);
        let at = line["at"].as_f64().unwrap();
        assert!((at - number as f64 / 30.0).abs() < 0.01, "{at} of {}", number + 1);
        let persons = line["event"]["persons"].as_array().unwrap();
        assert_eq!(persons.len(), 1, "{line}");
        assert!(number < 8 || persons[0]["track_id"] == 1, "{line}");
    }
}

#[tokio::test]
async fn a_video_survives_the_death_of_the_only_process() {
    let folder = tempfile::tempdir().unwrap();
    dies_alone(&Place::folder(folder.path())).await;
}

#[tokio::test]
async fn a_video_in_a_bucket_survives_the_death_of_the_only_process() {
    let s3 = S3::start();
    dies_alone(&Place::bucket(&s3)).await;
}

async fn dies_alone(place: &Place) {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    video(&clip);
    let mut server = place.serve();
    let job = submit(&server, &clip).await;
    until_written(&place.path, 20).await;
    server.signal("-KILL");
    server.exit_code();
    let before = written(&place.path);
    assert!((20..FRAMES).contains(&before.len()), "{} results", before.len());
    let server = place.serve();
    all_are_found(&server, &job).await;
    let after = written(&place.path);
    assert!(before.iter().all(|(item, result)| after[item] == *result), "what was written stays as it was");
}

#[tokio::test]
async fn a_video_survives_the_death_of_gateway_worker_and_broker() {
    let folder = tempfile::tempdir().unwrap();
    all_die(&Place::folder(folder.path())).await;
}

#[tokio::test]
async fn a_video_in_a_bucket_survives_the_death_of_gateway_worker_and_broker() {
    let s3 = S3::start();
    all_die(&Place::bucket(&s3)).await;
}

async fn all_die(place: &Place) {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    video(&clip);
    let mut nats = NatsServer::start();
    let mut gateways = [place.ingest(&nats), place.ingest(&nats)];
    let mut worker = Server::worker_with("infer", &nats.url(), &["--model", "lightning"]);
    let job = submit(&gateways[0], &clip).await;
    until_written(&place.path, 5).await;
    worker.signal("-KILL");
    worker.exit_code();
    let _worker = Server::worker_with("infer", &nats.url(), &["--model", "lightning"]);
    until_written(&place.path, 20).await;
    nats.kill();
    nats.start_again();
    until_written(&place.path, 40).await;
    // Whichever works on the job, the other goes on.
    gateways[0].signal("-KILL");
    gateways[0].exit_code();
    all_are_found(&gateways[1], &job).await;
}

#[tokio::test]
async fn a_bucket_that_is_away_for_a_while_costs_no_frame() {
    let s3 = S3::start();
    let place = Place::bucket(&s3);
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    video(&clip);
    let server = place.serve();
    let job = submit(&server, &clip).await;
    until_written(&place.path, 5).await;
    s3.refuse(Some(503));
    soon(async {
        while s3.refused() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    s3.refuse(None);
    all_are_found(&server, &job).await;
}
