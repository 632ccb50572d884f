//! Whether a tenant may have one more job.

use super::of_store;
use crate::{
    doors::Problem,
    jobs::{Jobs, Room, Upload},
    quotas::Guest,
};

/// Whether a tenant may have one more job, of so many bytes as far as that is known.
pub(crate) async fn check(jobs: &Jobs, guest: &Guest, announced: u64) -> Result<(), Problem> {
    let count = jobs.count(guest.tenant()).await.map_err(|error| of_store(&error))?;
    let most = jobs.config().max_jobs as usize;
    if count >= most {
        return Err(Problem::too_many_jobs(format!(
            "you have {count} jobs, and may have {most}; delete those that you have fetched"
        )));
    }
    // Held once it is there.
    hold(jobs, guest, announced.max(1)).await.map(drop)
}

/// Begins an upload.
pub(crate) fn begin(jobs: &Jobs) -> Result<Upload, Problem> {
    jobs.begin().ok_or_else(|| Problem::unavailable("many jobs are being handed in; try again in a moment"))
}

/// Room for what has come, if that is limited.
pub(crate) async fn hold(jobs: &Jobs, guest: &Guest, bytes: u64) -> Result<Option<Room>, Problem> {
    let Some(most) = guest.may_store() else { return Ok(None) };
    let room = jobs.room(guest.tenant(), bytes, most).await.map_err(|error| of_store(&error))?;
    room.map(Some).ok_or_else(|| guest.stores_too_much(most).into())
}
