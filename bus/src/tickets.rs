//! Tickets that one gateway has given out, and another is shown.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use cloudpose_wire::GatewayId;
use tokio::sync::{mpsc, oneshot};

use crate::nats;

/// Questions that may wait for one gateway.
const QUEUE: usize = 64;

/// A ticket that another gateway was shown.
#[derive(Debug)]
pub struct Shown {
    /// What stands for it.
    pub ticket: Bytes,
    asker: Asker,
}

#[derive(Debug)]
enum Asker {
    Local(oneshot::Sender<Bytes>),
    Nats(nats::Asker),
}

impl Shown {
    pub(crate) fn on_nats(ticket: Bytes, asker: nats::Asker) -> Self {
        Self { ticket, asker: Asker::Nats(asker) }
    }

    /// Says what it is good for; nothing if it is not good.
    pub async fn answer(self, good_for: Bytes) {
        match self.asker {
            // Who has asked may have gone.
            Asker::Local(asker) => drop(asker.send(good_for)),
            Asker::Nats(asker) => asker.answer(good_for).await,
        }
    }
}

/// Tickets of one gateway that others are shown.
#[derive(Debug)]
pub struct AllShown(pub(crate) Source);

#[derive(Debug)]
pub(crate) enum Source {
    Local(mpsc::Receiver<Shown>),
    Nats(nats::AllShown),
}

impl AllShown {
    /// Waits for the next one. `None`: the bus is gone, or another took this gateway's place.
    pub async fn next(&mut self) -> Option<Shown> {
        match &mut self.0 {
            Source::Local(shown) => shown.recv().await,
            Source::Nats(shown) => shown.next().await,
        }
    }
}

/// The gateways of one process.
#[derive(Debug, Default, Clone)]
pub(crate) struct LocalTickets(Arc<Mutex<HashMap<GatewayId, mpsc::Sender<Shown>>>>);

impl LocalTickets {
    fn gateways(&self) -> MutexGuard<'_, HashMap<GatewayId, mpsc::Sender<Shown>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn of(&self, gateway: &GatewayId) -> mpsc::Receiver<Shown> {
        let (sender, shown) = mpsc::channel(QUEUE);
        let mut gateways = self.gateways();
        gateways.retain(|_, gateway| !gateway.is_closed());
        gateways.insert(gateway.clone(), sender);
        shown
    }

    pub(crate) async fn redeem(&self, gateway: &GatewayId, ticket: Bytes) -> Option<Bytes> {
        let to = self.gateways().get(gateway).cloned()?;
        let (asker, answer) = oneshot::channel();
        to.try_send(Shown { ticket, asker: Asker::Local(asker) }).ok()?;
        answer.await.ok()
    }
}
