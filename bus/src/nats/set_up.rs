//! What is missing on the broker is made once, however many miss it.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// Lets one of those who miss the same thing make it, while the others wait for that.
#[derive(Debug, Default)]
pub(super) struct SetUp {
    made: AtomicU64,
    at_work: Mutex<()>,
}

impl SetUp {
    /// How often it has been made. To be asked before one looks whether it is there.
    pub(super) fn seen(&self) -> u64 {
        self.made.load(Ordering::Acquire)
    }

    /// Makes it, unless somebody has since `seen`.
    pub(super) async fn once<E>(
        &self,
        seen: u64,
        make: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        let _one = self.at_work.lock().await;
        if self.seen() == seen {
            make.await?;
            self.made.fetch_add(1, Ordering::Release);
        }
        Ok(())
    }
}
