//! Which gateway fetches which camera.
//!
//! Each camera has a document that names who fetches it, and each gateway one that it renews again and again
//! ([`lease`](crate::lease)): one renewal is for all cameras that it fetches. A gateway fetches what it has written itself as
//! the holder of, over the revision of the document that it saw, and for as long as its own lease lasts. So no camera is
//! fetched by two.
//!
//! Every gateway looks at the same documents and decides by itself what it takes, and what it gives to whom. They come to the
//! same end: a camera that nobody fetches goes to the gateway that has the fewest, and one that has two more than another
//! gives some away.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    time::Instant,
};

use cloudpose_wire::{GatewayId, StreamName, Tenant};

use crate::lease::Sighting;

/// Cameras that a gateway gives away at once because another has fewer: each misses a moment.
const MOVES: usize = 4;

/// A tenant's camera.
pub type Key = (Tenant, StreamName);

/// What a gateway says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// It takes no cameras any more.
    pub is_leaving: bool,
    /// The cameras that it knows of its own command line.
    pub own: BTreeSet<Key>,
}

/// What the document of a camera says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who fetches it, or is to.
    pub holder: Option<GatewayId>,
    /// Only gateways that know it of their own command line can.
    pub is_own: bool,
}

/// What a gateway does about a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Writes itself as its holder, and fetches it if that succeeds.
    Take(Key),
    /// Stops to fetch it, and then writes who is to, if anybody is there.
    Give(Key, Option<GatewayId>),
    /// Removes its document: no gateway that is there knows where the camera is.
    Forget(Key),
}

/// What one gateway knows of all.
#[derive(Debug)]
pub struct Fleet {
    me: GatewayId,
    members: BTreeMap<GatewayId, (Sighting, Member)>,
}

impl Fleet {
    /// `me` alone, who says this of itself.
    pub fn new(now: Instant, me: GatewayId, member: Member) -> Self {
        let myself = (Sighting::new(now, 0), member);
        Self { members: [(me.clone(), myself)].into(), me }
    }

    /// This gateway takes no cameras any more.
    pub fn leave(&mut self) {
        self.members.entry(self.me.clone()).and_modify(|(_, member)| member.is_leaving = true);
    }

    /// What this gateway says of itself.
    pub fn myself(&self) -> &Member {
        &self.members[&self.me].1
    }

    /// All documents were read: those of the gateways, with their revisions, and those of the cameras.
    pub fn saw(
        &mut self,
        now: Instant,
        gateways: impl IntoIterator<Item = (GatewayId, u64, Member)>,
        cameras: &BTreeMap<Key, Wanted>,
    ) {
        let mut there = BTreeSet::from([self.me.clone()]);
        for (gateway, revision, member) in gateways {
            if gateway == self.me {
                continue;
            }
            there.insert(gateway.clone());
            let known = self.members.entry(gateway);
            let (sighting, known) =
                known.or_insert_with(|| (Sighting::new(now, revision), Member::default()));
            sighting.again(now, revision);
            *known = member;
        }
        // Who says nothing may be about to, if it fetches something: it has its time like all others.
        for holder in cameras.values().filter_map(|camera| camera.holder.as_ref()) {
            let unknown = || (Sighting::new(now, 0), Member { is_leaving: true, own: BTreeSet::new() });
            self.members.entry(holder.clone()).or_insert_with(unknown);
            there.insert(holder.clone());
        }
        self.members.retain(|gateway, _| there.contains(gateway));
    }

    /// Whether a gateway may fetch cameras still.
    pub fn is_there(&self, now: Instant, gateway: &GatewayId) -> bool {
        *gateway == self.me || self.members.get(gateway).is_some_and(|(seen, _)| !seen.has_ended(now))
    }

    /// Who is to fetch a camera that is new: whoever has the fewest.
    pub fn choose(
        &self,
        now: Instant,
        cameras: &BTreeMap<Key, Wanted>,
        key: &Key,
        is_own: bool,
    ) -> Option<GatewayId> {
        self.fewest(now, &self.loads(now, cameras), key, is_own)
    }

    /// What this gateway does now, which fetches `fetched`.
    pub fn plan(&self, now: Instant, cameras: &BTreeMap<Key, Wanted>, fetched: &BTreeSet<Key>) -> Vec<Step> {
        let mut loads = self.loads(now, cameras);
        let mut steps = Vec::new();
        let is_leaving = self.myself().is_leaving;
        for (key, Wanted { holder, is_own }) in cameras {
            match holder {
                Some(holder) if *holder == self.me && !is_leaving => {
                    if !fetched.contains(key) {
                        steps.push(Step::Take(key.clone()));
                    }
                }
                Some(holder) if *holder != self.me && self.is_there(now, holder) => {}
                _ => {
                    let to = self.fewest(now, &loads, key, *is_own);
                    if let Some(to) = &to {
                        *loads.entry(to.clone()).or_default() += 1;
                    }
                    if holder.as_ref() == Some(&self.me) {
                        steps.push(Step::Give(key.clone(), to));
                    } else if to.as_ref() == Some(&self.me) {
                        steps.push(Step::Take(key.clone()));
                    } else if *is_own && to.is_none() && !self.is_known(now, key) {
                        steps.push(Step::Forget(key.clone()));
                    }
                }
            }
        }
        if steps.is_empty() { self.share(now, cameras, fetched, loads) } else { steps }
    }

    /// What this gateway gives away because others have fewer. Of all only the one that has the most gives, so that they do
    /// not all give to the same.
    fn share(
        &self,
        now: Instant,
        cameras: &BTreeMap<Key, Wanted>,
        fetched: &BTreeSet<Key>,
        mut loads: BTreeMap<GatewayId, usize>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let most = loads.iter().max_by_key(|(gateway, load)| (**load, *gateway)).map(|(gateway, _)| gateway);
        if most != Some(&self.me) {
            return steps;
        }
        for key in fetched {
            let Some(Wanted { is_own, .. }) = cameras.get(key) else { continue };
            let Some(to) = self.fewest(now, &loads, key, *is_own) else { continue };
            let [mine, theirs] = [&self.me, &to].map(|gateway| loads.get(gateway).copied().unwrap_or(0));
            if mine >= theirs + 2 {
                loads.insert(self.me.clone(), mine - 1);
                loads.insert(to.clone(), theirs + 1);
                steps.push(Step::Give(key.clone(), Some(to)));
            }
            if steps.len() >= MOVES {
                break;
            }
        }
        steps
    }

    /// How many cameras each gateway fetches that is there, or is to fetch.
    fn loads(&self, now: Instant, cameras: &BTreeMap<Key, Wanted>) -> BTreeMap<GatewayId, usize> {
        let mut loads = BTreeMap::new();
        for holder in cameras.values().filter_map(|camera| camera.holder.as_ref()) {
            if self.is_there(now, holder) {
                *loads.entry(holder.clone()).or_default() += 1;
            }
        }
        loads
    }

    /// Of those that can fetch a camera the one with the fewest; of several another for each camera.
    fn fewest(
        &self,
        now: Instant,
        loads: &BTreeMap<GatewayId, usize>,
        key: &Key,
        is_own: bool,
    ) -> Option<GatewayId> {
        let can = |(gateway, (_, member)): &(&GatewayId, &(Sighting, Member))| {
            !member.is_leaving && (!is_own || member.own.contains(key)) && self.is_there(now, gateway)
        };
        let chance = |gateway: &GatewayId| {
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            hasher.hash_one((gateway.as_str(), key.0.as_str(), key.1.as_str()))
        };
        let able = self.members.iter().filter(can).map(|(gateway, _)| gateway);
        able.min_by_key(|gateway| (loads.get(*gateway).copied().unwrap_or(0), chance(gateway))).cloned()
    }

    /// Whether any gateway that is there knows the camera of its command line.
    fn is_known(&self, now: Instant, key: &Key) -> bool {
        let knows = |(gateway, (_, member)): (&GatewayId, &(Sighting, Member))| {
            member.own.contains(key) && self.is_there(now, gateway)
        };
        self.members.iter().any(knows)
    }
}

#[cfg(test)]
mod tests;
