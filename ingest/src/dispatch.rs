//! Results from the bus to the sessions that wait for them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cloudpose_bus::Results;
use cloudpose_wire::{FrameResult, Reply, SessionId};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use crate::{metrics, watch::Hub};

/// Which session gets which result. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Dispatch {
    sessions: Arc<Mutex<HashMap<SessionId, mpsc::Sender<FrameResult>>>>,
    listens: watch::Sender<bool>,
}

impl Dispatch {
    /// Registers a session. `room` results may wait for it; it never has more frames in flight.
    pub(crate) fn open(&self, session: SessionId, room: usize) -> Inbox {
        let (sender, results) = mpsc::channel(room);
        self.sessions().insert(session.clone(), sender);
        Inbox { dispatch: self.clone(), session, results }
    }

    /// Waits until results come here that the bus is given from now on.
    pub(crate) async fn listening(&self) {
        // We hold a sender, so it cannot fail.
        self.listens.subscribe().wait_for(|listens| *listens).await.ok();
    }

    /// Hands out results until the bus sends no more: to their sessions, and to `watch` what is for those who watch.
    pub(crate) async fn run(self, mut results: Results, watch: &Hub) {
        self.listens.send_replace(true);
        while let Some(result) = results.next().await {
            if result.aside {
                watch.drawn(Instant::now().into_std(), result);
                continue;
            }
            let sender = match &result.reply {
                Reply::Session(address) => self.sessions().get(&address.session).cloned(),
                Reply::Job { .. } => None,
            };
            let taken = sender.is_some_and(|sender| sender.try_send(result).is_ok());
            if !taken {
                metrics::result_unclaimed();
            }
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, mpsc::Sender<FrameResult>>> {
        // Insert, get and remove leave the map whole, so a panic elsewhere does not spoil it.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The results of one session. Dropping it ends the registration.
#[derive(Debug)]
pub(crate) struct Inbox {
    dispatch: Dispatch,
    session: SessionId,
    results: mpsc::Receiver<FrameResult>,
}

impl Inbox {
    /// Waits for the next result. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> FrameResult {
        match self.results.recv().await {
            Some(result) => result,
            // Not while we are registered, and we are until we are dropped.
            None => std::future::pending().await,
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.dispatch.sessions().remove(&self.session);
    }
}
