//! Who may decode video, and how much memory its pictures may take.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cloudpose_pixels::Limits;
use cloudpose_video::{Error, LiveDecoder};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What the decoders of all sessions and cameras share. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Decoders {
    /// One for each that may be at work.
    turns: Arc<Semaphore>,
    /// Bytes that are left.
    room: Arc<AtomicUsize>,
}

impl Decoders {
    /// Their pictures take `most_bytes` at most, and they half of the processor's cores: the others are for what finds poses.
    pub(crate) fn new(most_bytes: usize) -> Self {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            room: Arc::new(AtomicUsize::new(most_bytes)),
        }
    }

    /// A decoder for one session.
    ///
    /// # Errors
    /// If this build has none.
    pub(crate) fn decoder(&self) -> Result<LiveDecoder, Error> {
        let mut held = Held { room: Arc::clone(&self.room), bytes: 0 };
        let most_pixels = usize::try_from(Limits::default().max_pixels).unwrap_or(usize::MAX);
        LiveDecoder::new(most_pixels, move |bytes| held.change(bytes))
    }

    /// Waits until one more may work. Who has waited longest is first, so that nobody gets two turns while another waits.
    pub(crate) fn turn(&self) -> impl Future<Output = Option<OwnedSemaphorePermit>> + Send + 'static {
        let turns = Arc::clone(&self.turns);
        async { turns.acquire_owned().await.ok() }
    }
}

/// What a decoder takes of the room, until it is gone.
struct Held {
    room: Arc<AtomicUsize>,
    bytes: usize,
}

impl Held {
    /// Takes `bytes` in the place of what it has; false, and nothing, if there is no room.
    fn change(&mut self, bytes: usize) -> bool {
        self.room.fetch_add(std::mem::take(&mut self.bytes), Ordering::Relaxed);
        let taken =
            self.room.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes));
        self.bytes = if taken.is_ok() { bytes } else { 0 };
        taken.is_ok()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.change(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_and_comes_back() {
        let room = Arc::new(AtomicUsize::new(100));
        let [mut one, mut other] = [0, 0].map(|bytes| Held { room: Arc::clone(&room), bytes });
        assert!(one.change(60) && !other.change(41) && other.change(40));
        assert!(one.change(50) && !other.change(51), "one gives back what it had");
        assert_eq!(room.load(Ordering::Relaxed), 50);
        drop((one, other));
        assert_eq!(room.load(Ordering::Relaxed), 100);
    }
}
