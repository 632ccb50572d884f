//! What comes to who listens: results, events, what gateways say.

use cloudpose_wire::{FrameResult, SharedEvent};
use tokio::sync::{broadcast, mpsc};

use crate::{local, nats};

/// Results addressed to one gateway.
#[derive(Debug)]
pub struct Results(pub(crate) Source<mpsc::Receiver<FrameResult>, FrameResult>);

impl Results {
    /// Waits for the next result. `None`: another subscription took this gateway's place, or the bus is gone.
    pub async fn next(&mut self) -> Option<FrameResult> {
        match &mut self.0 {
            Source::Local(results) => results.recv().await,
            Source::Nats(results) => results.next().await,
        }
    }
}

/// Events as they happen.
#[derive(Debug)]
pub struct Events(pub(crate) Source<broadcast::Receiver<SharedEvent>, SharedEvent>);

impl Events {
    /// Waits for the next event. Events that came faster than they were read are skipped.
    /// `None`: the bus is gone.
    pub async fn next(&mut self) -> Option<SharedEvent> {
        match &mut self.0 {
            Source::Local(events) => local::next(events).await,
            Source::Nats(events) => events.next().await,
        }
    }
}

/// What gateways tell or show each other.
#[derive(Debug)]
pub struct Heard<T>(pub(crate) Source<broadcast::Receiver<T>, T>);

impl<T: Clone> Heard<T> {
    /// Waits for the next one. What came faster than it was read is skipped. `None`: the bus is gone.
    pub async fn next(&mut self) -> Option<T> {
        match &mut self.0 {
            Source::Local(heard) => local::next(heard).await,
            Source::Nats(heard) => heard.next().await,
        }
    }
}

/// Where messages come from.
#[derive(Debug)]
pub(crate) enum Source<L, T> {
    Local(L),
    Nats(nats::Inbox<T>),
}
