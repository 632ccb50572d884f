//! Who changes the number of replicas.

mod local;
mod process;

use std::{path::PathBuf, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::{
    Error,
    config::{Experiment, ScalerKind},
};
use local::Local;

/// How long a number of replicas may take to be there.
const PATIENCE: Duration = Duration::from_secs(300);

/// One that is at work.
pub(crate) enum Scaler {
    None,
    Kubectl { deployment: String, namespace: String },
    Local(Box<Local>),
}

impl Scaler {
    /// `binary`: what `cloudpose infer` and so on are started from.
    ///
    /// # Errors
    /// If what it needs does not start.
    pub(crate) async fn start(experiment: &Experiment, binary: PathBuf) -> Result<Self, Error> {
        Ok(match experiment.scaler {
            ScalerKind::None => Self::None,
            ScalerKind::Kubectl => Self::Kubectl {
                deployment: experiment.deployment.clone().unwrap_or_default(),
                namespace: experiment.namespace.clone(),
            },
            ScalerKind::Local => {
                let started = timeout(PATIENCE, Local::start(binary, experiment.nats.as_deref())).await;
                Self::Local(Box::new(
                    started.unwrap_or_else(|_| Err(not_ready("gateway and annotate worker")))?,
                ))
            }
        })
    }

    /// Where the service is, if the scaler started it.
    pub(crate) fn url(&self) -> Option<String> {
        match self {
            Self::Local(local) => local.url(),
            Self::None | Self::Kubectl { .. } => None,
        }
    }

    /// Brings so many replicas about, and waits until they are ready.
    ///
    /// # Errors
    /// If they do not come.
    pub(crate) async fn scale(&mut self, replicas: u32) -> Result<(), Error> {
        let come = async {
            match self {
                Self::None => Ok(()),
                Self::Kubectl { deployment, namespace } => kubectl(deployment, namespace, replicas).await,
                Self::Local(local) => local.scale(replicas).await,
            }
        };
        timeout(PATIENCE, come).await.unwrap_or_else(|_| Err(not_ready(&format!("{replicas} replicas"))))
    }
}

fn not_ready(what: &str) -> Error {
    Error::NotReady { what: what.into(), patience: PATIENCE }
}

async fn kubectl(deployment: &str, namespace: &str, replicas: u32) -> Result<(), Error> {
    let name = format!("deployment/{deployment}");
    let count = format!("--replicas={replicas}");
    for arguments in [&["scale", &name, &count][..], &["rollout", "status", &name]] {
        let mut command = Command::new("kubectl");
        command.args(["--namespace", namespace]).args(arguments).kill_on_drop(true);
        let done = command.output().await;
        let output = done.map_err(|source| Error::Spawn { what: "kubectl".into(), source })?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(Error::Ended { what: format!("kubectl {}", arguments.join(" ")), said });
        }
    }
    Ok(())
}
