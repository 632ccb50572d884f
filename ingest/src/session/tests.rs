use cloudpose_policy::{deadline::COMPLETE, retry::LONGEST};
use cloudpose_wire::{Event, GatewayId, SessionId, SkeletonName, event::TimingsMs};
use proptest::prelude::*;

use super::*;
use crate::ledger::Books;

/// A JPEG of 16×12 pixels.
const IMAGE: &[u8] = include_bytes!("../../tests/images/small.jpg");
const MAX_AGE: Duration = Duration::from_millis(1000);

fn model(name: &str) -> ModelId {
    name.parse().unwrap()
}

struct Bench {
    books: Books,
    session: Session,
    now: Instant,
    /// Frames on the bus.
    bus: Vec<Frame>,
    /// Frames being sent to the client.
    sending: Vec<u64>,
    /// What it was told.
    told: Vec<ServerMessage>,
    bus_is_full: bool,
    /// What the bus was offered.
    offered: Vec<u64>,
}

impl Bench {
    fn new(mode: Mode, window: usize, drops: bool) -> Self {
        let session = SessionId::new("s").unwrap();
        let reply = Reply::Session { gateway: GatewayId::new("g").unwrap(), session: session.clone() };
        let limits = Limits { max_image_bytes: 1 << 20, max_image_pixels: 1 << 20, window, max_age_ms: 1000 };
        let terms = Terms {
            reply,
            session,
            stream: StreamName::new("cam").unwrap(),
            mode,
            limits,
            min_score: 0.2,
            models: cloudpose_bus::Bus::local(Default::default()).models(),
            trace: None,
        };
        let settings =
            Settings { want: Want::Both, model: model("lightning"), quality: 80, drops, smooth: true };
        let books = Books::default();
        let account = books.open(terms.kind());
        let mut bench = Self {
            books,
            session: Session::new(terms, settings, account),
            now: Instant::now(),
            bus: vec![],
            sending: vec![],
            told: vec![],
            bus_is_full: false,
            offered: vec![],
        };
        bench.settle();
        assert!(matches!(bench.told.pop(), Some(ServerMessage::Hello { .. })));
        bench
    }

    /// Does what the loop does.
    fn settle(&mut self) {
        loop {
            self.session.advance(self.now);
            let mut offered = false;
            while let Some(output) = self.session.next_output() {
                match output {
                    Output::Publish(frame) => {
                        offered = true;
                        self.offered.push(frame.header.seq);
                        if self.bus_is_full {
                            self.session.refused(self.now, *frame, DropReason::QueueFull);
                        } else {
                            self.session.published(frame.header.seq);
                            self.bus.push(*frame);
                        }
                    }
                    Output::Send(message) => self.told.push(message),
                    Output::Deliver { seq, result, .. } => {
                        self.sending.push(seq);
                        self.told.push(result);
                    }
                }
            }
            if !offered {
                return;
            }
        }
    }

    fn image(&mut self) {
        self.session.image(self.now, 1, Bytes::from_static(IMAGE));
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
        let seq = |message: &ServerMessage| match message {
            ServerMessage::Result { seq, .. } => Some(*seq),
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
    let mut bench = Bench::new(Mode::Live, 2, true);
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
    let mut bench = Bench::new(Mode::Live, 1, false);
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
    let mut bench = Bench::new(Mode::Live, 1, false);
    bench.image();
    bench.wait(Duration::from_millis(100));
    bench.image();
    bench.wait(Duration::from_millis(200));
    bench.finish(0);
    bench.wait(Duration::from_millis(50));
    bench.taken();
    bench.wait(Duration::from_millis(25));
    bench.finish(0);
    let latencies = bench.told.iter().filter_map(|message| match message {
        ServerMessage::Result { latency_ms, .. } => Some(latency_ms.round()),
        _ => None,
    });
    assert_eq!(latencies.collect::<Vec<_>>(), [300.0, 275.0], "with the time that the second waited");
}

#[test]
fn live_frame_without_a_word_expires_and_its_late_result_is_ignored() {
    let mut bench = Bench::new(Mode::Live, 1, true);
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
    let mut bench = Bench::new(Mode::Live, 2, false);
    (0..2).for_each(|_| bench.image());
    bench.finish(1);
    bench.finish(0);
    assert_eq!(bench.results(), [2]);
    assert_eq!(bench.dropped(), [(DropReason::Late, 1)]);
    bench.image();
    assert_eq!(bench.on_bus(), [3]);
}

#[test]
fn complete_session_reads_no_more_and_delivers_all_in_order() {
    let mut bench = Bench::new(Mode::Complete, 2, false);
    (0..3).for_each(|_| bench.image());
    assert!(!bench.session.accepts());
    assert!(bench.bus.iter().all(|frame| frame.header.kind == Kind::Still));
    bench.finish(1);
    assert!(bench.results().is_empty(), "the first is still at work");
    bench.finish(0);
    assert_eq!(bench.results(), [1, 2]);
    bench.taken();
    assert!(bench.session.accepts());
    assert_eq!(bench.on_bus(), [3]);
}

#[test]
fn complete_session_offers_a_refused_frame_again() {
    let mut bench = Bench::new(Mode::Complete, 1, false);
    bench.bus_is_full = true;
    bench.image();
    bench.wait(COMPLETE - 2 * LONGEST);
    assert!(bench.on_bus().is_empty());
    assert_eq!(
        bench.books.total().in_flight(),
        1,
        "a lane that is full for less than a minute loses nothing"
    );
    bench.bus_is_full = false;
    bench.wait(LONGEST);
    assert_eq!(bench.on_bus(), [1]);
    assert_eq!(bench.session.next_deadline(), Some(bench.now + COMPLETE + GRACE));
    bench.wait(COMPLETE + GRACE);
    assert_eq!(bench.dropped(), [(DropReason::BusLost, 1)]);
}

#[test]
fn complete_session_gives_up_what_a_full_lane_does_not_take_for_a_minute() {
    let mut bench = Bench::new(Mode::Complete, 1, true);
    bench.bus_is_full = true;
    (0..2).for_each(|_| bench.image());
    assert!(!bench.session.accepts());
    bench.wait(COMPLETE);
    assert_eq!(bench.dropped(), [(DropReason::QueueFull, 1)]);
    assert!(matches!(&bench.told[..], [ServerMessage::Drop { seq: 1, reason: DropReason::QueueFull, .. }]));
    assert!(bench.session.accepts(), "its credit is free");
    bench.bus_is_full = false;
    bench.wait(LONGEST);
    assert_eq!(bench.on_bus(), [2]);
}

#[test]
fn new_broker_is_offered_at_once_what_the_old_one_refused() {
    let mut bench = Bench::new(Mode::Complete, 2, false);
    bench.bus_is_full = true;
    (0..2).for_each(|_| bench.image());
    bench.bus_is_full = false;
    bench.settle();
    assert!(bench.on_bus().is_empty(), "not before the pause is over");
    bench.session.reconnected(bench.now);
    bench.settle();
    assert_eq!(bench.on_bus(), [1, 2]);
}

#[test]
fn refused_frame_whose_result_comes_all_the_same_is_not_offered_again() {
    let mut bench = Bench::new(Mode::Complete, 1, false);
    bench.image();
    let frame = bench.bus[0].clone();
    bench.session.refused(bench.now, frame, DropReason::BusDown);
    bench.settle();
    bench.finish(0);
    bench.wait(LONGEST);
    assert_eq!((bench.results(), bench.offered.as_slice()), (vec![1], &[1][..]));
}

#[test]
fn full_lane_is_probed_with_the_oldest_frame_and_less_and_less_often() {
    let mut bench = Bench::new(Mode::Complete, 3, false);
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
fn complete_session_tells_a_new_broker_what_is_at_work_and_a_live_one_does_not() {
    for (mode, again) in [(Mode::Complete, vec![1]), (Mode::Live, vec![])] {
        let mut bench = Bench::new(mode, 2, false);
        (0..2).for_each(|_| bench.image());
        bench.finish(1);
        let before = bench.on_bus();
        assert_eq!(before, [1]);
        let first = bench.bus.clone();
        bench.bus.clear();
        bench.session.reconnected(bench.now);
        bench.settle();
        assert_eq!(bench.on_bus(), again, "{mode:?}");
        let mut expected = first[0].clone();
        expected.header.retries = 1;
        assert!(bench.bus.iter().all(|frame| *frame == expected), "as it was, but for the number of the try");
    }
}

#[test]
fn complete_frame_that_was_refused_on_the_old_connection_is_another_on_the_new_one() {
    let mut bench = Bench::new(Mode::Complete, 1, false);
    bench.bus_is_full = true;
    bench.image();
    bench.bus_is_full = false;
    bench.session.reconnected(bench.now);
    bench.wait(cloudpose_policy::retry::FIRST);
    assert_eq!(bench.bus.iter().map(|frame| frame.header.retries).collect::<Vec<_>>(), [1]);
    bench.session.reconnected(bench.now);
    bench.settle();
    assert_eq!(bench.bus.iter().map(|frame| frame.header.retries).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn refused_live_frame_is_dropped() {
    let mut bench = Bench::new(Mode::Live, 1, false);
    bench.bus_is_full = true;
    bench.image();
    assert_eq!(bench.dropped(), [(DropReason::QueueFull, 1)]);
}

#[test]
fn what_is_no_image_is_told_and_costs_no_credit() {
    let mut bench = Bench::new(Mode::Live, 1, false);
    bench.session.image(bench.now, 1, Bytes::from_static(b"GIF89a"));
    bench.settle();
    assert!(matches!(&bench.told[..], [ServerMessage::Error { code: ErrorCode::BadFrame, message }]
        if message.starts_with("frame 1: ")));
    bench.image();
    assert_eq!(bench.on_bus(), [2]);
    assert_eq!(bench.dropped(), [(DropReason::Undecodable, 1)]);
}

#[test]
fn configure_counts_from_the_next_frame_on() {
    let mut bench = Bench::new(Mode::Live, 2, false);
    bench.image();
    bench.session.text(r#"{"type":"configure","want":"overlay","model":"thunder"}"#);
    bench.image();
    let wants: Vec<_> =
        bench.bus.iter().map(|f| (f.header.want, f.header.model.clone(), f.header.quality)).collect();
    let expected = [(Want::Both, model("lightning"), 80), (Want::Overlay, model("thunder"), 80)];
    assert_eq!(wants, expected);
    bench.finish(0);
    bench.finish(0);
    let has_pose = |message: &ServerMessage| match message {
        ServerMessage::Result { event, .. } => Some(event.is_some()),
        _ => None,
    };
    assert_eq!(bench.told.iter().filter_map(has_pose).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn text_that_we_do_not_know_is_told() {
    for text in
        ["", "{}", "hello", r#"{"type":"configure","quality":0}"#, r#"{"type":"configure","quality":101}"#]
    {
        let mut bench = Bench::new(Mode::Live, 1, false);
        bench.session.text(text);
        bench.settle();
        assert!(
            matches!(bench.told[..], [ServerMessage::Error { code: ErrorCode::BadMessage, .. }]),
            "{text:?}: {:?}",
            bench.told
        );
    }
}

#[test]
fn end_finishes_what_waits_and_takes_no_more() {
    let mut bench = Bench::new(Mode::Live, 1, false);
    (0..2).for_each(|_| bench.image());
    bench.session.text(r#"{"type":"end"}"#);
    bench.image();
    assert!(matches!(bench.told[..], [ServerMessage::Error { code: ErrorCode::BadMessage, .. }]));
    for seq in 1..=2 {
        assert!(!bench.session.finished());
        assert_eq!(bench.on_bus(), [seq]);
        bench.finish(0);
        bench.taken();
    }
    assert!(bench.session.finished());
    assert_eq!(bench.books.total().accepted, 2);
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Image,
    Junk,
    Finish(usize),
    Fail(usize),
    Taken,
    Wait(u64),
    BusFull(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Image),
        1 => Just(Step::Junk),
        4 => (0usize..4).prop_map(Step::Finish),
        1 => (0usize..4).prop_map(Step::Fail),
        4 => Just(Step::Taken),
        2 => (1u64..1500).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::BusFull),
    ];
    prop::collection::vec(step, 0..150)
}

proptest! {
    /// Whatever happens: the ledger closes, results rise in seq, the window holds, and once all is quiet
    /// no frame of a session that ends is open.
    #[test]
    fn session_keeps_its_promises(complete: bool, window in 1usize..4, steps in steps()) {
        let mode = if complete { Mode::Complete } else { Mode::Live };
        let mut bench = Bench::new(mode, window, true);
        let begun = bench.now;
        for step in steps {
            match step {
                Step::Image if bench.session.accepts() => bench.image(),
                Step::Junk => bench.session.image(bench.now, 1, Bytes::new()),
                Step::Finish(index) if index < bench.bus.len() => bench.finish(index),
                Step::Fail(index) if index < bench.bus.len() => {
                    let header = bench.bus.remove(index).header;
                    bench.session.result(header.dropped(DropReason::InferFailed, "x"));
                    bench.settle();
                }
                Step::Taken => bench.taken(),
                Step::Wait(ms) => bench.wait(Duration::from_millis(ms)),
                Step::BusFull(full) => bench.bus_is_full = full,
                _ => {}
            }
            prop_assert!(bench.session.flights.len() <= window);
        }
        let took = bench.now - begun;
        bench.session.end();
        bench.bus_is_full = false;
        for _ in 0..8 {
            bench.wait(LONGEST);
            bench.taken();
            bench.wait(COMPLETE + GRACE);
        }
        prop_assert!(bench.session.finished());
        prop_assert!(bench.results().is_sorted_by(|a, b| a < b));
        let total = bench.books.total();
        prop_assert_eq!(total.in_flight(), 0);
        prop_assert_eq!(total.delivered as usize, bench.results().len());
        let told_drops = bench.told.iter().filter(|m| matches!(m, ServerMessage::Drop { .. })).count();
        prop_assert_eq!(total.dropped.values().sum::<u64>() as usize, told_drops);
        let lossy = [DropReason::Superseded, DropReason::Expired, DropReason::Late];
        prop_assert!(!complete || lossy.iter().all(|reason| !total.dropped.contains_key(reason)));
        let full = total.dropped.contains_key(&DropReason::QueueFull);
        prop_assert!(!complete || !full || took + LONGEST >= COMPLETE);
    }
}
