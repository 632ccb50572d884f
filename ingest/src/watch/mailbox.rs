//! The frames that wait for one watcher.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cloudpose_wire::View;
use tokio::sync::Notify;

use super::{Hub, Key};
use crate::metrics;

/// Frames that may wait: enough for the unevenness of a network, not for one that is too slow.
const ROOM: usize = 4;

/// Why nothing more comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The stream is gone.
    Ended,
    /// The watcher took nothing for too long.
    Slow,
}

/// What a watcher sees.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    pub(crate) view: View,
    /// Frames that it was too slow for, so far.
    pub(crate) lost: u64,
}

/// Where frames wait for a watcher. The newest win.
#[derive(Debug, Default)]
pub(super) struct Mailbox {
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    views: VecDeque<View>,
    lost: u64,
    /// Since when something waits and nothing was taken.
    since: Option<Instant>,
    end: Option<End>,
}

impl Mailbox {
    /// Puts a frame there. False: nothing was taken for longer than `patience`, and nothing will be.
    pub(super) fn put(&self, now: Instant, view: View, patience: Duration) -> bool {
        let mut waiting = self.waiting();
        let since = *waiting.since.get_or_insert(now);
        if now.saturating_duration_since(since) > patience {
            return false;
        }
        if waiting.views.len() == ROOM {
            waiting.views.pop_front();
            waiting.lost += 1;
            metrics::watched_frame("slow");
        }
        waiting.views.push_back(view);
        drop(waiting);
        self.arrived.notify_one();
        true
    }

    /// Nothing more will come.
    pub(super) fn end(&self, end: End) {
        self.waiting().end.get_or_insert(end);
        self.arrived.notify_one();
    }

    async fn next(&self) -> Result<Seen, End> {
        loop {
            let arrived = self.arrived.notified();
            if let Some(next) = self.take() {
                return next;
            }
            arrived.await;
        }
    }

    fn take(&self) -> Option<Result<Seen, End>> {
        let mut waiting = self.waiting();
        if waiting.end == Some(End::Slow) {
            return Some(Err(End::Slow));
        }
        match waiting.views.pop_front() {
            Some(view) => {
                // What waits now waits from now on.
                waiting.since = (!waiting.views.is_empty()).then(|| tokio::time::Instant::now().into_std());
                metrics::watched_frame("shown");
                Some(Ok(Seen { view, lost: waiting.lost }))
            }
            None => waiting.end.map(Err),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Every critical section leaves it whole, so a panic elsewhere does not spoil it.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody who watches a stream, until it is dropped.
#[derive(Debug)]
pub(crate) struct Watcher {
    hub: Hub,
    key: Key,
    seat: u64,
    mailbox: Arc<Mailbox>,
}

impl Watcher {
    pub(super) fn new(hub: Hub, key: Key, seat: u64, mailbox: Arc<Mailbox>) -> Self {
        Self { hub, key, seat, mailbox }
    }

    /// Waits for the next frame. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Result<Seen, End> {
        self.mailbox.next().await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.hub.leave(&self.key, self.seat);
    }
}
