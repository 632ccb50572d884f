//! A camera that this gateway fetches.

use std::{sync::Mutex, time::Instant};

use cloudpose_wire::{Caller, ModelId, StreamName, Want};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{
    Address, Report, lock,
    status::{self, Status},
};
use crate::shared::Shared;

/// What is wanted of a camera.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Wishes {
    /// The model; the server's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<ModelId>,
    /// So many frames a second at most, more than 0; all if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) fps: Option<f32>,
    #[serde(default)]
    pub(crate) want: Want,
}

impl Default for Wishes {
    fn default() -> Self {
        Self { model: None, fps: None, want: Want::Pose }
    }
}

/// A camera that is fetched here, and how it is doing.
#[derive(Debug)]
pub(super) struct Camera {
    pub(super) stream: StreamName,
    pub(super) caller: Caller,
    /// The operator has named it, on the command line.
    pub(super) is_operators: bool,
    pub(super) address: Address,
    wishes: Mutex<Wishes>,
    pub(super) status: Mutex<Status>,
    /// The wishes have changed.
    pub(super) changed: Notify,
    /// It is not wanted any more.
    pub(super) stop: CancellationToken,
    /// Another gateway is to fetch it: what has come already is finished here.
    pub(super) end: CancellationToken,
    /// It is fetched no more.
    pub(super) is_left: CancellationToken,
}

impl Camera {
    pub(super) fn new(
        stream: StreamName,
        caller: Caller,
        (address, is_operators): (Address, bool),
        wishes: Wishes,
    ) -> Self {
        Self {
            stream,
            caller,
            is_operators,
            address,
            wishes: Mutex::new(wishes),
            status: Mutex::new(Status::new()),
            changed: Notify::new(),
            stop: CancellationToken::new(),
            end: CancellationToken::new(),
            is_left: CancellationToken::new(),
        }
    }

    pub(super) fn wishes(&self) -> Wishes {
        lock(&self.wishes).clone()
    }

    /// Something else is wanted of it.
    pub(super) fn change(&self, wishes: &Wishes) {
        if *wishes != self.wishes() {
            lock(&self.wishes).clone_from(wishes);
            self.changed.notify_one();
        }
    }

    /// The camera as it is shown.
    pub(super) fn report(&self, now: Instant, shared: &Shared) -> Report {
        let of = status::Of::new(&self.stream, &self.address, self.wishes(), shared);
        lock(&self.status).report(now, of, self.is_operators)
    }
}
