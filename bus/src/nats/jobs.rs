//! Results of jobs on NATS: one work queue for those of all jobs, in files.
//!
//! | | |
//! |---|---|
//! | retention, storage | work queue, files |
//! | when full | discard new: the worker is told, and offers it again |
//! | maximum age | none |
//! | redelivery | after [`ACK_WAIT`](lanes::ACK_WAIT) without a sign of life, until it is acknowledged |
//!
//! It is made when a job's result first comes, or is asked for by who is more than a gateway: who has no jobs needs no files. A server that has
//! no room for files keeps the results in memory, which the log says; then they do not survive it.

use std::time::Duration;

use async_nats::{
    Message, Subject,
    jetstream::{
        self, AckKind,
        consumer::{AckPolicy, pull},
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use cloudpose_wire::{Prefix, subject};
use tokio::time::timeout;

use super::{
    Nats, Role,
    ask::{Answer, Asked, How},
    lanes, message,
};
use crate::{JobResult, metrics, metrics::Loss};

/// Bytes of results that are kept, with their pictures. With files, it must fit into the server's
/// `max_file_store`; without, beside the lanes into its `max_memory_store`.
const FILE_BYTES: i64 = 512 << 20;
const MEMORY_BYTES: i64 = 128 << 20;
/// The durable consumer that all who ask share.
const CONSUMER: &str = "gateways";
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// The stream.
fn stream(prefix: &Prefix) -> String {
    format!("{prefix}-jobs")
}

impl Nats {
    /// Makes the stream and its consumer, unless somebody has since `seen`.
    pub(super) async fn set_up_jobs(&self, seen: u64) -> Result<(), async_nats::Error> {
        self.0.jobs.once(seen, self.make_jobs()).await
    }

    async fn make_jobs(&self) -> Result<(), async_nats::Error> {
        let context = &self.0.jetstream;
        let stream = stream(&self.0.prefix);
        // What is there stays as it is, since what it is stored in cannot be changed; but for how many servers have it.
        let there = context.get_stream(&stream).await;
        let is_gateway = self.0.role == Some(Role::Gateway);
        if let Ok(there) = &there
            && there.cached_info().config.num_replicas != self.0.replicas
            && !is_gateway
        {
            let config = Config { num_replicas: self.0.replicas, ..there.cached_info().config.clone() };
            context.update_stream(config).await?;
        }
        if let Err(missing) = there {
            if is_gateway {
                // Nothing is kept yet.
                return Err(missing.into());
            }
            tracing::debug!(%missing, "making the queue for results of jobs");
            let in_files = context.create_stream(self.jobs_config(StorageType::File, FILE_BYTES)).await;
            match in_files {
                Ok(_) => {}
                Err(error) if has_no_room(&error) => {
                    context.create_stream(self.jobs_config(StorageType::Memory, MEMORY_BYTES)).await?;
                    tracing::warn!(
                        %error,
                        "NATS has no room for files: it keeps the results of jobs in memory, and forgets them when \
                         it restarts; raise max_file_store in the configuration of nats-server"
                    );
                }
                Err(error) => return Err(error.into()),
            }
        }
        if self.0.role == Some(Role::Worker) {
            return Ok(());
        }
        let consumer = pull::Config {
            durable_name: Some(CONSUMER.into()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: lanes::ACK_WAIT,
            max_deliver: -1,
            max_ack_pending: -1,
            ..pull::Config::default()
        };
        context.create_consumer_on_stream(consumer, stream).await?;
        Ok(())
    }

    fn jobs_config(&self, storage: StorageType, max_bytes: i64) -> Config {
        Config {
            name: stream(&self.0.prefix),
            description: Some("CloudPose: results of jobs that nobody has taken yet".into()),
            subjects: vec![subject::all_job_results(&self.0.prefix)],
            retention: RetentionPolicy::WorkQueue,
            storage,
            num_replicas: self.0.replicas,
            max_messages: i64::try_from(self.0.capacity.job_results).unwrap_or(i64::MAX),
            max_bytes,
            discard: DiscardPolicy::New,
            ..Config::default()
        }
    }

    pub(crate) async fn job_results(&self, max: usize) -> Vec<JobResult> {
        loop {
            self.wait_until(true).await;
            let seen = self.0.jobs.seen();
            let trouble = match self.take_results(max).await {
                Ok(taken) if taken.is_empty() => continue,
                Ok(taken) => return taken,
                Err(error) => error,
            };
            tracing::debug!(%trouble, "cannot ask for results of jobs");
            if let Err(error) = self.set_up_jobs(seen).await {
                tracing::debug!(%error, "cannot set up the queue for results of jobs; trying again");
                timeout(PAUSE, self.0.stop.cancelled()).await.ok();
            }
        }
    }

    /// What waits already; if nothing does, the next that comes, if one does before the request expires.
    async fn take_results(&self, max: usize) -> Result<Vec<JobResult>, async_nats::Error> {
        let mut asked = Asked::open(self, &stream(&self.0.prefix), CONSUMER, None).await?;
        let mut messages = Vec::new();
        asked.look(max, &mut messages).await?;
        if messages.is_empty() {
            // One: the rest of a larger request would be sent after we have stopped to listen.
            asked.ask(1, How::Wait).await?;
            while asked.open > 0 {
                match asked.answer().await {
                    Answer::Message(message) => messages.push(message),
                    Answer::Word => {}
                    Answer::Gone(why) => return Err(why.into()),
                }
            }
        }
        let mut taken = Vec::new();
        for message in messages {
            taken.extend(self.receive_result(message).await);
        }
        Ok(taken)
    }

    /// Reads a result's message. What is none is settled here.
    async fn receive_result(&self, message: Message) -> Option<JobResult> {
        let ack = message.reply.clone()?;
        match message::result(message) {
            Ok(result) => Some(JobResult::on_nats(result, Kept::new(self.clone(), ack))),
            Err(error) => {
                metrics::lost(Loss::Malformed);
                tracing::warn!(%error, "dropped a message that is no job's result");
                self.0.client.publish(ack, AckKind::Term.into()).await.ok();
                None
            }
        }
    }

    /// How many results nobody has acknowledged; `None` while the server does not tell.
    pub(crate) async fn kept_results(&self) -> Option<usize> {
        use jetstream::context::GetStreamErrorKind::JetStream;
        match self.0.jetstream.get_stream(stream(&self.0.prefix)).await {
            Ok(stream) => Some(usize::try_from(stream.cached_info().state.messages).unwrap_or(usize::MAX)),
            Err(error) => match error.kind() {
                JetStream(error) if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND => Some(0),
                _ => None,
            },
        }
    }
}

/// Whether a stream was refused because the server, or our account on it, has too little room.
pub(super) fn has_no_room(error: &jetstream::context::CreateStreamError) -> bool {
    use jetstream::{ErrorCode, context::CreateStreamErrorKind::JetStream};
    matches!(error.kind(), JetStream(error) if [
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
    ].contains(&error.error_code()))
}

/// A result in the hands of this process; empty once it is settled.
#[derive(Debug)]
pub(crate) struct Kept(Option<(Nats, Subject)>);

impl Kept {
    /// It is kept from coming again from here on, until it is settled.
    fn new(bus: Nats, ack: Subject) -> Self {
        bus.0.in_hand().insert(ack.to_string());
        Self(Some((bus, ack)))
    }

    fn settle(&mut self) -> Option<(Nats, Subject)> {
        let (bus, ack) = self.0.take()?;
        bus.0.in_hand().remove(ack.as_str());
        Some((bus, ack))
    }

    pub(crate) async fn ack(&mut self) {
        if let Some((bus, ack)) = self.settle()
            && let Err(error) = bus.confirmed_ack(ack).await
        {
            tracing::warn!(%error, "acknowledgement not confirmed: the job's result may come again");
        }
    }

    pub(crate) fn put_back(&mut self) {
        let Some((bus, ack)) = self.settle() else { return };
        // Outside a runtime there is no connection either: the broker notices by itself, later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let tasks = bus.0.tasks.clone();
            let tell = async move { bus.0.client.publish(ack, AckKind::Nak(None).into()).await.ok() };
            tasks.spawn_on(tell, &runtime);
        }
    }
}
