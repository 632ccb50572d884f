//! What other gateways hold and watch, as far as they have said.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use cloudpose_wire::{
    GatewayId, News,
    watch::{LiveStream, Watched},
};

use super::Key;

/// What a gateway says, and that it asks, counts for so long: it says it once a second.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(4);
/// Gateways that are heard; further ones are not.
const MOST: usize = 1024;

/// The other gateways.
#[derive(Debug, Default)]
pub(super) struct Elsewhere(HashMap<GatewayId, Told>);

#[derive(Debug)]
struct Told {
    at: Instant,
    streams: HashMap<Key, LiveStream>,
    watched: HashMap<Key, Watched>,
    /// Those that one session there has to itself.
    claims: HashSet<Key>,
}

impl Elsewhere {
    pub(super) fn heard(&mut self, now: Instant, news: News) {
        let News { gateway, streams, watched, claims, .. } = news;
        if streams.is_empty() && watched.is_empty() && claims.is_empty() {
            self.0.remove(&gateway);
        } else if self.0.len() < MOST || self.0.contains_key(&gateway) {
            let streams = streams.into_iter().map(|of| ((of.tenant, of.live.stream.clone()), of.live));
            let watched = watched.into_iter().map(|of| ((of.tenant.clone(), of.stream.clone()), of));
            let claims = claims.into_iter().map(|of| (of.tenant, of.stream));
            let told = Told {
                at: now,
                streams: streams.collect(),
                watched: watched.collect(),
                claims: claims.collect(),
            };
            self.0.insert(gateway, told);
        }
    }

    pub(super) fn forget(&mut self, now: Instant) {
        self.0.retain(|_, told| now.saturating_duration_since(told.at) < FORGOTTEN_AFTER);
    }

    pub(super) fn holds(&self, key: &Key) -> bool {
        self.0.values().any(|told| told.streams.contains_key(key))
    }

    /// Whether one session there has it to itself.
    pub(super) fn claims(&self, key: &Key) -> bool {
        self.0.values().any(|told| told.claims.contains(key))
    }

    /// The streams of all others; one that several hold comes several times.
    pub(super) fn streams(&self) -> impl Iterator<Item = (&Key, &LiveStream)> {
        self.0.values().flat_map(|told| &told.streams)
    }

    /// What each of the others wants to see of a stream.
    pub(super) fn watched<'a>(&'a self, key: &'a Key) -> impl Iterator<Item = &'a Watched> {
        self.0.values().filter_map(move |told| told.watched.get(key))
    }
}
