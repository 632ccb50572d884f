//! Wake-ups of the bus inside one process, between a worker's look at its lanes and its sleep.
//!
//! That is a moment of nanoseconds. But in it a worker tells gateways of frames that were too old, and says so in
//! the log if such a gateway is gone: whoever listens to the log is in that moment, for as long as they like.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{cell::RefCell, thread, time::Instant};

use cloudpose_bus::{Bus, Capacity};
use cloudpose_testing::sample::frame;
use cloudpose_wire::{Kind, Stage};
use futures_util::FutureExt as _;
use tracing::{
    Event, Metadata, Subscriber,
    span::{Attributes, Id, Record},
};

type Then = Box<dyn FnOnce()>;

thread_local! {
    /// What to do when this thread logs something next.
    static THEN: RefCell<Option<Then>> = const { RefCell::new(None) };
}

struct Log;

impl Subscriber for Log {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        if let Some(then) = THEN.take() {
            then();
        }
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

fn publish(bus: &Bus, seq: u64) {
    bus.publish(Stage::Infer, frame(Kind::Live, seq)).now_or_never().unwrap().unwrap();
}

/// Publishes a frame that is too old already, for a gateway that is not there.
fn publish_old(bus: &Bus) {
    let mut old = frame(Kind::Live, 1);
    old.header.deadline_ms = 0;
    bus.publish(Stage::Infer, old).now_or_never().unwrap().unwrap();
    let now = Instant::now();
    while now.elapsed().is_zero() {}
}

/// The number of the frame that a worker gets without waiting. Between its look and its sleep it does `then`.
fn pull(bus: &Bus, then: impl FnOnce() + 'static) -> Option<u64> {
    THEN.set(Some(Box::new(then)));
    let taken = bus.pull(Stage::Infer, 1).now_or_never()?;
    assert!(THEN.take().is_none(), "the moment came");
    Some(taken[0].frame.header.seq)
}

#[test]
fn two_workers_that_looked_before_two_frames_came_both_get_one() {
    tracing::subscriber::set_global_default(Log).unwrap();
    let bus = Bus::local(Capacity::default());
    publish_old(&bus);
    let first = {
        let bus = bus.clone();
        move || {
            // The other worker, on a thread of its own, comes to the same moment; then the two frames.
            publish_old(&bus);
            let other = thread::spawn({
                let bus = bus.clone();
                move || {
                    pull(&bus.clone(), move || {
                        publish(&bus, 5);
                        publish(&bus, 7);
                    })
                }
            });
            assert_eq!(other.join().unwrap(), Some(5));
        }
    };
    assert_eq!(pull(&bus, first), Some(7), "a worker sleeps beside a frame");
}
