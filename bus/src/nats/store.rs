//! What the broker keeps: frames on lanes, results of jobs; and what it says when it does not.

use async_nats::{
    HeaderMap,
    client::{Request, RequestErrorKind},
    jetstream::{self, publish::PublishAck, response::Response},
};
use bytes::Bytes;
use cloudpose_wire::{Frame, FrameHeader, Lane, Payload, Stage, subject};
use tokio::time::timeout;

use super::{CONFIRMATION, Nats, message};
use crate::{Bound, PublishError, Queue};

/// Where the broker keeps a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Lane(Lane),
    TenantLane(Lane),
    Jobs,
}

impl Place {
    fn queue(self) -> Queue {
        match self {
            Self::Lane(lane) | Self::TenantLane(lane) => Queue::Lane(lane),
            Self::Jobs => Queue::Jobs,
        }
    }
}

impl Nats {
    pub(crate) async fn publish(&self, stage: Stage, frame: Frame) -> Result<(), PublishError> {
        let lane = Lane { stage, kind: frame.header.route.kind() };
        let headers = message::frame_headers(&frame, None);
        self.put(lane, &frame.header, headers, Self::encoded(frame.image).await?).await
    }

    /// Puts a frame on `lane`, of those of its tenant.
    pub(super) async fn put(
        &self,
        lane: Lane,
        header: &FrameHeader,
        headers: HeaderMap,
        image: Bytes,
    ) -> Result<(), PublishError> {
        let tenant = &header.caller.tenant;
        let to = subject::frame(&self.0.prefix, lane, tenant, &header.stream);
        let place = if tenant.is_default() { Place::Lane(lane) } else { Place::TenantLane(lane) };
        self.store(place, to, headers, image).await?;
        self.tell_of(tenant).await;
        Ok(())
    }

    /// A frame's image for other processes.
    pub(super) async fn encoded(image: Payload) -> Result<Bytes, PublishError> {
        match image {
            Payload::Encoded(image) => Ok(image),
            decoded @ Payload::Decoded(_) => {
                let encoded = tokio::task::spawn_blocking(move || decoded.encode()).await;
                encoded.map_err(|panic| panic.to_string()).flatten().map_err(PublishError::Encoding)
            }
        }
    }

    /// Has the broker keep a message, and waits until it says so.
    pub(super) async fn store(
        &self,
        place: Place,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<(), PublishError> {
        let (size, limit) = (message::size(&headers, &payload), self.0.client.max_payload());
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        if !self.0.link.borrow().up {
            return Err(PublishError::Unreachable("there is no connection".into()));
        }
        let request = || {
            let request = Request::new().headers(headers.clone()).payload(payload.clone());
            self.0.client.send_request(subject.clone(), request.timeout(Some(CONFIRMATION)))
        };
        let seen = match place {
            Place::Lane(_) => self.0.lanes.seen(),
            Place::TenantLane(_) => self.0.tenant_lanes.seen(),
            Place::Jobs => self.0.jobs.seen(),
        };
        let mut answer = timeout(CONFIRMATION, request()).await;
        if matches!(&answer, Ok(Err(error)) if error.kind() == RequestErrorKind::NoResponders) {
            // The stream is gone with its server.
            let made = match place {
                // Boxed: they are large, and each frame's way goes through here.
                Place::Lane(_) => Box::pin(self.set_up(seen)).await,
                Place::TenantLane(_) => Box::pin(self.set_up_tenants(seen)).await,
                Place::Jobs => Box::pin(self.set_up_jobs(seen)).await,
            };
            made.map_err(|error| PublishError::Unreachable(error.to_string()))?;
            answer = timeout(CONFIRMATION, request()).await;
        }
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(PublishError::Unreachable(error.to_string())),
            Err(_) => return Err(PublishError::Unreachable("no confirmation in time".into())),
        };
        match serde_json::from_slice::<Response<PublishAck>>(&answer.payload) {
            Ok(Response::Ok(_)) => Ok(()),
            Ok(Response::Err { error }) => {
                let (code, words) = (error.error_code(), error.to_string());
                let full = code == jetstream::ErrorCode::STREAM_STORE_FAILED;
                Err(match self.bound(place, &words).filter(|_| full) {
                    Some(bound) => PublishError::Full { queue: place.queue(), bound },
                    None => PublishError::Unreachable(words),
                })
            }
            Err(error) => Err(PublishError::Unreachable(error.to_string())),
        }
    }

    /// The bound at which the broker's store did not take a message, if that is why: it stands in its words only.
    fn bound(&self, place: Place, words: &str) -> Option<Bound> {
        if words.contains("maximum bytes exceeded") {
            Some(Bound::Bytes)
        } else if words.contains("maximum messages") {
            Some(match place {
                Place::Lane(_) | Place::TenantLane(_) => Bound::Frames(self.0.capacity.still_frames),
                Place::Jobs => Bound::Results(self.0.capacity.job_results),
            })
        } else {
            None
        }
    }
}
