//! Tickets: what a browser shows where it can send no key, in the address of a WebSocket or of an `<img>`.
//!
//! A ticket is `cpt_<gateway>.<random>`, good once and for [`GOOD_FOR`]. The gateway that gave it out keeps the SHA-256 of
//! its random part, and what its owner had shown; another gateway that is shown it asks that one, over the bus. So none
//! is good twice, whichever gateways it is shown to, and gateways need no secret in common. One that is gone has taken
//! its tickets with it.

mod query;

use std::{
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use cloudpose_bus::Bus;
use cloudpose_policy::tickets;
use cloudpose_wire::{GatewayId, KeyName, StreamName, Tenant};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

pub(super) use self::query::Shown;
use super::{Auth, Denied, Need, Pass, Proof, keys::Digest};

/// How long a ticket is good.
pub(crate) const GOOD_FOR: Duration = Duration::from_secs(30);
/// Tickets that may be out at once, and of one key.
const MOST: usize = 10_000;
const MOST_OF_ONE: usize = 1_000;
/// How long another gateway may take to say what its ticket is good for.
const ANSWER: Duration = Duration::from_secs(2);

const PREFIX: &str = "cpt_";
const RANDOM_BYTES: usize = 32;

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("as many tickets are out as there may be; use them, or try again in a moment")]
    Full,
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

/// By the SHA-256 of their random part; a key's count together.
type Out = tickets::Tickets<Digest, (Tenant, KeyName), Good>;

/// The tickets of a gateway.
#[derive(Debug)]
pub(crate) struct Tickets {
    gateway: GatewayId,
    out: Mutex<Out>,
}

/// What a ticket is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Good {
    /// What its owner had shown.
    proof: Proof,
    /// For this stream alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stream: Option<StreamName>,
}

impl Tickets {
    pub(crate) fn new(gateway: GatewayId) -> Self {
        Self { gateway, out: Mutex::new(tickets::Tickets::new(GOOD_FOR, MOST, MOST_OF_ONE)) }
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        // Nothing in it is left half changed.
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A ticket for who has been let in, for `stream` alone if one is named.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn issue(&self, pass: &Pass, stream: Option<StreamName>) -> Result<String, Error> {
        let mut bytes = [0; RANDOM_BYTES];
        getrandom::fill(&mut bytes).map_err(|error| Error::Random(error.to_string()))?;
        let random = URL_SAFE_NO_PAD.encode(bytes);
        let good = Good { proof: pass.proof.clone(), stream };
        let owner = (pass.caller.tenant.clone(), pass.caller.key.clone());
        let issued = self.out().issue(Instant::now(), Digest::of(&random), owner, good);
        issued.map_err(|tickets::Full| Error::Full)?;
        Ok(format!("{PREFIX}{}.{random}", self.gateway))
    }

    /// Lets in who shows a ticket, which is used up then.
    pub(super) async fn admit(
        &self,
        auth: &Auth,
        bus: &Bus,
        shown: &Shown,
        need: Need,
    ) -> Result<Pass, Denied> {
        let good = self.redeem(bus, &shown.ticket).await.ok_or(Denied::Ticket)?;
        if good.stream.as_ref().is_some_and(|stream| Some(stream.as_str()) != shown.stream.as_deref()) {
            return Err(Denied::Ticket);
        }
        auth.again(&good.proof, need, SystemTime::now())
    }

    async fn redeem(&self, bus: &Bus, ticket: &str) -> Option<Good> {
        let (gateway, random) = ticket.strip_prefix(PREFIX)?.split_once('.')?;
        let (gateway, id) = (GatewayId::new(gateway).ok()?, Digest::of(random));
        if gateway == self.gateway {
            return self.take(&id);
        }
        let answer = timeout(ANSWER, bus.redeem(&gateway, id.to_string().into())).await.ok()??;
        serde_json::from_slice(&answer).ok()
    }

    fn take(&self, id: &Digest) -> Option<Good> {
        self.out().take(Instant::now(), id)
    }

    /// Tells other gateways what the tickets are good for that they are shown.
    pub(crate) async fn answer(&self, bus: &Bus) -> Infallible {
        let mut all = bus.tickets_shown(&self.gateway).await;
        while let Some(shown) = all.next().await {
            let id =
                std::str::from_utf8(&shown.ticket).ok().and_then(|id| Digest::try_from(id.to_owned()).ok());
            let good = id.and_then(|id| self.take(&id));
            let good = good.map(|good| serde_json::to_vec(&good).expect("our own types are JSON"));
            shown.answer(good.unwrap_or_default().into()).await;
        }
        std::future::pending().await
    }
}
