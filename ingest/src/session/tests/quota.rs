use super::*;

#[test]
fn frames_over_a_quota_are_dropped_and_a_hint_says_why_and_how_many_get_through() {
    let mut bench = Bench::new(Mode::Live, 2);
    // 25 frames a second, of which every fifth may come.
    for frame in 0..60 {
        if frame % 5 == 0 {
            bench.image();
            bench.finish(0);
            bench.taken();
        } else {
            bench.session.over_quota(bench.now, Resource::Bytes, "used up".into()).unwrap();
            bench.settle();
        }
        bench.wait(Duration::from_millis(40));
    }
    assert_eq!(bench.dropped(), [(DropReason::OverQuota, 48)]);
    assert_eq!(bench.books.total().accepted, 60);
    let hints: Vec<_> = bench
        .told
        .iter()
        .filter_map(|effect| match effect {
            Effect::Hint { fps, quota } => Some((*fps, *quota)),
            _ => None,
        })
        .collect();
    assert!(matches!(hints[..], [(fps, Some(Resource::Bytes))] if (4.0..6.0).contains(&fps)), "{hints:?}");
    bench.session.end();
    assert!(bench.session.over_quota(bench.now, Resource::Bytes, String::new()).is_err());
}
