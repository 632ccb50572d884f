//! The largest load that holds: by doubling, then bisection, then a longer run that confirms it. Pure.

/// The search ends when it knows the answer this closely: 5 %, or 1.
const PRECISION: f64 = 0.05;

/// What to try next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ask {
    /// A short run at this load.
    Probe(u32),
    /// A long run at this load.
    Confirm(u32),
}

impl Ask {
    /// How much.
    pub(crate) fn load(self) -> u32 {
        match self {
            Self::Probe(load) | Self::Confirm(load) => load,
        }
    }
}

/// A search under way.
#[derive(Debug, Clone)]
pub(crate) struct Search {
    start: u32,
    limit: u32,
    /// Largest load that held; 0 holds always.
    held: u32,
    /// Smallest load that did not.
    failed: Option<u32>,
    /// A long run held at `held`.
    confirmed: bool,
    /// How many long runs failed after the first, once there was one.
    refuted: Option<u32>,
    found: Option<u32>,
}

impl Search {
    /// Begins at `start` and goes no higher than `limit`.
    pub(crate) fn new(start: u32, limit: u32) -> Self {
        let limit = limit.max(1);
        Self {
            start: start.clamp(1, limit),
            limit,
            held: 0,
            failed: None,
            confirmed: false,
            refuted: None,
            found: None,
        }
    }

    /// What to try next; None when the answer is found.
    pub(crate) fn next(&self) -> Option<Ask> {
        if self.found.is_some() {
            return None;
        }
        match (self.refuted, self.failed) {
            (Some(_), Some(failed)) if self.confirmed => {
                return Some(Ask::Confirm(self.held + (failed - self.held) / 2));
            }
            (Some(_), _) => return Some(Ask::Confirm(self.held)),
            (None, _) => {}
        }
        Some(match self.failed {
            None if self.held == 0 => Ask::Probe(self.start),
            None if self.held < self.limit => Ask::Probe(self.held.saturating_mul(2).min(self.limit)),
            Some(failed) if failed - self.held > step(self.held) => {
                Ask::Probe(self.held + (failed - self.held) / 2)
            }
            _ => Ask::Confirm(self.held),
        })
    }

    /// Whether the load that was asked for held.
    pub(crate) fn answer(&mut self, asked: Ask, held: bool) {
        match (asked, held) {
            (Ask::Probe(load), true) => self.held = load,
            (Ask::Probe(load), false) => self.failed = Some(load),
            (Ask::Confirm(load), true) => (self.held, self.confirmed) = (load, true),
            (Ask::Confirm(load), false) => {
                // A short run flattered it. From here on only long ones count: down in steps that double, then
                // up again by bisection.
                let times = self.refuted.map_or(0, |times| times + 1);
                if !self.confirmed {
                    self.held = load.saturating_sub(step(load) << times.min(16));
                }
                (self.failed, self.refuted) = (Some(load), Some(times));
            }
        }
        let gap = self.failed.map_or(0, |failed| failed - self.held);
        let near = self.refuted.is_none() || gap <= 2 * step(self.held);
        let nothing = self.held == 0 && self.failed.is_some() && (self.refuted.is_some() || gap == 1);
        if nothing || self.confirmed && near {
            self.found = Some(self.held);
        }
    }

    /// The largest load that holds, when it is found.
    pub(crate) fn found(&self) -> Option<u32> {
        self.found
    }
}

fn step(load: u32) -> u32 {
    ((f64::from(load) * PRECISION) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Searches where loads up to `short` hold in short runs and up to `long` in long ones.
    fn search(start: u32, limit: u32, short: u32, long: u32) -> (u32, Vec<Ask>) {
        let mut search = Search::new(start, limit);
        let mut asked = Vec::new();
        while let Some(ask) = search.next() {
            asked.push(ask);
            assert!(asked.len() < 100, "the search does not end: {asked:?}");
            search.answer(
                ask,
                match ask {
                    Ask::Probe(load) => load <= short,
                    Ask::Confirm(load) => load <= long,
                },
            );
        }
        (search.found().unwrap(), asked)
    }

    #[test]
    fn doubles_then_bisects_then_confirms() {
        use Ask::{Confirm, Probe};
        let (found, asked) = search(1, 100, 11, 11);
        assert_eq!(found, 11);
        let expected = [1, 2, 4, 8, 16, 12, 10, 11].map(Probe);
        assert_eq!(asked, [&expected[..], &[Confirm(11)]].concat());
    }

    #[test]
    fn what_the_long_run_refutes_is_not_the_answer() {
        let (found, asked) = search(1, 1000, 100, 80);
        assert!((72..=80).contains(&found), "{found}");
        assert!(asked.contains(&Ask::Confirm(found)));
        assert_eq!(search(1, 1000, 3, 0).0, 0, "nothing holds for long");
    }

    #[test]
    fn the_ends() {
        assert_eq!(search(8, 64, 0, 0).0, 0, "nothing holds");
        assert_eq!(search(8, 64, 3, 3).0, 3, "less than where it began");
        assert_eq!(search(8, 64, 1000, 1000).0, 64, "more than allowed");
        assert_eq!(search(500, 64, 1000, 1000).0, 64);
    }

    proptest! {
        #[test]
        fn finds_what_holds_within_the_precision(start in 1..200_u32, limit in 1..5_000_u32, holds in 0..6_000_u32) {
            let (found, asked) = search(start, limit, holds, holds);
            let truth = holds.min(limit);
            prop_assert!(found <= truth && truth - found <= step(truth), "{found} for {truth}");
            prop_assert!(asked.len() <= 30);
        }

        #[test]
        fn never_answers_more_than_a_long_run_held(holds in 0..3_000_u32, flattered in 0..3_000_u32) {
            let (found, asked) = search(4, 4_000, holds + flattered, holds);
            prop_assert!(found <= holds);
            prop_assert!(found == 0 || asked.contains(&Ask::Confirm(found)));
        }
    }
}
