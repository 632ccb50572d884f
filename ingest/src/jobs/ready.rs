//! Whether the store is there, for monitors: they ask often, and wait for no store.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cloudpose_policy::hearsay::Hearsay;
use cloudpose_store::{Part, Store};
use tokio::sync::Mutex;

use super::failed;

/// How long it is waited for an answer: monitors give up after two seconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks the store of jobs whether it is there. Clones share what was heard.
#[derive(Debug, Clone)]
pub struct StoreCheck {
    store: Store,
    /// Held while it is asked: who comes meanwhile takes the same answer.
    heard: Arc<Mutex<Hearsay<Vec<Part>>>>,
}

impl StoreCheck {
    pub(super) fn new(store: Store) -> Self {
        Self { store, heard: Arc::default() }
    }

    /// The parts that are away. It answers within a second or two, and asks every five seconds at most.
    pub async fn away(&self) -> Vec<Part> {
        let mut heard = self.heard.lock().await;
        let now = Instant::now();
        if let Some(away) = heard.still(now) {
            return away.clone();
        }
        let mut away = Vec::new();
        for (part, error) in self.store.away(PATIENCE).await {
            failed("asking the store whether it is there", &error);
            away.push(part);
        }
        heard.heard(now, away.clone());
        away
    }
}
