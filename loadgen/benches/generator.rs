//! What the generator itself costs: stream messages a second on one core, and the memory that idle streams and a
//! slow reader take. Prints a Markdown table.
//!
//!     cargo bench -p cloudpose-loadgen
//!
//! The service is a stub in another process (this program again), which answers each frame of 60 kB with a result.
//! Rates are per second of processor time of the generator's process, and so say what one core would do even if
//! the machine is shared.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a measurement, run by hand"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use axum::{
    Router,
    extract::{
        WebSocketUpgrade,
        ws::{Message, WebSocket},
    },
    routing::get,
};
use clap::Parser;
use cloudpose_loadgen::{Surroundings, summary::File};
use rustix::time::{ClockId, clock_gettime};

const FRAME: usize = 60_000;
/// Says that this process is the stub.
const STUB: &str = "stub";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if std::env::args().any(|argument| argument == STUB) {
        return runtime.block_on(stub());
    }
    let stub = Stub::start();
    let mut rows = Vec::new();
    for round in 1..=3 {
        for fps in [10, 25] {
            let arguments = format!("stream --users 100 --spawn-rate 100 --fps {fps} --run-time 12s");
            let row = runtime.block_on(measure(&stub, &arguments));
            rows.push(format!("| 100 users × {fps} fps, round {round} {row}"));
        }
    }
    for time in [10, 60] {
        let arguments = format!("stream --users 1 --fps 15 --run-time {time}s --idle 500 --slow-readers 1");
        let row = runtime.block_on(measure(&stub, &arguments));
        rows.push(format!("| 500 idle streams and a slow reader, {time} s {row}"));
    }
    println!(
        "| run | messages/s | generator's cores | messages/s per core | send lag p99 ms | resident MB |"
    );
    println!("|---|---|---|---|---|---|\n{}", rows.join("\n"));
}

/// Runs the generator, and answers the row of what it took.
async fn measure(stub: &Stub, arguments: &str) -> String {
    #[derive(Parser)]
    struct Cli {
        #[command(subcommand)]
        command: cloudpose_loadgen::Command,
    }
    let folder = tempfile::tempdir().unwrap();
    let mut words = vec!["loadgen"];
    words.extend(arguments.split(' '));
    words.extend(["--url", &stub.url, "--output", folder.path().to_str().unwrap(), "--max-send-lag", "1m"]);
    let command = Cli::parse_from(words).command;
    let mut picture = vec![0_u8; FRAME];
    picture[..3].copy_from_slice(&[0xff, 0xd8, 0xff]);
    let surroundings = Surroundings { pictures: vec![picture.into()], binary: PathBuf::new() };
    let (cpu, begun) = (cpu_seconds(), Instant::now());
    let mut resident = Vec::new();
    let sample = async {
        loop {
            resident.push(resident_mb());
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    tokio::select! {
        done = cloudpose_loadgen::run(&command, surroundings) => done.unwrap(),
        () = sample => {}
    }
    let (cpu, wall) = (cpu_seconds() - cpu, begun.elapsed().as_secs_f64());
    let run = File::read(&folder.path().join("results.json")).unwrap().results.remove(0).runs.remove(0);
    assert_eq!(run.all.failed(), 0, "{:?}", run.all.failures);
    let frames = run.streams.unwrap().due as f64;
    let lag = run.generator.lag_p99_ms;
    // When all streams are there, and before they end.
    let steady = &resident[4..resident.len() - 2];
    let (first, last) = (steady[0], steady[steady.len() - 1]);
    eprintln!("{wall:.1} s, {cpu:.1} s of processor time");
    let (rate, cores, per_core) = (frames / wall, cpu / wall, frames / cpu);
    format!("| {rate:.0} | {cores:.2} | {per_core:.0} | {lag:.1} | {first:.0} → {last:.0} |")
}

/// Processor time of all threads of this process so far.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn resident_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
}

/// The stub's process.
struct Stub {
    child: Child,
    url: String,
}

impl Stub {
    fn start() -> Self {
        let mut child =
            Command::new(std::env::current_exe().unwrap()).arg(STUB).stdout(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().into() }
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn stub() {
    let router = Router::new()
        .route("/v1/stream", get(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(talk) }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("http://{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

const HELLO: &str = r#"{"type":"hello","session":"s","stream":"cam","mode":"live","want":"pose","model":"multipose",
    "quality":85,"smooth":true,
    "limits":{"max_image_bytes":8388608,"max_image_pixels":16777216,"window":2,"max_age_ms":1000}}"#;

async fn talk(mut socket: WebSocket) {
    let mut seq = 0_u64;
    let mut send = Some(Message::text(HELLO));
    loop {
        if let Some(message) = send.take()
            && socket.send(message).await.is_err()
        {
            return;
        }
        match socket.recv().await {
            Some(Ok(Message::Binary(_))) => {
                seq += 1;
                send = Some(Message::text(result(seq)));
            }
            Some(Ok(Message::Text(text))) if text.contains("\"end\"") => send = Some(Message::Close(None)),
            Some(Ok(_)) => {}
            _ => return,
        }
    }
}

/// A result with two persons, as large as real ones.
fn result(seq: u64) -> String {
    let point = r#"{"name":"nose","x":123.456,"y":234.567,"score":0.876}"#;
    let points = [point; 17].join(",");
    let person = format!(
        r#"{{"track_id":1,"score":0.8,"box":{{"x":1.5,"y":2.5,"width":100.5,"height":200.5}},"keypoints":[{points}]}}"#
    );
    format!(
        r#"{{"type":"result","seq":{seq},"latency_ms":1.0,"overlay":false,"dropped":{{}},"pose":{{"stream":"cam","seq":{seq},
        "captured_at":0,"width":640,"height":480,"model":"multipose","device":"cpu","persons":[{person},{person}],
        "timings_ms":{{"queue":0.1,"decode":1.0,"preprocess":0.1,"inference":6.0,"postprocess":0.1}}}}}}"#
    )
}
