//! What is known of all cameras, and which are fetched here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use cloudpose_policy::{
    fleet::{Fleet, Key, Member, Step},
    lease::Term,
};
use cloudpose_wire::{Caller, GatewayId, Tenant};

use super::{
    Address, CameraState, Report, Wishes,
    camera::Camera,
    document::{All, Document, Named, Said, wanted},
    status::{Of, wall_ms},
};
use crate::shared::Shared;

/// What is said of a camera whose gateway has lost its lease.
const LOST: &str =
    "NATS does not answer, so another gateway may fetch it now; it is fetched again when NATS does";
/// And of one that another gateway fetches.
const UNKNOWN: &str =
    "NATS does not answer, so it is not known how it is doing at the gateway that fetches it";

/// What one gateway knows.
#[derive(Debug)]
pub(super) struct Known {
    id: GatewayId,
    /// The cameras of the command line, and since when there are any: milliseconds since 1970-01-01T00:00:00Z.
    own: BTreeMap<Key, Address>,
    since: u64,
    fleet: Fleet,
    /// With their revisions, as they were last read or written.
    documents: BTreeMap<Key, (u64, Document)>,
    /// What other gateways say.
    told: BTreeMap<Key, (GatewayId, Report)>,
    fetched: BTreeMap<Key, Arc<Camera>>,
    term: Term,
    /// The revision of what this gateway has said last; 0 before.
    pub(super) said: u64,
    /// What is written could be read, and written over, the last time that it was tried.
    pub(super) works: bool,
    /// Since when the lease is lost, in milliseconds since 1970-01-01T00:00:00Z.
    lost: Option<u64>,
}

impl Known {
    pub(super) fn new(now: Instant, id: GatewayId, own: BTreeMap<Key, Address>) -> Self {
        let member = Member { is_leaving: false, own: own.keys().cloned().collect() };
        Self {
            fleet: Fleet::new(now, id.clone(), member),
            id,
            own,
            since: wall_ms(),
            documents: BTreeMap::new(),
            told: BTreeMap::new(),
            fetched: BTreeMap::new(),
            term: Term::default(),
            said: 0,
            works: true,
            lost: None,
        }
    }

    /// This gateway takes no cameras any more.
    pub(super) fn leave(&mut self) {
        self.fleet.leave();
    }

    /// What this gateway says of itself now.
    pub(super) fn say(&self, now: Instant, shared: &Shared) -> Said {
        let reports = self.fetched.iter().map(|(key, camera)| (key.0.clone(), camera.report(now, shared)));
        Said::new(self.fleet.myself(), reports)
    }

    /// It has been said, which was begun at `begun`: the lease is renewed. True if the bucket has been made anew since it was
    /// said before, and has forgotten what was in it.
    pub(super) fn was_said(&mut self, begun: Instant, revision: u64) -> bool {
        let is_new = revision < self.said;
        self.said = revision;
        self.term.renewed(begun);
        if self.lost.take().is_some() {
            tracing::info!("cameras: the lease is renewed");
        }
        is_new
    }

    /// When the lease ends, if anything is fetched that would have to stop.
    pub(super) fn lease_ends(&self) -> Option<Instant> {
        self.term.ends().filter(|_| !self.fetched.is_empty())
    }

    pub(super) fn holds_lease(&self, now: Instant) -> bool {
        self.term.is_held(now)
    }

    /// The lease has ended: nothing is fetched any more.
    pub(super) fn lose(&mut self, at: u64) {
        self.lost = Some(at);
        for camera in std::mem::take(&mut self.fetched).into_values() {
            camera.end.cancel();
        }
    }

    /// All was read.
    pub(super) fn saw(&mut self, now: Instant, all: All) {
        let All { mut cameras, gateways, told } = all;
        // An answer may be older than what was written since.
        for (key, newer) in std::mem::take(&mut self.documents) {
            if cameras.get(&key).is_some_and(|(revision, _)| *revision < newer.0) {
                cameras.insert(key, newer);
            }
        }
        self.documents = cameras;
        self.told = told;
        self.fleet.saw(now, gateways, &wanted(&self.documents));
    }

    pub(super) fn wrote(&mut self, key: &Key, revision: u64, document: Document) {
        self.documents.insert(key.clone(), (revision, document));
    }

    pub(super) fn erased(&mut self, key: &Key) {
        self.documents.remove(key);
    }

    pub(super) fn document(&self, key: &Key) -> Option<(u64, Document)> {
        self.documents.get(key).cloned()
    }

    pub(super) fn documents(&self) -> BTreeMap<Key, (u64, Document)> {
        self.documents.clone()
    }

    /// The cameras of the command line of which nothing is written, or that a client has named; with the revision that
    /// stands there.
    pub(super) fn unwritten(&self) -> Vec<(Key, Option<u64>)> {
        let stands = |key: &Key| match self.documents.get(key) {
            None => Some(None),
            Some((revision, document)) => document.named.is_some().then_some(Some(*revision)),
        };
        self.own.keys().filter_map(|key| Some((key.clone(), stands(key)?))).collect()
    }

    /// How many cameras clients have named, in all or of one tenant.
    pub(super) fn named(&self, tenant: Option<&Tenant>) -> usize {
        let of = |(key, (_, document)): &(&Key, &(u64, Document))| {
            document.named.is_some() && tenant.is_none_or(|tenant| key.0 == *tenant)
        };
        self.documents.iter().filter(of).count()
    }

    /// Who is to fetch a client's new camera.
    pub(super) fn choose(&self, now: Instant, key: &Key) -> Option<GatewayId> {
        self.fleet.choose(now, &wanted(&self.documents), key, false)
    }

    pub(super) fn plan(&self, now: Instant) -> Vec<Step> {
        let fetched: BTreeSet<Key> = self.fetched.keys().cloned().collect();
        self.fleet.plan(now, &wanted(&self.documents), &fetched)
    }

    /// A camera that this gateway is the holder of by its own writing: it is fetched from now on. `None` if it is not known
    /// where it is.
    pub(super) fn begin(&mut self, key: &Key) -> Option<Arc<Camera>> {
        let (_, document) = self.documents.get(key)?;
        let (caller, address, wishes, is_operators) = match &document.named {
            Some(Named { caller, url, wishes }) => (caller.clone(), url.clone(), wishes.clone(), false),
            None => (Caller::default(), self.own.get(key)?.clone(), Wishes::default(), true),
        };
        let camera = Arc::new(Camera::new(key.1.clone(), caller, (address, is_operators), wishes));
        if let Some(earlier) = self.fetched.insert(key.clone(), Arc::clone(&camera)) {
            earlier.stop.cancel();
        }
        Some(camera)
    }

    /// It is fetched no more, but what has come is finished.
    pub(super) fn end(&mut self, key: &Key) -> Option<Arc<Camera>> {
        let camera = self.fetched.remove(key)?;
        camera.end.cancel();
        Some(camera)
    }

    /// Stops to fetch what is not wanted any more or is another's, and tells cameras what is wanted of them now. Which ones
    /// are somewhere else now, and begin anew.
    pub(super) fn settle(&mut self) -> Vec<Key> {
        let mut moved = Vec::new();
        let (id, documents) = (&self.id, &self.documents);
        self.fetched.retain(|key, camera| {
            let Some((_, document)) = documents.get(key) else {
                camera.stop.cancel();
                return false;
            };
            if document.holder.as_ref() != Some(id) {
                camera.end.cancel();
                return false;
            }
            match &document.named {
                Some(named) if camera.is_operators || named.url != camera.address => moved.push(key.clone()),
                Some(named) => camera.change(&named.wishes),
                None if !camera.is_operators => moved.push(key.clone()),
                None => {}
            }
            true
        });
        moved
    }

    /// Whether it is a camera of this gateway's command line.
    pub(super) fn is_own(&self, key: &Key) -> bool {
        self.own.contains_key(key)
    }

    /// A tenant's cameras, by name.
    pub(super) fn list(&self, now: Instant, tenant: &Tenant, shared: &Shared) -> Vec<Report> {
        let keys: BTreeSet<&Key> = self.documents.keys().chain(self.own.keys()).collect();
        let keys = keys.into_iter().filter(|(of, _)| of == tenant);
        keys.filter_map(|key| self.report(now, key, shared)).collect()
    }

    /// A camera as it is shown.
    pub(super) fn report(&self, now: Instant, key: &Key, shared: &Shared) -> Option<Report> {
        if let Some(camera) = self.fetched.get(key) {
            return Some(camera.report(now, shared));
        }
        let document = self.documents.get(key).map(|(_, document)| document);
        let holder = document.and_then(|document| document.holder.as_ref());
        let told = self.told.get(key).filter(|(gateway, _)| holder == Some(gateway) && *gateway != self.id);
        let told = told.map(|(_, report)| report.clone());
        let of = match (document.and_then(|document| document.named.as_ref()), self.own.get(key)) {
            (Some(named), _) => Of::new(&key.1, &named.url, named.wishes.clone(), shared),
            (None, Some(address)) => Of::new(&key.1, address, Wishes::default(), shared),
            (None, None) => return told,
        };
        let is_fixed = document.is_none_or(|document| document.named.is_none());
        Some(match (self.lost, told) {
            (Some(lost), _) => {
                let why = if holder == Some(&self.id) { LOST } else { UNKNOWN };
                Report::unknown(of, is_fixed, (CameraState::Waiting, lost), Some(why))
            }
            (None, Some(told)) => told.of(of),
            (None, None) => {
                let since = document.map_or(self.since, |document| document.since);
                Report::unknown(of, is_fixed, (CameraState::Connecting, since), None)
            }
        })
    }
}
