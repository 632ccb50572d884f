//! Who has sent much waits for processor time that others leave, before more of it is read.

use std::{
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cloudpose_bus::Hand;
use cloudpose_policy::usage::Usage;
use cloudpose_wire::Tenant;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};

/// What a byte counts. How it compares between tenants matters, and that a camera which sends little is not forgotten.
const A_BYTE: Duration = Duration::from_nanos(100);
/// Between two looks for time that is left: whoever asks meanwhile has the same one.
const PAUSE: Duration = Duration::from_millis(4);
/// Nobody waits longer, so that what is read is not old.
const LONGEST: Duration = Duration::from_millis(100);

/// What tenants have sent, and the processor time that they leave one another.
#[derive(Debug)]
pub(crate) struct Leftovers {
    sent: Mutex<Usage>,
    asked: Notify,
    /// Changes when there is some.
    some: watch::Sender<()>,
}

impl Default for Leftovers {
    fn default() -> Self {
        let sent = Mutex::new(Usage::new(tokio::time::Instant::now().into_std()));
        Self { sent, asked: Notify::new(), some: watch::Sender::new(()) }
    }
}

impl Leftovers {
    /// So many bytes of `tenant` were read.
    pub(crate) fn sent(&self, tenant: &Tenant, bytes: u64, now: Instant) {
        let took = A_BYTE.saturating_mul(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.usage().add(tenant, took, now);
    }

    /// Waits until there is some, for [`LONGEST`] at most, if `tenant` has sent much where others have sent little.
    pub(crate) async fn wait(&self, tenant: &Tenant) {
        if !self.usage().is_much(tenant) {
            return;
        }
        let mut some = self.some.subscribe();
        self.asked.notify_one();
        // Whether it comes or not, it is read.
        timeout(LONGEST, some.changed()).await.ok();
    }

    /// Looks for some while anybody asks.
    pub(crate) async fn run(&self) -> Infallible {
        loop {
            self.asked.notified().await;
            sleep(PAUSE).await;
            // The thread runs once the processor does nothing for those who have sent little.
            Hand::LAST.run(|| ()).await.ok();
            self.some.send_replace(());
        }
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        // Each change is a sum, so a panic elsewhere does not spoil it.
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    /// Where each tenant has sent so many bytes.
    fn after(sent: &[(&str, u64)]) -> Leftovers {
        let leftovers = Leftovers::default();
        for (name, bytes) in sent {
            leftovers.sent(&tenant(name), *bytes, tokio::time::Instant::now().into_std());
        }
        leftovers
    }

    #[tokio::test]
    async fn who_is_alone_or_has_sent_little_waits_for_nothing() {
        assert!(after(&[("flood", 100_000_000)]).wait(&tenant("flood")).now_or_never().is_some());
        let leftovers = after(&[("flood", 100_000_000), ("door", 700_000)]);
        assert!(leftovers.wait(&tenant("door")).now_or_never().is_some());
        assert!(leftovers.wait(&tenant("flood")).now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_sent_much_is_read_when_there_is_time_and_soon_at_any_rate() {
        let leftovers = after(&[("flood", 100_000_000), ("door", 700_000)]);
        let began = tokio::time::Instant::now();
        leftovers.wait(&tenant("flood")).await;
        assert_eq!(began.elapsed(), LONGEST, "nobody looks for any");
        tokio::time::resume();
        tokio::select! {
            never = leftovers.run() => match never {},
            () = async {
                for _ in 0..3 {
                    let begun = std::time::Instant::now();
                    leftovers.wait(&tenant("flood")).await;
                    assert!(begun.elapsed() >= PAUSE);
                }
            } => {}
        }
    }
}
