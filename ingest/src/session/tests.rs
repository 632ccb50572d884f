mod complete;
mod promises;
mod quota;
mod spans;
mod watched;

use bytes::Bytes;
use cloudpose_policy::{deadline::COMPLETE, retry::LONGEST};
use cloudpose_testing::sample::address;
use cloudpose_wire::track::{Joint, Track};
use cloudpose_wire::{Decoded, Event, Kind, ModelId, SkeletonName, Tenant, event::TimingsMs, ws::IfTaken};

use super::*;
use crate::{
    ledger::Books,
    watch::{Bounds, Hub},
};

/// A JPEG of 16×12 pixels.
const IMAGE: &[u8] = include_bytes!("../../tests/images/small.jpg");
const MAX_AGE: Duration = Duration::from_millis(1000);

fn model(name: &str) -> ModelId {
    name.parse().unwrap()
}

struct Bench {
    hub: Hub,
    books: Books,
    session: Session,
    now: Instant,
    /// Frames on the bus.
    bus: Vec<Frame>,
    /// Frames being sent to the client.
    sending: Vec<u64>,
    /// What its door was told, but for frames for the bus.
    told: Vec<Effect>,
    bus_is_full: bool,
    /// The bus does not answer, and has `unanswered`, or not.
    bus_is_slow: bool,
    unanswered: Vec<Frame>,
    /// What the bus was offered.
    offered: Vec<u64>,
}

impl Bench {
    fn new(mode: Mode, window: usize) -> Self {
        let terms = Terms {
            caller: Caller::default(),
            address: address("g"),
            stream: StreamName::new("cam").unwrap(),
            mode,
            window,
            max_age: MAX_AGE,
            max_image_pixels: 1 << 20,
            min_score: 0.2,
            draw_only: None,
            models: cloudpose_bus::Bus::local(Default::default()).models(),
            trace: None,
        };
        let settings = Settings {
            want: Want::Both,
            draw: Draw::Overlay,
            model: model("lightning"),
            quality: 80,
            smooth: true,
        };
        let books = Books::default();
        let account = books.open(terms.kind(), Tenant::default());
        let now = Instant::now();
        let stream = (Tenant::default(), terms.stream.clone());
        let bounds = Bounds { watchers: 9, patience: MAX_AGE, draw_only: None };
        let (hub, _) = Hub::new(terms.address.gateway.clone(), bounds);
        let source =
            hub.open(stream, terms.address.session.clone(), (settings.model.clone(), 1), IfTaken::Share);
        let source = source.unwrap();
        Self {
            hub,
            books,
            session: Session::new(
                terms,
                settings,
                Stamps::new(Duration::from_millis(1), now),
                account,
                source,
            ),
            now,
            bus: vec![],
            sending: vec![],
            told: vec![],
            bus_is_full: false,
            bus_is_slow: false,
            unanswered: vec![],
            offered: vec![],
        }
    }

    /// Does what the loop does.
    fn settle(&mut self) {
        loop {
            self.session.advance(self.now);
            let mut offered = false;
            while let Some(effect) = self.session.next_effect() {
                let Effect::Publish(frame) = effect else {
                    if let Effect::Deliver(delivered) = &effect {
                        self.sending.push(delivered.seq);
                    }
                    self.told.push(effect);
                    continue;
                };
                self.offered.push(frame.header.seq);
                if self.bus_is_slow {
                    self.unanswered.push(*frame);
                    continue;
                }
                offered = true;
                if self.bus_is_full {
                    self.session.refused(self.now, *frame, DropReason::QueueFull);
                } else {
                    self.session.published(self.now, frame.header.seq);
                    self.bus.push(*frame);
                }
            }
            if !offered {
                return;
            }
        }
    }

    fn image(&mut self) {
        self.session.image(self.now, Bytes::from_static(IMAGE)).unwrap();
        self.settle();
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.settle();
    }

    fn taken(&mut self) {
        for seq in std::mem::take(&mut self.sending) {
            self.session.sent(self.now, seq);
        }
        self.settle();
    }

    /// A worker finishes the frame that lies at `index` on the bus.
    fn finish(&mut self, index: usize) {
        let header = self.bus.remove(index).header;
        let model = header.model.clone();
        let event = Event {
            stream: header.stream.clone(),
            seq: header.seq,
            captured_at: header.received_at,
            width: 16,
            height: 16,
            model,
            device: "cpu".into(),
            output: cloudpose_wire::Output::Poses { skeleton: SkeletonName::default(), persons: vec![] },
            timings_ms: TimingsMs::default(),
        };
        self.session.result(header.done(event.into(), None));
        self.settle();
    }

    fn on_bus(&self) -> Vec<u64> {
        self.bus.iter().map(|frame| frame.header.seq).collect()
    }

    fn results(&self) -> Vec<u64> {
        let seq = |effect: &Effect| match effect {
            Effect::Deliver(delivered) => Some(delivered.seq),
            _ => None,
        };
        self.told.iter().filter_map(seq).collect()
    }

    fn dropped(&self) -> Vec<(DropReason, u64)> {
        self.books.total().dropped.into_iter().collect()
    }
}

#[test]
fn window_fills_then_the_newest_waits_and_goes_when_the_client_has_taken_a_result() {
    let mut bench = Bench::new(Mode::Live, 2);
    (0..5).for_each(|_| bench.image());
    assert_eq!(bench.on_bus(), [1, 2]);
    assert_eq!(bench.dropped(), [(DropReason::Superseded, 2)]);
    bench.finish(0);
    assert_eq!(bench.results(), [1]);
    assert_eq!(bench.on_bus(), [2], "the credit is held until the client has taken the result");
    bench.taken();
    assert_eq!(bench.on_bus(), [2, 5]);
    assert_eq!(bench.books.total().delivered, 1);
    assert_eq!(bench.books.total().in_flight(), 2);
}

#[test]
fn live_deadline_shrinks_by_the_time_waited() {
    let mut bench = Bench::new(Mode::Live, 1);
    bench.image();
    bench.image();
    bench.wait(Duration::from_millis(300));
    bench.finish(0);
    bench.taken();
    let deadlines: Vec<u32> = bench.bus.iter().map(|frame| frame.header.deadline_ms).collect();
    assert_eq!(deadlines, [700]);
}

#[test]
fn latency_counts_from_a_frames_arrival_until_its_result_leaves() {
    let mut bench = Bench::new(Mode::Live, 1);
    bench.image();
    bench.wait(Duration::from_millis(100));
    bench.image();
    bench.wait(Duration::from_millis(200));
    bench.finish(0);
    bench.wait(Duration::from_millis(50));
    bench.taken();
    bench.wait(Duration::from_millis(25));
    bench.finish(0);
    let latencies = bench.told.iter().filter_map(|effect| match effect {
        Effect::Deliver(delivered) => Some(delivered.latency.as_millis()),
        _ => None,
    });
    assert_eq!(latencies.collect::<Vec<_>>(), [300, 275], "with the time that the second waited");
}

#[test]
fn live_frame_without_a_word_expires_and_its_late_result_is_ignored() {
    let mut bench = Bench::new(Mode::Live, 1);
    bench.image();
    assert_eq!(bench.session.next_deadline(), Some(bench.now + MAX_AGE + GRACE));
    bench.wait(MAX_AGE + GRACE);
    assert_eq!(bench.dropped(), [(DropReason::Expired, 1)]);
    bench.finish(0);
    assert!(bench.results().is_empty());
    assert_eq!(bench.books.total().in_flight(), 0);
    bench.image();
    assert_eq!(bench.on_bus(), [2], "its credit is free");
}

#[test]
fn overtaken_live_frame_is_late_and_frees_its_credit() {
    let mut bench = Bench::new(Mode::Live, 2);
    (0..2).for_each(|_| bench.image());
    bench.finish(1);
    bench.finish(0);
    assert_eq!(bench.results(), [2]);
    assert_eq!(bench.dropped(), [(DropReason::Late, 1)]);
    bench.image();
    assert_eq!(bench.on_bus(), [3]);
}

#[test]
fn who_was_seen_goes_with_the_next_frame() {
    let mut bench = Bench::new(Mode::Live, 1);
    bench.image();
    let header = &mut bench.bus[0].header;
    assert!(header.prior.as_ref().unwrap().tracks.is_empty());
    let joints = vec![Joint { x: 5.0, y: 6.0, score: 0.9, ..Joint::default() }; 17];
    let seen = Track { key: 0, id: None, seen_at: header.received_at, size: 4.0, joints };
    let tracks = vec![seen];
    header.prior =
        Some(Prior { at: header.received_at, width: 16, height: 16, tracks, ..Prior::default() }.into());
    bench.finish(0);
    bench.taken();
    bench.image();
    let prior = bench.bus[0].header.prior.as_ref().unwrap();
    assert_eq!((prior.width, prior.tracks.len(), prior.tracks[0].joints[0].x), (16, 1, 5.0));
    assert_ne!(prior.tracks[0].key, 0, "the gateway has numbered it");
}

#[test]
fn what_is_open_ends_when_the_session_is_given_up() {
    let mut bench = Bench::new(Mode::Live, 2);
    (0..3).for_each(|_| bench.image());
    bench.session.give_up(DropReason::ShuttingDown);
    assert_eq!(bench.dropped(), [(DropReason::ShuttingDown, 3)]);
    assert_eq!(bench.books.total().in_flight(), 0);
}

#[test]
fn full_lane_is_probed_with_the_oldest_frame_and_less_and_less_often() {
    let mut bench = Bench::new(Mode::Complete, 3);
    bench.bus_is_full = true;
    (0..3).for_each(|_| bench.image());
    bench.offered.clear();
    let until = bench.now + Duration::from_secs(10);
    while let Some(next) = bench.session.next_deadline().filter(|next| *next < until) {
        bench.now = next;
        bench.settle();
    }
    assert!(bench.offered.iter().all(|seq| *seq == 1), "{:?}", bench.offered);
    assert!((10..30).contains(&bench.offered.len()), "{:?}", bench.offered);
    bench.bus_is_full = false;
    bench.wait(Duration::from_secs(1));
    assert_eq!(bench.on_bus(), [1, 2, 3], "the probe was taken, the rest followed");
    assert_eq!(bench.books.total().in_flight(), 3);
}

#[test]
fn complete_frame_that_was_refused_on_the_old_connection_is_another_on_the_new_one() {
    let mut bench = Bench::new(Mode::Complete, 1);
    bench.bus_is_full = true;
    bench.image();
    bench.bus_is_full = false;
    bench.session.reconnected(bench.now);
    bench.wait(LONGEST);
    assert_eq!(bench.bus.iter().map(|frame| frame.header.retries).collect::<Vec<_>>(), [1]);
    bench.session.reconnected(bench.now);
    bench.settle();
    assert_eq!(bench.bus.iter().map(|frame| frame.header.retries).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn refused_live_frame_is_dropped() {
    let mut bench = Bench::new(Mode::Live, 1);
    bench.bus_is_full = true;
    bench.image();
    assert_eq!(bench.dropped(), [(DropReason::QueueFull, 1)]);
}

#[test]
fn decoded_pixels_are_a_frame_like_any_other() {
    let mut bench = Bench::new(Mode::Live, 2);
    let decoded = Decoded::new("pixels", |_| Err("it does not leave this process".to_owned()));
    bench.session.image(bench.now, decoded.clone()).unwrap();
    bench.session.advance(bench.now);
    let published = std::iter::from_fn(|| bench.session.next_effect()).find_map(|effect| match effect {
        Effect::Publish(frame) => Some(frame.image),
        _ => None,
    });
    assert_eq!(published, Some(Payload::Decoded(decoded)));
}

#[test]
fn what_is_no_image_is_told_and_costs_no_credit() {
    let mut bench = Bench::new(Mode::Live, 1);
    bench.session.image(bench.now, Bytes::from_static(b"GIF89a")).unwrap();
    bench.settle();
    assert!(matches!(&bench.told[..], [Effect::Dropped { seq: 1, reason: DropReason::Undecodable, detail }]
        if !detail.is_empty()));
    bench.image();
    assert_eq!(bench.on_bus(), [2]);
    assert_eq!(bench.dropped(), [(DropReason::Undecodable, 1)]);
}

#[test]
fn configure_counts_from_the_next_frame_on() {
    let mut bench = Bench::new(Mode::Live, 2);
    bench.image();
    let change = Change { want: Some(Want::Overlay), model: Some(model("thunder")), ..Change::default() };
    bench.session.configure(change).unwrap();
    bench.image();
    let wants: Vec<_> =
        bench.bus.iter().map(|f| (f.header.want, f.header.model.clone(), f.header.quality)).collect();
    let expected = [(Want::Both, model("lightning"), 80), (Want::Overlay, model("thunder"), 80)];
    assert_eq!(wants, expected);
    bench.finish(0);
    bench.finish(0);
    let has_pose = |effect: &Effect| match effect {
        Effect::Deliver(delivered) => Some(delivered.event.is_some()),
        _ => None,
    };
    assert_eq!(bench.told.iter().filter_map(has_pose).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn change_that_is_wrong_in_one_thing_changes_nothing() {
    let mut bench = Bench::new(Mode::Live, 1);
    for quality in [0, 101] {
        let change = Change { want: Some(Want::Pose), quality: Some(quality), ..Change::default() };
        assert_eq!(bench.session.configure(change), Err(BadSetting::Quality(quality)));
    }
    bench.image();
    assert_eq!((bench.bus[0].header.want, bench.bus[0].header.quality), (Want::Both, 80));
}

#[test]
fn end_finishes_what_waits_and_takes_no_more() {
    let mut bench = Bench::new(Mode::Live, 1);
    (0..2).for_each(|_| bench.image());
    bench.session.end();
    assert_eq!(bench.session.image(bench.now, Bytes::from_static(IMAGE)), Err(AfterEnd));
    for seq in 1..=2 {
        assert!(!bench.session.finished());
        assert_eq!(bench.on_bus(), [seq]);
        bench.finish(0);
        bench.taken();
    }
    assert!(bench.session.finished());
    assert_eq!(bench.books.total().accepted, 2);
}

#[test]
fn stamps_rise_with_the_time_that_passed_though_nobody_asks_a_wall_clock() {
    let mut bench = Bench::new(Mode::Live, 2);
    bench.image();
    bench.wait(Duration::from_millis(40));
    bench.image();
    assert_eq!(bench.bus.iter().map(|frame| frame.header.received_at).collect::<Vec<_>>(), [1, 41]);
}

#[test]
fn result_that_overtakes_the_buss_answer_is_delivered_and_the_answer_ignored() {
    for mode in [Mode::Live, Mode::Complete] {
        for refused in [true, false] {
            let mut bench = Bench::new(mode, 1);
            bench.bus_is_slow = true;
            bench.image();
            let frame = bench.unanswered.pop().unwrap();
            bench.bus.push(frame.clone());
            bench.finish(0);
            if refused {
                bench.session.refused(bench.now, frame, DropReason::BusDown);
            } else {
                bench.session.published(bench.now, 1);
            }
            bench.wait(COMPLETE + GRACE);
            assert_eq!((bench.results(), bench.offered.as_slice()), (vec![1], &[1][..]), "{mode:?}");
            bench.taken();
            assert_eq!((bench.books.total().delivered, bench.dropped()), (1, vec![]), "{mode:?}");
        }
    }
}

#[test]
fn complete_frame_that_the_old_connection_refuses_late_is_another_on_the_new_one() {
    let mut bench = Bench::new(Mode::Complete, 1);
    bench.bus_is_slow = true;
    bench.image();
    bench.session.reconnected(bench.now);
    bench.settle();
    for frame in std::mem::take(&mut bench.unanswered) {
        bench.session.refused(bench.now, frame, DropReason::BusDown);
    }
    bench.bus_is_slow = false;
    bench.wait(LONGEST);
    assert_eq!(bench.bus.iter().map(|frame| frame.header.retries).collect::<Vec<_>>(), [1]);
}
