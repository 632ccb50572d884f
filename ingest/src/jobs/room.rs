//! How much of the store a tenant's jobs take.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use cloudpose_store::Error;
use cloudpose_wire::Tenant;

use super::Jobs;

/// Bytes that are on their way to be kept, by tenant.
#[derive(Debug, Default)]
pub(super) struct Coming(Mutex<HashMap<Tenant, u64>>);

impl Coming {
    fn by_tenant(&self) -> MutexGuard<'_, HashMap<Tenant, u64>> {
        // Each change is one sum, so a panic elsewhere does not spoil it.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for so many bytes. Until it is dropped, others of the tenant that are handed in at this gateway have the rest.
#[derive(Debug)]
pub(crate) struct Room {
    jobs: Jobs,
    tenant: Tenant,
    bytes: u64,
}

impl Room {
    fn hold(jobs: &Jobs, tenant: &Tenant, bytes: u64) -> Self {
        *jobs.0.coming.by_tenant().entry(tenant.clone()).or_default() += bytes;
        Self { jobs: jobs.clone(), tenant: tenant.clone(), bytes }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut coming = self.jobs.0.coming.by_tenant();
        if let Some(bytes) = coming.get_mut(&self.tenant) {
            *bytes -= self.bytes;
            if *bytes == 0 {
                coming.remove(&self.tenant);
            }
        }
    }
}

impl Jobs {
    /// Room for `bytes` more of a tenant that may have `most` in all, if there is any.
    pub(crate) async fn room(&self, tenant: &Tenant, bytes: u64, most: f64) -> Result<Option<Room>, Error> {
        let room = Room::hold(self, tenant, bytes);
        // What becomes a job meanwhile may count twice, but not less.
        let coming = self.0.coming.by_tenant().get(tenant).copied().unwrap_or_default();
        let kept: u64 = self.states(tenant).await?.iter().map(|state| state.bytes).sum();
        Ok((coming.saturating_add(kept) as f64 <= most).then_some(room))
    }
}
