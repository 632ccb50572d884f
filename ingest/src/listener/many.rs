//! HTTP/2: connections that carry many requests at once.

use std::{
    net::IpAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use axum::{Router, body::Body, response::Response};
use bytes::Bytes;
use cloudpose_policy::requests::Requests;
use hyper::{
    Request,
    body::{Frame, Incoming, SizeHint},
    server::conn::http2,
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{KEPT, LAST_CALL, Line, Times, line::Users};

/// Requests of one connection at once: what RFC 9113 would have it be at least.
const STREAMS: u32 = 100;
/// Bytes of a request, and of a connection, that may come before somebody reads them.
const REQUEST_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// All headers of a request, decompressed.
const HEADERS: u32 = 16 << 10;
/// Requests that break the protocol, and are reset by us.
const BROKEN: usize = 100;
/// An answer is handed out in pieces of this: each of them shows that its client took those before.
const PIECE: usize = 16 << 10;

/// Serves a connection to its end.
pub(super) async fn serve<I>(io: I, address: IpAddr, router: Router, times: Times, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let requests = Arc::new(Mutex::new(Requests::new(times.accepted.into_std())));
    let enough = CancellationToken::new();
    let (of_requests, gives_up, users) = (Arc::clone(&requests), enough.clone(), Users::default());
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let open = Open::new(&of_requests, &gives_up, (address, &users));
        request.extensions_mut().insert(open.line.clone());
        let answer = hyper::service::Service::call(&router, request);
        async move { answer.await.map(|answer| open.answer(answer)) }
    });
    let mut serving = http2::Builder::new(TokioExecutor::new());
    serving
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .initial_stream_window_size(REQUEST_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEADERS)
        .max_local_error_reset_streams(BROKEN)
        .max_send_buf_size(4 * PIECE);
    let mut served = pin!(serving.serve_connection(TokioIo::new(io), service));
    let (mut last_call, mut wake) = (false, times.accepted);
    loop {
        tokio::select! {
            ended = served.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "a connection ends");
                }
                return;
            }
            () = stop.cancelled(), if !last_call => {
                served.as_mut().graceful_shutdown();
                last_call = true;
                wake = Instant::now() + LAST_CALL;
            }
            () = enough.cancelled() => {
                tracing::debug!("a client that gives up what it asks for is cut off");
                return;
            }
            () = sleep_until(wake) => {
                let (now, requests) = (Instant::now().into_std(), lock(&requests));
                let kept = if requests.has_begun() { KEPT.max(times.head) } else { times.head };
                if let Some(why) = requests.cut(now, times.write, kept) {
                    tracing::debug!(?why, "a client is cut off");
                    return;
                }
                if last_call && requests.is_idle() {
                    return;
                }
                wake = requests.next_deadline(now, times.write, kept).into();
                if last_call {
                    wake = wake.min(Instant::now() + LAST_CALL);
                }
            }
        }
    }
}

fn lock(requests: &Mutex<Requests>) -> MutexGuard<'_, Requests> {
    // Nothing in it is left half changed.
    requests.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A request whose answer is not out.
struct Open {
    requests: Arc<Mutex<Requests>>,
    enough: CancellationToken,
    number: u64,
    answered: bool,
    /// Has its seats, until this is dropped.
    line: Line,
}

impl Open {
    fn new(
        requests: &Arc<Mutex<Requests>>,
        enough: &CancellationToken,
        (address, users): (IpAddr, &Users),
    ) -> Self {
        Self {
            requests: Arc::clone(requests),
            enough: enough.clone(),
            number: lock(requests).begin(),
            answered: false,
            line: Line::of_request(Instant::now().into_std(), address, users.clone()),
        }
    }

    fn answer(mut self, answer: Response) -> Response<Answer> {
        self.answered = true;
        lock(&self.requests).answered(self.number);
        answer.map(|body| Answer { body, piece: Bytes::new(), open: self })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let now = Instant::now().into_std();
        let mut requests = lock(&self.requests);
        if self.answered {
            requests.end(now, self.number);
        } else if requests.given_up(now, self.number) {
            self.enough.cancel();
        }
    }
}

/// An answer on its way. It is asked for another piece when the client has room for the one before.
struct Answer {
    body: Body,
    /// What is there and not handed out.
    piece: Bytes,
    open: Open,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        lock(&self.open.requests).took(self.open.number);
        if self.piece.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.piece = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        let len = self.piece.len().min(PIECE);
        let next = self.piece.split_to(len);
        lock(&self.open.requests).waits(Instant::now().into_std(), self.open.number);
        Poll::Ready(Some(Ok(Frame::data(next))))
    }

    fn is_end_stream(&self) -> bool {
        self.piece.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.piece.is_empty() { self.body.size_hint() } else { SizeHint::default() }
    }
}
