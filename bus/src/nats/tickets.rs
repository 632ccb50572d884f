//! Tickets of gateways, shown to others: a question over core NATS.

use async_nats::{Client, Message, Subject};
use bytes::Bytes;
use cloudpose_wire::{GatewayId, subject};
use tokio::time::timeout;

use super::{CONFIRMATION, Inbox, Nats};
use crate::tickets::Shown;

impl Nats {
    pub(crate) async fn redeem(&self, gateway: &GatewayId, ticket: Bytes) -> Option<Bytes> {
        let to = subject::tickets(&self.0.prefix, gateway);
        let answer = timeout(CONFIRMATION, self.0.client.request(to, ticket)).await;
        match answer {
            Ok(Ok(message)) => Some(message.payload),
            Ok(Err(error)) => {
                tracing::debug!(%error, %gateway, "the gateway that gave a ticket out does not answer");
                None
            }
            Err(_) => None,
        }
    }

    pub(crate) async fn tickets_shown(&self, gateway: &GatewayId) -> AllShown {
        let subject = subject::tickets(&self.0.prefix, gateway);
        let inbox = Inbox { answers: self.subscribe([subject]).await, read: Ok };
        AllShown { inbox, client: self.0.client.clone() }
    }
}

/// Tickets of one gateway that others are shown.
#[derive(Debug)]
pub(crate) struct AllShown {
    inbox: Inbox<Message>,
    client: Client,
}

impl AllShown {
    pub(crate) async fn next(&mut self) -> Option<Shown> {
        loop {
            let Message { reply, payload, .. } = self.inbox.next().await?;
            // Who wants no answer asks nothing.
            if let Some(to) = reply {
                return Some(Shown::on_nats(payload, Asker { client: self.client.clone(), to }));
            }
        }
    }
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) struct Asker {
    client: Client,
    to: Subject,
}

impl Asker {
    pub(crate) async fn answer(self, answer: Bytes) {
        if let Err(error) = self.client.publish(self.to, answer).await {
            tracing::debug!(%error, "a gateway was not told what a ticket is good for");
        }
    }
}
