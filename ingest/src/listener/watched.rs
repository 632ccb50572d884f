//! The bytes of a connection, and whether they go on.

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep, sleep_until},
};

use super::{FAREWELL, Line, tell};
use crate::doors::Problem;

/// A WebSocket reads no more than this without a pause.
const BREATH: usize = 256 << 10;
/// No more than this is read of what came after the last answer.
const FAREWELL_BYTES: usize = 64 << 20;

/// A socket whose writes fail when its client takes nothing for too long.
#[derive(Debug)]
pub(super) struct Watched {
    stream: TcpStream,
    line: Line,
    write_timeout: Duration,
    is_mute: bool,
    /// What a WebSocket has read since it was last made to pause.
    unseen: usize,
    /// While something waits to be written.
    stalled: Option<Pin<Box<Sleep>>>,
    /// While what came after the last answer is read.
    farewell: Option<Farewell>,
}

/// How long, and how much, is still read.
#[derive(Debug)]
struct Farewell {
    end: Pin<Box<Sleep>>,
    left: usize,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.is_mute && self.line.is_to_be_told() {
            tell(&self.stream, &Problem::no_head().raw());
        }
    }
}

impl Watched {
    pub(super) fn new(stream: TcpStream, line: Line, write_timeout: Duration) -> Self {
        Self { stream, line, write_timeout, is_mute: false, unseen: 0, stalled: None, farewell: None }
    }

    /// One over which TLS is spoken: nothing is said to its client by itself.
    pub(super) fn mute(stream: TcpStream, line: Line, write_timeout: Duration) -> Self {
        let mut watched = Self::new(stream, line, write_timeout);
        watched.is_mute = true;
        watched
    }

    /// The outcome of a write.
    fn settle(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        match written {
            Poll::Ready(written) => {
                if let Ok(bytes) = written {
                    self.line.took(now.into_std(), bytes);
                }
                Poll::Ready(written)
            }
            Poll::Pending if self.line.is_upgraded() => Poll::Pending,
            Poll::Pending => {
                if self.stalled.is_none() {
                    self.line.waits(now.into_std());
                }
                let deadline = Instant::from_std(self.line.progress()) + self.write_timeout;
                let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                if stalled.deadline() != deadline {
                    stalled.as_mut().reset(deadline);
                }
                ready!(stalled.as_mut().poll(cx));
                Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, "the client takes nothing")))
            }
        }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.unseen >= BREATH {
            // A message is read in one go, as large as it may be. Who counts what is unfinished must see it grow.
            self.unseen = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        let came = into.filled().len() - before;
        self.line.came(came);
        if self.line.is_upgraded() {
            self.unseen += came;
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.settle(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.settle(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Called when all that was to be written is written.
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.stalled = None;
        self.line.flushed();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.line.has_left_unread() {
            return Pin::new(&mut self.stream).poll_shutdown(cx);
        }
        // A connection that is closed with bytes unread is reset, and a reset can overtake the answer.
        let watched = &mut *self;
        if watched.farewell.is_none() {
            ready!(Pin::new(&mut watched.stream).poll_shutdown(cx))?;
        }
        let farewell = watched
            .farewell
            .get_or_insert_with(|| Farewell { end: Box::pin(sleep(FAREWELL)), left: FAREWELL_BYTES });
        let mut ignored = [0; 16 << 10];
        loop {
            if farewell.left == 0 || farewell.end.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut into = ReadBuf::new(&mut ignored);
            ready!(Pin::new(&mut watched.stream).poll_read(cx, &mut into))?;
            if into.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            farewell.left = farewell.left.saturating_sub(into.filled().len());
        }
    }
}
