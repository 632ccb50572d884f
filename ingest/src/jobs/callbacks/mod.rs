//! Callbacks: who handed in a job may have an address called when it is done.
//!
//! | module | what |
//! |---|---|
//! | `state` | what is written down of a callback |
//! | `secret` | by which key it is signed |
//! | `message` | what is sent, and how |
//!
//! A callback stands in the state of its job, which survives every process. Whoever finds it due takes the job's lease, which
//! nobody needs who is done with the job, sends it, and writes down what became of it. Where the lease has ended meanwhile,
//! or its holder died before it wrote, it is sent again: its receiver tells repeats by their id. Every gateway hears of it when
//! it sees that the job is done, and of all once a minute, from the sweeper: one may have been asked to send one again, and died.

mod message;
mod secret;
mod state;

use std::{
    convert::Infallible,
    fs,
    path::Path,
    pin::pin,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cloudpose_policy::{
    callbacks::{Outbox, To},
    lease::{LASTS_MS, Lease},
};
use cloudpose_store::Error as StoreError;
use cloudpose_wire::Tenant;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;
use url::Url;

pub use self::secret::CallbackSecret;
pub(crate) use self::{
    message::Message as CallbackMessage,
    state::{Callback, CallbackState},
};
use super::{
    Config, Jobs,
    document::{State, state_name, written},
    failed, read, wall_clock,
};
use crate::{Error, followed::Followed, jobs::Found, metrics, outbound::Reach};

/// So long after a lease has ended its holder has written what became of its try, or is gone.
const SLACK_MS: u64 = 2_000;
/// The longest pause between two looks at what is due.
const SELDOM: Duration = Duration::from_secs(60);

/// What became of a try.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outcome {
    /// The receiver has it.
    Delivered,
    /// It wants none.
    Unwanted(String),
    /// It has not, and why.
    Failed(String),
}

/// Callbacks that this gateway sends.
#[derive(Debug)]
pub(crate) struct Callbacks {
    secret: Followed<CallbackSecret>,
    reach: Reach,
    outbox: Mutex<Outbox>,
    /// The outbox has.
    changed: Notify,
}

impl Callbacks {
    /// Those that are signed by the secret that is set, if one is.
    pub(super) fn open(config: &Config) -> Result<Option<Self>, Error> {
        let Some(path) = &config.callback_secret_file else { return Ok(None) };
        let secret = follow(path).map_err(|why| Error::CallbackSecret { path: path.clone(), why })?;
        let reach = Reach::Public(config.callback_allow.clone(), "--callback-allow");
        Ok(Some(Self { secret, reach, outbox: Mutex::default(), changed: Notify::new() }))
    }

    /// One to `url`.
    ///
    /// # Errors
    /// Why it would not be sent.
    pub(crate) fn to(&self, url: &str) -> Result<Callback, String> {
        Callback::to(url, &self.reach)
    }

    /// The state of the job of this name says so: its callback is sent once it is due.
    pub(super) fn expect(&self, name: &str, state: &State) {
        let (Some(callback), Some(at)) = (&state.callback, state.callback_due()) else { return };
        let Some(tenant) = tenant_of(name) else { return };
        let url = Url::parse(&callback.url).ok();
        let host = url.map(|url| crate::outbound::http::authority(&url)).unwrap_or_default();
        self.outbox().expect(name, To { tenant, host }, at);
        self.changed.notify_one();
    }

    /// Sends a job's callback again, from now on. `None`: the job is gone.
    pub(crate) async fn again(&self, jobs: &Jobs, found: Found) -> Result<Option<Found>, StoreError> {
        let Found { about, .. } = found;
        let name = state_name(&about.caller.tenant, &about.job);
        while let Some(document) = jobs.store().document(&name).await? {
            let Some(mut state) = read::<State>(&document.body) else { return Ok(None) };
            let Some(callback) = &mut state.callback else { return Ok(None) };
            callback.again(wall_clock());
            if jobs.store().replace(&name, &document, written(&state)).await?.is_some() {
                self.expect(&name, &state);
                return Ok(Some(Found { state, about }));
            }
        }
        Ok(None)
    }

    /// Sends what is due, for ever; once it is `stopping` only what is under way.
    pub(super) async fn run(&self, jobs: &Jobs, holder: &str, stopping: &CancellationToken) -> Infallible {
        let mut under_way = FuturesUnordered::new();
        let mut secret = pin!(self.secret.follow());
        loop {
            let now = wall_clock();
            while let Some(name) = self.next(now, stopping) {
                under_way.push(async move {
                    let again = self.attempt(jobs, holder, &name).await;
                    (name, again)
                });
            }
            let due = self.outbox().next_deadline(now);
            let pause = due.map_or(SELDOM, |due| Duration::from_millis(due - now)).min(SELDOM);
            tokio::select! {
                Some((name, again)) = under_way.next() => self.outbox().done(&name, again),
                () = self.changed.notified() => {}
                never = &mut secret => match never {},
                () = sleep(pause) => {}
            }
        }
    }

    fn next(&self, now: u64, stopping: &CancellationToken) -> Option<String> {
        if stopping.is_cancelled() { None } else { self.outbox().next(now) }
    }

    /// Sends the callback of the job of this name, if it is due and nobody else does. When it is to be looked at again.
    async fn attempt(&self, jobs: &Jobs, holder: &str, name: &str) -> Option<u64> {
        let tried = async {
            let Found { state, about } = match take(jobs, holder, name).await? {
                Ok(found) => found,
                Err(again) => return Ok(again),
            };
            let url = state.callback.as_ref().map_or("", |callback| &callback.url);
            let outcome = {
                let secret = self.secret.current();
                message::send((url, &state, &about), &secret, &self.reach, wall_clock()).await
            };
            settle(jobs, holder, name, &outcome).await
        };
        tried.await.unwrap_or_else(|error: StoreError| {
            failed("sending a callback", &error);
            Some(wall_clock() + LASTS_MS + SLACK_MS)
        })
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        // Nothing in it is left half changed.
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The secret in a file, which may change.
fn follow(path: &Path) -> Result<Followed<CallbackSecret>, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let first = CallbackSecret::parse(&bytes)?;
    Ok(Followed::new(vec![path.into()], vec![bytes], first, |files| CallbackSecret::parse(&files[0])))
}

/// Whose the job is whose state has this name.
fn tenant_of(name: &str) -> Option<Tenant> {
    name.split_once('.')?.0.parse().ok()
}

/// A job that may be called for now, or else when to look at it again, if ever.
type Taken = Result<Found, Option<u64>>;

/// Takes the lease of the job of this name, to send its callback.
async fn take(jobs: &Jobs, holder: &str, name: &str) -> Result<Taken, StoreError> {
    let Some(document) = jobs.store().document(name).await? else { return Ok(Err(None)) };
    let Some(mut state) = read::<State>(&document.body) else { return Ok(Err(None)) };
    let now = wall_clock();
    let due = state.callback_due().filter(|_| state.expires_at > now);
    if due.is_none_or(|due| due > now) {
        return Ok(Err(due));
    }
    if let Some(lease) = &state.lease
        && !Lease::is_free_for(Some(lease), holder, now)
    {
        return Ok(Err(Some(lease.until + SLACK_MS)));
    }
    let Some(about) = jobs.about(&state.upload).await? else { return Ok(Err(None)) };
    state.lease = Some(Lease::new(holder, now));
    let taken = jobs.store().replace(name, &document, written(&state)).await?;
    Ok(taken.map(|_| Found { state, about }).ok_or(Some(now + SLACK_MS)))
}

/// Writes down what became of a try, and gives the lease back. When the next is.
async fn settle(jobs: &Jobs, holder: &str, name: &str, outcome: &Outcome) -> Result<Option<u64>, StoreError> {
    while let Some(document) = jobs.store().document(name).await? {
        let Some(mut state) = read::<State>(&document.body) else { return Ok(None) };
        if !Lease::is_held_by(state.lease.as_ref(), holder) {
            // It took too long: what becomes of it is the other's to write.
            return Ok(state.callback_due().map(|due| due.max(wall_clock() + LASTS_MS + SLACK_MS)));
        }
        state.lease = None;
        let became = state.called(outcome, wall_clock());
        if jobs.store().replace(name, &document, written(&state)).await?.is_some() {
            if let Some(became) = became {
                tell(name, outcome, became);
            }
            return Ok(state.callback_due());
        }
    }
    Ok(None)
}

fn tell(name: &str, outcome: &Outcome, became: CallbackState) {
    let event = match became {
        CallbackState::Delivered => "delivered",
        CallbackState::Waiting => "tried_again",
        CallbackState::Failed => "dead",
    };
    metrics::job_called(event, &tenant_of(name).unwrap_or_default());
    if let (CallbackState::Failed, Outcome::Failed(why) | Outcome::Unwanted(why)) = (became, outcome) {
        tracing::warn!(
            job = name,
            why,
            "a callback is given up; POST /v1/jobs/{{job}}/callback sends it again"
        );
    }
}
