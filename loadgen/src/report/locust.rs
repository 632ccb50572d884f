//! `results.csv`: the columns of Locust's `_stats.csv`, and after them those that tell our runs apart.

use crate::{
    Error,
    summary::{Call, Latency, Load, PERCENTILES, Results, Run},
};

const HEADS: [&str; 11] = [
    "Type",
    "Name",
    "Request Count",
    "Failure Count",
    "Median Response Time",
    "Average Response Time",
    "Min Response Time",
    "Max Response Time",
    "Average Content Size",
    "Requests/s",
    "Failures/s",
];
/// In the order of [`PERCENTILES`].
const PERCENTILE_HEADS: [&str; PERCENTILES.len()] =
    ["50%", "66%", "75%", "80%", "90%", "95%", "98%", "99%", "99.9%", "99.99%", "100%"];
const OUR_HEADS: [&str; 5] = ["Service", "Location", "Replicas", "Users", "Verdict"];

/// Every run, call by call.
///
/// # Errors
/// If a row does not write.
pub(super) fn table(results: &[Results]) -> Result<Vec<u8>, Error> {
    let mut csv = csv::Writer::from_writer(Vec::new());
    csv.write_record(HEADS.iter().chain(&PERCENTILE_HEADS).chain(&OUR_HEADS))?;
    for of in results {
        for run in &of.runs {
            rows(&mut csv, of, run, "", "")?;
        }
        for search in &of.searches {
            let replicas = search.replicas.map(|n| n.to_string()).unwrap_or_default();
            for step in &search.steps {
                let verdict = step.verdict.to_string();
                rows(&mut csv, of, &step.run, &replicas, &verdict)?;
            }
        }
    }
    csv.into_inner().map_err(|error| Error::Csv(error.into_error().into()))
}

fn rows(
    csv: &mut csv::Writer<Vec<u8>>,
    of: &Results,
    run: &Run,
    replicas: &str,
    verdict: &str,
) -> Result<(), Error> {
    let load = match run.load {
        Load::Users(users) => users.to_string(),
        // Locust has no word for it.
        Load::Rate(_) => String::new(),
    };
    for call in run.calls.iter().chain([&run.all]) {
        let mut row = cells(call, run.seconds);
        row.extend([&of.name, &of.location, replicas, &load, verdict].map(String::from));
        csv.write_record(row)?;
    }
    Ok(())
}

fn cells(call: &Call, seconds: f64) -> Vec<String> {
    let failed = call.failed();
    let percentile = |percent| {
        let ms = call.latency.and_then(|latency| latency.percentile(percent));
        // As Locust has it: whole milliseconds, and N/A where there is nothing.
        ms.map_or("N/A".into(), |ms| format!("{ms:.0}"))
    };
    let of_latency = |f: fn(&Latency) -> f64| format!("{:.1}", call.latency.as_ref().map_or(0.0, f));
    let per_second = |count: u64| (count as f64 / seconds).to_string();
    let mut row = vec![
        call.method.clone(),
        call.name.clone(),
        call.count.to_string(),
        failed.to_string(),
        percentile(50.0),
        of_latency(|l| l.mean_ms),
        of_latency(|l| l.min_ms),
        of_latency(|l| l.percentile(100.0).unwrap_or_default()),
        call.mean_bytes.to_string(),
        per_second(call.count),
        per_second(failed),
    ];
    row.extend(PERCENTILES.map(percentile));
    row
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        failure::Failure,
        record::{CallName, Recorder, Window},
    };

    #[test]
    fn the_columns_that_locust_writes_and_then_ours() {
        let window = Window { from: Duration::ZERO, until: Duration::from_secs(10) };
        let recorder = Recorder::new(&[CallName { method: "POST", path: "/a" }], window);
        for i in 1..=20 {
            let how = if i == 20 { Err(Failure::Status(500)) } else { Ok(50) };
            recorder.outcome(0, Duration::ZERO, Duration::from_millis(i), how);
        }
        let results = Results {
            name: "one, two".into(),
            location: "remote".into(),
            url: String::new(),
            workload: String::new(),
            began: String::new(),
            objective: None,
            runs: vec![recorder.summary(Load::Users(7), false, Duration::from_secs(1))],
            searches: vec![],
        };
        let text = String::from_utf8(table(&[results]).unwrap()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        // The head of `*_stats.csv` in Locust's documentation, "Retrieve test statistics in CSV format".
        let locust = "Type,Name,Request Count,Failure Count,Median Response Time,Average Response Time,\
                      Min Response Time,Max Response Time,Average Content Size,Requests/s,Failures/s,\
                      50%,66%,75%,80%,90%,95%,98%,99%,99.9%,99.99%,100%";
        assert_eq!(lines[0], format!("{locust},Service,Location,Replicas,Users,Verdict"));
        let measured = "20,1,10,10.5,1.0,20.0,50,2,0.1,10,14,15,16,18,19,20,20,20,20,20";
        assert_eq!(lines[1], format!("POST,/a,{measured},\"one, two\",remote,,7,"));
        assert_eq!(lines[2], format!(",Aggregated,{measured},\"one, two\",remote,,7,"));
    }
}
