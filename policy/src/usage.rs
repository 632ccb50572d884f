//! Who has used much of a worker lately, beside who has used little.
//!
//! Turns (`rota`) and seats (`seats`) say which frame is begun next. While it is worked on it competes with those that were
//! begun before it, and with what else is done for them. Whoever has used more than others lets them go before then.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use cloudpose_wire::Tenant;

/// What was used so long ago counts 1/e.
const MEMORY: Duration = Duration::from_secs(10);
/// Of what the tenant has that used most. Those who do the same as one another use now more, now less, and go before nobody.
const MUCH: f64 = 0.5;
/// So often what was used is made to count less, which takes a look at every tenant.
const TICK: Duration = Duration::from_millis(100);
/// Seconds of work. Less is not much, and soon forgotten.
const NOTHING: f64 = 1e-3;

/// How long each tenant's frames were worked on lately.
#[derive(Debug)]
pub struct Usage {
    /// Seconds, as they count at `at`.
    used: HashMap<Tenant, f64>,
    at: Instant,
}

impl Usage {
    /// Nothing was used before `now`.
    pub fn new(now: Instant) -> Self {
        Self { used: HashMap::new(), at: now }
    }

    /// A frame of `tenant` was worked on until `now`.
    pub fn add(&mut self, tenant: &Tenant, took: Duration, now: Instant) {
        let since = now.saturating_duration_since(self.at);
        if since >= TICK {
            let kept = (-since.as_secs_f64() / MEMORY.as_secs_f64()).exp();
            self.at = now;
            self.used.retain(|_, used| {
                *used *= kept;
                *used >= NOTHING
            });
        }
        *self.used.entry(tenant.clone()).or_default() += took.as_secs_f64();
    }

    /// Whether `tenant` has used much where others have used little, so that those go before it. Never of one who is alone.
    pub fn is_much(&self, tenant: &Tenant) -> bool {
        let much = (MUCH * self.used.values().copied().fold(0.0, f64::max)).max(NOTHING);
        self.used.get(tenant).is_some_and(|used| *used > much) && self.used.values().any(|used| *used <= much)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    fn tenant(name: &str) -> Tenant {
        name.parse().unwrap()
    }

    /// Two seconds in which each tenant has so many frames a second.
    fn after(rates: &[(&str, u32)]) -> (Usage, Instant) {
        let mut now = Instant::now();
        let mut usage = Usage::new(now);
        for tick in 0..200 {
            for (name, rate) in rates.iter().filter(|(_, rate)| tick % (100 / rate) == 0) {
                assert!(*rate <= 100);
                usage.add(&tenant(name), FRAME, now);
            }
            now += Duration::from_millis(10);
        }
        (usage, now)
    }

    #[test]
    fn a_flood_lets_those_go_first_who_use_little() {
        let (usage, _) = after(&[("flood", 100), ("door", 10), ("gate", 10)]);
        let much = ["flood", "door", "gate", "new"].map(|name| usage.is_much(&tenant(name)));
        assert_eq!(much, [true, false, false, false]);
        let (usage, _) = after(&[("flood", 100), ("river", 100), ("door", 25), ("a", 1), ("b", 1), ("c", 1)]);
        let much = ["flood", "river", "door", "a"].map(|name| usage.is_much(&tenant(name)));
        assert_eq!(much, [true, true, false, false], "those who use next to nothing make nobody's use much");
    }

    #[test]
    fn whoever_is_alone_or_does_as_others_do_lets_nobody_go_first() {
        let (alone, _) = after(&[("flood", 100)]);
        assert!(!alone.is_much(&tenant("flood")));
        let (equal, _) = after(&[("a", 50), ("b", 50), ("c", 50)]);
        assert!(["a", "b", "c"].iter().all(|name| !equal.is_much(&tenant(name))));
    }

    #[test]
    fn what_was_used_long_ago_counts_no_more() {
        let (mut usage, now) = after(&[("flood", 100), ("door", 10)]);
        let later = now + 10 * MEMORY;
        usage.add(&tenant("door"), FRAME, later);
        assert!(!usage.is_much(&tenant("flood")), "it has rested");
        assert!(!usage.is_much(&tenant("door")), "it is alone again");
        assert_eq!(usage.used.len(), 1, "those who are gone are forgotten");
    }
}
