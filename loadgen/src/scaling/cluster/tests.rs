use super::*;
use crate::scaling::{first::Reckoned, session::WINDOW};

fn plan(streams: u32, replicas: u32, signal: Signal) -> Plan {
    let mut rules = Rules::defaults(replicas, replicas);
    rules.down.stabilisation = Duration::from_secs(60);
    Plan {
        shape: Shape::Step { from: streams, to: streams, at: Duration::ZERO, lasts: Duration::from_secs(60) },
        frames_per_second: 10.0,
        max_age: Duration::from_secs(1),
        service: Duration::from_millis(40),
        slots: 1,
        first: None,
        start: Duration::from_secs(10),
        scrape: Duration::from_secs(5),
        rules,
        signal,
        delivered: 0.95,
        p95: Duration::from_millis(500),
    }
}

#[test]
fn a_replica_holds_as_many_streams_as_arithmetic_says() {
    // 25 frames a second a replica: two hold five streams of ten frames, and not six.
    assert_eq!(simulate(&plan(4, 2, Signal::QueueDepth(1e9))).out_of_objective, 0.0);
    let over = simulate(&plan(7, 2, Signal::QueueDepth(1e9)));
    assert!(over.out_of_objective > 0.9, "{over:?}");
}

#[test]
fn overload_delivers_what_capacity_allows_and_the_lane_stays_bounded() {
    let over = simulate(&plan(40, 2, Signal::QueueDepth(1e9)));
    assert!(over.slices.iter().all(|slice| slice.depth <= 40 * WINDOW as u32), "the window bounds the lane");
}

#[test]
fn the_same_plan_gives_the_same_record() {
    let plan = plan(7, 2, Signal::QueueDepth(4.0));
    assert_eq!(simulate(&plan), simulate(&plan));
}

/// Frames in hand are as many as slots are busy (Little's law), so a target beyond the slots takes replicas away
/// that are all needed, the lane fills, and all of them come back.
#[test]
fn a_queue_target_beyond_the_slots_turns_around_and_around() {
    let [calm, nervous] = [0.75, 1.5].map(|target| {
        let mut plan = plan(20, 1, Signal::QueueDepth(target));
        plan.rules.max = 40;
        let lasts = Duration::from_secs(1200);
        plan.shape = Shape::Step { from: 20, to: 20, at: Duration::ZERO, lasts };
        simulate(&plan)
    });
    assert!(2 * calm.flaps <= nervous.flaps, "{} and {} turns", calm.flaps, nervous.flaps);
    assert!(nervous.out_of_objective > 4.0 * calm.out_of_objective, "{nervous:?}");
}

#[test]
fn queue_and_offered_load_bring_the_objective_back_after_a_step_and_let_replicas_go_again() {
    for signal in [Signal::QueueDepth(0.75), Signal::OfferedLoad(0.7)] {
        let mut plan = plan(2, 1, signal);
        plan.rules.max = 20;
        plan.shape = Shape::Burst {
            low: 2,
            high: 20,
            from: Duration::from_secs(60),
            until: Duration::from_secs(300),
            lasts: Duration::from_secs(600),
        };
        let record = simulate(&plan);
        let before_the_end = record.slices.iter().filter(|slice| (200.0..300.0).contains(&slice.at));
        assert!(before_the_end.clone().all(|slice| slice.met), "{signal:?}");
        assert!(before_the_end.clone().all(|slice| slice.replicas >= 8), "{signal:?}");
        assert!(record.slices.last().unwrap().replicas <= 2, "{signal:?}: {:?}", record.slices.last());
    }
}

/// GPUs that take everything, and are gone from the second minute to the sixth.
fn gpus_gone(reckoned: Reckoned) -> Record {
    let seconds = Duration::from_secs;
    let mut plan = plan(30, 1, Signal::QueueDepth(0.75));
    plan.rules.max = 40;
    let service = Duration::from_millis(15);
    plan.first = Some(First { slots: 68, service, gone: seconds(120)..seconds(360), reckoned });
    plan.shape = Shape::Step { from: 30, to: 30, at: Duration::ZERO, lasts: seconds(900) };
    simulate(&plan)
}

#[test]
fn processors_come_when_the_gpus_go_and_leave_when_they_are_back() {
    let record = gpus_gone(Reckoned::There);
    let during = |from, until| record.slices.iter().filter(move |slice| (from..until).contains(&slice.at));
    assert!(during(0.0, 120.0).all(|slice| slice.met && slice.replicas == 1), "the GPUs do it");
    assert!(during(240.0, 355.0).all(|slice| slice.met), "the processors do it");
    assert!(during(365.0, 900.0).all(|slice| slice.met), "and the GPUs again");
    assert_eq!(record.slices.last().unwrap().replicas, 1);
}

#[test]
fn gpus_that_are_reckoned_with_when_they_are_gone_keep_the_processors_away() {
    let record = gpus_gone(Reckoned::Largest(192));
    assert!(record.slices.iter().all(|slice| slice.replicas == 1));
    assert!(record.longest_outage > Duration::from_secs(220), "nobody does the work: {record:?}");
}
