//! Between gateways: what this one holds and watches is told to the others, and frames are shown to those who watch them.

use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    time::Duration,
};

use cloudpose_bus::Bus;
use cloudpose_wire::View;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::{Hub, Key};
use crate::metrics;

/// How often others are told though nothing changes.
const EVERY: Duration = Duration::from_secs(1);
/// Changes so close together are told at once.
const TOGETHER: Duration = Duration::from_millis(20);

/// The hub's side towards other gateways.
#[derive(Debug)]
pub(crate) struct Exchange {
    hub: Hub,
    pub(super) outgoing: mpsc::Receiver<(Key, View)>,
}

impl Exchange {
    pub(super) fn new(hub: Hub, outgoing: mpsc::Receiver<(Key, View)>) -> Self {
        Self { hub, outgoing }
    }

    /// Tells, hears and shows, until it is dropped.
    pub(crate) async fn run(self, bus: &Bus) -> Infallible {
        let Self { hub, outgoing } = self;
        tokio::join!(hear(&hub, bus), show(bus, outgoing), tell(&hub, bus)).2
    }
}

async fn hear(hub: &Hub, bus: &Bus) {
    let mut heard = bus.news().await;
    while let Some(news) = heard.next().await {
        hub.heard(Instant::now().into_std(), news);
    }
}

async fn show(bus: &Bus, mut outgoing: mpsc::Receiver<(Key, View)>) {
    while let Some(((tenant, stream), view)) = outgoing.recv().await {
        match bus.show(&tenant, &stream, view).await {
            Ok(()) => metrics::shown_elsewhere("sent"),
            Err(error) => {
                tracing::debug!(%error, %stream, "a frame cannot be shown to those who watch at other gateways");
                metrics::shown_elsewhere(error.reason().as_str());
            }
        }
    }
}

async fn tell(hub: &Hub, bus: &Bus) -> Infallible {
    let mut every = interval(EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut looks = Looks::default();
    let mut told_error = false;
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = hub.0.changed.notified() => sleep(TOGETHER).await,
        }
        let news = hub.news(Instant::now().into_std());
        looks.at(hub, bus);
        let Some(news) = news else { continue };
        let told = bus.tell(news).await;
        if let Err(error) = &told
            && !told_error
        {
            tracing::warn!(%error, "other gateways cannot be told which streams this one holds and watches");
        }
        told_error = told.is_err();
    }
}

/// Looks at what other gateways show of the streams that are watched here.
#[derive(Debug, Default)]
struct Looks {
    tasks: JoinSet<()>,
    of: HashMap<Key, AbortHandle>,
}

impl Looks {
    /// Begins to look at those that are watched now, and ends with the others.
    fn at(&mut self, hub: &Hub, bus: &Bus) {
        let watched: HashSet<Key> = hub.watched().into_iter().collect();
        self.of.retain(|key, task| {
            let goes_on = watched.contains(key) && !task.is_finished();
            if !goes_on {
                task.abort();
            }
            goes_on
        });
        while self.tasks.try_join_next().is_some() {}
        for key in watched {
            let tasks = &mut self.tasks;
            self.of.entry(key.clone()).or_insert_with(|| tasks.spawn(look(hub.clone(), bus.clone(), key)));
        }
    }
}

async fn look(hub: Hub, bus: Bus, key: Key) {
    let mut views = bus.views(&key.0, &key.1).await;
    while let Some(view) = views.next().await {
        hub.shown(Instant::now().into_std(), &key, &view);
    }
}
