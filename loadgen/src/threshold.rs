//! `--fail-if 'p99>500ms'`: what makes a run fail, for CI. Pure.

use std::{fmt, str::FromStr, time::Duration};

use crate::summary::{PERCENTILES, Run};

const HELP: &str = "write it like 'p99>500ms', 'errors>1%', 'rps<10', 'fps<14', 'delivered<95%', 'jain<0.9', \
                    'drops>5%', 'max<20'";

/// A condition that must not hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    metric: Metric,
    above: bool,
    limit: f64,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Metric {
    /// In ms.
    Percentile(f64),
    /// In ms.
    Mean,
    /// Share of requests or frames that failed.
    Errors,
    /// Answers a second.
    Rps,
    /// Delivered frames a second and user.
    Fps,
    /// Share of the frames that were delivered.
    Delivered,
    Jain,
    /// Share of the frames that were dropped.
    Drops,
    /// What a search found.
    Max,
}

impl Metric {
    fn read(name: &str) -> Option<Self> {
        Some(match name {
            "mean" => Self::Mean,
            "errors" => Self::Errors,
            "rps" => Self::Rps,
            "fps" => Self::Fps,
            "delivered" => Self::Delivered,
            "jain" => Self::Jain,
            "drops" => Self::Drops,
            "max" => Self::Max,
            _ => {
                let percent = name.strip_prefix('p')?.parse().ok()?;
                PERCENTILES.contains(&percent).then_some(Self::Percentile(percent))?
            }
        })
    }

    fn is_time(self) -> bool {
        matches!(self, Self::Percentile(_) | Self::Mean)
    }

    fn is_share(self) -> bool {
        matches!(self, Self::Errors | Self::Delivered | Self::Drops)
    }

    /// None if the run has no such number.
    fn of(self, run: &Run, found: Option<u32>) -> Option<f64> {
        let streams = run.streams.as_ref();
        match self {
            Self::Percentile(percent) => run.all.latency?.percentile(percent),
            Self::Mean => Some(run.all.latency?.mean_ms),
            Self::Errors => (run.all.count > 0).then(|| 1.0 - run.all.success()),
            Self::Rps => Some(run.rate()),
            Self::Fps => Some(streams?.fps),
            Self::Delivered => Some(streams?.share()),
            Self::Jain => streams?.jain,
            Self::Drops => {
                let streams = streams?;
                Some(streams.drops.values().sum::<u64>() as f64 / streams.due.max(1) as f64)
            }
            Self::Max => found.map(f64::from),
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| format!("{what}; {HELP}");
        let at = text.find(['<', '>']).ok_or_else(|| wrong("no < or > there"))?;
        let (name, value) = (text[..at].trim(), text[at + 1..].trim());
        let metric = Metric::read(name).ok_or_else(|| wrong(&format!("{name:?} is not measured")))?;
        let number = |digits: &str| digits.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let limit = if metric.is_time() {
            let time = humantime::parse_duration(value).map_err(|error| wrong(&error.to_string()))?;
            Some(in_ms(time))
        } else if metric.is_share() {
            value.strip_suffix('%').and_then(number).map(|percent| percent / 100.0)
        } else {
            number(value)
        };
        let limit = limit.ok_or_else(|| wrong(&format!("{value:?} does not fit {name}")))?;
        Ok(Self { metric, above: text[at..].starts_with('>'), limit, text: text.into() })
    }
}

fn in_ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl Threshold {
    /// Why `run` fails, if it does. `found`: the answer of a search. A number that is not there fails too: a
    /// check that cannot be made must not look green.
    pub fn check(&self, run: &Run, found: Option<u32>) -> Option<String> {
        let Some(value) = self.metric.of(run, found) else {
            return Some(format!("{}: there is no such number in this run", self.text));
        };
        let fails = if self.above { value > self.limit } else { value < self.limit };
        fails.then(|| {
            let shown = match self.metric {
                metric if metric.is_time() => format!("{value:.1} ms"),
                metric if metric.is_share() => format!("{:.2} %", 100.0 * value),
                _ => format!("{value:.2}"),
            };
            format!("{}: it is {shown}", self.text)
        })
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        failure::Failure,
        record::{CallName, Recorder, UserTally, Window},
        summary::Load,
    };

    /// 100 requests of 1 to 100 ms, 2 of which failed; a stream with 9 of 10 frames.
    fn run(is_stream: bool) -> Run {
        let window = Window { from: Duration::ZERO, until: Duration::from_secs(10) };
        let recorder = Recorder::new(&[CallName { method: "POST", path: "/" }], window);
        for i in 1..=100 {
            let how = if i <= 2 { Err(Failure::Timeout) } else { Ok(1) };
            recorder.outcome(0, Duration::ZERO, Duration::from_millis(i), how);
        }
        recorder.dropped(Duration::ZERO, "superseded");
        recorder.stream(UserTally { due: 10, delivered: 9, ids_checked: 9 });
        recorder.summary(Load::Users(1), is_stream, Duration::from_millis(20))
    }

    fn fails(text: &str, run: &Run) -> bool {
        text.parse::<Threshold>().unwrap().check(run, Some(12)).is_some()
    }

    #[test]
    fn conditions_hold_or_do_not() {
        let http = run(false);
        for text in ["p99>98ms", "p50 > 40ms", "errors>1%", "rps<10", "mean>1ms", "max<20", "p99.9>0.05s"] {
            let text = text.replace("0.05s", "50ms");
            assert!(fails(&text, &http), "{text}");
        }
        for text in ["p99>500ms", "errors>2.5%", "rps<9", "max<12", "p50<10ms"] {
            assert!(!fails(text, &http), "{text}");
        }
        let stream = run(true);
        for text in ["delivered<95%", "fps<1", "drops>5%", "jain>0.9"] {
            assert!(fails(text, &stream), "{text}");
            assert!(fails(text, &http), "{text}: a check that cannot be made fails");
        }
        assert!(!fails("delivered<90%", &stream) && !fails("jain<0.9", &stream));
    }

    #[test]
    fn says_what_it_is() {
        let why = "p99>98ms".parse::<Threshold>().unwrap().check(&run(false), None);
        assert_eq!(why.unwrap(), "p99>98ms: it is 99.0 ms");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for bad in ["", "p99", "p99>500", "p97>1s", "errors>1", "rps>x", "speed>1", "rps<-1", "rps<NaN"] {
            let refused = bad.parse::<Threshold>();
            assert!(refused.as_ref().is_err_and(|why| why.contains("write it like")), "{bad}: {refused:?}");
        }
    }
}
