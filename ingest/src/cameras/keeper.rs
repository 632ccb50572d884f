//! The loop that holds the gateway's lease, takes cameras and gives them away.
//!
//! What it does is decided in [`cloudpose_policy::fleet`]. While it cannot renew the lease it goes on until that ends, and then
//! fetches nothing: another gateway may.

use std::sync::Arc;

use cloudpose_bus::{BucketError, Changes, Over};
use cloudpose_policy::{
    fleet::{Key, Step},
    lease::RENEWED_EVERY,
};
use tokio::time::{Duration, Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use super::{
    All, Cameras,
    document::{self, Document},
    runner,
    status::wall_ms,
};
use crate::{outbound::Reach, shared::Shared};

/// How long giving all cameras away may take: others take them anyway when the lease ends.
const LEAVING: Duration = Duration::from_secs(2);
/// How long it may take until a camera that is given away is fetched no more.
const STOPPING: Duration = Duration::from_secs(1);

impl Cameras {
    /// Keeps what this gateway fetches as it should be until the gateway stops; then gives it away.
    pub(crate) async fn keep(shared: Arc<Shared>) {
        let cameras = &shared.cameras;
        let keeping = async {
            let mut changes = cameras.bucket.changes(document::CAMERAS).await;
            let mut renewal = interval(RENEWED_EVERY);
            renewal.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let ends = cameras.known().lease_ends();
                let far = Instant::now() + 2 * RENEWED_EVERY;
                tokio::select! {
                    () = cameras.round(&shared, &mut renewal, &mut changes) => {}
                    () = sleep_until(ends.map_or(far, Instant::from_std)), if ends.is_some() => cameras.lose(),
                }
            }
        };
        tokio::select! {
            () = keeping => {}
            () = shared.stopping.cancelled() => {}
        }
        if timeout(LEAVING, cameras.leave(&shared)).await.is_err() {
            tracing::warn!("cameras could not be given away in time; other gateways take them in a moment");
        }
    }

    /// Waits until there is something to do, and does it.
    async fn round(&self, shared: &Arc<Shared>, renewal: &mut Interval, changes: &mut Changes) {
        let is_due = tokio::select! {
            _ = renewal.tick() => true,
            () = changes.next() => false,
        };
        let _turn = self.turn.lock().await;
        match self.do_what_is_due(shared, is_due).await {
            Ok(()) => self.known().works = true,
            Err(error) => {
                // Said once.
                if std::mem::take(&mut self.known().works) {
                    tracing::warn!(
                        %error,
                        "cameras: what gateways know of them cannot be read or written (an earlier permissions.conf on NATS?); \
                         trying again"
                    );
                }
            }
        }
    }

    async fn do_what_is_due(&self, shared: &Arc<Shared>, is_due: bool) -> Result<(), BucketError> {
        if is_due {
            self.renew(shared).await?;
        }
        self.read(shared).await?;
        self.settle(shared);
        let unwritten = self.known().unwritten();
        for (key, stands) in unwritten {
            let document = Document { named: None, holder: None, since: wall_ms() };
            let written = self.write(&key, document, stands.map_or(Over::Nothing, Over::Revision)).await;
            unless_changed(written)?;
        }
        let steps = self.known().plan(Instant::now().into_std());
        for step in steps {
            self.carry_out(shared, step).await?;
        }
        Ok(())
    }

    /// Takes in what is written.
    pub(super) async fn read(&self, shared: &Arc<Shared>) -> Result<(), BucketError> {
        let mut all = self.bucket.read().await?;
        let has_said = self.known().said > 0;
        if has_said && !all.contains_key(&document::gateway_key(&self.id)) {
            self.renew(shared).await?;
            all = self.bucket.read().await?;
        }
        self.known().saw(Instant::now().into_std(), All::read(all));
        Ok(())
    }

    /// Renews the lease, and says how the cameras are doing.
    async fn renew(&self, shared: &Arc<Shared>) -> Result<(), BucketError> {
        let begun = Instant::now().into_std();
        let said = document::written(&self.known().say(begun, shared));
        let key = document::gateway_key(&self.id);
        let revision = self.bucket.write(&key, said, Over::Anything, Some(document::FORGOTTEN_AFTER)).await?;
        if self.known().was_said(begun, revision) {
            tracing::warn!("cameras: NATS has forgotten them; what this gateway knows is written again");
            let documents = self.known().documents();
            for (key, (_, document)) in documents {
                unless_changed(self.write(&key, document, Over::Nothing).await)?;
            }
        }
        Ok(())
    }

    async fn carry_out(&self, shared: &Arc<Shared>, step: Step) -> Result<(), BucketError> {
        match step {
            Step::Take(key) => {
                let Some((revision, document)) = self.known().document(&key) else { return Ok(()) };
                let document = Document { holder: Some(self.id.clone()), ..document };
                if unless_changed(self.write(&key, document, Over::Revision(revision)).await)? {
                    self.begin(shared, &key);
                }
            }
            Step::Give(key, to) => {
                let camera = self.known().end(&key);
                if let Some(camera) = camera
                    && timeout(STOPPING, camera.is_left.cancelled()).await.is_err()
                {
                    tracing::error!(stream = %key.1, "camera: it is still fetched though it should not be");
                }
                let Some((revision, document)) = self.known().document(&key) else { return Ok(()) };
                let document = Document { holder: to, ..document };
                unless_changed(self.write(&key, document, Over::Revision(revision)).await)?;
            }
            Step::Forget(key) => {
                let Some((revision, _)) = self.known().document(&key) else { return Ok(()) };
                unless_changed(self.erase(&key, revision).await)?;
            }
        }
        Ok(())
    }

    /// Does with what is fetched here as is known now.
    pub(super) fn settle(&self, shared: &Arc<Shared>) {
        let moved = self.known().settle();
        for key in moved {
            self.begin(shared, &key);
        }
    }

    /// Begins to fetch a camera, if the lease is held still.
    pub(super) fn begin(&self, shared: &Arc<Shared>, key: &Key) {
        let mut known = self.known();
        if !known.holds_lease(Instant::now().into_std()) {
            return;
        }
        let Some(camera) = known.begin(key) else { return };
        drop(known);
        let reach = if camera.is_operators { Reach::Anywhere } else { self.for_clients() };
        let shared = Arc::clone(shared);
        shared.sessions.clone().spawn(runner::run(shared, camera, reach));
    }

    fn lose(&self) {
        tracing::warn!(
            "cameras: the lease could not be renewed and has ended; none is fetched until NATS answers, for another \
             gateway may fetch them"
        );
        self.known().lose(wall_ms());
    }

    /// Gives away all that is fetched here.
    async fn leave(&self, shared: &Arc<Shared>) {
        let _turn = self.turn.lock().await;
        self.known().leave();
        let left = async {
            self.renew(shared).await?;
            self.read(shared).await?;
            let steps = self.known().plan(Instant::now().into_std());
            for step in steps {
                self.carry_out(shared, step).await?;
            }
            self.bucket.remove(&document::gateway_key(&self.id), Over::Anything).await
        };
        if let Err(error) = left.await {
            tracing::debug!(%error, "cameras: they could not be given away");
        }
    }
}

/// False if somebody else has changed it meanwhile.
fn unless_changed(written: Result<(), BucketError>) -> Result<bool, BucketError> {
    match written {
        Err(BucketError::Changed) => Ok(false),
        written => written.map(|()| true),
    }
}
