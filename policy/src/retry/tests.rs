use proptest::prelude::*;

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

fn retry(seed: u64) -> Retry<u64> {
    Retry::new(&seed, PATIENCE)
}

fn drain(retry: &mut Retry<u64>, now: Instant) -> Vec<Next<u64>> {
    std::iter::from_fn(|| retry.poll(now)).collect()
}

/// Refuses every probe until `until`; the times from the first refusal to each of them.
fn probes(retry: &mut Retry<u64>, start: Instant, until: Duration) -> Vec<Duration> {
    let mut probes = Vec::new();
    for _ in 0..1000 {
        let Some(next) = retry.next_deadline().filter(|next| *next < start + until) else { return probes };
        for offered in drain(retry, next) {
            assert_eq!(offered, Next::Offer(1), "only the oldest");
            retry.refused(next, 1, 1, DropReason::QueueFull);
            probes.push(next - start);
        }
    }
    panic!("it goes on and on: {probes:?}")
}

#[test]
fn what_was_never_refused_is_offered_at_once() {
    let (now, mut retry) = (Instant::now(), retry(1));
    assert_eq!(retry.offer(now, 1, 1), Some(1));
    retry.done(1);
    assert_eq!(retry.offer(now, 2, 2), Some(2));
    assert_eq!((retry.poll(now), retry.next_deadline()), (None, None));
}

#[test]
fn oldest_probes_until_it_is_taken_then_the_rest_follow() {
    let (start, mut retry) = (Instant::now(), retry(1));
    for seq in [2, 1] {
        retry.refused(start, seq, seq, DropReason::QueueFull);
    }
    assert_eq!(retry.offer(start, 3, 3), None, "it waits behind those before it");
    assert!(drain(&mut retry, start + FIRST / 2 - Duration::from_nanos(1)).is_empty());
    let now = start + FIRST;
    assert_eq!(drain(&mut retry, now), [Next::Offer(1)]);
    assert_eq!(retry.offer(now, 4, 4), None);
    assert_eq!(retry.next_deadline(), Some(start + PATIENCE), "until the probe's fate is known");
    retry.done(1);
    assert_eq!(drain(&mut retry, now), [2, 3, 4].map(Next::Offer));
    assert_eq!(retry.next_deadline(), None);
    [2, 3, 4].into_iter().for_each(|seq| retry.done(seq));
    assert_eq!(retry.offer(now, 5, 5), Some(5));
}

#[test]
fn pauses_double_up_to_a_second_and_lose_at_most_half() {
    let (start, mut retry) = (Instant::now(), retry(7));
    retry.refused(start, 1, 1, DropReason::QueueFull);
    let probes = probes(&mut retry, start, Duration::from_secs(30));
    let mut before = Duration::ZERO;
    for (failures, at) in (0..).zip(&probes) {
        let longest = (FIRST * 2u32.pow(failures.min(6))).min(LONGEST);
        assert!((longest / 2..=longest).contains(&(*at - before)), "{failures}: {probes:?}");
        before = *at;
    }
    assert!((30..70).contains(&probes.len()), "{probes:?}");
}

#[test]
fn pauses_begin_anew_once_one_was_taken() {
    let (start, mut retry) = (Instant::now(), retry(7));
    [1, 2].into_iter().for_each(|seq| retry.refused(start, seq, seq, DropReason::QueueFull));
    probes(&mut retry, start, Duration::from_secs(5));
    let now = start + Duration::from_secs(6);
    assert_eq!(drain(&mut retry, now), [Next::Offer(1)]);
    retry.done(1);
    assert_eq!(drain(&mut retry, now), [Next::Offer(2)]);
    retry.refused(now, 2, 2, DropReason::QueueFull);
    assert!(retry.next_deadline().is_some_and(|next| next <= now + FIRST));
}

#[test]
fn sessions_do_not_march_in_step_and_each_marches_the_same_again() {
    let first_ten = |seed: u64| {
        let (start, mut retry) = (Instant::now(), retry(seed));
        retry.refused(start, 1, 1, DropReason::QueueFull);
        probes(&mut retry, start, Duration::from_secs(3))
    };
    assert_eq!(first_ten(1), first_ten(1));
    // Of a hundred sessions that were refused together, few come back within the same millisecond.
    let mut seventh: Vec<u128> = (0..100).map(|seed| first_ten(seed)[6].as_millis()).collect();
    seventh.sort_unstable();
    let together = seventh.chunk_by(|a, b| a == b).map(<[_]>::len).max();
    assert!(together <= Some(5), "{together:?}");
    assert!(seventh[99] - seventh[0] > 200, "spread over {} ms", seventh[99] - seventh[0]);
}

#[test]
fn what_nobody_takes_is_given_up_for_the_latest_reason_and_the_others_go_on() {
    let (start, mut retry) = (Instant::now(), retry(1));
    retry.refused(start, 1, 1, DropReason::BusDown);
    let later = start + Duration::from_secs(10);
    assert_eq!(retry.offer(later, 2, 2), None);
    let end = start + PATIENCE;
    assert_eq!(drain(&mut retry, end - Duration::from_nanos(1)), [Next::Offer(1)]);
    retry.refused(end, 1, 1, DropReason::QueueFull);
    assert_eq!(retry.poll(end), Some(Next::GiveUp(1, DropReason::QueueFull)), "its first refusal counts");
    assert_eq!(retry.poll(end), None, "the second frame has not probed yet");
    let next = retry.next_deadline().unwrap();
    assert!(next <= end + LONGEST);
    assert_eq!(drain(&mut retry, next), [Next::Offer(2)]);
    retry.refused(next, 2, 2, DropReason::BusDown);
    assert_eq!(retry.poll(later + PATIENCE), Some(Next::GiveUp(2, DropReason::BusDown)));
    assert_eq!(retry.next_deadline(), None);
    assert_eq!(retry.offer(end, 3, 3), Some(3), "nobody is left to probe");
}

#[test]
fn another_bus_is_offered_everything_at_once() {
    let (start, mut retry) = (Instant::now(), retry(1));
    [1, 2].into_iter().for_each(|seq| retry.refused(start, seq, seq, DropReason::BusDown));
    probes(&mut retry, start, Duration::from_secs(5));
    retry.reset();
    let now = start + Duration::from_secs(5);
    assert_eq!(drain(&mut retry, now), [1, 2].map(Next::Offer));
    retry.refused(now, 1, 1, DropReason::BusDown);
    assert!(retry.next_deadline().is_some_and(|next| next <= now + FIRST), "the count begins anew");
}

#[test]
fn frame_that_ends_while_it_waits_is_not_offered() {
    let (start, mut retry) = (Instant::now(), retry(1));
    [1, 2].into_iter().for_each(|seq| retry.refused(start, seq, seq, DropReason::QueueFull));
    retry.done(1);
    assert_eq!(drain(&mut retry, start), [], "the gate stays closed for the other");
    assert_eq!(drain(&mut retry, start + FIRST), [Next::Offer(2)]);
    retry.refused(start + FIRST, 2, 2, DropReason::QueueFull);
    retry.done(2);
    assert_eq!(retry.next_deadline(), None);
    assert_eq!(retry.offer(start, 3, 3), Some(3));
}

proptest! {
    /// A lane that opens and closes: each frame is taken or given up, once; nobody is given up before its time;
    /// while the lane is closed at most one frame is offered in a pause; and `next_deadline` leaves nothing undone.
    #[test]
    fn every_frame_is_taken_or_given_up_once(
        seed: u64,
        steps in prop::collection::vec((any::<bool>(), any::<bool>(), 0u64..9_000), 1..60),
    ) {
        let (mut retry, mut now, mut seq) = (retry(seed), Instant::now(), 0);
        let mut since = BTreeMap::new();
        let (mut taken, mut given_up) = (vec![], vec![]);
        for (open, comes, wait) in steps.into_iter().chain([(true, false, 2_000)]) {
            let mut offered = vec![];
            if comes {
                seq += 1;
                since.insert(seq, now);
                offered.extend(retry.offer(now, seq, seq));
            }
            let end = now + Duration::from_millis(wait);
            let mut last_probe: Option<Instant> = None;
            loop {
                while let Some(next) = retry.poll(now) {
                    match next {
                        Next::Offer(frame) => offered.push(frame),
                        Next::GiveUp(frame, reason) => {
                            prop_assert_eq!(reason, DropReason::QueueFull);
                            prop_assert!(now - since[&frame] >= PATIENCE);
                            given_up.push(frame);
                        }
                    }
                }
                for frame in std::mem::take(&mut offered) {
                    if open {
                        retry.done(frame);
                        taken.push(frame);
                    } else {
                        prop_assert!(last_probe.is_none_or(|last| now - last >= FIRST / 2));
                        last_probe = Some(now);
                        retry.refused(now, frame, frame, DropReason::QueueFull);
                    }
                }
                match retry.next_deadline() {
                    // Those that follow the probe are offered at once.
                    _ if retry.gate == Gate::Open && !retry.frames.is_empty() => {}
                    Some(next) if next < end => now = now.max(next),
                    _ => break,
                }
            }
            now = end;
        }
        let mut fates = [taken, given_up].concat();
        fates.sort_unstable();
        prop_assert_eq!(fates, (1..=seq).collect::<Vec<_>>());
    }
}
