//! The hand that works on one frame: on which threads.

use std::sync::LazyLock;

use tokio::{
    runtime::{Builder, Runtime},
    task::{JoinHandle, spawn_blocking},
};

/// The most that there is: where others want the processor whole, a seventieth of it (`sched(7)`).
#[cfg(target_os = "linux")]
const NICEST: i32 = 19;

/// Threads whose work lets all others go first. A thread can only become nicer, so these stay apart; they end when they have nothing to
/// do.
static NICE_THREADS: LazyLock<Option<Runtime>> = LazyLock::new(|| {
    let mut threads = Builder::new_current_thread();
    threads.thread_name("cloudpose-nice").on_thread_start(become_nice);
    threads.build().inspect_err(|error| tracing::warn!(%error, "no tenant's work lets others' go first")).ok()
});

/// Works on one frame.
#[derive(Debug, Clone, Copy)]
pub struct Hand {
    pub(crate) lets_others_go_first: bool,
}

impl Hand {
    /// One that lets all others go first.
    pub const LAST: Self = Self { lets_others_go_first: true };

    /// Runs work on a thread that may block.
    pub fn run<T: Send + 'static>(self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &*NICE_THREADS {
            Some(threads) if self.lets_others_go_first => threads.handle().spawn_blocking(work),
            _ => spawn_blocking(work),
        }
    }
}

/// On Linux a thread may be nicer than its process; elsewhere all of them would be.
fn become_nice() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICEST) {
        tracing::debug!(%error, "a thread does not let others go first");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// Of the thread that asks.
    fn nice() -> i32 {
        rustix::process::getpriority_process(None).expect("this thread is there")
    }

    #[tokio::test]
    async fn work_that_lets_others_go_first_runs_on_threads_of_its_own() {
        let usual = nice();
        let [first, other] =
            [true, false].map(|lets_others_go_first| Hand { lets_others_go_first }.run(nice));
        assert_eq!((first.await.unwrap(), other.await.unwrap()), (NICEST, usual));
        assert_eq!(nice(), usual, "a thread becomes nicer by itself");
    }
}
