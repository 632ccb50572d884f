//! A process of `cloudpose` that says where it listens.

use std::{collections::VecDeque, path::Path, process::Stdio};

use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    task::JoinSet,
};

use crate::Error;

/// Lines of its log that are kept for the error message.
const LAST_LINES: usize = 8;

/// Ends when dropped.
pub(super) struct Process {
    /// `127.0.0.1:…`.
    pub(super) address: String,
    _child: Child,
    /// Reads the rest of its log, so that it never waits for a reader.
    _log: JoinSet<()>,
}

impl Process {
    /// Starts `cloudpose role arguments…` and waits until it says that it listens.
    ///
    /// # Errors
    /// If it does not start, or ends before.
    pub(super) async fn start(binary: &Path, role: &str, arguments: &[&str]) -> Result<Self, Error> {
        let what = format!("cloudpose {role}");
        let mut command = Command::new(binary);
        command.arg(role).args(arguments).stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        // The log is read here, and so must look as expected.
        command.env("CLOUDPOSE_LOG", "info").env("CLOUDPOSE_LOG_FORMAT", "text");
        // It says where clients come, and monitors if they come elsewhere: a gateway is asked where clients come.
        command.env_remove("CLOUDPOSE_OPS_LISTEN");
        if std::env::var_os("CLOUDPOSE_INFER_THREADS").is_none() {
            // So that two replicas are twice one.
            command.env("CLOUDPOSE_INFER_THREADS", "1");
        }
        let mut child = command.spawn().map_err(|source| Error::Spawn { what: what.clone(), source })?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut last = VecDeque::new();
        let address = loop {
            let Ok(Some(line)) = lines.next_line().await else {
                return Err(Error::Ended { what, said: Vec::from(last).join("\n") });
            };
            let address =
                ["listening on http://", "metrics on http://"].iter().find_map(|m| line.split_once(m));
            if let Some((_, rest)) = address {
                break rest.trim().trim_end_matches("/metrics").to_owned();
            }
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        };
        let mut log = JoinSet::new();
        log.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { address, _child: child, _log: log })
    }

    /// Where it answers.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}
