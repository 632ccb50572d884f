//! What gateways tell each other of live streams, and show each other of those that are watched.

use async_nats::HeaderMap;
use bytes::Bytes;
use cloudpose_wire::{News, StreamName, Tenant, View, subject};

use super::{Inbox, Nats, message};
use crate::PublishError;

impl Nats {
    pub(crate) async fn tell(&self, news: &News) -> Result<(), PublishError> {
        self.send(subject::gateways(&self.0.prefix), HeaderMap::new(), message::of_news(news)).await
    }

    pub(crate) async fn news(&self) -> Inbox<News> {
        let subject = subject::gateways(&self.0.prefix);
        Inbox { answers: self.subscribe([subject]).await, read: message::news }
    }

    pub(crate) async fn show(
        &self,
        tenant: &Tenant,
        stream: &StreamName,
        view: &View,
    ) -> Result<(), PublishError> {
        let (headers, picture) = message::of_view(view);
        self.send(subject::watch(&self.0.prefix, tenant, stream), headers, picture).await
    }

    pub(crate) async fn views(&self, tenant: &Tenant, stream: &StreamName) -> Inbox<View> {
        let subject = subject::watch(&self.0.prefix, tenant, stream);
        Inbox { answers: self.subscribe([subject]).await, read: message::view }
    }

    /// Sends a message to whoever listens now.
    async fn send(&self, to: String, headers: HeaderMap, payload: Bytes) -> Result<(), PublishError> {
        let (size, limit) = (message::size(&headers, &payload), self.0.client.max_payload());
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        if !self.0.link.borrow().up {
            return Err(PublishError::Unreachable("there is no connection".into()));
        }
        let sent = self.0.client.publish_with_headers(to, headers, payload).await;
        sent.map_err(|error| PublishError::Unreachable(error.to_string()))
    }
}
