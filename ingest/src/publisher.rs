//! Puts a session's frames on the bus beside the session's loop: a broker that is slow does not keep the loop from its
//! client.

use std::{collections::VecDeque, fmt, pin::Pin, sync::Arc};

use cloudpose_bus::PublishError;
use cloudpose_wire::Frame;

use crate::shared::Shared;

/// What the bus said to a frame.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) frame: Frame,
    pub(crate) taken: Result<(), PublishError>,
}

/// The frames of one session that the bus has not answered for, offered one after the other. The session's window
/// bounds them. Dropping it takes none back that the bus may have.
pub(crate) struct Publisher {
    shared: Arc<Shared>,
    waiting: VecDeque<Frame>,
    offered: Option<Pin<Box<dyn Future<Output = Answered> + Send>>>,
}

impl Publisher {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, waiting: VecDeque::new(), offered: None }
    }

    /// Offers `frame` to the bus after those that wait.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.waiting.push_back(frame);
    }

    /// Frame `seq` has ended: it is not offered if it waits.
    pub(crate) fn withdraw(&mut self, seq: u64) {
        self.waiting.retain(|frame| frame.header.seq != seq);
    }

    /// Waits for the next answer of the bus, for ever if nothing is offered. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Answered {
        if self.offered.is_none()
            && let Some(frame) = self.waiting.pop_front()
        {
            let shared = Arc::clone(&self.shared);
            self.offered = Some(Box::pin(async move {
                let taken = shared.publish(frame.clone()).await;
                Answered { frame, taken }
            }));
        }
        let Some(offered) = &mut self.offered else { return std::future::pending().await };
        let answered = offered.await;
        self.offered = None;
        answered
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
