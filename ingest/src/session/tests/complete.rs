//! Sessions in which every frame counts.

use super::*;

#[test]
fn complete_session_reads_no_more_and_delivers_all_in_order() {
    let mut bench = Bench::new(Mode::Complete, 2);
    (0..3).for_each(|_| bench.image());
    assert!(!bench.session.accepts());
    assert!(bench.bus.iter().all(|frame| frame.header.route.kind() == Kind::Still));
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
    let mut bench = Bench::new(Mode::Complete, 1);
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
    let mut bench = Bench::new(Mode::Complete, 1);
    bench.bus_is_full = true;
    (0..2).for_each(|_| bench.image());
    assert!(!bench.session.accepts());
    bench.wait(COMPLETE);
    assert_eq!(bench.dropped(), [(DropReason::QueueFull, 1)]);
    assert!(matches!(&bench.told[..], [Effect::Dropped { seq: 1, reason: DropReason::QueueFull, .. }]));
    assert!(bench.session.accepts(), "its credit is free");
    bench.bus_is_full = false;
    bench.wait(LONGEST);
    assert_eq!(bench.on_bus(), [2]);
}

#[test]
fn a_frame_that_is_told_again_is_not_copied() {
    let mut bench = Bench::new(Mode::Complete, 1);
    bench.image();
    bench.session.reconnected(bench.now);
    bench.settle();
    let [first, again] = &bench.bus[..] else { panic!("it goes on the bus twice") };
    assert_eq!((first.header.retries, again.header.retries), (0, 1));
    let prior = |frame: &Frame| frame.header.prior.clone().unwrap();
    assert!(Arc::ptr_eq(&prior(first), &prior(again)));
    let image = |frame: &Frame| frame.image.encode().unwrap();
    assert!(std::ptr::eq(&raw const image(first)[..], &raw const image(again)[..]));
}

#[test]
fn complete_session_does_not_offer_again_what_no_bus_will_take() {
    for reason in [DropReason::TooLarge, DropReason::Undecodable] {
        let mut bench = Bench::new(Mode::Complete, 1);
        bench.bus_is_slow = true;
        bench.image();
        let frame = bench.unanswered.remove(0);
        bench.session.refused(bench.now, frame, reason);
        bench.wait(LONGEST);
        assert_eq!((bench.dropped(), &bench.offered[..]), (vec![(reason, 1)], &[1][..]));
    }
}

#[test]
fn new_broker_is_offered_at_once_what_the_old_one_refused() {
    let mut bench = Bench::new(Mode::Complete, 2);
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
    let mut bench = Bench::new(Mode::Complete, 1);
    bench.image();
    let frame = bench.bus[0].clone();
    bench.session.refused(bench.now, frame, DropReason::BusDown);
    bench.settle();
    bench.finish(0);
    bench.wait(LONGEST);
    assert_eq!((bench.results(), bench.offered.as_slice()), (vec![1], &[1][..]));
}

#[test]
fn complete_session_tells_a_new_broker_what_is_at_work_and_a_live_one_does_not() {
    for (mode, again) in [(Mode::Complete, vec![1]), (Mode::Live, vec![])] {
        let mut bench = Bench::new(mode, 2);
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
