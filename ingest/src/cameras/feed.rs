//! What a camera sends, on its way to its session: of what comes faster than it is wanted nothing is kept.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use cloudpose_policy::{quota::Resource, watch::Taker};
use cloudpose_wire::Payload;
use tokio::sync::Notify;

use crate::{
    metrics,
    quotas::{Guest, Refused},
};

/// A picture of a camera.
#[derive(Debug)]
pub(super) struct Picture {
    /// When the camera sent it.
    pub(super) at: Instant,
    pub(super) payload: Payload,
}

/// What it costs to make a picture of what came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cost {
    /// Nothing: the session may choose the newest.
    Nothing,
    /// Decoding or encoding: not if the session could not begin with it now.
    Work,
}

/// Between a camera's source and its session.
#[derive(Debug)]
pub(super) struct Feed {
    guest: Guest,
    state: Mutex<State>,
    came: Notify,
}

#[derive(Debug)]
struct State {
    taker: Taker,
    /// The session could begin with another picture.
    has_room: bool,
    /// Frames came since this was last asked.
    frames: u32,
    newest: Option<Picture>,
    /// Why a frame was not taken of late that was wanted.
    refused: Option<Refused>,
}

impl Feed {
    /// `fps` frames a second at most, all if absent; and no more than `guest` may send.
    pub(super) fn new(fps: Option<f32>, guest: Guest) -> Self {
        let state = State { taker: Taker::new(fps), has_room: true, frames: 0, newest: None, refused: None };
        Self { guest, state: Mutex::new(state), came: Notify::new() }
    }

    pub(super) fn change(&self, fps: Option<f32>) {
        self.state().taker.change(fps);
    }

    /// Whether the session could begin with another picture.
    pub(super) fn has_room(&self, has_room: bool) {
        self.state().has_room = has_room;
    }

    /// A frame came. Whether somebody will work on it, so that it is worth what it costs to [`put`](Self::put) it.
    pub(super) fn takes(&self, now: Instant, cost: Cost) -> bool {
        let mut state = self.state();
        state.frames = state.frames.saturating_add(1);
        self.came.notify_one();
        let outcome = if cost == Cost::Work && (!state.has_room || state.newest.is_some()) {
            "busy"
        } else if !state.taker.takes(now) {
            "paced"
        } else if let Err(refused) = self.guest.may_come(now) {
            state.refused = Some(refused);
            "over_quota"
        } else {
            self.guest.used(now, Resource::Frames, 1.0);
            "taken"
        };
        metrics::camera_frame(outcome);
        outcome == "taken"
    }

    /// A frame came of which no picture is made.
    pub(super) fn skips(&self) {
        let mut state = self.state();
        state.frames = state.frames.saturating_add(1);
        metrics::camera_frame("skipped");
    }

    /// A picture of a frame that was taken. The newest wins.
    pub(super) fn put(&self, at: Instant, payload: Payload) {
        if self.state().newest.replace(Picture { at, payload }).is_some() {
            metrics::camera_frame("superseded");
        }
        self.came.notify_one();
    }

    /// Why frames were not taken since this was last asked, though they were wanted.
    pub(super) fn refused(&self) -> Option<Refused> {
        self.state().refused.take()
    }

    /// Waits until something came: how many frames since this was last asked, and the newest picture of them.
    pub(super) async fn next(&self) -> (u32, Option<Picture>) {
        loop {
            {
                let mut state = self.state();
                if state.frames > 0 || state.newest.is_some() {
                    return (std::mem::take(&mut state.frames), state.newest.take());
                }
            }
            self.came.notified().await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one assignment.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::Arc;

    use bytes::Bytes;
    use cloudpose_policy::quota::Limits;
    use cloudpose_wire::Tenant;

    use super::*;

    fn guest(limits: &str) -> Guest {
        let nobody = (None, Limits::default());
        Guest::new(&Arc::default(), (&Tenant::default(), limits.parse().unwrap()), nobody)
    }

    #[test]
    fn what_a_tenant_may_not_send_is_not_taken_and_told() {
        let (feed, start) = (Feed::new(None, guest("frames=10")), Instant::now());
        let at = |n: u64| start + Duration::from_millis(n * 1000 / 30);
        let taken = (0..300).filter(|n| feed.takes(at(*n), Cost::Work)).count();
        assert!((95..=125).contains(&taken), "10 a second of 30, for ten seconds: {taken}");
        assert!(feed.refused().unwrap().to_string().contains("10 frames a second"));
        assert_eq!(feed.refused(), None);
    }

    #[tokio::test]
    async fn frames_that_nobody_wants_are_not_taken_and_the_newest_picture_wins() {
        let (feed, start) = (Feed::new(Some(10.0), guest("")), Instant::now());
        let taken =
            (0..60).filter(|i| feed.takes(start + Duration::from_millis(i * 1000 / 30), Cost::Nothing));
        assert!((18..=22).contains(&taken.count()), "10 a second of 30");
        feed.change(None);
        let late = start + Duration::from_secs(9);
        feed.has_room(false);
        assert!(!feed.takes(late, Cost::Work), "the session could not begin with it");
        assert!(feed.takes(late, Cost::Nothing), "the session may choose");
        feed.put(late, Payload::Encoded(Bytes::from_static(b"old")));
        feed.put(late, Payload::Encoded(Bytes::from_static(b"new")));
        feed.has_room(true);
        assert!(!feed.takes(late, Cost::Work), "one waits already");
        let (frames, newest) = feed.next().await;
        assert_eq!(frames, 63);
        assert_eq!(newest.unwrap().payload, Payload::Encoded(Bytes::from_static(b"new")));
        assert!(feed.takes(late, Cost::Work));
    }
}
