//! Who records to a bucket: one process at a time, by a document on NATS that ends unless it is renewed.
//!
//! The server counts from when it has written a renewal, its holder from when it asked for it, which is earlier: so the
//! holder stops before another begins, and none needs another's clock.

use std::time::Duration;

use bytes::Bytes;
use cloudpose_bus::{Bucket, BucketError, Over};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, interval_at, sleep},
};
use uuid::Uuid;

use super::{Error, STAND_BY};

/// The document.
const KEY: &str = "bucket";
/// How long it stands if it is not renewed. A file must be written in what is left of it.
const TERM: Duration = Duration::from_secs(20);
const RENEWED_EVERY: Duration = Duration::from_secs(4);
/// So long before others may begin its holder has stopped: what it has sent by then may arrive later.
const AHEAD: Duration = Duration::from_secs(4);

/// The lease, held or not.
#[derive(Debug)]
pub(super) struct Lease {
    claim: Claim,
    held: Option<Held>,
}

/// What is written, and where.
#[derive(Debug, Clone)]
struct Claim {
    documents: Bucket,
    who: Bytes,
}

/// As it was last renewed: it ends with what renews it.
#[derive(Debug)]
struct Held {
    renewed: watch::Receiver<Renewed>,
    _renewing: JoinSet<()>,
}

#[derive(Debug, Clone, Copy)]
struct Renewed {
    revision: u64,
    ends: Instant,
}

impl Lease {
    pub(super) fn new(documents: Bucket) -> Self {
        let who = Bytes::from(Uuid::now_v7().to_string());
        Self { claim: Claim { documents, who }, held: None }
    }

    /// When it ends, unless it is renewed, or has ended. `None` if it was never held.
    pub(super) fn ends(&self) -> Option<Instant> {
        self.held.as_ref().map(|held| held.renewed.borrow().ends)
    }

    /// Waits until it is held. False: it was, all the time.
    pub(super) async fn hold(&mut self) -> Result<bool, Error> {
        if self.ends().is_some_and(|ends| Instant::now() < ends) {
            return Ok(false);
        }
        self.held = None;
        let mut told = false;
        let first = loop {
            match self.claim.write(Over::Nothing).await {
                Ok(renewed) => break renewed,
                Err(BucketError::Changed) => {}
                Err(error) => return Err(Error::Lease(error)),
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!("another process records there: standing by");
            }
            sleep(STAND_BY).await;
        };
        let (said, renewed) = watch::channel(first);
        let mut renewing = JoinSet::new();
        renewing.spawn(renew(self.claim.clone(), said));
        self.held = Some(Held { renewed, _renewing: renewing });
        Ok(true)
    }

    /// Gives it up, if it is held: another may begin at once.
    pub(super) async fn release(&mut self) {
        let Some(held) = self.held.take() else { return };
        let Renewed { revision, ends } = *held.renewed.borrow();
        drop(held);
        if Instant::now() < ends
            && let Err(error) = self.claim.documents.remove(KEY, Over::Revision(revision)).await
        {
            tracing::debug!(%error, "another process stands by until the lease ends");
        }
    }
}

impl Claim {
    async fn write(&self, over: Over) -> Result<Renewed, BucketError> {
        let ends = Instant::now() + TERM - AHEAD;
        let revision = match self.documents.write(KEY, self.who.clone(), over, Some(TERM)).await {
            // What was not heard of may have been written.
            Err(BucketError::Changed) => match self.documents.get(KEY).await? {
                Some(there) if there.value == self.who => {
                    self.documents
                        .write(KEY, self.who.clone(), Over::Revision(there.revision), Some(TERM))
                        .await?
                }
                _ => return Err(BucketError::Changed),
            },
            written => written?,
        };
        Ok(Renewed { revision, ends })
    }
}

/// Renews it until another has it.
async fn renew(claim: Claim, said: watch::Sender<Renewed>) {
    let mut due = interval_at(Instant::now() + RENEWED_EVERY, RENEWED_EVERY);
    loop {
        due.tick().await;
        let Renewed { revision, .. } = *said.borrow();
        match claim.write(Over::Revision(revision)).await {
            Ok(renewed) => drop(said.send_replace(renewed)),
            Err(BucketError::Changed) => return,
            Err(error) => tracing::debug!(%error, "the lease is not renewed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_bus::{Bus, Capacity};

    use super::*;

    fn documents() -> Bucket {
        Bus::local(Capacity::default()).bucket("records")
    }

    #[tokio::test(start_paused = true)]
    async fn one_holds_it_and_another_begins_when_it_has_stopped() {
        let documents = documents();
        let (mut first, mut second) = (Lease::new(documents.clone()), Lease::new(documents.clone()));
        assert!(first.hold().await.unwrap());
        assert!(!first.hold().await.unwrap(), "it is held already");
        tokio::select! {
            _ = second.hold() => panic!("two hold it"),
            () = sleep(10 * TERM) => {}
        }
        assert!(!first.hold().await.unwrap(), "it was renewed");
        // It is not scheduled any more.
        first.held.as_mut().unwrap()._renewing.abort_all();
        let ends = first.ends().unwrap();
        assert!(second.hold().await.unwrap());
        assert!(Instant::now() >= ends + AHEAD);
        // And stands by when it is there again.
        assert!(first.ends().unwrap() < Instant::now());
        tokio::select! {
            _ = first.hold() => panic!("two hold it"),
            () = sleep(TERM) => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_leaves_lets_another_begin_at_once() {
        let documents = documents();
        let (mut first, mut second) = (Lease::new(documents.clone()), Lease::new(documents));
        first.hold().await.unwrap();
        first.release().await;
        let begun = Instant::now();
        assert!(second.hold().await.unwrap());
        assert!(begun.elapsed() < STAND_BY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_renewal_that_was_not_heard_of_is_its_holders() {
        let documents = documents();
        let mut lease = Lease::new(documents.clone());
        lease.hold().await.unwrap();
        documents.write(KEY, lease.claim.who.clone(), Over::Anything, Some(TERM)).await.unwrap();
        sleep(3 * TERM).await;
        assert!(!lease.hold().await.unwrap());
    }
}
