//! Which models are served: what workers announce, and gateways and others look up.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cloudpose_wire::{ModelId, ModelInfo, Skeleton, SkeletonName, model::Announcement};
use tokio::{sync::watch, time::timeout};

/// How often a worker on NATS says again what it serves.
pub(crate) const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
/// A worker that has said nothing for so long serves nothing any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(35);
/// How long to wait for the skeleton of a model whose worker is there, for its poses are.
const SKELETON_WAIT: Duration = Duration::from_secs(2);
/// Workers that are remembered: more than a deployment has, and what a stranger can make us keep.
const MOST_WORKERS: usize = 4096;

/// What the workers of a bus serve, kept up to date. Clones share it.
#[derive(Debug, Clone)]
pub struct Models {
    directory: Arc<Mutex<Directory>>,
    changed: watch::Sender<()>,
}

impl Models {
    /// `forgets`: whether workers have to say again what they serve.
    pub(crate) fn new(forgets: bool) -> Self {
        Self { directory: Arc::new(Mutex::new(Directory::new(forgets))), changed: watch::channel(()).0 }
    }

    fn directory(&self) -> MutexGuard<'_, Directory> {
        // Entries are replaced whole, so a panic elsewhere does not spoil it.
        self.directory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn heard(&self, announcement: Announcement) {
        self.directory().heard(Instant::now(), announcement);
        self.changed.send_replace(());
    }

    /// Takes in on how many frames the only worker of this bus works at once.
    pub(crate) fn at_work(&self, slots: usize) {
        if let Some(worker) = self.directory().workers.first_mut() {
            worker.slots = slots;
        }
    }

    /// Frames that the workers which are there work on at once, as they say.
    pub(crate) fn slots(&self) -> Slots {
        self.directory().slots(Instant::now())
    }

    /// All models that some worker serves, each once, in the order in which they were announced.
    pub fn list(&self) -> Vec<Arc<ModelInfo>> {
        self.directory().list(Instant::now())
    }

    /// What is known of a model.
    pub fn get(&self, id: &ModelId) -> Option<Arc<ModelInfo>> {
        self.list().into_iter().find(|model| model.id == *id)
    }

    /// False if workers have said what they serve, and this is not among it. While none has said anything, any
    /// model may be served by those to come.
    pub fn may_be_served(&self, id: &ModelId) -> bool {
        let served = self.list();
        served.is_empty() || served.iter().any(|model| model.id == *id)
    }

    /// The skeleton of that name, if it is built in or belongs to a model that is served, or was until a worker changed
    /// what it serves: frames are under way that it saw before.
    pub fn skeleton(&self, name: &SkeletonName) -> Option<Arc<Skeleton>> {
        Skeleton::built_in(name).or_else(|| self.directory().skeleton(Instant::now(), name))
    }

    /// Finds a skeleton as [`skeleton`](Self::skeleton) does, and waits a moment for it to be announced.
    pub async fn wait_for_skeleton(&self, name: &SkeletonName) -> Option<Arc<Skeleton>> {
        let mut changed = self.changed.subscribe();
        let announced = async {
            loop {
                if let Some(skeleton) = self.skeleton(name) {
                    return skeleton;
                }
                if changed.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        timeout(SKELETON_WAIT, announced).await.ok()
    }
}

/// Who serves what.
#[derive(Debug)]
struct Directory {
    forgets: bool,
    workers: Vec<Worker>,
}

#[derive(Debug)]
struct Worker {
    name: String,
    heard: Instant,
    models: Vec<Arc<ModelInfo>>,
    /// What it served before that.
    before: Vec<Arc<ModelInfo>>,
    /// Frames that it works on at once.
    slots: usize,
    /// Whether it takes only what others leave.
    overflow: bool,
}

/// Frames that the workers which are there work on at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Slots {
    /// Of those that are served first.
    pub(crate) first: usize,
    /// Of those that take what the others leave.
    pub(crate) overflow: usize,
}

impl Directory {
    fn new(forgets: bool) -> Self {
        Self { forgets, workers: Vec::new() }
    }

    fn heard(&mut self, now: Instant, announcement: Announcement) {
        let Announcement { worker, models, slots, overflow } = announcement;
        self.forget(now);
        let models: Vec<_> = models.into_iter().map(Arc::new).collect();
        let is_full = self.workers.len() >= MOST_WORKERS;
        match self.workers.iter_mut().find(|known| known.name == worker) {
            Some(known) => {
                known.heard = now;
                known.slots = slots.unwrap_or(known.slots);
                known.overflow = overflow;
                if known.models != models {
                    known.before = std::mem::replace(&mut known.models, models);
                }
            }
            None if !is_full => {
                let slots = slots.unwrap_or(0);
                self.workers.push(Worker {
                    name: worker,
                    heard: now,
                    models,
                    before: Vec::new(),
                    slots,
                    overflow,
                });
            }
            None => tracing::warn!(worker, "too many workers announce models: ignored this one"),
        }
    }

    fn forget(&mut self, now: Instant) {
        if self.forgets {
            let is_there = |worker: &Worker| now.saturating_duration_since(worker.heard) < FORGOTTEN_AFTER;
            self.workers.retain(is_there);
        }
    }

    fn list(&mut self, now: Instant) -> Vec<Arc<ModelInfo>> {
        self.forget(now);
        let mut list: Vec<Arc<ModelInfo>> = Vec::new();
        for model in self.workers.iter().flat_map(|worker| &worker.models) {
            if !list.iter().any(|listed| listed.id == model.id) {
                list.push(model.clone());
            }
        }
        list
    }

    fn slots(&mut self, now: Instant) -> Slots {
        self.forget(now);
        let mut slots = Slots::default();
        for worker in &self.workers {
            // What strangers say must not add up to a panic.
            let sum = if worker.overflow { &mut slots.overflow } else { &mut slots.first };
            *sum = sum.saturating_add(worker.slots);
        }
        slots
    }

    fn skeleton(&mut self, now: Instant, name: &SkeletonName) -> Option<Arc<Skeleton>> {
        self.forget(now);
        let served = self.workers.iter().flat_map(|worker| &worker.models);
        let before = self.workers.iter().flat_map(|worker| &worker.before);
        served.chain(before).find_map(|model| model.skeleton().filter(|s| s.name() == name).cloned())
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::Task;

    use super::*;

    fn model(id: &str, title: &str) -> ModelInfo {
        ModelInfo {
            id: id.parse().unwrap(),
            title: title.into(),
            summary: String::new(),
            task: Task::Pose { skeleton: Skeleton::coco_17() },
            input: String::new(),
            source: String::new(),
            licence: String::new(),
        }
    }

    fn says(worker: &str, ids: &[&str]) -> Announcement {
        let models = ids.iter().map(|id| model(id, worker)).collect();
        Announcement { worker: worker.into(), models, slots: None, overflow: false }
    }

    fn ids(list: Vec<Arc<ModelInfo>>) -> Vec<(String, String)> {
        list.iter().map(|model| (model.id.to_string(), model.title.clone())).collect()
    }

    #[test]
    fn a_model_is_served_while_a_worker_says_so() {
        let start = Instant::now();
        let mut directory = Directory::new(true);
        directory.heard(start, says("a", &["multipose", "thunder"]));
        directory.heard(start + FORGOTTEN_AFTER / 2, says("b", &["thunder", "mine"]));
        let named = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(id, worker)| ((*id).to_owned(), (*worker).to_owned())).collect()
        };
        let all = named(&[("multipose", "a"), ("thunder", "a"), ("mine", "b")]);
        assert_eq!(ids(directory.list(start + FORGOTTEN_AFTER / 2)), all);
        // What a worker says replaces what it said.
        directory.heard(start + FORGOTTEN_AFTER / 2, says("b", &["mine"]));
        assert_eq!(ids(directory.list(start + FORGOTTEN_AFTER)), named(&[("mine", "b")]));
        assert!(directory.list(start + 2 * FORGOTTEN_AFTER).is_empty());
        let mut local = Directory::new(false);
        local.heard(start, says("a", &["multipose"]));
        assert_eq!(local.list(start + 100 * FORGOTTEN_AFTER).len(), 1);
    }

    #[test]
    fn what_a_worker_saw_before_it_changed_can_still_be_drawn() {
        let now = Instant::now();
        let mut directory = Directory::new(false);
        let of = |name: &str| {
            let skeleton = format!(r#"{{"name":"{name}","keypoints":[{{"name":"top","sigma":0.1}}]}}"#);
            let task = Task::Pose { skeleton: Arc::new(serde_json::from_str(&skeleton).unwrap()) };
            let models = vec![ModelInfo { task, ..model("tiny", name) }];
            Announcement { models, ..says("a", &[]) }
        };
        let mut knows = |said: &[&str], name: &str| {
            said.iter().for_each(|said| directory.heard(now, of(said)));
            directory.skeleton(now, &name.parse().unwrap()).is_some()
        };
        assert!(knows(&["one"], "one"));
        assert!(knows(&["two", "two"], "one"), "saying the same again changes nothing");
        assert!(knows(&[], "two"));
        assert!(!knows(&["three"], "one"));
    }

    #[test]
    fn slots_are_those_of_workers_that_are_there() {
        let start = Instant::now();
        let mut directory = Directory::new(true);
        let of = |worker: &str, slots, overflow| Announcement { slots, overflow, ..says(worker, &[]) };
        directory.heard(start, of("gpu", Some(68), false));
        directory.heard(start, of("older", None, false));
        directory.heard(start + FORGOTTEN_AFTER / 2, of("cpu", Some(2), true));
        assert_eq!(directory.slots(start + FORGOTTEN_AFTER / 2), Slots { first: 68, overflow: 2 });
        // It was killed: nobody hears of it any more.
        assert_eq!(directory.slots(start + FORGOTTEN_AFTER), Slots { first: 0, overflow: 2 });
        // It leaves, and says so.
        directory.heard(start + FORGOTTEN_AFTER, of("cpu", Some(0), true));
        assert_eq!(directory.slots(start + FORGOTTEN_AFTER), Slots::default());
        let liar = start + FORGOTTEN_AFTER;
        directory.heard(liar, of("a", Some(usize::MAX), false));
        directory.heard(liar, of("b", Some(usize::MAX), false));
        assert_eq!(directory.slots(liar).first, usize::MAX);
    }

    #[test]
    fn strangers_fill_no_memory() {
        let now = Instant::now();
        let mut directory = Directory::new(true);
        (0..=MOST_WORKERS).for_each(|n| directory.heard(now, says(&n.to_string(), &[])));
        assert_eq!(directory.workers.len(), MOST_WORKERS);
    }

    #[test]
    fn nobody_says_no_before_somebody_has_said_anything() {
        let models = Models::new(false);
        let (multipose, yolo) = ("multipose".parse().unwrap(), "yolo".parse().unwrap());
        assert!(models.may_be_served(&yolo));
        models.heard(says("a", &["multipose"]));
        assert!(models.may_be_served(&multipose) && !models.may_be_served(&yolo));
        assert_eq!(models.get(&multipose).unwrap().title, "a");
        assert_eq!(models.get(&yolo), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_skeleton_is_waited_for_and_not_for_ever() {
        let models = Models::new(false);
        assert_eq!(models.wait_for_skeleton(&SkeletonName::default()).await, Some(Skeleton::coco_17()));
        let five: Skeleton =
            serde_json::from_str(r#"{"name":"five","keypoints":[{"name":"a","sigma":0.1}]}"#).unwrap();
        assert_eq!(models.wait_for_skeleton(five.name()).await, None);
        let task = Task::Pose { skeleton: Arc::new(five.clone()) };
        let announced = async {
            tokio::task::yield_now().await;
            let models = models.clone();
            models.heard(Announcement {
                models: vec![ModelInfo { task, ..model("m", "m") }],
                ..says("w", &[])
            });
        };
        let (found, ()) = tokio::join!(models.wait_for_skeleton(five.name()), announced);
        assert_eq!(found.as_deref(), Some(&five));
    }
}
