//! The keys of a file that may change while they are in use.

use std::{
    convert::Infallible,
    fs, io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::{Digest, Error, Key, KeyFile, Keys};
use crate::auth::{Denied, Need, Pass};

/// How often the file is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a key's end before the clock is asked again: somebody may have set it.
const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The keys that are in force.
#[derive(Debug)]
pub(crate) struct Keyring {
    path: PathBuf,
    keys: watch::Sender<Arc<Keys>>,
}

impl Keyring {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is not there, or says nothing that can be used.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Error> {
        let keys = KeyFile::new(&path).read()?;
        tracing::info!(keys = keys.list().len(), "clients show a key of {}", path.display());
        Ok(Self { path, keys: watch::Sender::new(Arc::new(keys)) })
    }

    /// Lets in who shows a key for `need`.
    pub(crate) fn admit(&self, presented: &str, need: Need, now: SystemTime) -> Result<Pass, Denied> {
        let sha256 = Digest::of(presented);
        let keys = self.keys.borrow();
        let key = valid(&keys, &sha256, need, now)?;
        Ok(Pass { caller: key.caller(), key: Some(sha256) })
    }

    /// Waits until the key that let `pass` in would let it in no more, and says why.
    pub(crate) async fn ended(&self, pass: &Pass, need: Need) -> Denied {
        let Some(sha256) = pass.key else { return std::future::pending().await };
        let mut keys = self.keys.subscribe();
        loop {
            let now = SystemTime::now();
            let left = match valid(&keys.borrow_and_update(), &sha256, need, now) {
                Err(denied) => return denied,
                // It works on somebody else's account now.
                Ok(key) if key.tenant != pass.caller.tenant => return Denied::UnknownKey,
                Ok(key) => key.expires.map_or(ASK_AGAIN, |end| end.duration_since(now).unwrap_or_default()),
            };
            tokio::select! {
                // We hold the sender, so it cannot fail.
                _ = keys.changed() => {}
                () = tokio::time::sleep(left.min(ASK_AGAIN)) => {}
            }
        }
    }

    /// Takes the file in anew whenever it changes. One that cannot be used changes nothing, and is told once.
    pub(crate) async fn follow(&self) -> Infallible {
        let mut seen = None;
        loop {
            let path = self.path.clone();
            let read = tokio::task::spawn_blocking(move || fs::read(path)).await;
            let read = read.map_err(io::Error::from).and_then(|read| read).map_err(|error| error.to_string());
            if seen.as_ref() != Some(&read) {
                self.take_in(&read);
                seen = Some(read);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    pub(super) fn take_in(&self, read: &Result<Vec<u8>, String>) {
        let keys = match read {
            Ok(json) => Keys::parse(json).map_err(|flaw| flaw.to_string()),
            Err(error) => Err(error.clone()),
        };
        match keys {
            Ok(keys) => {
                let keys = Arc::new(keys);
                let changed = self.keys.send_if_modified(|current| {
                    let differ = *current != keys;
                    *current = Arc::clone(&keys);
                    differ
                });
                if changed {
                    tracing::info!(keys = keys.list().len(), "took in the keys of {}", self.path.display());
                }
            }
            Err(error) => tracing::error!(
                "the keys of {} cannot be used, the earlier ones stay in force: {error}",
                self.path.display()
            ),
        }
    }
}

/// The key with this SHA-256, if it is one for `need`.
fn valid<'a>(keys: &'a Keys, sha256: &Digest, need: Need, now: SystemTime) -> Result<&'a Key, Denied> {
    let key = keys.find(sha256).ok_or(Denied::UnknownKey)?;
    if key.expired(now) {
        return Err(Denied::Expired);
    }
    match need {
        Need::Scope(scope) if !key.scopes.contains(&scope) => Err(Denied::Scope(scope)),
        Need::Nothing | Need::Key | Need::Scope(_) => Ok(key),
    }
}
