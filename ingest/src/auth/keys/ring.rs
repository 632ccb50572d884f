//! The keys that are in force.

use std::{
    convert::Infallible,
    fs,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use cloudpose_policy::quota::Limits;
use cloudpose_wire::Tenant;

use super::{Digest, Error, Key, Keys};
use crate::{
    auth::{Denied, Need, Pass, Proof, need_met},
    followed::{Followed, Parse},
};

/// Longest wait for an end before the clock is asked again: somebody may have set it.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(60);

/// The keys of a file that may change while they are in use.
#[derive(Debug)]
pub(crate) struct Keyring(Followed<Keys>);

impl Keyring {
    /// Reads the file.
    ///
    /// # Errors
    /// If it is not there, or says nothing that can be used.
    pub(crate) fn open(path: PathBuf) -> Result<Self, Error> {
        let json = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
        let keys = Keys::parse(&json).map_err(|flaw| Error::Flawed { path: path.clone(), flaw })?;
        tracing::info!(keys = keys.list().len(), "clients show a key of {}", path.display());
        let parse: Parse<Keys> = |files| Keys::parse(&files[0]).map_err(|flaw| flaw.to_string());
        Ok(Self(Followed::new(vec![path], vec![json], keys, parse)))
    }

    /// Lets in who shows the key with this SHA-256, if it is for `need`.
    pub(crate) fn admit(&self, sha256: Digest, need: Need, now: SystemTime) -> Result<Pass, Denied> {
        let keys = self.0.current();
        let key = valid(&keys, &sha256, need, now)?;
        Ok(Pass { caller: key.caller(), proof: Proof::Key(sha256) })
    }

    /// Waits until the key that let `pass` in would let it in no more, and says why.
    pub(crate) async fn ended(&self, pass: &Pass, sha256: &Digest, need: Need) -> Denied {
        let mut keys = self.0.subscribe();
        loop {
            let now = SystemTime::now();
            let left = match valid(&keys.borrow_and_update(), sha256, need, now) {
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

    /// What the file says that a tenant may use.
    pub(crate) fn quota(&self, tenant: &Tenant) -> Limits {
        self.0.current().quotas.get(tenant).map(|quota| quota.limits).unwrap_or_default()
    }

    /// Keeps up with the file.
    pub(crate) async fn follow(&self) -> Infallible {
        self.0.follow().await
    }

    #[cfg(test)]
    pub(super) fn take_in(&self, read: Result<Vec<u8>, String>) {
        self.0.take_in(read.map(|json| vec![json]));
    }
}

/// The key with this SHA-256, if it is one for `need`.
fn valid<'a>(keys: &'a Keys, sha256: &Digest, need: Need, now: SystemTime) -> Result<&'a Key, Denied> {
    let key = keys.find(sha256).ok_or(Denied::UnknownKey)?;
    if key.expired(now) {
        return Err(Denied::Expired);
    }
    need_met(&key.scopes, need).map(|()| key)
}
