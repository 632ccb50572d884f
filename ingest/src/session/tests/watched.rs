//! What those who watch see of a session, which does not notice.

use cloudpose_wire::View;

use super::*;
use crate::watch::{Watcher, Wish};

fn watch(bench: &Bench, want: Want) -> Watcher {
    let wish = Wish { want, draw: Draw::Overlay, fps: None };
    bench.hub.watch(&Tenant::default(), &StreamName::new("cam").unwrap(), wish).unwrap()
}

fn seen(watcher: &mut Watcher) -> Vec<View> {
    use futures_util::FutureExt as _;
    std::iter::from_fn(|| Some(watcher.next().now_or_never()?.unwrap().view)).collect()
}

/// A worker finishes `frame`.
fn answer(bench: &mut Bench, Frame { header, .. }: &Frame) {
    let picture = header.want.overlay().then(|| Bytes::from_static(b"a picture"));
    bench.session.result(header.done(cloudpose_testing::sample::pose(header.seq), picture));
    bench.settle();
}

#[test]
fn a_session_that_wants_poses_is_asked_for_pictures_beside_its_own_wish() {
    let mut bench = Bench::new(Mode::Live, 2);
    bench.session.configure(Change { want: Some(Want::Pose), ..Change::default() }).unwrap();
    let (mut events, mut pictures) = (watch(&bench, Want::Pose), watch(&bench, Want::Overlay));
    bench.image();
    let frame = bench.bus.remove(0);
    assert_eq!((frame.header.want, &frame.header.watched[..]), (Want::Pose, &[Draw::Overlay][..]));
    answer(&mut bench, &frame);
    assert_eq!(seen(&mut events).iter().map(|view| view.seq).collect::<Vec<_>>(), [1]);
    assert!(seen(&mut pictures).is_empty(), "its picture comes beside its result");
}

#[test]
fn what_a_session_has_drawn_is_shown_and_not_drawn_again() {
    let mut bench = Bench::new(Mode::Live, 2);
    let mut pictures = watch(&bench, Want::Overlay);
    bench.image();
    let frame = bench.bus.remove(0);
    assert!(frame.header.want.overlay() && frame.header.watched.is_empty());
    answer(&mut bench, &frame);
    assert!(seen(&mut pictures)[0].picture.is_some());
}

#[test]
fn a_picture_that_is_drawn_otherwise_than_asked_for_is_seen_by_nobody() {
    let mut bench = Bench::new(Mode::Live, 2);
    bench.session.configure(Change { draw: Some(Draw::Redacted), ..Change::default() }).unwrap();
    let mut pictures = watch(&bench, Want::Overlay);
    bench.image();
    let mut frame = bench.bus.remove(0);
    assert_eq!(frame.header.draw, Draw::Redacted);
    frame.header.draw = Draw::Overlay;
    answer(&mut bench, &frame);
    assert!(seen(&mut pictures).is_empty());
    assert_eq!(bench.books.total().dropped.get(&DropReason::AnnotateFailed), Some(&1));
}
