//! Videos as jobs: what a client sees, with a worker in the test's hands.

use std::time::Duration;

use bytes::Bytes;
use cloudpose_bus::{Bus, Delivery};
use cloudpose_ingest::{Config, JobsConfig};
use cloudpose_pixels::{PlanarImage, Subsampling};
use cloudpose_tracks::{Frame, follow};
use cloudpose_video::Writer;
use cloudpose_wire::{Output, Skeleton};
use reqwest::{
    Response,
    multipart::{Form, Part},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    jobs::{Store, done, get, lines, refused, status},
    stage::{self, JPEG, Server, overlay, soon},
};

const SIZE: [usize; 2] = [96, 64];
const FRAMES: usize = 12;
const MP4: &str = "video/mp4";

/// A clip of twelve frames, 25 a second.
fn clip() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("clip.mp4");
    let mut writer = Writer::new(std::fs::File::create(&path).unwrap(), SIZE, 25.0).unwrap();
    for frame in 0..FRAMES {
        let mut picture = PlanarImage::new(SIZE[0], SIZE[1], Subsampling::S420);
        let (mut luma, chroma) = picture.planes_mut();
        for y in 0..SIZE[1] {
            luma.row_mut(y).fill(40 + 12 * frame as u8);
        }
        for mut plane in chroma.unwrap() {
            for y in 0..plane.height {
                plane.row_mut(y).fill(128);
            }
        }
        picture.extend_edges();
        writer.push(&picture, Duration::from_millis(40 * frame as u64)).unwrap();
    }
    writer.finish().unwrap();
    std::fs::read(&path).unwrap()
}

async fn hand_in(server: &Server, query: &str, kind: &str, body: Vec<u8>) -> Response {
    let request = reqwest::Client::new().post(server.url(&format!("/v1/jobs{query}")));
    soon(request.header("content-type", kind).body(body).send()).await.unwrap()
}

async fn accepted(server: &Server, query: &str, video: Vec<u8>) -> String {
    let response = hand_in(server, query, MP4, video).await;
    assert_eq!(response.status(), 202);
    response.headers()["location"].to_str().unwrap().to_owned()
}

/// Answers as a worker does that sees one person.
async fn follow_it(bus: &Bus, delivery: Delivery) {
    let mut header = delivery.frame.header.clone();
    let mut event = stage::event(&header);
    let Output::Poses { persons, .. } = &mut event.output else { unreachable!() };
    let frame = Frame { at: header.received_at, width: 16, height: 12 };
    let tracks = follow(&Skeleton::coco_17(), header.prior.as_ref().unwrap(), frame, persons, true);
    header.prior = Some(tracks.into());
    let overlay = header.want.overlay().then(|| overlay(header.seq));
    bus.reply(header.done(event.into(), overlay)).await.unwrap();
    delivery.ack().await;
}

/// The number of the next frame, once it is worked on.
async fn work(server: &Server) -> u64 {
    let delivery = server.frame().await;
    let seq = delivery.frame.header.seq;
    follow_it(&server.bus, delivery).await;
    seq
}

fn ids(lines: &[Value]) -> Vec<Option<u64>> {
    lines.iter().map(|line| line["event"]["persons"][0]["track_id"].as_u64()).collect()
}

#[tokio::test]
async fn the_frames_of_a_video_are_looked_at_in_their_order_and_persons_keep_their_ids() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let job = accepted(&server, "?want=both", clip()).await;
    let first = server.frame().await;
    let second = server.frame().await;
    let [one, two] = [&first, &second].map(|delivery| delivery.frame.header.clone());
    assert_eq!((one.seq, two.seq), (1, 2));
    assert_eq!(two.received_at - one.received_at, 40, "tracks go by the times of the video");
    soon(async {
        while status(&server, &job).await["items"] != FRAMES {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let told = status(&server, &job).await;
    assert_eq!(
        (&told["state"], &told["video"]["bytes"]),
        (&json!("running"), &json!(clip().len())),
        "{told}"
    );
    let third =
        tokio::time::timeout(Duration::from_millis(200), server.bus.pull(cloudpose_wire::Stage::Infer, 1));
    assert!(third.await.is_err(), "two are on their way");
    // The other way round.
    follow_it(&server.bus, second).await;
    follow_it(&server.bus, first).await;
    for seq in 3..=FRAMES as u64 {
        assert_eq!(work(&server).await, seq);
    }
    let told = done(&server, &job).await;
    assert_eq!(
        (&told["items"], &told["done"], &told["failed"]),
        (&json!(12), &json!(12), &json!(0)),
        "{told}"
    );

    let (all, next) = lines(&server, &job, "").await;
    assert_eq!((all.len(), next), (FRAMES, None));
    for (number, line) in all.iter().enumerate() {
        assert_eq!(line["item"], number + 1);
        let at = line["at"].as_f64().unwrap();
        assert!((at - 0.04 * number as f64).abs() < 0.001, "{line}");
    }
    let ids = ids(&all);
    assert!(ids[..3].iter().all(Option::is_none) && ids[5..].iter().all(|id| *id == Some(1)), "{ids:?}");

    let picture = get(&server, &format!("{job}/items/7/overlay")).await;
    assert_eq!(picture.bytes().await.unwrap(), overlay(7));
    let small = get(&server, &format!("{job}/items/7/thumbnail")).await;
    assert_eq!(small.headers()["content-type"], "image/jpeg");
    let small = small.bytes().await.unwrap();
    let header = cloudpose_pixels::probe(&small, cloudpose_pixels::Limits::default()).unwrap();
    assert_eq!((header.width, header.height), (96, 64));
    refused(get(&server, &format!("{job}/items/13/thumbnail")).await, 404, "no-job").await;
    server.stop().await;
}

#[tokio::test]
async fn another_gateway_goes_on_with_the_frames_without_results_and_knows_who_is_who() {
    let store = Store::new();
    let mut server = Server::start(store.config()).await;
    let job = accepted(&server, "", clip()).await;
    for seq in 1..=6 {
        assert_eq!(work(&server).await, seq);
    }
    soon(async {
        while status(&server, &job).await["done"] != 6 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let before = lines(&server, &job, "").await.0;
    server.kill().await;
    let server = Server::start(store.config()).await;
    for seq in 7..=FRAMES as u64 {
        assert_eq!(work(&server).await, seq, "what has a result is not looked at again");
    }
    let told = done(&server, &job).await;
    assert_eq!((&told["items"], &told["done"]), (&json!(12), &json!(12)), "{told}");
    let all = lines(&server, &job, "").await.0;
    assert_eq!(all[..6], before, "what was written stays as it was");
    assert!(ids(&all)[5..].iter().all(|id| *id == Some(1)), "{:?}", ids(&all));
}

#[tokio::test]
async fn as_many_frames_a_second_are_looked_at_as_are_wanted() {
    let store = Store::new();
    let server = Server::with_worker(store.config()).await;
    let job = accepted(&server, "?fps=5", clip()).await;
    let told = done(&server, &job).await;
    assert_eq!((&told["items"], &told["video"]["fps"]), (&json!(3), &json!(5.0)), "{told}");
    let all = lines(&server, &job, "").await.0;
    let at: Vec<u64> =
        all.iter().map(|line| (1000.0 * line["at"].as_f64().unwrap()).round() as u64).collect();
    assert_eq!(at, [0, 200, 400]);
    for query in ["?fps=0", "?fps=121", "?fps=x"] {
        refused(hand_in(&server, query, MP4, clip()).await, 400, "bad-query").await;
    }
    let detail =
        refused(hand_in(&server, "?fps=5", "image/jpeg", JPEG.to_vec()).await, 400, "bad-query").await;
    assert!(detail.contains("videos"), "{detail}");
    refused(hand_in(&server, "", MP4, Vec::new()).await, 422, "missing-image").await;
    store.has(1).await;
}

#[tokio::test]
async fn what_cannot_be_decoded_is_told_behind_the_frames_that_could_be() {
    let store = Store::new();
    let jobs = JobsConfig { max_video_frames: 5, ..store.jobs() };
    let server = Server::with_worker(Config { jobs, ..Config::default() }).await;
    // Its table of contents stands before its pictures.
    let whole = include_bytes!("../../../video/tests/clips/high_b_frames.mp4");
    for (video, frames, reason, words) in [
        (b"neither".to_vec(), 0, "undecodable", ""),
        (whole[..600].to_vec(), 0, "undecodable", "not whole"),
        (whole[..whole.len() * 2 / 3].to_vec(), 1, "undecodable", "some of its pictures"),
        (clip(), 5, "too_large", "lower fps"),
    ] {
        let job = accepted(&server, "", video).await;
        let told = done(&server, &job).await;
        assert_eq!((&told["items"], &told["failed"]), (&json!(frames + 1), &json!(1)), "{told}");
        let error = &told["errors"][0];
        assert_eq!((&error["item"], &error["reason"]), (&json!(frames + 1), &json!(reason)), "{told}");
        assert!(error["detail"].as_str().unwrap().contains(words), "{error}");
        let all = lines(&server, &job, "").await.0;
        assert!(all[..frames].iter().all(|line| line["event"]["persons"].is_array()));
        assert_eq!(all[frames]["error"]["reason"], reason);
        refused(get(&server, &format!("{job}/items/{}/thumbnail", frames + 1)).await, 404, "no-picture")
            .await;
    }
}

#[tokio::test]
async fn a_video_handed_in_twice_with_one_key_is_one_job_and_a_deleted_one_is_gone() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let send = async |query: &str| {
        let request = reqwest::Client::new().post(server.url(&format!("/v1/jobs{query}")));
        let request = request.header("idempotency-key", "k").header("content-type", MP4);
        soon(request.body(clip()).send()).await.unwrap()
    };
    let location = send("").await.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(send("").await.headers()["location"], location);
    refused(send("?fps=5").await, 422, "idempotency-key-reused").await;
    store.has(1).await;
    let begun = server.frame().await;
    let gone = soon(reqwest::Client::new().delete(server.url(&location)).send()).await.unwrap();
    assert_eq!(gone.status(), 204);
    follow_it(&server.bus, begun).await;
    refused(get(&server, &location).await, 404, "no-job").await;
    store.has(0).await;
}

#[tokio::test]
async fn a_video_in_a_form_is_the_same_as_a_raw_one_and_is_alone_there() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let video = || Part::bytes(clip()).file_name("clip.mp4").mime_str(MP4).unwrap();
    let image = || Part::bytes(JPEG).file_name("a.jpg");
    let post = || reqwest::Client::new().post(server.url("/v1/jobs?fps=5")).header("idempotency-key", "v");
    let raw = soon(post().header("content-type", MP4).body(clip()).send()).await.unwrap();
    let in_form = soon(post().multipart(Form::new().part("file", video())).send()).await.unwrap();
    assert_eq!((raw.status().as_u16(), in_form.status().as_u16()), (202, 202));
    assert_eq!(raw.headers()["location"], in_form.headers()["location"]);
    for parts in [[video(), image()], [image(), video()], [video(), video()]] {
        let form = parts.into_iter().fold(Form::new(), |form, part| form.part("file", part));
        let request = reqwest::Client::new().post(server.url("/v1/jobs")).multipart(form);
        let detail = refused(soon(request.send()).await.unwrap(), 400, "bad-body").await;
        assert!(detail.contains("a job of its own"), "{detail}");
    }
    let images = reqwest::Client::new()
        .post(server.url("/v1/jobs?fps=5"))
        .multipart(Form::new().part("file", image()));
    refused(soon(images.send()).await.unwrap(), 400, "bad-query").await;
    store.has(1).await;
}

#[tokio::test]
async fn what_is_decoded_counts_for_the_quota_and_goes_on_when_there_is_some_again() {
    let store = Store::new();
    // A picture of 96×64 is worth six seconds of it.
    let config = Config { tenant_quota: "megapixels=0.001".parse().unwrap(), ..store.config() };
    let server = Server::start(config).await;
    let job = accepted(&server, "", clip()).await;
    assert_eq!(work(&server).await, 1);
    let photo = reqwest::Client::new().post(server.url("/v1/pose")).header("content-type", "image/jpeg");
    let detail = refused(soon(photo.body(JPEG).send()).await.unwrap(), 429, "over-quota").await;
    assert!(detail.contains("megapixels"), "{detail}");
    assert_eq!(work(&server).await, 2, "it goes on");
    assert_eq!(status(&server, &job).await["state"], "running");
}

/// Sends the head of a request for a job.
async fn begin(server: &Server, length: &str) -> TcpStream {
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let head = format!("POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: {MP4}\r\n{length}\r\n\r\n");
    connection.write_all(head.as_bytes()).await.unwrap();
    connection
}

async fn answer(connection: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut said = vec![0; 4096];
    let length = soon(connection.read(&mut said)).await.unwrap();
    String::from_utf8_lossy(&said[..length]).into_owned()
}

#[tokio::test]
async fn ten_gigabytes_are_refused_before_they_are_there() {
    let store = Store::new();
    let limit = 2 << 20;
    let jobs = JobsConfig { max_video_bytes: limit, ..store.jobs() };
    let server = Server::with_worker(Config { jobs, ..Config::default() }).await;

    // Who says so is told before a byte is sent.
    let mut announcing = begin(&server, &format!("content-length: {}", 10_u64 << 30)).await;
    let said = answer(&mut announcing).await;
    assert!(said.starts_with("HTTP/1.1 413 ") && said.contains(&limit.to_string()), "{said}");

    // Who does not is told at the limit, and need not send the rest.
    let silent = begin(&server, "transfer-encoding: chunked").await;
    let (mut reading, mut writing) = silent.into_split();
    let sending = async {
        let chunk = [&b"100000\r\n"[..], &[7; 1 << 20], b"\r\n"].concat();
        let chunk = Bytes::from(chunk);
        let mut sent = 0_u64;
        while sent < 10 << 30 && writing.write_all(&chunk).await.is_ok() {
            sent += 1 << 20;
        }
        sent
    };
    let told = async {
        let said = answer(&mut reading).await;
        drop(reading);
        said
    };
    let (sent, said) = soon(async { tokio::join!(sending, told) }).await;
    assert!(said.starts_with("HTTP/1.1 413 ") && said.contains(&limit.to_string()), "{said}");
    assert!(sent < 200 << 20, "{sent} bytes were taken");

    store.has(0).await;
    assert_eq!(store.new_files(), 0);
    let job = accepted(&server, "", clip()).await;
    assert_eq!(done(&server, &job).await["failed"], 0, "others go on");
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let store = Store::new();
    let server = Server::start(store.config()).await;
    let mut connection = begin(&server, "content-length: 9000000").await;
    connection.write_all(&[7; 4 << 20]).await.unwrap();
    soon(async {
        while store.new_files() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(connection);
    soon(async {
        while store.new_files() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    store.has(0).await;
}
