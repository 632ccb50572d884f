//! How much each tenant and each address may use, and does.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use cloudpose_policy::{
    guests::network,
    quota::{Exceeded, Limits, Resource, Usage},
};
use cloudpose_wire::{SharedEvent, Tenant, event::TimingsMs};

use crate::metrics;

/// Who has used something and does not now is forgotten when there are so many.
const USERS: usize = 4096;

/// Whose something is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum User {
    Tenant(Tenant),
    Address(IpAddr),
}

/// What each uses.
#[derive(Debug, Default)]
pub(crate) struct Quotas(Mutex<HashMap<User, (Limits, Usage)>>);

/// A client, by what it may use. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    quotas: Arc<Quotas>,
    tenant: Tenant,
    /// Whose limits count for it.
    users: Arc<[(User, Limits)]>,
}

/// Something is used up.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Refused {
    pub(crate) exceeded: Exceeded,
    by_address: bool,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Exceeded { resource, limit, .. } = self.exceeded;
        let whose = if self.by_address { "your address" } else { "your tenant" };
        let what = match resource {
            Resource::Connections => {
                return write!(
                    f,
                    "{whose} has as many connections as it may: {limit}; use those, or close some"
                );
            }
            Resource::Sessions => return write!(f, "{whose} has as many sessions as it may: {limit}"),
            Resource::Photos => {
                return write!(f, "{whose} has as many images being worked on as it may: {limit}");
            }
            Resource::Stored => {
                return write!(
                    f,
                    "{whose} may have {limit} bytes of jobs; delete those that you have fetched, or hand in less"
                );
            }
            Resource::Frames => "frames a second",
            Resource::Bytes => "bytes a second",
            Resource::Megapixels => "megapixels a second",
            Resource::Cpu => "seconds of work a second",
        };
        write!(f, "{whose} has used up its {limit} {what}")
    }
}

impl Quotas {
    fn users(&self) -> MutexGuard<'_, HashMap<User, (Limits, Usage)>> {
        // Each change is one number, so a panic elsewhere leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    /// A client of `tenant`, at `address` if that is known, with the limits of each.
    pub(crate) fn new(
        quotas: &Arc<Quotas>,
        (tenant, of_tenant): (&Tenant, Limits),
        (address, of_address): (Option<IpAddr>, Limits),
    ) -> Self {
        let address = address.map(|address| (User::Address(network(address)), of_address));
        let users = [Some((User::Tenant(tenant.clone()), of_tenant)), address].into_iter().flatten();
        let users = users.filter(|(_, limits)| !limits.is_none()).collect();
        Self { quotas: Arc::clone(quotas), tenant: tenant.clone(), users }
    }

    /// On whose account it is.
    pub(crate) fn tenant(&self) -> &Tenant {
        &self.tenant
    }

    /// Begins a connection, a session, or a photo, which lasts until what is returned is dropped.
    pub(crate) fn begin(&self, resource: Resource) -> Result<Begun, Refused> {
        self.try_begin(resource).map_err(|(user, exceeded)| self.refused(user, exceeded))
    }

    fn try_begin(&self, resource: Resource) -> Result<Begun, (&User, Exceeded)> {
        let mut begun = Begun { guest: self.clone(), resource, count: 0 };
        for (user, limits) in &*self.users {
            let admitted = self.with(user, limits, |usage| usage.begin(limits, resource));
            if let Err(exceeded) = admitted {
                return Err((user, exceeded));
            }
            begun.count += 1;
        }
        Ok(begun)
    }

    /// Begins as many photos, up to `count`, as there may be.
    pub(crate) fn begin_at_most(&self, count: usize) -> Vec<Begun> {
        (0..count).map_while(|_| self.try_begin(Resource::Photos).ok()).collect()
    }

    /// Whether a frame or photo may come now.
    pub(crate) fn may_come(&self, now: Instant) -> Result<(), Refused> {
        match self.over(now) {
            Some((user, exceeded)) => Err(self.refused(user, exceeded)),
            None => Ok(()),
        }
    }

    /// When a frame may come, if none may now.
    pub(crate) fn waits_until(&self, now: Instant) -> Option<Instant> {
        self.over(now).and_then(|(_, exceeded)| Some(now + exceeded.again?))
    }

    fn over(&self, now: Instant) -> Option<(&User, Exceeded)> {
        let over = self.users.iter().filter_map(|(user, limits)| {
            let over = self.with(user, limits, |usage| usage.may_come(now, limits).err())?;
            Some((user, over))
        });
        over.max_by_key(|(_, exceeded)| exceeded.again)
    }

    /// So much was used.
    pub(crate) fn used(&self, now: Instant, resource: Resource, amount: f64) {
        for (user, limits) in &*self.users {
            self.with(user, limits, |usage| usage.used(now, limits, resource, amount));
        }
    }

    /// A frame or photo of so many bytes came.
    pub(crate) fn came(&self, now: Instant, bytes: u64) {
        self.used(now, Resource::Frames, 1.0);
        self.used(now, Resource::Bytes, bytes as f64);
    }

    /// A picture of `width` × `height` pixels is going to be decoded.
    pub(crate) fn decodes(&self, now: Instant, [width, height]: [u32; 2]) {
        self.used(now, Resource::Megapixels, f64::from(width) * f64::from(height) / 1e6);
    }

    /// How many bytes of jobs may be kept for its tenant, if that is limited.
    pub(crate) fn may_store(&self) -> Option<f64> {
        self.users.iter().find_map(|(_, limits)| limits.get(Resource::Stored))
    }

    /// Its tenant would have more bytes of jobs than it may.
    pub(crate) fn stores_too_much(&self, limit: f64) -> Refused {
        let exceeded = Exceeded { resource: Resource::Stored, limit, again: None };
        self.refused(&User::Tenant(self.tenant.clone()), exceeded)
    }

    /// Workers say what a frame took. What they say is read only if it counts.
    pub(crate) fn worked(&self, now: Instant, event: &SharedEvent) {
        if self.users.iter().all(|(_, limits)| limits.get(Resource::Cpu).is_none()) {
            return;
        }
        if let Ok(event) = event.event() {
            let TimingsMs { queue: _, decode, preprocess, inference, refine, postprocess } = event.timings_ms;
            let ms = decode + preprocess + inference + refine.unwrap_or_default() + postprocess;
            self.used(now, Resource::Cpu, f64::from(ms) / 1e3);
        }
    }

    fn with<R>(&self, user: &User, limits: &Limits, change: impl FnOnce(&mut Usage) -> R) -> R {
        let mut users = self.quotas.users();
        if users.len() >= USERS && !users.contains_key(user) {
            let now = tokio::time::Instant::now().into_std();
            users.retain(|_, (limits, usage)| !usage.is_idle(now, limits));
        }
        let (known, usage) = users.entry(user.clone()).or_default();
        *known = *limits;
        change(usage)
    }

    fn refused(&self, user: &User, exceeded: Exceeded) -> Refused {
        metrics::refused(exceeded.resource, &self.tenant);
        Refused { exceeded, by_address: matches!(user, User::Address(_)) }
    }
}

/// A connection, session or photo that counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Begun {
    guest: Guest,
    resource: Resource,
    /// With how many users it is counted.
    count: usize,
}

impl Drop for Begun {
    fn drop(&mut self) {
        for (user, limits) in &self.guest.users[..self.count] {
            self.guest.with(user, limits, |usage| usage.ended(self.resource));
        }
    }
}
