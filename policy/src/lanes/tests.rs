use proptest::prelude::*;

use super::*;

const BOUNDS: Bounds = Bounds { live: 3, still: 2 };
const BUDGET: Duration = Duration::from_secs(1);

fn queued(kind: Kind, since: Instant, frame: u32) -> Queued<u32> {
    of("acme", "cam", kind, since, frame)
}

fn of(tenant: &str, stream: &str, kind: Kind, since: Instant, frame: u32) -> Queued<u32> {
    let owner = Owner { tenant: tenant.parse().unwrap(), stream: stream.parse().unwrap() };
    Queued { kind, owner, since, budget: BUDGET, frame }
}

fn begun(lanes: &mut Lanes<u32>, now: Instant) -> Vec<u32> {
    let next = || match lanes.poll(now)? {
        Next::Begin(queued) => Some(queued.frame),
        Next::Expire(queued) => panic!("{queued:?} expired"),
    };
    std::iter::from_fn(next).collect()
}

#[test]
fn full_live_lane_lets_the_oldest_go_and_a_full_still_lane_refuses() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
    for frame in 1..=3 {
        assert_eq!(lanes.push(queued(Kind::Live, now, frame)), Ok(None));
    }
    assert_eq!(lanes.push(queued(Kind::Live, now, 4)), Ok(Some(queued(Kind::Live, now, 1))));
    assert_eq!(begun(&mut lanes, now), [2, 3, 4]);
    for frame in 5..=6 {
        assert_eq!(lanes.push(queued(Kind::Still, now, frame)), Ok(None));
    }
    assert_eq!(lanes.push(queued(Kind::Still, now, 7)), Err(Full));
    assert_eq!((lanes.depth(Kind::Live), lanes.depth(Kind::Still)), (0, 2));
    assert_eq!(begun(&mut lanes, now), [5, 6]);
}

#[test]
fn live_and_still_take_turns_and_what_is_too_old_takes_none() {
    let (start, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
    let late = start + BUDGET / 2 + Duration::from_millis(1);
    lanes.push(queued(Kind::Live, start, 1)).unwrap();
    for frame in [2, 3] {
        lanes.push(queued(Kind::Live, late, frame)).unwrap();
        lanes.push(queued(Kind::Still, start, 10 * frame)).unwrap();
    }
    assert_eq!(lanes.oldest(Kind::Live), Some(start));
    assert_eq!(lanes.poll(late), Some(Next::Expire(queued(Kind::Live, start, 1))));
    assert_eq!(lanes.oldest(Kind::Live), Some(late));
    assert_eq!(begun(&mut lanes, late), [2, 20, 3, 30]);
}

#[test]
fn what_is_put_back_is_next_even_on_a_full_lane() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
    for frame in 1..=2 {
        lanes.push(queued(Kind::Still, now, frame)).unwrap();
    }
    let Some(Next::Begin(first)) = lanes.poll(now) else { panic!("somebody waits") };
    lanes.push(queued(Kind::Still, now, 3)).unwrap();
    lanes.put_back(first);
    assert_eq!(begun(&mut lanes, now), [1, 2, 3]);
    assert!(lanes.is_empty());
}

#[test]
fn others_come_when_it_is_not_their_turn_and_have_had_it_then() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(Bounds { live: 9, still: 9 }));
    (1..=2).for_each(|frame| drop(lanes.push(of("flood", "cam", Kind::Live, now, frame))));
    let flood = "flood".parse().unwrap();
    assert_eq!(lanes.poll_others(&flood, now), None);
    (11..=12).for_each(|frame| drop(lanes.push(of("door", "cam", Kind::Live, now, frame))));
    assert_eq!(lanes.poll_others(&flood, now), Some(Next::Begin(of("door", "cam", Kind::Live, now, 11))));
    assert_eq!(begun(&mut lanes, now), [1, 12, 2]);
}

#[test]
fn tenants_have_turns_then_their_kinds_then_their_streams() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(Bounds::default()));
    for frame in 0..6 {
        lanes.push(of("flood", &format!("s{}", frame % 2), Kind::Live, now, frame)).unwrap();
        lanes.push(of("flood", "all", Kind::Still, now, 10 + frame)).unwrap();
    }
    for frame in 20..23 {
        lanes.push(of("door", "cam", Kind::Live, now, frame)).unwrap();
    }
    assert_eq!(begun(&mut lanes, now)[..8], [0, 20, 10, 21, 1, 22, 11, 2]);
}

#[test]
fn streams_of_a_tenant_have_turns_however_many_frames_each_has() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(Bounds::default()));
    for frame in 0..5 {
        lanes.push(of("acme", "busy", Kind::Still, now, frame)).unwrap();
    }
    lanes.push(of("acme", "calm", Kind::Still, now, 9)).unwrap();
    assert_eq!(begun(&mut lanes, now), [0, 9, 1, 2, 3, 4]);
}

#[test]
fn frames_that_may_grow_old_get_no_more_turns_than_those_that_may_not() {
    let (start, mut lanes) = (Instant::now(), Lanes::new(Bounds::default()));
    let (patient, hasty) = ((0..9).map(|n| format!("p{n}")), (0..3).map(|n| format!("h{n}")));
    let streams: Vec<String> = patient.chain(hasty).collect();
    let mut begun = vec![0; streams.len()];
    let mut waits = vec![false; streams.len()];
    // Twelve streams send as fast as they may, and a worker takes 100 ms for a frame: a round is 1.2 s.
    for tick in 0..1200 {
        let now = start + Duration::from_millis(100) * tick;
        for (index, stream) in streams.iter().enumerate().filter(|(index, _)| !waits[*index]) {
            let budget = Duration::from_secs(if stream.starts_with('p') { 10 } else { 1 });
            lanes.push(Queued { budget, ..of("acme", stream, Kind::Live, now, index as u32) }).unwrap();
        }
        waits.fill(true);
        loop {
            match lanes.poll(now).expect("all send") {
                Next::Begin(Queued { frame, .. }) => {
                    (begun[frame as usize], waits[frame as usize]) = (begun[frame as usize] + 1, false);
                    break;
                }
                Next::Expire(Queued { frame, owner, .. }) => {
                    let again = of("acme", owner.stream.as_str(), Kind::Live, now, frame);
                    lanes.push(again).unwrap();
                }
            }
        }
    }
    assert!(begun.iter().all(|count| (98..=102).contains(count)), "{begun:?}");
}

#[test]
fn a_tenant_that_fills_a_lane_keeps_no_other_from_its_share() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(Bounds { live: 4, still: 4 }));
    for frame in 0..4 {
        lanes.push(of("flood", "s", Kind::Still, now, frame)).unwrap();
        lanes.push(of("flood", "s", Kind::Live, now, frame)).unwrap();
    }
    assert_eq!(lanes.push(of("flood", "t", Kind::Still, now, 4)), Err(Full));
    for frame in 5..7 {
        assert_eq!(lanes.push(of("door", "cam", Kind::Still, now, frame)), Ok(None));
    }
    assert_eq!(lanes.push(of("door", "cam", Kind::Still, now, 7)), Err(Full), "half of it is its share");
    for frame in 0..2 {
        let gave_way = lanes.push(of("door", "cam", Kind::Live, now, 10 + frame)).unwrap();
        assert_eq!(gave_way.map(|queued| queued.frame), Some(frame), "the oldest of who has most");
    }
    assert_eq!((lanes.depth(Kind::Live), lanes.depth(Kind::Still)), (4, 6));
    let gave_way = lanes.push(of("third", "cam", Kind::Live, now, 20)).unwrap();
    assert!(gave_way.is_some_and(|queued| [2, 10].contains(&queued.frame)));
}

#[test]
fn streams_with_much_to_do_leave_room_for_those_who_wait_one_by_one() {
    let (now, mut lanes) = (Instant::now(), Lanes::new(Bounds { live: 4, still: 16 }));
    let video = |lanes: &mut Lanes<u32>| lanes.push(of("acme", "video", Kind::Still, now, 0));
    for _ in 0..14 {
        assert_eq!(video(&mut lanes), Ok(None));
    }
    assert_eq!(video(&mut lanes), Err(Full));
    for photo in ["one", "two"] {
        assert_eq!(lanes.push(of("acme", photo, Kind::Still, now, 1)), Ok(None));
    }
    assert_eq!(lanes.push(of("acme", "three", Kind::Still, now, 1)), Err(Full));
    assert_eq!(begun(&mut lanes, now)[..3], [0, 1, 1], "and wait behind one frame of it");
}

proptest! {
    /// Every frame is refused, gives way, is begun or expires, or still waits; neither lane exceeds its bound, the still
    /// lane twice that;
    /// those of a stream go in order.
    #[test]
    fn every_frame_has_one_fate(steps in prop::collection::vec((0u64..400, any::<bool>(), 0u8..3, 0usize..6), 0..200)) {
        let (mut now, mut lanes) = (Instant::now(), Lanes::new(BOUNDS));
        let (mut fates, mut begun) = (vec![], HashMap::<_, Vec<u32>>::new());
        for (frame, (wait, live, what, whose)) in (0..).zip(steps) {
            now += Duration::from_millis(wait);
            let kind = if live { Kind::Live } else { Kind::Still };
            if what > 0 {
                let (tenant, stream) = (["a", "b", "c"][whose % 3], ["x", "y"][whose / 3]);
                match lanes.push(of(tenant, stream, kind, now, frame)) {
                    Ok(gave_way) => fates.extend(gave_way.map(|queued| queued.frame)),
                    Err(Full) => fates.push(frame),
                }
            } else {
                fates.push(frame);
                match lanes.poll(now) {
                    Some(Next::Begin(queued)) => {
                        let Owner { tenant, stream } = queued.owner;
                        begun.entry((tenant, stream, queued.kind)).or_default().push(queued.frame);
                        fates.push(queued.frame);
                    }
                    Some(Next::Expire(queued)) => fates.push(queued.frame),
                    None => prop_assert!(lanes.is_empty()),
                }
            }
            let waiting = [Kind::Live, Kind::Still].map(|kind| lanes.depth(kind));
            prop_assert!(waiting[0] <= BOUNDS.live && waiting[1] <= 2 * BOUNDS.still);
            prop_assert_eq!(lanes.is_empty(), waiting == [0, 0]);
            prop_assert_eq!(fates.len() + waiting[0] + waiting[1], frame as usize + 1);
        }
        prop_assert!(begun.values().all(|frames| frames.is_sorted()));
        fates.sort_unstable();
        prop_assert!(fates.is_sorted_by(|a, b| a < b), "twice: {:?}", fates);
    }
}
