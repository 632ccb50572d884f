//! `cloudpose loadgen` as people run it, against real processes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;
use server::Server;

/// One user, short steps, and an objective that no slow machine misses.
const SMALL: &str = "--start 1 --limit 1 --step-time 1s --confirm-time 2s --timeout 1m --p95 1m --p99 1m \
                     --delivered 1 --max-send-lag 1m";

/// Runs `cloudpose loadgen`.
fn loadgen(arguments: &str, output: &Path, path: Option<&Path>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cloudpose"));
    command.arg("loadgen").args(arguments.split_whitespace()).arg("--output").arg(output);
    if let Some(path) = path {
        command.env("PATH", format!("{}:{}", path.display(), std::env::var("PATH").unwrap()));
    }
    let output = command.output().unwrap();
    eprintln!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    output
}

fn searches(output: &Path) -> Vec<Value> {
    let json: Value = serde_json::from_slice(&fs::read(output.join("results.json")).unwrap()).unwrap();
    json["results"][0]["searches"].as_array().unwrap().clone()
}

#[test]
fn an_experiment_on_processes_that_it_starts_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    // Where `make setup-test` puts nats-server, if nobody named one.
    let venv = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/.venv/bin");
    let images = cloudpose_testing::golden::images();
    let images = images.display();
    let arguments =
        format!("experiment --scaler local --replicas 1,2 --frames {images} --think 100ms..200ms {SMALL}");
    let done = loadgen(&arguments, folder.path(), Some(&venv));
    assert!(done.status.success());
    let searches = searches(folder.path());
    let found: Vec<_> = searches.iter().map(|s| (s["replicas"].as_u64(), s["found"].as_u64())).collect();
    assert_eq!(found, [(Some(1), Some(1)), (Some(2), Some(1))]);
    let said = String::from_utf8(done.stdout).unwrap();
    assert!(said.contains("confirm") && said.contains("what ended it"), "{said}");
}

#[test]
fn kubectl_is_told_and_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let kubectl = folder.path().join("kubectl");
    let log = folder.path().join("log");
    fs::write(&kubectl, format!("#!/bin/sh\necho \"$@\" >> {}\n", log.display())).unwrap();
    fs::set_permissions(&kubectl, fs::Permissions::from_mode(0o755)).unwrap();
    let server = Server::start(&[]);
    let url = server.url("");
    let arguments = format!(
        "experiment --scaler kubectl --deployment cloudpose-infer --namespace video --replicas 3 --url {url} \
         --workload stream --fps 5 --mode complete --want both {SMALL}"
    );
    let output = folder.path().join("results");
    assert!(loadgen(&arguments, &output, Some(folder.path())).status.success());
    let told = fs::read_to_string(&log).unwrap();
    let expected = "--namespace video scale deployment/cloudpose-infer --replicas=3\n\
                    --namespace video rollout status deployment/cloudpose-infer\n";
    assert_eq!(told, expected);
    let run = &searches(&output)[0]["steps"][1]["run"];
    assert_eq!(run["all"]["failures"], serde_json::json!({}), "the gateway's stream keeps its promises");
    assert!(run["streams"]["delivered"].as_u64() >= Some(1), "{run}");

    fs::write(&kubectl, "#!/bin/sh\necho no such deployment >&2\nexit 1\n").unwrap();
    let failed = loadgen(&arguments, &output, Some(folder.path()));
    assert!(!failed.status.success());
    assert!(String::from_utf8_lossy(&failed.stderr).contains("no such deployment"));
}
