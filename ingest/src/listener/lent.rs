//! The body of a request, lent to who answers it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::timeout,
};

/// What is left of a body is read if it is no longer than this, and comes this soon: a connection is dearer.
const SHORT: u64 = 16 << 10;
const SOON: Duration = Duration::from_millis(100);

/// A body that goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Lent {
    body: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

/// What comes back of a body: nothing, if it was read to its end.
#[derive(Debug)]
pub(super) struct Rest(oneshot::Receiver<Incoming>);

impl Lent {
    pub(super) fn new(body: Incoming) -> (Self, Rest) {
        let (back, rest) = oneshot::channel();
        let body = Some(body).filter(|body| !body.is_end_stream());
        (Self { back: body.is_some().then_some(back), body }, Rest(rest))
    }
}

impl Rest {
    /// Whether all of the body is read, now that there is an answer, so that another request can follow. What is short
    /// is read here, if it comes by itself.
    pub(super) async fn is_read(mut self, comes: bool) -> bool {
        match self.0.try_recv() {
            Ok(body) => {
                let is_short = body.size_hint().exact().is_some_and(|left| left <= SHORT);
                comes && is_short && matches!(timeout(SOON, body.collect()).await, Ok(Ok(_)))
            }
            Err(TryRecvError::Closed) => true,
            Err(TryRecvError::Empty) => false,
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // Who lent it may be gone with its connection.
            drop(back.send(body));
        }
    }
}

impl Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(cx));
        if frame.is_none() {
            // Read to its end, it does not go back.
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}
