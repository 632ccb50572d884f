//! Which plots there are.

use std::collections::BTreeSet;

use super::chart::{Chart, Line, Scale};
use crate::{
    summary::{Load, Results, Run, SearchRecord},
    verdict::Verdict,
};

/// A plot that is drawn.
pub(super) struct Plot {
    /// Of its file, without the suffix.
    pub(super) name: String,
    pub(super) svg: String,
}

/// Every plot that the results have the numbers for.
pub(super) fn all(results: &[Results]) -> Vec<Plot> {
    let mut plots = Vec::new();
    let mut add =
        |name: &str, svg: Option<String>| plots.extend(svg.map(|svg| Plot { name: name.into(), svg }));
    add("load-p99", load_p99(results));
    add("replicas-throughput", replicas_throughput(results));
    add("load-drops", load_drops(results));
    let runs = results.iter().flat_map(|of| {
        let confirmed =
            of.searches.iter().filter_map(move |search| Some((search.confirmed()?, Some(search))));
        let all = of.runs.iter().map(|run| (run, None)).chain(confirmed);
        all.map(move |(run, search)| (of, run, search))
    });
    for (index, (of, run, search)) in runs.enumerate() {
        let title = run_title(of, run, search);
        add(&format!("run-{}-latency", index + 1), latency_over_time(&format!("Latency: {title}"), run));
        add(&format!("run-{}-drops", index + 1), drops_over_time(&format!("Drops: {title}"), run));
    }
    plots
}

fn run_title(of: &Results, run: &Run, search: Option<&SearchRecord>) -> String {
    format!("{}, {}", series_name(of, search), run.load)
}

fn series_name(of: &Results, search: Option<&SearchRecord>) -> String {
    let replicas = match search.and_then(|search| search.replicas) {
        Some(1) => ", 1 replica".into(),
        Some(n) => format!(", {n} replicas"),
        None => String::new(),
    };
    format!("{} ({}){replicas}", of.name, of.location)
}

fn load_axis(results: &[Results]) -> &'static str {
    let mut steps = results.iter().flat_map(|of| &of.searches).flat_map(|search| &search.steps);
    if steps.any(|step| matches!(step.run.load, Load::Rate(_))) {
        "requests sent per second"
    } else {
        "users"
    }
}

/// One line per search: the steps that can be believed, in order of their load; of several at one load the last.
fn by_load(search: &SearchRecord, of: impl Fn(&Run) -> Option<f64>) -> Vec<(f64, f64)> {
    let sound = search.steps.iter().rev().filter(|step| step.verdict != Verdict::Unsound);
    let mut points: Vec<(f64, f64)> =
        sound.filter_map(|step| Some((step.run.load.amount(), of(&step.run)?))).collect();
    // Stable: the last of each load comes first.
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points.dedup_by_key(|point| point.0);
    points
}

fn load_p99(results: &[Results]) -> Option<String> {
    let p99 = |run: &Run| run.all.latency?.percentile(99.0);
    let lines = results.iter().flat_map(|of| {
        of.searches
            .iter()
            .map(move |search| Line { name: series_name(of, Some(search)), points: by_load(search, p99) })
    });
    let mark = results.iter().find_map(|of| of.objective).map(|o| (o.p99_ms, format!("{} ms", o.p99_ms)));
    Chart {
        title: "p99 latency by load",
        x: load_axis(results),
        y: "p99, ms",
        scale: Scale::Log,
        lines: lines.collect(),
        mark,
    }
    .svg()
}

fn replicas_throughput(results: &[Results]) -> Option<String> {
    let lines = results.iter().filter_map(|of| {
        let point = |search: &SearchRecord| Some((f64::from(search.replicas?), search.confirmed()?.rate()));
        let points: Vec<_> = of.searches.iter().filter_map(point).collect();
        (!points.is_empty()).then(|| Line { name: series_name(of, None), points })
    });
    Chart {
        title: "Throughput at the largest load that holds, by replicas",
        x: "replicas",
        y: "answers per second",
        scale: Scale::Linear,
        lines: lines.collect(),
        mark: None,
    }
    .svg()
}

fn load_drops(results: &[Results]) -> Option<String> {
    let mut lines = Vec::new();
    for of in results {
        for search in &of.searches {
            let runs = search.steps.iter().filter_map(|step| step.run.streams.as_ref());
            let reasons: BTreeSet<&String> = runs.flat_map(|streams| streams.drops.keys()).collect();
            lines.extend(reasons.into_iter().map(|reason| Line {
                name: format!("{reason}: {}", series_name(of, Some(search))),
                points: by_load(search, |run| {
                    let dropped = *run.streams.as_ref()?.drops.get(reason).unwrap_or(&0);
                    Some(dropped as f64 / run.seconds)
                }),
            }));
        }
    }
    Chart {
        title: "Frames dropped by load and reason",
        x: load_axis(results),
        y: "frames per second",
        scale: Scale::Linear,
        lines,
        mark: None,
    }
    .svg()
}

fn latency_over_time(title: &str, run: &Run) -> Option<String> {
    let line = |name: &str, index: usize| {
        let points = run.series.iter().filter_map(|p| Some((p.at, p.latency_ms?[index])));
        Line { name: name.into(), points: points.collect() }
    };
    let lines = vec![line("p50", 0), line("p95", 1), line("p99", 2)];
    Chart { title, x: "seconds", y: "ms", scale: Scale::Log, lines, mark: None }.svg()
}

fn drops_over_time(title: &str, run: &Run) -> Option<String> {
    let reasons: BTreeSet<&String> = run.series.iter().flat_map(|point| point.drops.keys()).collect();
    let lines = reasons.into_iter().map(|reason| {
        let dropped = |point: &crate::summary::Point| *point.drops.get(reason).unwrap_or(&0) as f64;
        Line { name: reason.clone(), points: run.series.iter().map(|p| (p.at, dropped(p))).collect() }
    });
    let lines = lines.collect();
    Chart { title, x: "seconds", y: "frames dropped", scale: Scale::Linear, lines, mark: None }.svg()
}
