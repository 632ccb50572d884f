//! Removes jobs whose time is over, and uploads that became no job. It sees all jobs, and so all callbacks that are due.

use std::{collections::HashSet, convert::Infallible, time::Duration};

use cloudpose_store::Error;
use cloudpose_wire::JobId;
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

use super::{
    Jobs, Room,
    document::{State, folder},
    failed, read, wall_clock,
};
use crate::{metrics, shared::token_of};

/// The longest pause between two rounds, and the shortest.
const SELDOM: Duration = Duration::from_secs(60);
const OFTEN: Duration = Duration::from_secs(1);
/// No upload takes so long. In milliseconds.
const ABANDONED_MS: u64 = 2 * 3600 * 1000;

/// The names of uploads begin with it, and go on with when they began.
const UPLOAD: &str = "up";

/// What is being uploaded. Dropped before it has become a job, it is removed.
#[derive(Debug)]
pub(crate) struct Upload {
    jobs: Jobs,
    name: JobId,
    is_job: bool,
    /// Held until it is a job, or none.
    room: Option<Room>,
    _place: OwnedSemaphorePermit,
}

impl Upload {
    /// Begins one, in a place of those for uploads.
    pub(super) fn new(jobs: &Jobs, place: OwnedSemaphorePermit) -> Self {
        Self { jobs: jobs.clone(), name: token_of(UPLOAD), is_job: false, room: None, _place: place }
    }

    pub(crate) fn name(&self) -> &JobId {
        &self.name
    }

    /// There is room for what has come.
    pub(crate) fn has(&mut self, room: Option<Room>) {
        self.room = room;
    }

    /// It stays.
    pub(super) fn is_job(&mut self) {
        self.is_job = true;
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Outside a runtime the process is ending, and the next one removes it.
        if !self.is_job
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let (jobs, name) = (self.jobs.clone(), self.name.clone());
            let tasks = jobs.0.tasks.clone();
            let remove = async move {
                if let Err(error) = jobs.store().remove_all(&folder(&name)).await {
                    failed("removing an upload", &error);
                }
            };
            tasks.spawn_on(remove, &runtime);
        }
    }
}

/// When an upload began.
fn began_at(upload: &str) -> Option<u64> {
    let id = Uuid::parse_str(upload.strip_prefix(UPLOAD)?.strip_prefix('-')?).ok()?;
    let (seconds, nanoseconds) = id.get_timestamp()?.to_unix();
    seconds.checked_mul(1000)?.checked_add(u64::from(nanoseconds) / 1_000_000)
}

/// Does so for ever.
pub(crate) async fn run(jobs: &Jobs) -> Infallible {
    // What is handed in next may have its time no sooner.
    let seldom = jobs.config().store_ttl.clamp(OFTEN, SELDOM);
    loop {
        let pause = match sweep(jobs).await {
            Ok(next) => Duration::from_millis(next.saturating_sub(wall_clock())).clamp(OFTEN, seldom),
            Err(error) => {
                failed("removing old jobs", &error);
                seldom
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// One round. Returns when the next job's time is over, at the latest.
async fn sweep(jobs: &Jobs) -> Result<u64, Error> {
    let (store, mut next, mut kept, mut all_read) = (jobs.store(), u64::MAX, HashSet::new(), true);
    for name in store.documents().await? {
        let Some(document) = store.document(&name).await? else { continue };
        let Some(state) = read::<State>(&document.body) else {
            all_read = false;
            continue;
        };
        if state.expires_at > wall_clock() {
            next = next.min(state.expires_at);
            jobs.expect_callback(&name, &state);
            kept.insert(state.upload);
        } else if store.remove(&name, &document).await? {
            metrics::job_expired();
            store.remove_all(&folder(&state.upload)).await?;
        }
    }
    // What cannot be read may have an upload that it needs.
    if all_read {
        let long_ago = wall_clock().saturating_sub(ABANDONED_MS);
        for upload in store.names("jobs").await? {
            let is_old = began_at(&upload).is_some_and(|began| began < long_ago);
            if let Ok(upload) = JobId::new(&upload)
                && is_old
                && !kept.contains(&upload)
            {
                store.remove_all(&folder(&upload)).await?;
            }
        }
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_upload_says_when_it_began() {
        let name: JobId = token_of(UPLOAD);
        let began = began_at(name.as_str()).unwrap();
        assert!(wall_clock().abs_diff(began) < 60_000, "{began}");
        assert_eq!(began_at("up-0"), None);
        assert_eq!(began_at("job-0190163d8694739b9ba5e6ea1f1b2a3c"), None);
    }
}
