//! Puts a session's frames on the bus beside the session's loop: a broker that is slow does not keep the loop from its
//! client.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    pin::Pin,
    sync::Arc,
};

use cloudpose_policy::lanes::Owner;
use cloudpose_wire::{DropReason, Frame, Kind};
use tokio::time::{Instant, timeout};

use crate::{gate::Leave, shared::Shared};

/// What the bus said to a frame.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) frame: Frame,
    pub(crate) taken: Result<(), DropReason>,
}

/// A frame that was offered, what was said to it, and the leave with which it went.
type Offered = (Answered, Option<Leave>);

/// The frames of one session that the bus has not answered for, offered one after the other. The session's window
/// bounds them. Dropping it takes none back that the bus may have.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    waiting: VecDeque<Frame>,
    offered: Option<Pin<Box<dyn Future<Output = Offered> + Send>>>,
    /// Which frame that is, unless it has come to its end already: a result may be sooner than the bus's answer.
    offering: Option<u64>,
    /// Of the frames that have gone and not come to their end.
    leaves: HashMap<u64, Leave>,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiting: VecDeque::new(), offered: None, offering: None, leaves: HashMap::new() }
    }

    /// Offers `frame` to the bus after those that wait.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.waiting.push_back(frame);
    }

    /// Frame `seq` has ended: it is not offered if it waits.
    pub(crate) fn withdraw(&mut self, seq: u64) {
        self.waiting.retain(|frame| frame.header.seq != seq);
        self.back(seq);
    }

    /// The result of frame `seq` is here.
    pub(crate) fn back(&mut self, seq: u64) {
        self.leaves.remove(&seq);
        self.offering = self.offering.filter(|offering| *offering != seq);
    }

    /// Waits for the next answer of the bus, for ever if nothing is offered. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Answered {
        if self.offered.is_none()
            && let Some(frame) = self.waiting.pop_front()
        {
            // What goes again goes with the leave that it has.
            let leave = self.leaves.remove(&frame.header.seq);
            self.offering = Some(frame.header.seq);
            self.offered = Some(Box::pin(offer(Arc::clone(&self.shared), frame, leave)));
        }
        let Some(offered) = &mut self.offered else { return std::future::pending().await };
        let (answered, leave) = offered.await;
        self.offered = None;
        if let (Some(seq), Some(leave)) = (self.offering.take(), leave) {
            self.leaves.insert(seq, leave);
        }
        answered
    }
}

/// Offers a frame to the bus when it is its stream's turn.
async fn offer(shared: Arc<Shared>, mut frame: Frame, leave: Option<Leave>) -> Offered {
    let leave = match leave {
        Some(leave) => leave,
        None => {
            let header = &frame.header;
            let owner = Owner { tenant: header.caller.tenant.clone(), stream: header.stream.clone() };
            let (kind, budget, begun) = (header.route.kind(), header.budget(), Instant::now());
            // A live frame that is not worth beginning leaves its stream's turn to the next one.
            let in_time = if kind == Kind::Live { budget / 2 } else { budget };
            let Ok(leave) = timeout(in_time, shared.gate.pass(owner)).await else {
                return (Answered { frame, taken: Err(DropReason::Expired) }, None);
            };
            if kind == Kind::Live {
                let waited = u32::try_from(begun.elapsed().as_millis()).unwrap_or(u32::MAX);
                frame.header.deadline_ms = frame.header.deadline_ms.saturating_sub(waited);
            }
            leave
        }
    };
    match shared.publish(frame.clone()).await {
        Ok(()) => (Answered { frame, taken: Ok(()) }, Some(leave)),
        Err(error) => {
            tracing::trace!(%error, "frame refused");
            (Answered { frame, taken: Err(error.reason()) }, None)
        }
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Publisher")
            .field("waiting", &self.waiting.len())
            .field("offering", &self.offered.is_some())
            .finish_non_exhaustive()
    }
}
