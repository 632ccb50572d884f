//! The lanes as JetStream streams: how they are set up, and set up again.
//!
//! | | live | still |
//! |---|---|---|
//! | retention, storage | work queue, memory | work queue, memory |
//! | when full | discard old | discard new: publishing is refused |
//! | maximum age | [`Capacity::live_max_age`] | [`STILL_MAX_AGE`] |
//! | redelivery | never: the frame is past its age before `ack_wait` is over | after [`ACK_WAIT`] without a sign of life |
//!
//! These are the default tenant's. The others share a second stream of each lane ([`tenant_stream`]), where each has a
//! subject of its own, bounded like a whole lane, and a consumer of its own: so workers can take from whom they like. They
//! are made when a tenant's frame first comes, and their consumers by workers who hear of it.
//!
//! Streams in memory vanish with their server (nats-server issue 6207), so setting up is idempotent and is
//! done again after every connection, and whenever a stream is missed.

use std::time::Duration;

use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::{AckPolicy, PriorityPolicy, pull},
    context::{CreateStreamError, CreateStreamErrorKind},
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use cloudpose_wire::{Kind, Lane, Prefix, Tenant, subject};

use super::{Role, jobs::has_no_room};
use crate::Capacity;

/// A worker that gives no sign of life for this long has died: its still comes again.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(2);
/// The longest deadline that a gateway can be given; nobody waits for a still after it.
const STILL_MAX_AGE: Duration = Duration::from_secs(3600);
/// Bytes of images on one lane. The sum of the four lanes must fit into the server's `max_memory_store`.
const LIVE_BYTES: i64 = 128 << 20;
const STILL_BYTES: i64 = 256 << 20;
/// Of a server that has no memory for as much again, tenants' lanes take this part of it.
const TENANTS_PART: i64 = 8;
/// A tenant's consumer that nobody asks for so long is no more.
const UNUSED: Duration = Duration::from_secs(3600);
/// The durable consumer that all workers of a lane share.
pub(super) const CONSUMER: &str = "workers";
/// The consumer's priority group: who asks in it says in which turn ([`Turn`](super::Turn)).
pub(super) const GROUP: &str = "workers";

/// The stream of `lane`.
pub(super) fn stream(prefix: &Prefix, lane: Lane) -> String {
    format!("{prefix}-{}-{}", lane.stage.as_str(), lane.kind.as_str())
}

/// The stream of `lane` for tenants that are not the default one.
pub(super) fn tenant_stream(prefix: &Prefix, lane: Lane) -> String {
    format!("{}-tenants", stream(prefix, lane))
}

/// Makes the streams and consumers of all lanes, or brings them up to date. A gateway makes the streams that are missing.
pub(super) async fn set_up(
    jetstream: &Context,
    prefix: &Prefix,
    capacity: &Capacity,
    replicas: usize,
    role: Option<Role>,
) -> Result<(), async_nats::Error> {
    for lane in Lane::ALL {
        make(jetstream, stream_config(prefix, capacity, replicas, lane), role).await?;
        if role == Some(Role::Gateway) {
            continue;
        }
        jetstream.create_consumer_on_stream(consumer_config(capacity, lane), stream(prefix, lane)).await?;
    }
    Ok(())
}

/// Makes a stream, or brings it up to date. A gateway leaves one that is there as it is: workers see to that.
async fn make(jetstream: &Context, config: Config, role: Option<Role>) -> Result<(), CreateStreamError> {
    if role != Some(Role::Gateway) {
        return jetstream.create_or_update_stream(config).await.map(drop);
    }
    let made = jetstream.create_stream(config).await.map(drop);
    made.or_else(|error| match error.kind() {
        CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NAME_EXIST => Ok(()),
        _ => Err(error),
    })
}

/// Makes the streams of tenants' lanes, or brings them up to date. A gateway makes those that are missing.
pub(super) async fn set_up_tenants(
    jetstream: &Context,
    prefix: &Prefix,
    capacity: &Capacity,
    replicas: usize,
    role: Option<Role>,
) -> Result<(), async_nats::Error> {
    let configs = Lane::ALL.map(|lane| tenant_stream_config(prefix, capacity, replicas, lane));
    let Err(error) = make_all(jetstream, configs.clone(), role).await else { return Ok(()) };
    if !has_no_room(&error) {
        return Err(error.into());
    }
    tracing::warn!(
        %error,
        "NATS has little memory for the frames of tenants: raise max_memory_store in the configuration of nats-server to \
         1536 MB or more"
    );
    let smaller = configs.map(|config| Config { max_bytes: config.max_bytes / TENANTS_PART, ..config });
    Ok(make_all(jetstream, smaller, role).await?)
}

async fn make_all<const N: usize>(
    jetstream: &Context,
    configs: [Config; N],
    role: Option<Role>,
) -> Result<(), CreateStreamError> {
    for config in configs {
        make(jetstream, config, role).await?;
    }
    Ok(())
}

/// Makes the consumer of a tenant on `lane`, if it is not there. It has the tenant's name.
pub(super) async fn set_up_tenant(
    jetstream: &Context,
    prefix: &Prefix,
    capacity: &Capacity,
    (lane, tenant): (Lane, &Tenant),
) -> Result<(), async_nats::Error> {
    let config = pull::Config {
        durable_name: Some(tenant.to_string()),
        filter_subject: subject::tenant_lane(prefix, lane, tenant),
        inactive_threshold: UNUSED,
        ..consumer_config(capacity, lane)
    };
    jetstream.create_consumer_on_stream(config, tenant_stream(prefix, lane)).await?;
    Ok(())
}

fn tenant_stream_config(prefix: &Prefix, capacity: &Capacity, replicas: usize, lane: Lane) -> Config {
    let of_all = stream_config(prefix, capacity, replicas, lane);
    Config {
        name: tenant_stream(prefix, lane),
        description: Some(format!("CloudPose: frames of tenants waiting on the {lane} lane")),
        subjects: vec![subject::tenant_lanes(prefix, lane)],
        max_messages_per_subject: of_all.max_messages,
        max_messages: -1,
        discard_new_per_subject: of_all.discard == DiscardPolicy::New,
        ..of_all
    }
}

fn stream_config(prefix: &Prefix, capacity: &Capacity, replicas: usize, lane: Lane) -> Config {
    let count = |frames: usize| i64::try_from(frames).unwrap_or(i64::MAX);
    let (max_age, max_messages, max_bytes, discard) = match lane.kind {
        Kind::Live => (capacity.live_max_age, count(capacity.live_frames), LIVE_BYTES, DiscardPolicy::Old),
        Kind::Still => (STILL_MAX_AGE, count(capacity.still_frames), STILL_BYTES, DiscardPolicy::New),
    };
    Config {
        name: stream(prefix, lane),
        description: Some(format!("CloudPose: frames waiting on the {lane} lane")),
        subjects: vec![subject::lane(prefix, lane)],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::Memory,
        num_replicas: replicas,
        max_age,
        max_messages,
        max_bytes,
        discard,
        ..Config::default()
    }
}

fn consumer_config(capacity: &Capacity, lane: Lane) -> pull::Config {
    pull::Config {
        durable_name: Some(CONSUMER.into()),
        ack_policy: AckPolicy::Explicit,
        ack_wait: match lane.kind {
            Kind::Live => capacity.live_max_age + ACK_WAIT,
            Kind::Still => ACK_WAIT,
        },
        // The worker that gets a still once too often gives it up, and says so to its gateway. Given up by
        // the server, it would stay on the lane and take up room until its maximum age.
        max_deliver: -1,
        // All workers share this bound, so it must not be what stops them: the lane itself is bounded.
        max_ack_pending: -1,
        memory_storage: true,
        priority_policy: PriorityPolicy::Prioritized,
        priority_groups: vec![GROUP.into()],
        ..pull::Config::default()
    }
}
