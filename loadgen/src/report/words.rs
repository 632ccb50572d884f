//! Numbers and tables in words, the same in the terminal and on the page.

use crate::summary::{Call, Results, Run, SearchRecord, Step};

/// Heads and rows of a table.
pub(crate) struct Table {
    pub(crate) heads: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    /// As Markdown, with columns in line: reads well in a terminal too.
    pub(crate) fn markdown(&self) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
            cells.chain([self.heads[column].chars().count()]).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..self.heads.len()).map(width).collect();
        let line = |cells: Vec<&str>| {
            let padded = cells.iter().zip(&widths).map(|(cell, width)| format!(" {cell:width$} |"));
            format!("|{}\n", padded.collect::<String>())
        };
        let rule = widths.iter().map(|width| format!("{}|", "-".repeat(width + 2))).collect::<String>();
        let rows = self.rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
        format!("{}|{rule}\n{}", line(self.heads.clone()), rows.collect::<String>())
    }
}

fn percentile(call: &Call, percent: f64) -> String {
    let ms = call.latency.and_then(|latency| latency.percentile(percent));
    ms.map_or("–".into(), |ms| format!("{ms:.0}"))
}

/// Failures by kind, in words.
pub(crate) fn failures(call: &Call) -> String {
    if call.failures.is_empty() {
        return "none".into();
    }
    let kinds = call.failures.iter().map(|(kind, times)| format!("{times} × {kind}"));
    kinds.collect::<Vec<_>>().join(", ")
}

/// One line about a step of a search.
pub(crate) fn step(step: &Step) -> String {
    let Step { long, verdict, reasons, run } = step;
    let kind = if *long { "confirm" } else { "probe" };
    let [p95, p99] = [95.0, 99.0].map(|percent| percentile(&run.all, percent));
    let why = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) };
    format!(
        "{kind:8}{:20}{:8.1}/s  p95 {p95} ms  p99 {p99} ms  {verdict}{why}",
        run.load.to_string(),
        run.rate()
    )
}

/// The calls of a run.
pub(crate) fn calls(run: &Run) -> Table {
    let row = |call: &Call| {
        let rate = call.count as f64 / run.seconds;
        let mut row =
            vec![format!("{} {}", call.method, call.name).trim().to_owned(), call.count.to_string()];
        row.extend([format!("{rate:.1}"), failures(call)]);
        row.extend([50.0, 95.0, 99.0, 100.0].map(|percent| percentile(call, percent)));
        row
    };
    let several = (run.calls.len() > 1).then_some(&run.all);
    Table {
        heads: vec!["call", "count", "per s", "failures", "p50 ms", "p95 ms", "p99 ms", "max ms"],
        rows: run.calls.iter().chain(several).map(row).collect(),
    }
}

/// What a run says about streams and about the generator, line by line.
pub(crate) fn remarks(run: &Run) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(streams) = &run.streams {
        let drops: Vec<String> = streams.drops.iter().map(|(reason, n)| format!("{n} × {reason}")).collect();
        let drops = if drops.is_empty() { "none".into() } else { drops.join(", ") };
        let jain = streams.jain.map_or("–".into(), |jain| format!("{jain:.3}"));
        lines.push(format!(
            "{:.1} fps delivered per user, {:.1} % of {} frames; dropped: {drops}",
            streams.fps,
            100.0 * streams.share(),
            streams.due
        ));
        lines.push(format!(
            "fairness (Jain) {jain}; {} ids checked, {} order violations",
            streams.ids_checked, streams.order_violations
        ));
        if streams.slow_readers_cut_off > 0 {
            lines.push(format!("{} slow readers were cut off", streams.slow_readers_cut_off));
        }
    }
    let lag = &run.generator;
    lines.push(format!(
        "generator: sends at most {:.1} ms late (p99 {:.1} ms)",
        lag.lag_max_ms, lag.lag_p99_ms
    ));
    lines.extend(run.flaws.iter().map(|flaw| format!("VOID: {flaw}")));
    lines
}

/// What searches found, one row each.
pub(crate) fn searches(results: &[Results]) -> Table {
    let row = |of: &Results, search: &SearchRecord| {
        let confirmed = search.confirmed();
        let number = |f: &dyn Fn(&Run) -> String| confirmed.map_or("–".into(), f);
        let limit = match (search.found, search.first_missed()) {
            (None, _) => "the search could not tell: see its steps".into(),
            (_, Some(step)) => format!("{}: {}", step.run.load, step.reasons.join("; ")),
            (_, None) => "nothing: the limit of the search was reached".into(),
        };
        vec![
            of.name.clone(),
            of.location.clone(),
            search.replicas.map_or("–".into(), |replicas| replicas.to_string()),
            search.found.map_or("–".into(), |found| found.to_string()),
            number(&|run| format!("{:.1}", run.rate())),
            number(&|run| percentile(&run.all, 50.0)),
            number(&|run| percentile(&run.all, 95.0)),
            number(&|run| percentile(&run.all, 99.0)),
            limit,
        ]
    };
    Table {
        heads: vec![
            "service",
            "location",
            "replicas",
            "max",
            "per s",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "what ended it",
        ],
        rows: results.iter().flat_map(|of| of.searches.iter().map(move |search| row(of, search))).collect(),
    }
}
