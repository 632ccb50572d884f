//! Takes jobs by lease, and offers their items to the workers while nobody who waits is in their way.

use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use cloudpose_bus::PublishError;
use cloudpose_policy::{
    lease::Lease,
    retry::{Next, Retry},
    share::Share,
};
use cloudpose_store::{Document, Error};
use cloudpose_wire::{
    DropReason, Frame, FrameHeader, JobId, Lane, Payload, Reply, Route, Tenant, frame::USUAL_TOP,
};
use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{Instant as Later, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Jobs, PAUSE,
    active::Items,
    collector::{Told, What},
    document::{self, About, Failure, Line, State, item_key, results, video_key},
    failed, read,
    video::{Film, Kept, MOST_VIDEOS},
    wall_clock, write_result,
};
use crate::{metrics, shared::Shared as Gateway};

/// Jobs that one gateway works on at once.
const MOST_HELD: usize = 8;
/// How often it looks for jobs, and for results that other gateways have written.
const LOOK: Duration = Duration::from_secs(2);
/// How often it writes down how far a job is.
const SAVE: Duration = Duration::from_millis(500);
/// How often it looks whether the lanes have room.
const OFFER: Duration = Duration::from_millis(20);
/// How long a stage may take to begin with an item. Nobody waits, so it is long.
const BUDGET: Duration = Duration::from_secs(60);
/// An item of which nothing was heard for so long is lost: both stages have had their time.
const PATIENCE: Duration = Duration::from_secs(2 * 60 + 5);
/// A full lane is no reason to give up: the job's own time is.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// An item of the job whose state has this name.
#[derive(Debug)]
struct Turn {
    number: u64,
    name: String,
    item: u32,
}

/// A job that this gateway works on.
#[derive(Debug)]
struct Held {
    document: Document,
    state: State,
    about: Arc<About>,
    items: Items,
    /// If it is a video.
    film: Option<Film>,
    changed: bool,
    saved: Instant,
}

/// The jobs that this gateway works on.
#[derive(Debug)]
pub(crate) struct Runner {
    jobs: Jobs,
    gateway: Arc<Gateway>,
    /// Has the runner hear of the frames of videos.
    tell: mpsc::Sender<Told>,
    /// What this gateway is called in leases.
    holder: String,
    held: BTreeMap<String, Held>,
    /// Those of which it knows that nothing is left to do.
    finished: HashSet<String>,
    look_at: Instant,
    share: Share,
    refused: Retry<Turn>,
    turns: u64,
}

impl Runner {
    pub(crate) fn new(jobs: Jobs, gateway: Arc<Gateway>, tell: mpsc::Sender<Told>) -> Self {
        let holder = gateway.id.to_string();
        let refused = Retry::new(&holder, FOR_EVER);
        Self {
            jobs,
            gateway,
            tell,
            holder,
            held: BTreeMap::new(),
            finished: HashSet::new(),
            look_at: Instant::now(),
            share: Share::default(),
            refused,
            turns: 0,
        }
    }

    /// Works for ever; once it is `stopping` it only waits for what was offered, and leaves the rest to others.
    pub(crate) async fn run(
        mut self,
        mut told: mpsc::Receiver<Told>,
        stopping: &CancellationToken,
    ) -> Infallible {
        let bus = self.gateway.bus.clone();
        let mut connection = bus.connection();
        loop {
            tokio::select! {
                Some(told) = told.recv() => self.hear(told),
                later = bus.later_connection(connection) => {
                    connection = later;
                    // The broker may have forgotten what it was given.
                    self.held.values_mut().for_each(|held| held.items.all_again());
                    self.refused.reset();
                }
                () = self.jobs.0.handed_in.notified() => self.look_at = Instant::now(),
                () = sleep_until(Later::from_std(self.next_deadline())) => {}
            }
            while let Ok(told) = told.try_recv() {
                self.hear(told);
            }
            if let Err(error) = self.step(stopping.is_cancelled()).await {
                failed("working on jobs", &error);
                tokio::time::sleep(PAUSE).await;
            }
            metrics::job_items_in_flight(self.in_flight());
        }
    }

    fn next_deadline(&self) -> Instant {
        let now = Instant::now();
        if self.held.values().any(|held| held.items.has_more()) || self.refused.next_deadline().is_some() {
            now + OFFER
        } else if self.held.is_empty() {
            self.look_at
        } else {
            (now + SAVE / 2).min(self.look_at)
        }
    }

    fn hear(&mut self, told: Told) {
        let Told { upload, item, what } = told;
        let Some(held) = self.held.values_mut().find(|held| held.state.upload == upload) else { return };
        match what {
            What::Ended(failure) => held.changed |= held.items.end(item, failure),
            What::Again => held.items.again(item),
            What::Video(news) => {
                if let Some(film) = &mut held.film {
                    held.changed |= film.hear(news, &mut held.items);
                }
            }
        }
    }

    fn in_flight(&self) -> usize {
        self.held.values().map(|held| held.items.in_flight()).sum()
    }

    async fn step(&mut self, stopping: bool) -> Result<(), Error> {
        let now = Instant::now();
        if now >= self.look_at {
            self.look_at = now + LOOK;
            self.look_for_results().await?;
            if !stopping {
                self.look_for_jobs().await?;
            }
        }
        self.keep_what_was_seen().await?;
        if !stopping {
            self.offer_while_there_is_room().await?;
        }
        self.save_what_is_due(stopping).await
    }

    /// Writes down what was found in the frames of videos.
    async fn keep_what_was_seen(&mut self) -> Result<(), Error> {
        let names: Vec<String> =
            self.held.iter().filter(|(_, held)| held.film.is_some()).map(|(name, _)| name.clone()).collect();
        for name in names {
            let Some(Held { film: Some(film), about, items, changed, .. }) = self.held.get_mut(&name) else {
                continue;
            };
            match film.keep(&self.jobs, about, items, &self.gateway.models).await? {
                Kept::Nothing => {}
                Kept::Some => *changed = true,
                // It was deleted, or its store is away: then it is taken again.
                Kept::Lost => drop(self.held.remove(&name)),
            }
        }
        Ok(())
    }

    /// Takes in what other gateways have written of the items that this one offered.
    async fn look_for_results(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        for held in self.held.values_mut() {
            // Nobody else writes those of a video.
            if held.film.is_none() {
                held.changed |= take_in_results(&self.jobs, &held.state.upload, &mut held.items).await?;
            }
            held.items.overdue_again(now, PATIENCE);
        }
        Ok(())
    }

    async fn look_for_jobs(&mut self) -> Result<(), Error> {
        let names = self.jobs.store().documents().await?;
        self.finished.retain(|name| names.binary_search(name).is_ok());
        let mut free = Vec::new();
        for name in names {
            if self.finished.contains(&name) || self.held.contains_key(&name) {
                continue;
            }
            let Some(document) = self.jobs.store().document(&name).await? else { continue };
            let Some(state) = read::<State>(&document.body) else {
                self.finished.insert(name);
                continue;
            };
            let now = wall_clock();
            if state.is_finished() || state.expires_at <= now {
                self.jobs.expect_callback(&name, &state);
                self.finished.insert(name);
            } else if Lease::is_free_for(state.lease.as_ref(), &self.holder, now) {
                free.push((name, document, state));
            }
        }
        for (name, document, state) in in_turn(free) {
            if self.held.len() >= MOST_HELD {
                break;
            }
            let videos = self.held.values().filter(|held| held.film.is_some()).count();
            if state.seen.is_some() && videos >= MOST_VIDEOS {
                continue;
            }
            self.take(name, document, state).await?;
        }
        Ok(())
    }

    async fn take(&mut self, name: String, document: Document, mut state: State) -> Result<(), Error> {
        let now = wall_clock();
        state.lease = Some(Lease::new(&self.holder, now));
        state.began_at.get_or_insert(now);
        let store = self.jobs.store();
        let Some(document) = store.replace(&name, &document, document::written(&state)).await? else {
            return Ok(());
        };
        let Some(about) = self.jobs.about(&state.upload).await? else {
            tracing::warn!(name, "what was handed in with a job is gone from the store");
            self.finished.insert(name);
            return Ok(());
        };
        if about.video.is_some() && !self.jobs.store().has(&video_key(&state.upload)).await? {
            tracing::warn!(name, "the video of a job is gone from the store");
            self.finished.insert(name);
            return Ok(());
        }
        let (mut items, mut film) = (Items::new(state.items), None);
        if let (Some(video), Some(seen)) = (about.video, &state.seen) {
            items = Items::going_on(seen.frames, &state);
            let (seen, wanted) = ((&state, seen.clone()), (&about.caller, video));
            film = Some(Film::begin(&self.gateway, &self.jobs, seen, wanted, &self.tell));
        } else {
            take_in_results(&self.jobs, &state.upload, &mut items).await?;
        }
        tracing::debug!(name, items = state.items, "working on a job");
        let saved = Instant::now();
        self.held.insert(name, Held { document, state, about, items, film, changed: true, saved });
        Ok(())
    }

    async fn offer_while_there_is_room(&mut self) -> Result<(), Error> {
        while self.held.values().any(|held| held.items.has_more()) || self.refused.next_deadline().is_some() {
            let waiting = join_all(Lane::ALL.map(|lane| self.gateway.bus.depth(lane))).await;
            let waiting = waiting.iter().map(|depth| depth.frames).sum();
            if !self.share.may_offer(Instant::now(), waiting, self.in_flight()) {
                break;
            }
            let Some(turn) = self.next_turn(Instant::now()) else { break };
            self.offer(turn).await?;
        }
        Ok(())
    }

    /// The next item to offer: one that was refused, or one of the tenant and the job that have the fewest in flight.
    fn next_turn(&mut self, now: Instant) -> Option<Turn> {
        match self.refused.poll(now) {
            Some(Next::Offer(turn)) => return Some(turn),
            Some(Next::GiveUp(..)) | None => {}
        }
        // The lane takes nothing yet.
        if self.refused.next_deadline().is_some() {
            return None;
        }
        let mut of_tenant: BTreeMap<Tenant, usize> = BTreeMap::new();
        for held in self.held.values() {
            *of_tenant.entry(held.about.caller.tenant.clone()).or_default() += held.items.in_flight();
        }
        let with_more = self.held.iter_mut().filter(|(_, held)| held.items.has_more());
        let (name, held) = with_more.min_by_key(|(_, held)| {
            let of_tenant = of_tenant.get(&held.about.caller.tenant).copied();
            (of_tenant, held.items.in_flight(), held.state.created_at)
        })?;
        let item = held.items.next()?;
        self.turns += 1;
        let turn = Turn { number: self.turns, name: name.clone(), item };
        self.refused.offer(now, self.turns, turn)
    }

    /// Puts an item on the infer lane, or writes down why it cannot be.
    async fn offer(&mut self, turn: Turn) -> Result<(), Error> {
        let Turn { number, ref name, item } = turn;
        let Some(held) = self.held.get_mut(name).filter(|held| !held.items.is_ended(item)) else {
            self.refused.done(number);
            return Ok(());
        };
        let image = match &held.film {
            Some(film) => match film.payload(item) {
                image @ Some(_) => image,
                // The video was begun anew since.
                None => {
                    self.refused.done(number);
                    return Ok(());
                }
            },
            None => {
                let image = self.jobs.store().get(&item_key(&held.state.upload, item)).await;
                let image = image.inspect_err(|_| {
                    held.items.returned(item);
                    self.refused.done(number);
                })?;
                image.map(Payload::from)
            }
        };
        if image.is_none() && self.jobs.store().document(name).await.ok().flatten().is_none() {
            // It was deleted, or its time is over: nothing more is written of it.
            self.refused.done(number);
            self.held.remove(name);
            return Ok(());
        }
        let failure = match image {
            None => {
                Failure { reason: DropReason::InferFailed, detail: "the image is gone from the store".into() }
            }
            Some(image) => match probe(&image) {
                Err(error) => Failure { reason: DropReason::Undecodable, detail: error.to_string() },
                Ok(()) => {
                    let frame = Frame { header: held.header(item), event: None, image };
                    match self.gateway.publish(frame).await {
                        Ok(()) => {
                            held.items.offered(item, Instant::now());
                            self.refused.done(number);
                            self.share.offered(Instant::now());
                            return Ok(());
                        }
                        Err(error @ (PublishError::TooLarge { .. } | PublishError::Encoding(_))) => {
                            Failure { reason: error.reason(), detail: error.to_string() }
                        }
                        Err(error) => {
                            tracing::debug!(%error, "an item of a job is offered again later");
                            self.refused.refused(Instant::now(), number, turn, error.reason());
                            return Ok(());
                        }
                    }
                }
            },
        };
        self.refused.done(number);
        let at = held.film.as_ref().and_then(|film| film.at(item));
        let line = Line { item, name: held.about.name(item), at, event: None, error: Some(failure.clone()) };
        let written =
            write_result(self.jobs.store(), &held.state.upload, &line, &held.about.caller.tenant).await;
        match written {
            Ok(_) => held.changed |= held.items.end(item, Some(failure)),
            Err(_) => held.items.returned(item),
        }
        written.map(drop)
    }

    async fn save_what_is_due(&mut self, stopping: bool) -> Result<(), Error> {
        let names: Vec<String> = self.held.keys().cloned().collect();
        for name in names {
            let Some(held) = self.held.get_mut(&name) else { continue };
            let now = wall_clock();
            let leaves = stopping && held.items.in_flight() == 0;
            let is_done = held.items.is_done() && held.film.as_ref().is_none_or(Film::is_over);
            let renew = held.state.lease.as_ref().is_some_and(|lease| lease.should_be_renewed(now));
            if !(leaves || is_done || renew || held.changed && held.saved.elapsed() >= SAVE) {
                continue;
            }
            let mut state = held.state.clone();
            held.items.tell(&mut state);
            if let Some(film) = &held.film {
                film.tell(&held.items, &mut state);
            }
            state.finished_at = is_done.then_some(now);
            state.lease = (!leaves && !is_done).then(|| Lease::new(&self.holder, now));
            let written = self.jobs.store().replace(&name, &held.document, document::written(&state)).await?;
            match written {
                Some(document) if !leaves && !is_done => {
                    (held.document, held.state) = (document, state);
                    (held.changed, held.saved) = (false, Instant::now());
                }
                written => {
                    if written.is_some() && is_done {
                        metrics::job_finished(&held.about.caller.tenant);
                        self.jobs.expect_callback(&name, &state);
                        self.finished.insert(name.clone());
                    }
                    // Otherwise it was deleted, or another gateway has taken it, or may.
                    self.held.remove(&name);
                }
            }
        }
        Ok(())
    }
}

/// Whether it can be an image. Frames of videos are looked at by who decodes them.
fn probe(image: &Payload) -> Result<(), cloudpose_pixels::Error> {
    match image {
        Payload::Encoded(image) => {
            cloudpose_pixels::probe(image, cloudpose_pixels::Limits::default()).map(drop)
        }
        Payload::Decoded(_) => Ok(()),
    }
}

/// Ends the items that have results in the store. Whether there were some that had not.
async fn take_in_results(jobs: &Jobs, upload: &JobId, items: &mut Items) -> Result<bool, Error> {
    let mut changed = false;
    for name in jobs.store().names(&results(upload)).await? {
        let Some(item) = name.parse().ok().filter(|item| !items.is_ended(*item)) else { continue };
        let Some(line) = jobs.result(upload, item).await?.and_then(|body| read::<Line>(&body)) else {
            continue;
        };
        changed |= items.end(item, line.error);
    }
    Ok(changed)
}

/// The first job of each tenant, then the second of each, and so on; the older first.
fn in_turn<D>(mut jobs: Vec<(String, D, State)>) -> Vec<(String, D, State)> {
    let tenant = |name: &str| name.split('.').next().unwrap_or_default().to_owned();
    jobs.sort_by_key(|(_, _, state)| state.created_at);
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let rank = |name: &str| {
        let before = seen.entry(tenant(name)).or_default();
        *before += 1;
        *before
    };
    let ranks: Vec<usize> = jobs.iter().map(|(name, _, _)| name.as_str()).map(rank).collect();
    let mut ranked: Vec<_> = ranks.into_iter().zip(jobs).collect();
    // Stable: of one rank the older is first.
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, job)| job).collect()
}

impl Held {
    fn header(&self, item: u32) -> FrameHeader {
        let About { job, caller, settings, .. } = &*self.about;
        let header = FrameHeader {
            stream: job.as_str().parse().expect("the name of a job is a token"),
            seq: item.into(),
            route: Route::Still(Reply::Job { job: self.state.upload.clone() }),
            received_at: self.state.created_at,
            deadline_ms: u32::try_from(BUDGET.as_millis()).unwrap_or(u32::MAX),
            want: settings.want,
            model: settings.model.clone(),
            quality: settings.quality,
            min_score: settings.min_score,
            top: USUAL_TOP,
            smooth: false,
            prior: None,
            retries: self.items.retries(item),
            caller: caller.clone(),
            draw: settings.draw,
            watched: Vec::new(),
            aside: false,
            trace: None,
        };
        match &self.film {
            Some(film) => film.header(header, item),
            None => header,
        }
    }
}
