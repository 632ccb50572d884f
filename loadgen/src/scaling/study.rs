//! Every signal against every load.

use std::{path::Path, time::Duration};

use super::{
    cluster::{Plan, Record, Signal, simulate},
    first::{First, Reckoned},
    hpa::{Behavior, Change, Policy, Rules, Select},
    load::Shape,
};
use crate::{
    Error,
    config::ScaleSim,
    report::{
        self,
        chart::{Chart, Line, Scale},
        words::Table,
    },
};

/// What the chart in `deploy/helm/cloudpose` sets: up at once, down slowly.
fn chart_rules(command: &ScaleSim) -> Rules {
    let (quarter, minute) = (Duration::from_secs(15), Duration::from_secs(60));
    let policy = |change, period| Policy { change, period };
    Rules {
        min: command.replicas.from,
        max: command.replicas.to,
        sync: quarter,
        up: Behavior {
            stabilisation: Duration::ZERO,
            policies: vec![policy(Change::Percent(100), quarter), policy(Change::Pods(4), quarter)],
            select: Select::Max,
        },
        down: Behavior {
            stabilisation: Duration::from_secs(180),
            policies: vec![policy(Change::Percent(50), minute), policy(Change::Pods(4), minute)],
            select: Select::Min,
        },
    }
}

fn shapes(command: &ScaleSim) -> [Shape; 4] {
    let (low, high) = (command.streams.from, command.streams.to);
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    [
        Shape::Step { from: low, to: high, at: minutes(2), lasts: minutes(15) },
        Shape::Ramp { from: low, to: high, lasts: minutes(15) },
        Shape::Burst { low, high, from: minutes(3), until: minutes(8), lasts: minutes(20) },
        Shape::Diurnal { low, high, lasts: minutes(60) },
    ]
}

/// The signals, with targets that keep about a quarter of the capacity free; and one that does not.
fn signals(command: &ScaleSim) -> [(&'static str, Signal); 5] {
    let slots = f64::from(command.slots);
    [
        ("queue depth", Signal::QueueDepth(command.depth * slots)),
        ("queue depth × 2", Signal::QueueDepth(2.0 * slots)),
        ("oldest age", Signal::OldestAge(0.05)),
        ("offered/capacity", Signal::OfferedLoad(0.75)),
        ("CPU", Signal::Utilisation(0.75)),
    ]
}

fn plan(command: &ScaleSim, shape: Shape, signal: Signal) -> Plan {
    Plan {
        shape,
        frames_per_second: command.fps,
        max_age: Duration::from_secs(1),
        service: command.service,
        slots: command.slots,
        first: None,
        start: command.start,
        scrape: command.scrape,
        rules: chart_rules(command),
        signal,
        delivered: 0.95,
        p95: Duration::from_millis(500),
    }
}

/// Simulates, and writes a table to standard output and plots into the folder.
///
/// # Errors
/// If a plot cannot be written.
pub(crate) fn run(command: &ScaleSim, say: impl Fn(&str)) -> Result<(), Error> {
    let mut table = Table {
        heads: vec!["load", "signal", "out of objective", "longest", "mean replicas", "most", "turns"],
        rows: Vec::new(),
    };
    for shape in shapes(command) {
        let records = signals(command).map(|(name, signal)| {
            let record = simulate(&plan(command, shape.clone(), signal));
            table.rows.push(row(shape.name(), name, &record));
            (name, record)
        });
        draw(&command.output, &shape, &records)?;
    }
    say(&table.markdown());
    say(&gpus_gone(command).markdown());
    say(&format!("plots are in {}", command.output.display()));
    Ok(())
}

/// Workers that are served before the scaled ones, go for some minutes and come back: what of all frames the autoscaler
/// takes to be theirs.
fn gpus_gone(command: &ScaleSim) -> Table {
    let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
    let mut table = Table {
        heads: vec![
            "first pool",
            "its frames",
            "out of objective",
            "longest",
            "mean replicas",
            "most",
            "turns",
        ],
        rows: Vec::new(),
    };
    let streams = command.streams.to;
    let shape = Shape::Step { from: streams, to: streams, at: Duration::ZERO, lasts: minutes(20) };
    // One GPU of the chart's settings takes 68 frames, four at their target 192.
    for (name, reckoned) in [("of those there", Reckoned::There), ("at its largest", Reckoned::Largest(192))]
    {
        let signal = Signal::QueueDepth(command.depth * f64::from(command.slots));
        let service = Duration::from_millis(15);
        let first = First { slots: 68, service, gone: minutes(4)..minutes(12), reckoned };
        let plan = Plan { first: Some(first), ..plan(command, shape.clone(), signal) };
        table.rows.push(row("gone for 8 min", name, &simulate(&plan)));
    }
    table
}

fn row(load: &str, signal: &str, record: &Record) -> Vec<String> {
    let most = record.slices.iter().map(|slice| slice.replicas).max().unwrap_or_default();
    vec![
        load.into(),
        signal.into(),
        format!("{:.1} %", 100.0 * record.out_of_objective),
        format!("{} s", record.longest_outage.as_secs()),
        format!("{:.1}", record.mean_replicas),
        most.to_string(),
        record.flaps.to_string(),
    ]
}

fn draw(folder: &Path, shape: &Shape, records: &[(&str, Record)]) -> Result<(), Error> {
    let minutes = |at: f64| at / 60.0;
    let mut lines: Vec<Line> = records
        .iter()
        .map(|(name, record)| Line {
            name: (*name).into(),
            points: record.slices.iter().map(|s| (minutes(s.at), f64::from(s.replicas))).collect(),
        })
        .collect();
    if let Some((_, record)) = records.first() {
        let points = record.slices.iter().map(|s| (minutes(s.at), f64::from(s.streams))).collect();
        lines.push(Line { name: "streams".into(), points });
    }
    let title = format!("Replicas by signal, {} load", shape.name());
    let chart = Chart { title: &title, x: "minutes", y: "replicas", scale: Scale::Linear, lines, mark: None };
    match chart.svg() {
        Some(svg) => report::put(folder, &format!("scale-sim-{}.svg", shape.name()), svg.as_bytes()),
        None => Ok(()),
    }
}
