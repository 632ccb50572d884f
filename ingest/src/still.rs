//! One image on its way to the workers and back, for the HTTP calls.

use std::time::Duration;

use bytes::Bytes;
use cloudpose_bus::PublishError;
use cloudpose_policy::deadline::GRACE;
use cloudpose_wire::{
    Caller, Draw, DropReason, Frame, FrameHeader, FrameResult, Kind, ModelId, Outcome, Reply, Route,
    SharedEvent, StreamName, TraceParent, Want, frame::ResultBody,
};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::Instrument as _;

use crate::{
    metrics,
    quotas::Guest,
    session::{DRAWN_OTHERWISE, Stamps, frame_span},
    shared::Shared,
};

/// Pause before a still is offered again to a broker that has just come up.
const AGAIN: Duration = Duration::from_millis(100);
/// A still has one frame.
const SEQ: u64 = 1;

/// One image and what is wanted of it.
#[derive(Debug)]
pub(crate) struct Still {
    /// Under this name its poses are published.
    pub(crate) id: StreamName,
    pub(crate) image: Bytes,
    pub(crate) want: Want,
    /// How the picture is drawn.
    pub(crate) draw: Draw,
    pub(crate) model: ModelId,
    pub(crate) quality: u8,
    pub(crate) min_score: f32,
    pub(crate) top: u16,
    /// Within this it must be done.
    pub(crate) deadline: Duration,
    pub(crate) caller: Caller,
    /// Whose quotas it uses.
    pub(crate) guest: Guest,
    pub(crate) trace: Option<TraceParent>,
}

/// What the workers made of it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) event: SharedEvent,
    /// The annotated JPEG, if one was wanted.
    pub(crate) overlay: Option<Bytes>,
}

/// Why it is not finished.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) reason: DropReason,
    pub(crate) detail: String,
}

impl Refusal {
    fn new(reason: DropReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Says what to do where the image was not done within `deadline`.
    pub(crate) fn told(self, deadline: Duration) -> Self {
        match self.reason {
            DropReason::Expired | DropReason::BusLost | DropReason::Superseded | DropReason::Late => {
                let detail = format!(
                    "no worker finished the image within {deadline:?}; send fewer at once, or try again"
                );
                Self { detail, ..self }
            }
            _ => self,
        }
    }
}

impl Still {
    /// Has the image worked on. Dropping the future closes the frame as `client_gone`.
    pub(crate) async fn run(mut self, shared: &Shared) -> Result<Finished, Refusal> {
        let received = Instant::now();
        let span = frame_span(&self.caller, &self.id, SEQ);
        self.trace = cloudpose_bus::trace::join(&span, self.trace);
        let mut account = shared.books.open(Kind::Still, self.caller.tenant.clone());
        account.accept(SEQ);
        let (tenant, guest) = (self.caller.tenant.clone(), self.guest.clone());
        let deadline = self.deadline;
        let finished =
            self.work(shared).instrument(span.clone()).await.map_err(|refusal| refusal.told(deadline));
        if let Ok(Finished { event, .. }) = &finished {
            guest.worked(Instant::now().into_std(), event);
        }
        let outcome = match &finished {
            Ok(_) => Outcome::Delivered,
            Err(refusal) => Outcome::Dropped(refusal.reason),
        };
        account.end(SEQ, outcome);
        span.record("outcome", outcome.as_str());
        if outcome == Outcome::Delivered {
            metrics::frame_latency(Kind::Still, &tenant, received.elapsed());
        }
        finished
    }

    async fn work(self, shared: &Shared) -> Result<Finished, Refusal> {
        let probed = cloudpose_pixels::probe(&self.image, cloudpose_pixels::Limits::default())
            .map_err(|error| Refusal::new(DropReason::Undecodable, error.to_string()))?;
        self.guest.decodes(Instant::now().into_std(), [probed.width, probed.height]);
        let (address, mut inbox) = shared.open(1);
        let deadline = self.deadline;
        let header = FrameHeader {
            stream: self.id,
            seq: SEQ,
            route: Route::Still(Reply::Session(address)),
            received_at: Stamps::from_now().at(Instant::now().into_std()),
            deadline_ms: u32::try_from(deadline.as_millis()).unwrap_or(u32::MAX),
            want: self.want,
            model: self.model,
            quality: self.quality,
            min_score: self.min_score,
            top: self.top,
            smooth: false,
            prior: None,
            retries: 0,
            caller: self.caller,
            draw: self.draw,
            watched: Vec::new(),
            aside: false,
            trace: self.trace,
        };
        let mut frame = Frame { header, event: None, image: self.image.into() };
        let first = shared.bus.connection();
        let result = async {
            shared.publish(frame.clone()).await.map_err(refused)?;
            let mut connection = first;
            let mut again = None;
            loop {
                tokio::select! {
                    result = inbox.next() => return Ok(result),
                    later = shared.bus.later_connection(connection) => {
                        connection = later;
                        // The broker may have forgotten the frame, or its result was lost.
                        frame.header.retries += 1;
                        again = Some(Instant::now());
                    }
                    () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                        again = match shared.publish(frame.clone()).await {
                            Ok(()) => None,
                            // A broker that has just come up may need a moment.
                            Err(PublishError::Unreachable(_)) => Some(Instant::now() + AGAIN),
                            Err(error) => return Err(refused(error)),
                        };
                    }
                }
            }
        };
        let result = tokio::select! {
            result = timeout(deadline + GRACE, result) => result,
            () = shared.drained() => return Err(Refusal::new(DropReason::ShuttingDown, "")),
        };
        match result {
            Ok(result) => match result? {
                FrameResult { body: ResultBody::Done { overlay: Some(_), .. }, draw, .. }
                    if draw != self.draw =>
                {
                    Err(Refusal::new(DropReason::AnnotateFailed, DRAWN_OTHERWISE))
                }
                FrameResult { body, .. } => match body {
                    ResultBody::Done { event, overlay, .. } => Ok(Finished { event, overlay }),
                    ResultBody::Dropped { reason, detail } => Err(Refusal { reason, detail }),
                },
            },
            Err(_) if shared.bus.is_there() && shared.bus.connection() == first => {
                Err(Refusal::new(DropReason::BusLost, ""))
            }
            Err(_) => Err(Refusal::new(DropReason::BusDown, "the connection to NATS was lost meanwhile")),
        }
    }
}

fn refused(error: PublishError) -> Refusal {
    Refusal::new(error.reason(), error.to_string())
}
