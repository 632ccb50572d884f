//! What every serving process tells of itself: what it is, whether it is ready, and what it takes of the machine.
#![expect(clippy::disallowed_macros, reason = "this is the one place where the names stand")]

use std::{fs, sync::Arc};

use cloudpose_ingest::Books;
use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::PrometheusHandle;
use metrics_process::Collector;

use crate::roles::Role;

const BUILD: &str = "cloudpose_build_info";
const READY: &str = "cloudpose_ready";
const MEMORY_LIMIT: &str = "cloudpose_memory_limit_bytes";

/// Tells the installed recorder what metrics of the process `name` mean and what does not change, and that it is not
/// ready.
pub(crate) fn describe(name: &'static str, roles: &[Role]) {
    cloudpose_bus::metrics::describe();
    roles.iter().for_each(|role| (role.describe)());
    describe_gauge!(BUILD, "1; which version runs.");
    describe_gauge!(READY, "1 while the process is ready, 0 while not.");
    describe_gauge!(MEMORY_LIMIT, "Memory that the process may use: its cgroup's limit, or the machine's.");
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    if let Some(bytes) = memory_limit() {
        gauge!(MEMORY_LIMIT).set(bytes as f64);
    }
    ready(name, false);
}

pub(crate) fn ready(name: &'static str, yes: bool) {
    gauge!(READY, "role" => name).set(if yes { 1.0 } else { 0.0 });
}

/// Renders the page of metrics, with what the process takes at that moment, while nothing is booked.
pub(crate) fn page(metrics: PrometheusHandle, books: Books) -> Arc<dyn Fn() -> String + Send + Sync> {
    let process = Collector::default();
    process.describe();
    Arc::new(move || {
        books.at_rest(|| {
            process.collect();
            metrics.render()
        })
    })
}

/// In bytes: the least of the limits of the process's control group (version 2 or 1) and of the machine's memory.
fn memory_limit() -> Option<u64> {
    let cgroup = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = |of| cgroup.lines().find_map(|line| Some(line.split_once(of)?.1)).unwrap_or_default();
    // In a container its own group is the root of what it sees.
    let files = [
        "/sys/fs/cgroup/memory.max".to_owned(),
        format!("/sys/fs/cgroup{}/memory.max", own("0::")),
        "/sys/fs/cgroup/memory/memory.limit_in_bytes".to_owned(),
        format!("/sys/fs/cgroup/memory{}/memory.limit_in_bytes", own(":memory:")),
    ];
    let limits = files.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse().ok());
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_memory(&text));
    limits.chain(machine).min()
}

/// `MemTotal` of `/proc/meminfo`, in bytes.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::total_memory;

    #[test]
    fn the_machines_memory_is_read_in_bytes() {
        assert_eq!(total_memory("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24576 * 1024));
        assert_eq!(total_memory("MemFree: 1 kB\n"), None);
    }
}
