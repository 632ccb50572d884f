//! What ends a load test with an error.

use std::{path::PathBuf, time::Duration};

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the messages say it, the fields are in them")]
pub enum Error {
    #[error(
        "{0:?} is no address of a service; write it like http://127.0.0.1:60000, without a path; for \
             https, put a tunnel in between"
    )]
    Url(String),
    #[error("cannot make an HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("{url} is not ready: {why}")]
    NoService { url: String, why: String },
    #[error("--by rate is for --workload http: streams are raised by users")]
    RateOfStreams,
    #[error("--scaler none can not change the number of replicas: give --replicas one number, the service's")]
    NothingScales,
    #[error("{what} not ready after {patience:?}")]
    NotReady { what: String, patience: Duration },
    #[error("cannot start {what}")]
    Spawn { what: String, source: std::io::Error },
    #[error("{what} ended:\n{said}")]
    Ended { what: String, said: String },
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{} holds no results of cloudpose loadgen", path.display())]
    NotResults { path: PathBuf, source: serde_json::Error },
    #[error("{} has layout {schema}, which this version does not know", path.display())]
    OtherSchema { path: PathBuf, schema: u32 },
    #[error("cannot write {}", path.display())]
    Write { path: PathBuf, source: std::io::Error },
    #[error("cannot write the table")]
    Csv(#[from] csv::Error),
    #[error("the run is void: {}", .0.join("; "))]
    Void(Vec<String>),
    #[error("failed: {}", .0.join("; "))]
    Threshold(Vec<String>),
    #[error("interrupted")]
    Interrupted,
}
