//! Events that are kept until somebody has recorded them: a JetStream stream that listens to the events of all streams, in files.
//!
//! | | |
//! |---|---|
//! | retention, storage | interest, files |
//! | when full | discard old: events are never refused, and what was discarded is counted by who records |
//! | redelivery | after as long as who records says, until it is acknowledged |
//!
//! It is made by who records, so events are kept from then on, also while nobody records. Events reach it as they reach
//! any listener, so publishing them costs what it did.

use std::time::Duration;

use async_nats::{
    Message, Subject,
    jetstream::{
        self, AckKind,
        consumer::{AckPolicy, pull},
        stream::{Config, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use cloudpose_wire::{Prefix, SessionId, SharedEvent, Tenant, subject};

use super::{
    Nats, Shared,
    ask::{Answer, Asked, How},
    jobs::has_no_room,
    message,
};
use crate::{metrics, metrics::Loss};

/// Messages to ask for at once: as many as a subscription holds until we have read them.
const AT_ONCE: usize = 200;
/// Pause after a failure.
const PAUSE: Duration = Duration::from_millis(500);

/// An event that was kept.
#[derive(Debug)]
pub struct Recorded {
    /// Whose stream it is of.
    pub tenant: Tenant,
    /// Which session sent the frame, if the event says so.
    pub session: Option<SessionId>,
    /// What was found.
    pub event: SharedEvent,
    /// Its number among those that are kept.
    pub sequence: u64,
}

/// Events that were handed out together. Those that were not [acknowledged](Records::ack) come again.
#[derive(Debug, Default)]
pub struct Batch {
    /// In the order in which they were published; what comes again may be among them.
    pub events: Vec<Recorded>,
    /// The numbers of the messages in the stream.
    pub numbers: Vec<u64>,
    /// How many more wait.
    pub pending: u64,
    acks: Vec<Subject>,
}

impl Batch {
    /// Adds what was handed out after it.
    pub fn append(&mut self, mut later: Self) {
        self.events.append(&mut later.events);
        self.numbers.append(&mut later.numbers);
        self.acks.append(&mut later.acks);
        self.pending = later.pending;
    }
}

/// Hands out the events that are kept.
#[derive(Debug)]
pub struct Records {
    bus: Nats,
    consumer: String,
    max_bytes: i64,
    ack_wait: Duration,
}

/// Why events cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordsError {
    /// The server has no files, or too little room for them.
    #[error(
        "NATS has no room for {bytes} bytes of events in files: raise max_file_store in the configuration of nats-server, or keep fewer bytes"
    )]
    NoRoom {
        /// As asked for.
        bytes: u64,
    },
    /// Anything else that the server says.
    #[error("cannot set up the stream of events on NATS")]
    SetUp(#[source] async_nats::Error),
}

fn stream(prefix: &Prefix) -> String {
    format!("{prefix}-events")
}

impl Nats {
    /// Keeps the events of all streams from now on, up to `max_bytes`, until each has been acknowledged by every
    /// `consumer` that there is. Those who record as one consumer share the events. What is not acknowledged for `ack_wait` comes
    /// again: who takes longer to store it is offered it twice.
    ///
    /// # Errors
    /// [`RecordsError`].
    pub async fn records(
        &self,
        consumer: &str,
        max_bytes: u64,
        ack_wait: Duration,
    ) -> Result<Records, RecordsError> {
        let max = i64::try_from(max_bytes).unwrap_or(i64::MAX);
        let records = Records { bus: self.clone(), consumer: consumer.to_owned(), max_bytes: max, ack_wait };
        records.set_up().await.map_err(|error| {
            let create = error.downcast_ref();
            if create.is_some_and(has_no_room) {
                RecordsError::NoRoom { bytes: max_bytes }
            } else {
                RecordsError::SetUp(error)
            }
        })?;
        Ok(records)
    }
}

impl Records {
    /// Makes the stream and the consumer where they are missing.
    async fn set_up(&self) -> Result<(), async_nats::Error> {
        let Nats(shared) = &self.bus;
        let config = Config {
            name: stream(&shared.prefix),
            description: Some("CloudPose: events that have not been recorded yet".into()),
            subjects: subject::all_events(&shared.prefix),
            retention: RetentionPolicy::Interest,
            storage: StorageType::File,
            num_replicas: shared.replicas,
            max_bytes: self.max_bytes,
            discard: DiscardPolicy::Old,
            ..Config::default()
        };
        shared.jetstream.create_or_update_stream(config).await?;
        let consumer = pull::Config {
            durable_name: Some(self.consumer.clone()),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            max_deliver: -1,
            max_ack_pending: -1,
            ..pull::Config::default()
        };
        shared.jetstream.create_consumer_on_stream(consumer, stream(&shared.prefix)).await?;
        Ok(())
    }

    /// The number of the newest message that was ever handed out. `None` while the server does not tell.
    pub async fn newest(&self) -> Option<u64> {
        let stream = self.bus.0.jetstream.get_stream(stream(&self.bus.0.prefix)).await.ok()?;
        let consumer = stream.get_consumer::<pull::Config>(&self.consumer).await.ok()?;
        Some(consumer.cached_info().delivered.stream_sequence)
    }

    /// The number of the oldest message that the server still has, or would give the next one. `None` while it does not tell.
    pub async fn oldest(&self) -> Option<u64> {
        let stream = self.bus.0.jetstream.get_stream(stream(&self.bus.0.prefix)).await.ok()?;
        Some(stream.cached_info().state.first_sequence)
    }

    /// Waits for events, then takes up to `max` of them, or those that come within `linger`.
    ///
    /// Never returns an empty batch. Dropping the future loses nothing; what it had taken comes again, after later ones.
    pub async fn take(&self, max: usize, linger: Duration) -> Batch {
        loop {
            self.bus.wait_until(true).await;
            let trouble = match self.try_take(max, linger).await {
                Ok(batch) if batch.numbers.is_empty() => continue,
                Ok(batch) => return batch,
                Err(error) => error,
            };
            tracing::debug!(%trouble, "cannot ask for events");
            if let Err(error) = self.set_up().await {
                tracing::debug!(%error, "cannot set up the stream of events; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    async fn try_take(&self, max: usize, linger: Duration) -> Result<Batch, async_nats::Error> {
        let mut asked = Asked::open(&self.bus, &stream(&self.bus.0.prefix), &self.consumer, None).await?;
        let mut batch = Batch::default();
        self.look(&mut asked, max, &mut batch).await?;
        if batch.numbers.is_empty() {
            // One: the rest of a larger request would be sent after we have stopped to listen.
            asked.ask(1, How::Wait).await?;
            while asked.open > 0 {
                match asked.answer().await {
                    Answer::Message(message) => self.receive(message, &mut batch).await?,
                    Answer::Word => {}
                    Answer::Gone(why) => return Err(why.into()),
                }
            }
        }
        if !batch.numbers.is_empty() && batch.numbers.len() < max {
            tokio::time::sleep(linger).await;
            self.look(&mut asked, max, &mut batch).await?;
        }
        Ok(batch)
    }

    /// Fills `batch` with what waits already. What it has is handed out whatever happens then: left here it would come
    /// again after later ones.
    async fn look(&self, asked: &mut Asked, max: usize, batch: &mut Batch) -> Result<(), async_nats::Error> {
        loop {
            let wanted = AT_ONCE.min(max - batch.numbers.len());
            let mut found = Vec::new();
            let looked = asked.look(wanted, &mut found).await;
            let count = found.len();
            for message in found {
                self.receive(message, batch).await?;
            }
            match looked {
                Err(why) if batch.numbers.is_empty() => return Err(why.into()),
                Ok(()) if count == AT_ONCE && batch.numbers.len() < max => {}
                _ => return Ok(()),
            }
        }
    }

    async fn receive(&self, message: Message, batch: &mut Batch) -> Result<(), async_nats::Error> {
        let Shared { jetstream, prefix, client, .. } = &*self.bus.0;
        let message = jetstream::Message { message, context: jetstream.clone() };
        let Some(ack) = message.reply.clone() else { return Ok(()) };
        let info = message.info()?;
        let sequence = info.stream_sequence;
        batch.numbers.push(sequence);
        batch.pending = info.pending;
        let tenant = subject::tenant_of_event(prefix, &message.subject);
        let session = message::session(&message.message);
        match (message::event(message.message), tenant) {
            (Ok(event), Some(tenant)) => {
                batch.events.push(Recorded { tenant, session, event, sequence });
                batch.acks.push(ack);
            }
            (event, tenant) => {
                metrics::lost(Loss::Malformed);
                let error = event.err().map(|error| error.to_string());
                tracing::warn!(error, ?tenant, "dropped a message that is no event");
                client.publish(ack, AckKind::Term.into()).await?;
            }
        }
        Ok(())
    }

    /// The events of `batch` are safe elsewhere: they will not come again, or if the broker does not hear of it once more.
    pub async fn ack(&self, batch: &Batch) {
        for ack in &batch.acks {
            if self.bus.0.client.publish(ack.clone(), AckKind::Ack.into()).await.is_err() {
                tracing::debug!("acknowledgement not sent: the events come again");
                return;
            }
        }
    }
}
