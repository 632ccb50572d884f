//! What holds whatever happens.

use proptest::prelude::*;

use super::*;

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
        let mut bench = Bench::new(mode, window);
        let begun = bench.now;
        for step in steps {
            match step {
                Step::Image if bench.session.accepts() => bench.image(),
                Step::Junk => {
                    bench.session.image(bench.now, Bytes::new()).unwrap();
                }
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
        let told_drops = bench.told.iter().filter(|m| matches!(m, Effect::Dropped { .. })).count();
        prop_assert_eq!(total.dropped.values().sum::<u64>() as usize, told_drops);
        let lossy = [DropReason::Superseded, DropReason::Expired, DropReason::Late];
        prop_assert!(!complete || lossy.iter().all(|reason| !total.dropped.contains_key(reason)));
        let full = total.dropped.contains_key(&DropReason::QueueFull);
        prop_assert!(!complete || !full || took + LONGEST >= COMPLETE);
    }
}
