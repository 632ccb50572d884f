//! Infer workers as processes on this machine; and, unless they are there, the NATS server, the gateway and
//! the annotate worker that they need.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::sleep,
};

use super::process::Process;
use crate::{Error, ready};

/// What the server needs for photos, and nothing else.
const NATS_CONFIG: &str =
    "max_payload: 8MB\nmax_pending: 64MB\njetstream { max_memory_store: 1GB, max_file_store: 1GB }\n";

/// Everything that runs for one experiment. Ends when dropped.
pub(crate) struct Local {
    binary: PathBuf,
    nats_url: String,
    workers: Vec<Process>,
    ours: Option<Surroundings>,
}

/// What the workers need.
struct Surroundings {
    gateway: Process,
    _annotate: Process,
    _nats: Nats,
}

impl Local {
    /// Starts what the workers need, unless there is a NATS server with a gateway.
    pub(super) async fn start(binary: PathBuf, nats: Option<&str>) -> Result<Self, Error> {
        if let Some(url) = nats {
            return Ok(Self { binary, nats_url: url.into(), workers: Vec::new(), ours: None });
        }
        let nats = Nats::start().await?;
        let url = nats.url.clone();
        let gateway = Process::start(&binary, "ingest", &["--nats", &url, "--listen", "127.0.0.1:0"]).await?;
        let annotate = Process::start(&binary, "annotate", &["--nats", &url]).await?;
        ready::path(&format!("{}/ready", annotate.url())).await;
        ready::path(&format!("{}/ready", gateway.url())).await;
        let ours = Surroundings { gateway, _annotate: annotate, _nats: nats };
        Ok(Self { binary, nats_url: url, workers: Vec::new(), ours: Some(ours) })
    }

    pub(super) fn url(&self) -> Option<String> {
        Some(self.ours.as_ref()?.gateway.url())
    }

    pub(super) async fn scale(&mut self, replicas: u32) -> Result<(), Error> {
        self.workers.truncate(replicas as usize);
        while self.workers.len() < replicas as usize {
            let arguments = ["--nats", &self.nats_url, "--ops-listen", "127.0.0.1:0"];
            self.workers.push(Process::start(&self.binary, "infer", &arguments).await?);
        }
        for worker in &self.workers {
            ready::path(&format!("{}/ready", worker.url())).await;
        }
        Ok(())
    }
}

/// A nats-server of our own.
struct Nats {
    url: String,
    _child: Child,
    _folder: TempDir,
}

impl Nats {
    /// Starts the one that `NATS_SERVER` names, or that of the PATH, on a free port.
    async fn start() -> Result<Self, Error> {
        let folder =
            tempfile::tempdir().map_err(|source| Error::Write { path: std::env::temp_dir(), source })?;
        let config = folder.path().join("nats.conf");
        std::fs::write(&config, NATS_CONFIG)
            .map_err(|source| Error::Write { path: config.clone(), source })?;
        let server = std::env::var_os("NATS_SERVER").unwrap_or_else(|| "nats-server".into());
        let mut command = Command::new(&server);
        command.arg("--config").arg(&config).args(["--addr", "127.0.0.1", "--port", "-1"]);
        command.arg("--ports_file_dir").arg(folder.path()).arg("--store_dir").arg(folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let what = "nats-server (put it on the PATH, or name it: NATS_SERVER=/path/to/nats-server)";
        let mut child = command.spawn().map_err(|source| Error::Spawn { what: what.into(), source })?;
        let url = loop {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(Error::Ended { what: "nats-server".into(), said: status.to_string() });
            }
            match child.id().and_then(|pid| told(folder.path(), pid)) {
                Some(url) => break url,
                None => sleep(Duration::from_millis(20)).await,
            }
        };
        Ok(Self { url, _child: child, _folder: folder })
    }
}

/// The address that the server wrote down, once it has.
fn told(folder: &Path, pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(format!("nats-server_{pid}.ports"))).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports["nats"][0].as_str().map(str::to_owned)
}
