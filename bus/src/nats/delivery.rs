//! A frame in a worker's hands, towards the broker: done, handed back, or abandoned.

use async_nats::{
    Subject,
    client::{Request, RequestError},
    jetstream::AckKind,
};
use cloudpose_wire::{Frame, Kind, Lane};

use super::{CONFIRMATION, Nats, message, message::Past};

/// Where a delivery came from; empty once it is settled.
#[derive(Debug)]
pub(crate) struct Origin(Option<Home>);

#[derive(Debug)]
struct Home {
    bus: Nats,
    lane: Lane,
    /// Where the broker takes acknowledgements of this delivery.
    ack: Subject,
    /// Nanoseconds since 1970 on the broker's clock.
    since: i128,
}

impl Origin {
    /// A still is kept alive from here on, until it is settled.
    pub(super) fn new(bus: Nats, lane: Lane, ack: Subject, since: i128) -> Self {
        if lane.kind == Kind::Still {
            bus.0.in_hand().insert(ack.to_string());
        }
        Self(Some(Home { bus, lane, ack, since }))
    }

    /// When the frame was put on its lane, in nanoseconds since 1970 on the broker's clock; `None` once it is
    /// settled.
    pub(super) fn since(&self) -> Option<i128> {
        self.0.as_ref().map(|home| home.since)
    }

    fn settle(&mut self) -> Option<Home> {
        let home = self.0.take()?;
        home.bus.0.in_hand().remove(home.ack.as_str());
        Some(home)
    }

    pub(crate) async fn ack(&mut self) {
        if let Some(home) = self.settle() {
            home.ack().await;
        }
    }

    pub(crate) async fn hand_back(&mut self, frame: &Frame, attempt: u32) {
        if let Some(home) = self.settle() {
            home.hand_back(frame, attempt).await;
        }
    }

    /// Nothing is told: the broker notices, and sends the frame again.
    pub(super) fn leave(&mut self) {
        self.settle();
    }

    /// The worker died with the frame in its hands, and its process lives on.
    pub(crate) fn abandon(&mut self) {
        let Some(home) = self.settle() else { return };
        let tasks = home.bus.0.tasks.clone();
        // Outside a runtime there is no connection either: the broker notices by itself, later.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            tasks.spawn_on(
                async move {
                    match home.lane.kind {
                        Kind::Live => home.tell(AckKind::Term).await,
                        Kind::Still => home.tell(AckKind::Nak(None)).await,
                    }
                },
                &runtime,
            );
        }
    }
}

impl Home {
    async fn ack(&self) {
        match self.lane.kind {
            Kind::Live => self.tell(AckKind::Ack).await,
            // Only when the broker knows is it true that the frame will not come again.
            Kind::Still => {
                if let Err(error) = self.bus.confirmed_ack(self.ack.clone()).await {
                    tracing::warn!(%error, lane = %self.lane, "acknowledgement not confirmed: the frame may come again");
                }
            }
        }
    }

    /// A live frame simply goes back. A still goes on its lane again as a copy that says which attempt it is
    /// at: the broker counts deliveries, and this one was none.
    async fn hand_back(&self, frame: &Frame, attempt: u32) {
        let again = match self.lane.kind {
            Kind::Live => return self.tell(AckKind::Nak(None)).await,
            Kind::Still => message::frame_headers(frame, Some(Past { attempt, since: self.since })),
        };
        let stored = match Nats::encoded(frame.image.clone()).await {
            Ok(image) => self.bus.put(self.lane, &frame.header, again, image).await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(()) => self.ack().await,
            // No room for the copy beside the original. Then it costs the frame an attempt.
            Err(error) => {
                tracing::debug!(%error, lane = %self.lane, "handed back as a failed attempt");
                self.tell(AckKind::Nak(None)).await;
            }
        }
    }

    async fn tell(&self, what: AckKind) {
        if let Err(error) = self.bus.0.client.publish(self.ack.clone(), what.into()).await {
            tracing::debug!(%error, lane = %self.lane, "the broker notices by itself");
        }
    }
}

impl Nats {
    /// Acknowledges what was delivered, and waits until the broker says that it knows.
    pub(super) async fn confirmed_ack(&self, ack: Subject) -> Result<(), RequestError> {
        let request = Request::new().payload(AckKind::Ack.into()).timeout(Some(CONFIRMATION));
        self.0.client.send_request(ack, request).await.map(drop)
    }

    /// Tells the broker that the stills in our hands are being worked on.
    pub(super) async fn keep_stills(&self) {
        let in_hand: Vec<String> = self.0.in_hand().iter().cloned().collect();
        for ack in in_hand {
            // A failure means that there is no connection: then nobody can be told.
            self.0.client.publish(ack, AckKind::Progress.into()).await.ok();
        }
    }
}
