//! Metrics of the process: the only place that installs a recorder.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use std::{convert::Infallible, time::Duration};

use anyhow::{Context as _, Result};
use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

const BUILD: &str = "cloudpose_build_info";
const READY: &str = "cloudpose_ready";
const MEMORY_LIMIT: &str = "cloudpose_memory_limit_bytes";

/// Seconds: from a kernel's millisecond to the longest deadline.
const SECONDS_BUCKETS: [f64; 12] =
    [0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.125, 0.25, 0.5, 1.0, 5.0];

/// Buckets of the histograms that count frames.
const FRAMES_BUCKETS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];

fn describe() {
    describe_gauge!(BUILD, "1: which version runs here, in which role.");
    describe_gauge!(READY, "1 while /ready says yes, 0 while it says no.");
    describe_gauge!(
        MEMORY_LIMIT,
        "Bytes of memory that this process may use: of its cgroup, or of the machine."
    );
    for describe in [
        cloudpose_bus::metrics::describe,
        cloudpose_infer::metrics::describe,
        cloudpose_annotate::metrics::describe,
        || metrics_process::Collector::default().describe(),
    ] {
        describe();
    }
}

/// Says whether this process is ready.
pub(crate) fn ready(yes: bool) {
    gauge!(READY).set(if yes { 1.0 } else { 0.0 });
}

/// The metrics in Prometheus' text format.
pub(crate) fn render(recorder: &PrometheusHandle) -> String {
    metrics_process::Collector::default().collect();
    recorder.render()
}

/// Bytes: the cgroup's limit (version 2 or 1, as seen from inside), or else what the machine has. 0 if the system
/// does not say.
fn memory_limit() -> u64 {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let machine = read("/proc/meminfo").lines().find_map(|line| {
        let kibibytes: u64 = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kibibytes << 10)
    });
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    // "max", or a number beyond all memory, is no limit.
    let cgroup = limits.iter().filter_map(|path| read(path).trim().parse::<u64>().ok());
    cgroup.chain(machine).min().unwrap_or_default()
}

/// Installs the Prometheus recorder. [`render`] writes what `/metrics` says.
///
/// # Errors
/// If a recorder is installed already.
pub(crate) fn start(role: &'static str) -> Result<PrometheusHandle> {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&SECONDS_BUCKETS)?
        .set_buckets_for_metric(Matcher::Suffix("_frames".into()), &FRAMES_BUCKETS)?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    describe();
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION"), "role" => role).set(1.0);
    gauge!(MEMORY_LIMIT).set(memory_limit() as f64);
    ready(false);
    Ok(recorder)
}

/// Keeps the recorder's histograms bounded: they grow between scrapes otherwise.
pub(crate) async fn upkeep(recorder: PrometheusHandle) -> Infallible {
    let mut every = tokio::time::interval(Duration::from_secs(5));
    loop {
        every.tick().await;
        recorder.run_upkeep();
    }
}
