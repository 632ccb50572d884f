//! What the doors share.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use cloudpose_bus::{Bus, Models, PublishError};
use cloudpose_policy::leaving::Leaving;
use cloudpose_wire::{Address, Caller, Frame, GatewayId, ModelId, SessionId, Stage};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Config,
    auth::{Auth, Tickets},
    cameras::Cameras,
    decoders::Decoders,
    dispatch::{Dispatch, Inbox},
    gate::Gate,
    jobs::Jobs,
    ledger::Books,
    leftovers::Leftovers,
    listener::Line,
    quotas::{Guest, Quotas},
    seats::Seats,
    settings::default_model,
    unfinished::Budget,
    watch::Hub,
};

/// What the doors share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) auth: Auth,
    pub(crate) tickets: Tickets,
    pub(crate) bus: Bus,
    /// Those that are fetched.
    pub(crate) cameras: Cameras,
    /// What the workers serve.
    pub(crate) models: Models,
    pub(crate) books: Books,
    /// Nothing without a store.
    pub(crate) jobs: Option<Jobs>,
    pub(crate) seats: Seats,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) leftovers: Leftovers,
    pub(crate) unfinished: Budget,
    pub(crate) decoders: Decoders,
    /// The description of the API.
    pub(crate) api: Bytes,
    /// Open streaming sessions.
    pub(crate) sessions: TaskTracker,
    pub(crate) stopping: CancellationToken,
    /// How long the frames in flight may take to be finished once it is stopping.
    pub(crate) drain: Duration,
    /// Those who are told that it is stopping, from then on.
    pub(crate) leaving: Mutex<Option<Leaving>>,
    pub(crate) id: GatewayId,
    pub(crate) dispatch: Dispatch,
    /// Where frames of streams wait for their turn.
    pub(crate) gate: Gate,
    /// The live streams, and who watches them.
    pub(crate) watch: Hub,
}

impl Shared {
    /// The model for a client that names none, where `usual` is usual.
    pub(crate) fn default_model(&self, usual: &str) -> ModelId {
        default_model(self.config.model.as_ref(), usual, &self.models)
    }

    /// A client, by what it may use.
    pub(crate) fn guest(&self, caller: &Caller, line: Option<&Line>) -> Guest {
        let of_tenant = self.auth.quota(&caller.tenant).or(self.config.tenant_quota);
        let address = line.map(Line::address);
        Guest::new(&self.quotas, (&caller.tenant, of_tenant), (address, self.config.address_quota))
    }

    /// A new session's address, and where the results sent to it arrive; `room` of them may wait.
    pub(crate) fn open(&self, room: usize) -> (Address, Inbox) {
        let session: SessionId = token_of("s");
        let inbox = self.dispatch.open(session.clone(), room);
        (Address { gateway: self.id.clone(), session }, inbox)
    }

    /// How long the next of the streams that are here goes on while we stop. The last one still has half of the time for
    /// what is in flight.
    pub(crate) fn goes_on(&self) -> Duration {
        // Two numbers, which no panic leaves half changed.
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        leaving.get_or_insert_with(|| Leaving::new(self.sessions.len(), self.drain / 2)).goes_on()
    }

    /// Waits until we stop, and the time for what is in flight is over.
    pub(crate) async fn drained(&self) {
        self.stopping.cancelled().await;
        tokio::time::sleep(self.drain).await;
    }

    /// Puts a frame on the infer lane, but not before its result can come back.
    ///
    /// # Errors
    /// Those of [`Bus::publish`].
    pub(crate) async fn publish(&self, frame: Frame) -> Result<(), PublishError> {
        tokio::select! {
            biased;
            () = self.dispatch.listening() => {}
            () = self.bus.wait_until(false) => {
                return Err(PublishError::Unreachable("no results can be listened for".into()));
            }
        }
        self.bus.publish(Stage::Infer, frame).await
    }
}

/// A name nobody else has, after `prefix`.
pub(crate) fn token_of<T: std::str::FromStr<Err: fmt::Debug>>(prefix: &str) -> T {
    let name = format!("{prefix}-{}", uuid::Uuid::now_v7().simple());
    name.parse().expect("letters, digits and '-' make a token")
}
