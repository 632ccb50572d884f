//! A deployment in the small, event by event: cameras, their sessions, a lane, workers that come and go, a scraper,
//! and the autoscaler. What sessions and lane decide, `cloudpose-policy` decides, as it does where they run.
//! Deterministic: the same plan gives the same record.

mod record;

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

use cloudpose_policy::lanes::{Bounds, Lanes, Next, Owner, Queued};
use cloudpose_wire::{Kind, StreamName, Tenant};
use hdrhistogram::Histogram;

use super::{
    first::First,
    hpa::{self, Hpa, Rules},
    load::Shape,
    session::Session,
};

pub use record::{Record, Slice};

/// Over how long rates and utilisations are averaged, as by `rate(…[30s])`.
const AVERAGED: Duration = Duration::from_secs(30);
/// One verdict a slice: was the objective met in it?
const SLICE: Duration = Duration::from_secs(5);

/// What the autoscaler looks at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Signal {
    /// Frames waiting and in workers' hands, averaged over the last scrapes, for each replica.
    QueueDepth(f64),
    /// Age of the oldest frame on the lane, in seconds.
    OldestAge(f64),
    /// Worker seconds asked for each second, for each replica's slot.
    OfferedLoad(f64),
    /// Share of the replicas' slots in use.
    Utilisation(f64),
}

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many streams there are when.
    pub shape: Shape,
    /// Of each stream.
    pub frames_per_second: f64,
    /// What the gateway gives a frame.
    pub max_age: Duration,
    /// How long a worker has a frame, as measured; each takes from 0.8 to 1.2 times as long.
    pub service: Duration,
    /// Frames that a replica works on at once.
    pub slots: u32,
    /// Others that are served before them.
    pub first: Option<First>,
    /// From being ordered until a replica takes its first frame: scheduling, image, model.
    pub start: Duration,
    /// How often metrics are collected.
    pub scrape: Duration,
    /// The autoscaler.
    pub rules: Rules,
    /// What it looks at, and the target.
    pub signal: Signal,
    /// The objective: this share of the frames is delivered, in each slice …
    pub delivered: f64,
    /// … and 95 of 100 of those within this.
    pub p95: Duration,
}

type Nanos = u64;

/// What happens next, in the order of time; the number keeps the order of those at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    FrameDue(u32),
    Done {
        worker: Worker,
        frame: Frame,
    },
    /// No word of it came in time.
    Overdue(Frame),
    ReplicaReady,
    Scrape,
    Decide,
    SliceEnds,
}

/// Who works on a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Worker {
    First,
    Replica(u32),
}

#[derive(Debug)]
struct Stream {
    session: Session,
    streaming: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    stream: u32,
    seq: u64,
}

#[derive(Debug, Clone, Copy)]
struct Replica {
    ready: bool,
    /// Takes no more frames, and goes when it has none.
    leaving: bool,
    busy: u32,
}

#[derive(Debug)]
struct Cluster<'a> {
    plan: &'a Plan,
    /// The moment 0.
    start: Instant,
    now: Nanos,
    events: BinaryHeap<Reverse<(Nanos, u64, Event)>>,
    numbered: u64,
    streams: Vec<Stream>,
    lanes: Lanes<Frame>,
    /// Live ones by number; one that has gone leaves its number free for ever.
    replicas: Vec<Option<Replica>>,
    ordered: u32,
    /// Frames in the hands of those that are served first.
    first_busy: u32,
    hpa: Hpa,
    /// What the last scrape said.
    scraped: Scraped,
    /// What past scrapes found.
    history: VecDeque<Sample>,
    offered: f64,
    used: f64,
    chance: fastrand::Rng,
    slice: SliceBooks,
    record: Record,
    direction: i8,
    outage: Nanos,
    replica_nanos: f64,
}

/// What one scrape finds.
#[derive(Debug, Clone, Copy, Default)]
struct Sample {
    at: Nanos,
    depth: f64,
    /// Worker seconds asked for so far.
    offered: f64,
    /// Worker seconds spent so far.
    used: f64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Scraped {
    depth: f64,
    oldest: f64,
    offered: f64,
    utilisation: f64,
    ready: u32,
}

#[derive(Debug)]
struct SliceBooks {
    sent: u64,
    delivered: u64,
    latency: Histogram<u64>,
}

/// Runs `plan` to its end.
pub fn simulate(plan: &Plan) -> Record {
    let mut cluster = Cluster::new(plan);
    let end = nanos(plan.shape.lasts());
    while let Some(Reverse((at, _, event))) = cluster.events.pop() {
        if at > end {
            break;
        }
        cluster.replica_nanos += f64::from(cluster.ordered) * (at - cluster.now) as f64;
        cluster.now = at;
        cluster.handle(event);
    }
    cluster.close(end)
}

fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<'a> Cluster<'a> {
    fn new(plan: &'a Plan) -> Self {
        let ready = Replica { ready: true, leaving: false, busy: 0 };
        let mut cluster = Self {
            plan,
            start: Instant::now(),
            now: 0,
            events: BinaryHeap::new(),
            numbered: 0,
            streams: (0..plan.shape.most())
                .map(|_| Stream { session: Session::new(plan.max_age), streaming: false })
                .collect(),
            lanes: Lanes::new(Bounds::default()),
            replicas: vec![Some(ready); plan.rules.min as usize],
            ordered: plan.rules.min,
            first_busy: 0,
            hpa: Hpa::new(plan.rules.clone()),
            scraped: Scraped { ready: plan.rules.min, ..Scraped::default() },
            history: VecDeque::from([Sample::default()]),
            offered: 0.0,
            used: 0.0,
            chance: fastrand::Rng::with_seed(1),
            slice: SliceBooks {
                sent: 0,
                delivered: 0,
                latency: Histogram::new(3).expect("3 digits are allowed"),
            },
            record: Record::default(),
            direction: 0,
            outage: 0,
            replica_nanos: 0.0,
        };
        for (event, every) in
            [(Event::Scrape, plan.scrape), (Event::Decide, plan.rules.sync), (Event::SliceEnds, SLICE)]
        {
            cluster.after(every, event);
        }
        cluster.let_streams_join();
        cluster
    }

    fn after(&mut self, delay: Duration, event: Event) {
        self.numbered += 1;
        self.events.push(Reverse((self.now + nanos(delay), self.numbered, event)));
    }

    fn instant(&self) -> Instant {
        self.start + Duration::from_nanos(self.now)
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::FrameDue(stream) => self.frame(stream),
            Event::Done { worker, frame } => self.done(worker, frame),
            Event::Overdue(frame) => self.close_frame(frame),
            Event::ReplicaReady => {
                if let Some(replica) = self.replicas.iter_mut().flatten().find(|r| !r.ready && !r.leaving) {
                    replica.ready = true;
                }
            }
            Event::Scrape => {
                self.scrape();
                self.after(self.plan.scrape, Event::Scrape);
            }
            Event::Decide => {
                self.decide();
                self.after(self.plan.rules.sync, Event::Decide);
            }
            Event::SliceEnds => {
                self.end_slice();
                self.let_streams_join();
                self.after(SLICE, Event::SliceEnds);
            }
        }
        self.hand_out();
    }

    /// Streams that the shape asks for begin, each at its own point of the first interval.
    fn let_streams_join(&mut self) {
        let there = self.plan.shape.streams(Duration::from_nanos(self.now));
        for index in 0..self.streams.len() {
            let joins = (index as u32) < there;
            if joins && !self.streams[index].streaming {
                let delay = self.chance.f64() / self.plan.frames_per_second;
                self.after(Duration::from_secs_f64(delay), Event::FrameDue(index as u32));
            }
            self.streams[index].streaming = joins;
        }
    }

    fn frame(&mut self, index: u32) {
        if !self.streams[index as usize].streaming {
            return;
        }
        self.after(Duration::from_secs_f64(1.0 / self.plan.frames_per_second), Event::FrameDue(index));
        self.slice.sent += 1;
        self.offered += self.plan.service.as_secs_f64();
        let now = self.instant();
        self.streams[index as usize].session.frame(now);
        self.publish(index);
    }

    /// Puts on the lane what the session lets go.
    fn publish(&mut self, stream: u32) {
        let now = self.instant();
        while let Some(published) = self.streams[stream as usize].session.publish(now) {
            let frame = Frame { stream, seq: published.seq };
            self.after(published.due - now, Event::Overdue(frame));
            // The gateway hears nothing of a frame that gives way: it closes it when it is overdue.
            let name = StreamName::new(&stream.to_string()).expect("a number is a name");
            let owner = Owner { tenant: Tenant::default(), stream: name };
            let queued = Queued { kind: Kind::Live, owner, since: now, budget: published.budget, frame };
            self.lanes.push(queued).expect("a live lane refuses nothing");
        }
    }

    /// Gives frames to free slots, oldest first.
    fn hand_out(&mut self) {
        while !self.lanes.is_empty() {
            let Some(worker) = self.free() else { break };
            match self.lanes.poll(self.instant()) {
                Some(Next::Begin(queued)) => self.begin(worker, queued.frame),
                Some(Next::Expire(queued)) => self.close_frame(queued.frame),
                None => break,
            }
        }
    }

    /// Who is handed the next frame.
    fn free(&self) -> Option<Worker> {
        if self.first().is_some_and(|first| self.first_busy < first.slots) {
            return Some(Worker::First);
        }
        let is_free = |replica: &Replica| replica.ready && !replica.leaving && replica.busy < self.plan.slots;
        let number = self.replicas.iter().position(|replica| replica.as_ref().is_some_and(is_free));
        number.map(|number| Worker::Replica(number as u32))
    }

    /// Those that are served first, while they are there.
    fn first(&self) -> Option<&'a First> {
        self.plan.first.as_ref().filter(|first| first.is_there(Duration::from_nanos(self.now)))
    }

    fn begin(&mut self, worker: Worker, frame: Frame) {
        let chance = 0.8 + 0.4 * self.chance.f64();
        let takes = match worker {
            Worker::First => {
                self.first_busy += 1;
                self.first().map_or(Duration::ZERO, |first| first.service).mul_f64(chance)
            }
            Worker::Replica(number) => {
                if let Some(replica) = &mut self.replicas[number as usize] {
                    replica.busy += 1;
                }
                let takes = self.plan.service.mul_f64(chance);
                self.used += takes.as_secs_f64();
                takes
            }
        };
        self.after(takes, Event::Done { worker, frame });
    }

    fn done(&mut self, worker: Worker, Frame { stream, seq }: Frame) {
        match worker {
            Worker::First => {
                self.first_busy -= 1;
                if self.first().is_none() {
                    // Gone with whoever had it: nothing more is heard of it, and it is overdue in time.
                    return;
                }
            }
            Worker::Replica(number) => {
                let place = &mut self.replicas[number as usize];
                if let Some(replica) = place {
                    replica.busy -= 1;
                    if replica.leaving && replica.busy == 0 {
                        *place = None;
                    }
                }
            }
        }
        let now = self.instant();
        let session = &mut self.streams[stream as usize].session;
        session.finished(seq);
        while let Some(latency) = session.deliver(now) {
            self.slice.delivered += 1;
            self.slice.latency.saturating_record(nanos(latency) / 1000);
        }
        self.publish(stream);
    }

    /// The session is told that a frame ended without a result.
    fn close_frame(&mut self, Frame { stream, seq }: Frame) {
        self.streams[stream as usize].session.closed(seq);
        self.publish(stream);
    }

    fn depth(&self) -> u32 {
        let busy: u32 = self.replicas.iter().flatten().map(|replica| replica.busy).sum();
        busy + self.first_busy + self.lanes.depth(Kind::Live) as u32
    }

    fn scrape(&mut self) {
        let theirs = self.plan.first.as_ref().map_or(0, |first| first.takes(Duration::from_nanos(self.now)));
        let depth = f64::from(self.depth().saturating_sub(theirs));
        self.history.push_back(Sample { at: self.now, depth, offered: self.offered, used: self.used });
        while self.history.len() > 2 && self.now - self.history[0].at > nanos(AVERAGED) {
            self.history.pop_front();
        }
        let Sample { at: since, offered, used, .. } = self.history[0];
        let seconds = ((self.now - since) as f64 / 1e9).max(1e-9);
        let depths = self.history.iter().skip(1).map(|sample| sample.depth);
        let ready = self.replicas.iter().flatten().filter(|r| r.ready && !r.leaving).count() as u32;
        self.scraped = Scraped {
            depth: depths.sum::<f64>() / (self.history.len() - 1) as f64,
            oldest: self.lanes.oldest(Kind::Live).map_or(0.0, |at| (self.instant() - at).as_secs_f64()),
            offered: (self.offered - offered) / seconds,
            utilisation: (self.used - used) / seconds / f64::from((ready * self.plan.slots).max(1)),
            ready,
        };
    }

    fn decide(&mut self) {
        let Scraped { depth, oldest, offered, utilisation, ready } = self.scraped;
        let ordered = self.ordered;
        let wanted = match self.plan.signal {
            Signal::QueueDepth(target) => hpa::by_average(depth, target, ordered),
            Signal::OldestAge(target) => hpa::by_value(oldest, target, ready, ordered),
            Signal::OfferedLoad(target) => {
                hpa::by_average(offered, target * f64::from(self.plan.slots), ordered)
            }
            Signal::Utilisation(target) => hpa::by_utilisation(utilisation, target, ready, ordered),
        };
        let decided = self.hpa.decide(Duration::from_nanos(self.now), ordered, wanted);
        let direction = (decided > ordered) as i8 - (decided < ordered) as i8;
        if direction != 0 {
            self.record.flaps += u32::from(self.direction == -direction);
            self.direction = direction;
        }
        for _ in ordered..decided {
            self.replicas.push(Some(Replica { ready: false, leaving: false, busy: 0 }));
            self.after(self.plan.start, Event::ReplicaReady);
        }
        for _ in decided..ordered {
            // As Kubernetes: those that are not ready first, then the youngest.
            let places = self.replicas.iter().enumerate();
            let staying = places.filter_map(|(i, r)| r.filter(|r| !r.leaving).map(|r| (r.ready, Reverse(i))));
            if let Some((_, Reverse(number))) = staying.min() {
                match &mut self.replicas[number] {
                    Some(replica) if replica.busy > 0 => replica.leaving = true,
                    place => *place = None,
                }
            }
        }
        self.ordered = decided;
    }

    fn end_slice(&mut self) {
        let SliceBooks { sent, delivered, latency } = &mut self.slice;
        let share = if *sent == 0 { 1.0 } else { *delivered as f64 / *sent as f64 };
        let p95 = Duration::from_micros(latency.value_at_quantile(0.95));
        let met = share >= self.plan.delivered && p95 <= self.plan.p95;
        (*sent, *delivered) = (0, 0);
        latency.clear();
        self.outage = if met { 0 } else { self.outage + nanos(SLICE) };
        self.record.longest_outage = self.record.longest_outage.max(Duration::from_nanos(self.outage));
        self.record.slices.push(Slice {
            at: self.now as f64 / 1e9,
            streams: self.streams.iter().filter(|stream| stream.streaming).count() as u32,
            replicas: self.ordered,
            depth: self.depth(),
            met,
        });
    }

    fn close(mut self, end: Nanos) -> Record {
        let loaded = self.record.slices.iter().filter(|slice| slice.streams > 0);
        let (all, missed) = loaded.fold((0, 0), |(all, missed), s| (all + 1, missed + u32::from(!s.met)));
        self.record.out_of_objective = f64::from(missed) / f64::from(all.max(1));
        self.record.mean_replicas = self.replica_nanos / end as f64;
        self.record
    }
}

#[cfg(test)]
mod tests;
