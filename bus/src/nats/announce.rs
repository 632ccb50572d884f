//! Workers tell over NATS which models they serve, and gateways hear it.

use cloudpose_wire::{ModelInfo, model::Announcement, subject};
use futures_util::StreamExt as _;
use tokio::sync::watch;

use super::{Nats, Turn, message};
use crate::{Models, metrics, metrics::Loss, models::ANNOUNCE_EVERY};

impl Nats {
    /// Says from now on that this process serves `models`.
    pub(crate) fn announce(&self, models: Vec<ModelInfo>) {
        let mut is_first = false;
        self.0.announced.send_modify(|announced| {
            is_first = announced.is_none();
            let slots = announced.as_ref().and_then(|before| before.slots);
            let overflow = self.0.turn == Turn::Overflow;
            *announced = Some(Announcement { worker: self.0.name.clone(), models, slots, overflow });
        });
        if is_first {
            self.0.tasks.spawn(self.clone().keep_announcing());
        }
    }

    /// Says besides, if it says what it serves, on how many frames it works at once.
    pub(crate) fn announce_slots(&self, slots: usize) {
        self.0.announced.send_if_modified(|announced| match announced {
            Some(announced) => announced.slots.replace(slots) != Some(slots),
            None => false,
        });
    }

    /// Tells when asked, at every new connection, when there is something new, and now and then.
    async fn keep_announcing(self) {
        let asked = self.0.client.subscribe(subject::models_ask(&self.0.prefix)).await;
        let mut asked = match asked {
            Ok(asked) => asked,
            Err(error) => return tracing::error!(%error, "cannot announce models"),
        };
        let mut announced = self.0.announced.subscribe();
        let mut link = self.0.link.clone();
        let mut every = tokio::time::interval(ANNOUNCE_EVERY);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                Some(_) = asked.next() => {}
                _ = every.tick() => {}
                Ok(()) = announced.changed() => {}
                changed = link.changed() => if changed.is_err() { return },
            }
            let payload = message::announcement(announced.borrow_and_update().as_ref());
            if link.borrow_and_update().up
                && self.0.client.publish(subject::models(&self.0.prefix), payload).await.is_err()
            {
                metrics::lost(Loss::Disconnected);
            }
        }
    }

    /// What workers say that they serve. Listens from the first call on.
    pub(crate) fn models(&self) -> Models {
        let listen = || {
            let models = Models::new(true);
            self.0.tasks.spawn(self.clone().listen(models.clone(), self.0.link.clone()));
            models
        };
        self.0.models.get_or_init(listen).clone()
    }

    /// Hears what workers say, and asks them at every new connection.
    async fn listen(self, models: Models, mut link: watch::Receiver<super::Link>) {
        let heard = self.0.client.subscribe(subject::models(&self.0.prefix)).await;
        let mut heard = match heard {
            Ok(heard) => heard,
            Err(error) => return tracing::error!(%error, "cannot hear which models are served"),
        };
        link.mark_changed();
        loop {
            tokio::select! {
                () = self.0.stop.cancelled() => return,
                Some(message) = heard.next() => match message::read_announcement(&message) {
                    Ok(announcement) => models.heard(announcement),
                    Err(error) => {
                        metrics::lost(Loss::Malformed);
                        tracing::warn!(%error, "dropped an announcement of models that is none");
                    }
                },
                changed = link.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    if link.borrow_and_update().up {
                        // A failure means that there is no connection: the next one asks again.
                        self.0.client.publish(subject::models_ask(&self.0.prefix), Default::default()).await.ok();
                    }
                }
            }
        }
    }
}
