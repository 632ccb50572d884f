//! What people see while it runs: a line for each thing that is done, and a bar for what is under way.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

use crate::summary::Point;

/// Standard output for what stays, standard error for the bar.
pub(crate) struct Screen {
    bar: ProgressBar,
    /// Without a terminal: when the last line about what is under way was written.
    told: Duration,
}

/// How often something is written where there is no terminal for a bar.
const REMARK: Duration = Duration::from_secs(10);

impl Screen {
    pub(crate) fn new() -> Self {
        Self { bar: ProgressBar::hidden(), told: Duration::ZERO }
    }

    /// Something that stays.
    pub(crate) fn say(&self, text: &str) {
        self.bar.suspend(|| println!("{text}"));
    }

    /// A run begins that lasts so long.
    pub(crate) fn begin(&mut self, what: &str, time: Duration) {
        self.told = Duration::ZERO;
        if !std::io::stderr().is_terminal() {
            tracing::info!("{what}, {} s", time.as_secs());
            return;
        }
        let style = ProgressStyle::with_template("{prefix} {bar:24.cyan} {pos}/{len} s  {wide_msg}");
        self.bar = ProgressBar::new(time.as_secs())
            .with_style(style.expect("the template is a constant"))
            .with_prefix(what.to_owned());
        self.bar.tick();
    }

    /// How it goes.
    pub(crate) fn update(&mut self, point: &Point) {
        let latency = point.latency_ms.map_or("no answers".into(), |[p50, p95, p99]| {
            format!("p50 {p50:.0} p95 {p95:.0} p99 {p99:.0} ms")
        });
        let dropped: u64 = point.drops.values().sum();
        let drops = if dropped > 0 { format!("  {dropped} dropped") } else { String::new() };
        let failures =
            if point.failures > 0.0 { format!("  {:.1} errors/s", point.failures) } else { String::new() };
        let text = format!("{} users  {:.1}/s  {latency}{drops}{failures}", point.users, point.rate);
        self.bar.set_position(point.at as u64);
        self.bar.set_message(text.clone());
        let now = Duration::from_secs_f64(point.at);
        if self.bar.is_hidden() && now >= self.told + REMARK {
            self.told = now;
            tracing::info!("{text}");
        }
    }

    /// The run is over.
    pub(crate) fn end(&mut self) {
        self.bar.finish_and_clear();
    }
}
