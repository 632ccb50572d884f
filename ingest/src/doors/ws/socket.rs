//! A WebSocket that reads and writes at the same time in one task.
//!
//! Messages wait in an outbox and are written one after the other; while the client does not take them
//! we go on reading, until the outbox is full. So a slow reader cannot make us keep more than that, and
//! [`Socket::stalled_since`] tells for how long it has taken nothing.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use bytes::Bytes;
use cloudpose_policy::progress::Unfinished;
use futures_util::{Sink, Stream};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::{self, error::CapacityError};

use crate::{listener::Line, shared::Shared, unfinished::Share};

/// Waiting messages beyond which nothing more is read.
const OUTBOX: usize = 64;
/// Bytes read at once. Tungstenite clears as many each time it looks whether there is something to read, which is more often than
/// there is: with its usual 128 KiB that took 14 µs.
const READ_BUFFER: usize = 16 << 10;
/// How long we wait for the client's part of a close.
const FAREWELL: Duration = Duration::from_secs(2);

/// What happened on the socket.
#[derive(Debug)]
pub(crate) enum Event {
    /// A binary message.
    Image(Bytes),
    /// A text message.
    Text(Utf8Bytes),
    /// A ping or a pong. The answer to a ping is sent by itself.
    Alive,
    /// The client has taken what was queued with this `seq`.
    Sent(Option<u64>),
    /// A message was larger than the limit: how large, if it was so large that it was not even read.
    TooLarge(usize),
    /// All clients together have sent too much of messages that are not complete.
    NoRoom,
    /// The client broke the protocol. Nothing more can be read.
    Broken(String),
    /// The client closed, or is gone.
    Closed,
}

/// One entry of the outbox: messages that belong together.
#[derive(Debug)]
struct Letter {
    messages: VecDeque<Message>,
    seq: Option<u64>,
    begun: Instant,
}

/// A WebSocket with an outbox.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: WebSocket,
    /// The first one is being written.
    outbox: VecDeque<Letter>,
    max_message_bytes: usize,
    line: Option<Line>,
    unfinished: Unfinished,
    share: Share,
    /// There was no room for what is unfinished.
    overfull: bool,
    /// How long a message may take.
    patience: Duration,
    /// Since when an answer to a ping is to be written, if one is. Nothing is read before it is: they would pile up.
    pong: Option<Instant>,
    /// Reading failed: what the client still sends stays unread.
    unreadable: bool,
}

impl Socket {
    /// Messages up to twice the limit are read, so that the answer to them is not lost: a connection that
    /// is closed with bytes unread is reset, and a reset can overtake what was sent.
    pub(crate) fn limits(upgrade: WebSocketUpgrade, max_message_bytes: usize) -> WebSocketUpgrade {
        let limit = max_message_bytes.saturating_mul(2);
        upgrade.max_message_size(limit).max_frame_size(limit).read_buffer_size(READ_BUFFER)
    }

    pub(crate) fn new(
        inner: WebSocket,
        max_message_bytes: usize,
        shared: &Shared,
        line: Option<Line>,
    ) -> Self {
        let mut unfinished = Unfinished::default();
        if let Some(line) = &line {
            // The request that led here.
            unfinished.read(Instant::now().into_std(), line.read());
            unfinished.complete();
        }
        Self {
            inner,
            outbox: VecDeque::new(),
            max_message_bytes,
            line,
            unfinished,
            share: shared.unfinished.share(),
            overfull: false,
            patience: shared.config.receive_timeout,
            pong: None,
            unreadable: false,
        }
    }

    /// Queues `messages`; when the client has taken all of them, [`Event::Sent`] says so.
    pub(crate) fn queue(&mut self, messages: impl IntoIterator<Item = Message>, seq: Option<u64>) {
        let messages = messages.into_iter().collect();
        self.outbox.push_back(Letter { messages, seq, begun: Instant::now() });
    }

    /// Since when the client has taken nothing worth mentioning, if something waits for it.
    pub(crate) fn stalled_since(&self) -> Option<Instant> {
        let begun =
            [self.outbox.front().map(|letter| letter.begun), self.pong].into_iter().flatten().min()?;
        let progress = self.line.as_ref().map(|line| Instant::from_std(line.progress()));
        Some(progress.map_or(begun, |progress| begun.max(progress)))
    }

    /// When the rest of the message must be there of which the client has sent a part.
    pub(crate) fn unfinished_until(&self) -> Option<Instant> {
        self.unfinished.deadline(self.patience).map(Instant::from_std)
    }

    /// Waits for the next event. With `read` false only writes. Dropping the future loses nothing.
    pub(crate) async fn next(&mut self, read: bool) -> Event {
        poll_fn(|cx| self.poll(cx, read)).await
    }

    /// Sends what waits and a close with `code`, then waits a moment for the client's part.
    pub(crate) async fn close(mut self, code: u16) {
        self.queue([Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }))], None);
        let farewell = async {
            while !self.outbox.is_empty() {
                if let Event::Closed = self.next(false).await {
                    return;
                }
            }
            if self.unreadable {
                // It cannot answer, but gets the time to read what we have said before the reset.
                return tokio::time::sleep(FAREWELL).await;
            }
            // What the client had already sent is read and ignored until it has answered.
            while !matches!(self.next(true).await, Event::Closed | Event::Broken(_)) {}
        };
        if timeout(FAREWELL, farewell).await.is_err() {
            tracing::debug!("the client did not answer the close");
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<Event> {
        if let Poll::Ready(event) = self.poll_write(cx) {
            return Poll::Ready(event);
        }
        if self.pong.is_some() {
            match ready!(Pin::new(&mut self.inner).poll_flush(cx)) {
                Ok(()) => self.pong = None,
                Err(error) => return Poll::Ready(self.unwritable(&error)),
            }
        }
        if !read || self.outbox.len() >= OUTBOX {
            self.unfinished.pause();
            return Poll::Pending;
        }
        let event = self.poll_read(cx);
        self.count_read();
        match &event {
            Poll::Ready(Event::Image(_) | Event::Text(_) | Event::TooLarge(_)) => self.unfinished.complete(),
            Poll::Pending if !self.overfull && !self.share.hold(self.unfinished.bytes()) => {
                // Said once. For the farewell nothing more is read.
                (self.overfull, self.unreadable) = (true, true);
                return Poll::Ready(Event::NoRoom);
            }
            _ => {}
        }
        event
    }

    fn count_read(&mut self) {
        if let Some(line) = &self.line {
            self.unfinished.read(Instant::now().into_std(), line.read());
        }
    }

    fn unwritable(&mut self, error: &axum::Error) -> Event {
        tracing::debug!(%error, "cannot write to the client");
        self.outbox.clear();
        Event::Closed
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        let Some(letter) = self.outbox.front_mut() else { return Poll::Pending };
        let mut inner = Pin::new(&mut self.inner);
        let written = loop {
            if letter.messages.is_empty() {
                break ready!(inner.as_mut().poll_flush(cx));
            }
            if let Err(error) = ready!(inner.as_mut().poll_ready(cx)) {
                break Err(error);
            }
            if let Some(message) = letter.messages.pop_front()
                && let Err(error) = inner.as_mut().start_send(message)
            {
                break Err(error);
            }
        };
        let seq = letter.seq;
        self.outbox.pop_front();
        if let Some(next) = self.outbox.front_mut() {
            next.begun = Instant::now();
        }
        Poll::Ready(match written {
            Ok(()) => Event::Sent(seq),
            Err(error) => self.unwritable(&error),
        })
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        Poll::Ready(match ready!(Pin::new(&mut self.inner).poll_next(cx)) {
            Some(Ok(Message::Binary(image))) if image.len() > self.max_message_bytes => {
                Event::TooLarge(image.len())
            }
            Some(Ok(Message::Text(text))) if text.len() > self.max_message_bytes => {
                Event::TooLarge(text.len())
            }
            Some(Ok(Message::Binary(image))) => Event::Image(image),
            Some(Ok(Message::Text(text))) => Event::Text(text),
            Some(Ok(Message::Ping(payload))) => {
                self.pong = Some(Instant::now());
                self.count_read();
                self.unfinished.control(payload.len());
                Event::Alive
            }
            Some(Ok(Message::Pong(payload))) => {
                self.count_read();
                self.unfinished.control(payload.len());
                Event::Alive
            }
            Some(Ok(Message::Close(_))) | None => Event::Closed,
            Some(Err(error)) => {
                self.unreadable = true;
                broken(error)
            }
        })
    }
}

fn broken(error: axum::Error) -> Event {
    use tungstenite::Error as E;
    match error.into_inner().downcast::<E>().map(|error| *error) {
        Ok(E::Capacity(CapacityError::MessageTooLong { size, .. })) => Event::TooLarge(size),
        Ok(E::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) | E::Io(_)) => {
            Event::Closed
        }
        Ok(error) => Event::Broken(error.to_string()),
        Err(error) => Event::Broken(error.to_string()),
    }
}
