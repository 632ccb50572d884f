//! The lanes as JetStream streams: how they are set up, and set up again.
//!
//! | | live | still |
//! |---|---|---|
//! | retention, storage | work queue, memory | work queue, memory |
//! | when full | discard old | discard new: publishing is refused |
//! | maximum age | [`Capacity::live_max_age`] | [`STILL_MAX_AGE`] |
//! | redelivery | never: the frame is past its age before `ack_wait` is over | after [`ACK_WAIT`] without a sign of life |
//!
//! Streams in memory vanish with their server (nats-server issue 6207), so setting up is idempotent and is
//! done again after every connection, and whenever a stream is missed.

use std::time::Duration;

use async_nats::jetstream::{
    Context, ErrorCode,
    consumer::{AckPolicy, PriorityPolicy, pull},
    context::CreateStreamErrorKind,
    stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
};
use cloudpose_wire::{Kind, Lane, Prefix, subject};

use super::Role;
use crate::Capacity;

/// A worker that gives no sign of life for this long has died: its still comes again.
pub(super) const ACK_WAIT: Duration = Duration::from_secs(2);
/// The longest deadline that a gateway can be given; nobody waits for a still after it.
const STILL_MAX_AGE: Duration = Duration::from_secs(3600);
/// Bytes of images on one lane. The sum of the four lanes must fit into the server's `max_memory_store`.
const LIVE_BYTES: i64 = 128 << 20;
const STILL_BYTES: i64 = 256 << 20;
/// The durable consumer that all workers of a lane share.
pub(super) const CONSUMER: &str = "workers";
/// The consumer's priority group: who asks in it says in which turn ([`Turn`](super::Turn)).
pub(super) const GROUP: &str = "workers";

/// The stream of `lane`.
pub(super) fn stream(prefix: &Prefix, lane: Lane) -> String {
    format!("{prefix}-{}-{}", lane.stage.as_str(), lane.kind.as_str())
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
        let stream_config = stream_config(prefix, capacity, replicas, lane);
        if role == Some(Role::Gateway) {
            make(jetstream, stream_config).await?;
            continue;
        }
        jetstream.create_or_update_stream(stream_config).await?;
        jetstream.create_consumer_on_stream(consumer_config(capacity, lane), stream(prefix, lane)).await?;
    }
    Ok(())
}

/// Makes a stream. One that is there may be otherwise: workers see to that.
async fn make(jetstream: &Context, config: Config) -> Result<(), async_nats::Error> {
    match jetstream.create_stream(config).await {
        Ok(_) => Ok(()),
        Err(error) => match error.kind() {
            CreateStreamErrorKind::JetStream(said) if said.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                Ok(())
            }
            _ => Err(error.into()),
        },
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
