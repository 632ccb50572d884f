//! Which tenants have frames on their lanes, those beside the default one.
//!
//! Who puts a tenant's frame on a lane says so to the workers, now and then ([`SAID_AGAIN`]); they ask for its frames from
//! then on. The broker knows better who has something waiting, and is asked when workers have turns to give away.

use std::{
    collections::HashMap,
    sync::PoisonError,
    time::{Duration, Instant},
};

use async_nats::jetstream::consumer::PullConsumer;
use cloudpose_wire::{Kind, Lane, Stage, Tenant, subject};
use serde::{Deserialize, Serialize};

use super::{Nats, Shared, lanes};
use crate::Depth;

/// How often it is said that a tenant has frames, while it has.
const SAID_AGAIN: Duration = Duration::from_secs(5);
/// Of a tenant of which nothing is said for so long nothing is asked.
pub(super) const FORGOTTEN: Duration = Duration::from_secs(60);

/// A question for what waits under each subject of a stream.
#[derive(Serialize)]
struct Subjects {
    subjects_filter: String,
}

#[derive(Deserialize)]
struct Told {
    state: State,
}

#[derive(Deserialize)]
struct State {
    #[serde(default)]
    subjects: HashMap<String, u64>,
    first_ts: String,
}

impl Nats {
    /// Makes the streams of tenants' lanes, unless somebody has since `seen`.
    pub(super) async fn set_up_tenants(&self, seen: u64) -> Result<(), async_nats::Error> {
        let Shared { jetstream, prefix, capacity, replicas, role, .. } = &*self.0;
        let make = lanes::set_up_tenants(jetstream, prefix, capacity, *replicas, *role);
        self.0.tenant_lanes.once(seen, make).await
    }

    /// Makes the consumer of a tenant on `lane`.
    pub(super) async fn set_up_tenant(&self, lane: Lane, tenant: &Tenant) -> Result<(), async_nats::Error> {
        lanes::set_up_tenant(&self.0.jetstream, &self.0.prefix, &self.0.capacity, (lane, tenant)).await
    }

    /// Tells the workers that `tenant` has frames, if that was not said of late.
    pub(super) async fn tell_of(&self, tenant: &Tenant) {
        if tenant.is_default() {
            return;
        }
        let now = Instant::now();
        {
            let mut told = self.0.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.get(tenant).is_some_and(|at| now.duration_since(*at) < SAID_AGAIN) {
                return;
            }
            told.retain(|_, at| now.duration_since(*at) < SAID_AGAIN);
            told.insert(tenant.clone(), now);
        }
        let (to, who) = (subject::lanes_news(&self.0.prefix), tenant.to_string());
        if let Err(error) = self.0.client.publish(to, who.into()).await {
            tracing::debug!(%error, "workers are not told of a tenant");
        }
    }

    /// The tenants that have frames on `lane`, waiting or in somebody's hands. None if nobody can say.
    pub(super) async fn tenants_on(&self, lane: Lane) -> Vec<Tenant> {
        let told = self.ask_tenants(lane).await;
        told.map(|told| told.tenants()).unwrap_or_default()
    }

    async fn ask_tenants(&self, lane: Lane) -> Result<Told, async_nats::Error> {
        let stream = lanes::tenant_stream(&self.0.prefix, lane);
        let all = Subjects { subjects_filter: subject::tenant_lanes(&self.0.prefix, lane) };
        Ok(self.0.jetstream.request(format!("STREAM.INFO.{stream}"), &all).await?)
    }

    /// How much of all those tenants waits on `lane`; nothing if nobody can say.
    pub(super) async fn tenants_depth(&self, lane: Lane) -> Depth {
        let Ok(told) = self.ask_tenants(lane).await else { return Depth::default() };
        let mut depth = Depth::default();
        let tenants = told.tenants();
        if tenants.is_empty() {
            return depth;
        }
        let Ok(stream) = self.0.jetstream.get_stream(lanes::tenant_stream(&self.0.prefix, lane)).await else {
            return depth;
        };
        for tenant in &tenants {
            match stream.get_consumer(tenant.as_str()).await as Result<PullConsumer, _> {
                Ok(consumer) => {
                    let info = consumer.cached_info();
                    depth.frames += usize::try_from(info.num_pending).unwrap_or(usize::MAX);
                    depth.in_hand += info.num_ack_pending;
                }
                // No worker has heard of it yet.
                Err(_) => {
                    let subject = subject::tenant_lane(&self.0.prefix, lane, tenant);
                    let waiting = told.state.subjects.get(&subject).copied().unwrap_or_default();
                    depth.frames += usize::try_from(waiting).unwrap_or(usize::MAX);
                }
            }
        }
        if depth.frames > 0
            && let Ok(first) = async_nats::datetime::parse_rfc3339(&told.state.first_ts)
        {
            depth.oldest = self.0.clock.age(first.unix_timestamp_nanos(), Instant::now());
        }
        depth
    }

    /// The lanes on which a tenant's frames wait for `stage`.
    pub(super) async fn tenants_at(&self, stage: Stage) -> Vec<(Kind, Tenant)> {
        let [live, still] = [Kind::Live, Kind::Still].map(|kind| Lane { stage, kind });
        let (live, still) = tokio::join!(self.tenants_on(live), self.tenants_on(still));
        let of = |kind, tenants: Vec<Tenant>| tenants.into_iter().map(move |tenant| (kind, tenant));
        of(Kind::Live, live).chain(of(Kind::Still, still)).collect()
    }
}

impl Told {
    fn tenants(&self) -> Vec<Tenant> {
        self.state.subjects.keys().filter_map(|subject| subject::tenant_of_lane(subject)).collect()
    }
}
