//! The rule of Kubernetes' HorizontalPodAutoscaler (`autoscaling/v2`), pure.
//!
//! Source: the page "Horizontal Pod Autoscaling" of the Kubernetes documentation, sections "Algorithm details",
//! "Scaling policies", "Stabilization window" and "Default behavior"; where it leaves the rounding open, what the
//! documented example does (10 % of 72 pods are 8).

use std::{collections::VecDeque, time::Duration};

/// How far a metric may be from its target before anything is done.
const TOLERANCE: f64 = 0.1;

/// What limits the change in one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Behavior {
    /// The most cautious recommendation of this window counts.
    pub stabilisation: Duration,
    /// How much may change in which time.
    pub policies: Vec<Policy>,
    /// Which of them decides.
    pub select: Select,
}

/// Which of several policies decides: `selectPolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Select {
    /// The one that allows the largest change.
    Max,
    /// The one that allows the smallest.
    Min,
}

/// How much may change in a period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How much.
    pub change: Change,
    /// In which time.
    pub period: Duration,
}

/// A change of replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// So many.
    Pods(u32),
    /// So many of a hundred of those that there were when the period began.
    Percent(u32),
}

/// Settings of one autoscaler.
#[derive(Debug, Clone, PartialEq)]
pub struct Rules {
    /// Fewest replicas.
    pub min: u32,
    /// Most replicas.
    pub max: u32,
    /// How often it decides: `--horizontal-pod-autoscaler-sync-period`, 15 s.
    pub sync: Duration,
    /// When more are needed.
    pub up: Behavior,
    /// When fewer are.
    pub down: Behavior,
}

impl Rules {
    /// What Kubernetes does unless told otherwise.
    pub fn defaults(min: u32, max: u32) -> Self {
        let sync = Duration::from_secs(15);
        let policy = |change| Policy { change, period: sync };
        Self {
            min,
            max,
            sync,
            up: Behavior {
                stabilisation: Duration::ZERO,
                policies: vec![policy(Change::Percent(100)), policy(Change::Pods(4))],
                select: Select::Max,
            },
            down: Behavior {
                stabilisation: Duration::from_secs(300),
                policies: vec![policy(Change::Percent(100))],
                select: Select::Max,
            },
        }
    }
}

/// Replicas that bring an external metric of type `AverageValue` to its target: `ceil(total / target)`, or as many
/// as there are while the average is within the tolerance.
pub fn by_average(total: f64, target: f64, replicas: u32) -> u32 {
    let ratio = total / (target * f64::from(replicas));
    if (ratio - 1.0).abs() <= TOLERANCE { replicas } else { (total / target).ceil() as u32 }
}

/// Replicas that bring a metric of type `Value` to its target: `ceil(ready × current / target)`, or as many as there
/// are within the tolerance. Counted over the pods that are ready.
pub fn by_value(current: f64, target: f64, ready: u32, replicas: u32) -> u32 {
    let ratio = current / target;
    if (ratio - 1.0).abs() <= TOLERANCE { replicas } else { (ratio * f64::from(ready)).ceil() as u32 }
}

/// Replicas that bring the mean utilisation of the ready pods to its target. Pods that are not ready yet count as
/// idle when more are needed; if that turns the decision around, nothing is done.
pub fn by_utilisation(mean_of_ready: f64, target: f64, ready: u32, replicas: u32) -> u32 {
    let ratio = mean_of_ready / target;
    if (ratio - 1.0).abs() <= TOLERANCE {
        return replicas;
    }
    if ratio < 1.0 || ready == replicas {
        return (ratio * f64::from(ready)).ceil() as u32;
    }
    let cautious = ratio * f64::from(ready) / f64::from(replicas);
    if cautious <= 1.0 + TOLERANCE { replicas } else { (cautious * f64::from(replicas)).ceil() as u32 }
}

/// One autoscaler's memory.
#[derive(Debug, Clone)]
pub struct Hpa {
    rules: Rules,
    recommendations: VecDeque<(Duration, u32)>,
    /// Replicas added (positive) or removed, and when.
    changes: VecDeque<(Duration, i64)>,
}

impl Hpa {
    /// One that has seen nothing.
    pub fn new(rules: Rules) -> Self {
        Self { rules, recommendations: VecDeque::new(), changes: VecDeque::new() }
    }

    /// How many replicas there shall be from `now` on, if there are `replicas` and the metric asks for `wanted`.
    pub fn decide(&mut self, now: Duration, replicas: u32, wanted: u32) -> u32 {
        self.recommendations.push_back((now, wanted));
        let decided = self.limit(now, replicas, self.stabilise(now, replicas));
        let decided = decided.clamp(self.rules.min, self.rules.max);
        if decided != replicas {
            self.changes.push_back((now, i64::from(decided) - i64::from(replicas)));
        }
        self.forget(now);
        decided
    }

    /// Up to the lowest recommendation of the one window, down to the highest of the other.
    fn stabilise(&self, now: Duration, replicas: u32) -> u32 {
        let of = |window: Duration| {
            let recent = self.recommendations.iter().filter(move |(at, _)| now - *at <= window);
            recent.map(|(_, wanted)| *wanted)
        };
        let up = of(self.rules.up.stabilisation).min().unwrap_or(replicas);
        let down = of(self.rules.down.stabilisation).max().unwrap_or(replicas);
        replicas.max(up).min(down.max(up))
    }

    fn limit(&self, now: Duration, replicas: u32, wanted: u32) -> u32 {
        let changed = |period: Duration, sign: i64| -> i64 {
            let recent = self.changes.iter().filter(|(at, _)| now - *at < period);
            recent.map(|(_, change)| *change).filter(|change| change.signum() == sign).sum()
        };
        if wanted > replicas {
            let allowed = self.rules.up.policies.iter().map(|policy| {
                let start = i64::from(replicas) - changed(policy.period, 1);
                match policy.change {
                    Change::Pods(pods) => start + i64::from(pods),
                    Change::Percent(percent) => {
                        (start as f64 * (1.0 + f64::from(percent) / 100.0)).ceil() as i64
                    }
                }
            });
            let allowed = match self.rules.up.select {
                Select::Max => allowed.max(),
                Select::Min => allowed.min(),
            };
            wanted.min(replicas.max(allowed.map_or(wanted, saturating)))
        } else if wanted < replicas {
            let allowed = self.rules.down.policies.iter().map(|policy| {
                let start = i64::from(replicas) - changed(policy.period, -1);
                match policy.change {
                    Change::Pods(pods) => start - i64::from(pods),
                    Change::Percent(percent) => {
                        (start as f64 * (1.0 - f64::from(percent) / 100.0)).floor() as i64
                    }
                }
            });
            let allowed = match self.rules.down.select {
                Select::Max => allowed.min(),
                Select::Min => allowed.max(),
            };
            wanted.max(replicas.min(allowed.map_or(wanted, saturating)))
        } else {
            wanted
        }
    }

    fn forget(&mut self, now: Duration) {
        let Rules { up, down, .. } = &self.rules;
        let window = up.stabilisation.max(down.stabilisation);
        while self.recommendations.front().is_some_and(|(at, _)| now - *at > window) {
            self.recommendations.pop_front();
        }
        let policies = up.policies.iter().chain(&down.policies);
        let period = policies.map(|policy| policy.period).max().unwrap_or_default();
        while self.changes.front().is_some_and(|(at, _)| now - *at > period) {
            self.changes.pop_front();
        }
    }
}

fn saturating(replicas: i64) -> u32 {
    u32::try_from(replicas.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Decides every 15 s with what `wanted` says, and answers the replicas after each.
    fn run(rules: Rules, mut replicas: u32, wanted: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut hpa = Hpa::new(rules);
        let decide = |(step, wanted)| {
            replicas = hpa.decide(s(15) * step, replicas, wanted);
            replicas
        };
        (0..).zip(wanted).map(decide).collect()
    }

    #[test]
    fn the_ratio_decides_as_documented() {
        // "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be
        // doubled …; if the current value is instead 50m, halve"; "skips … sufficiently close to 1.0 (0.1)".
        assert_eq!(by_value(200.0, 100.0, 3, 3), 6);
        assert_eq!(by_value(50.0, 100.0, 4, 4), 2);
        assert_eq!(by_value(109.0, 100.0, 10, 10), 10);
        assert_eq!(by_value(111.0, 100.0, 10, 10), 12);
        assert_eq!(by_average(40.0, 4.0, 5), 10);
        assert_eq!(by_average(21.0, 4.0, 5), 5);
        assert_eq!(by_average(0.0, 4.0, 5), 0);
    }

    #[test]
    fn pods_that_are_not_ready_dampen_and_never_turn_a_decision() {
        assert_eq!(by_utilisation(0.9, 0.5, 4, 4), 8);
        // Half of them idle in effect: 0.45 of 0.5 is no reason for more.
        assert_eq!(by_utilisation(0.9, 0.5, 4, 8), 8);
        assert_eq!(by_utilisation(0.9, 0.5, 6, 8), 11);
        assert_eq!(by_utilisation(0.2, 0.5, 4, 8), 2);
    }

    #[test]
    fn the_documented_scale_down_takes_a_tenth_and_then_four() {
        // "if there are 80 replicas and the target has to be scaled down to 10 replicas then during the first step 8
        // replicas will be reduced. In the next iteration when the number of replicas is 72, 10% of the pods is 7.2
        // but the number is rounded up to 8. … When the number of replicas falls below 40 the first policy will be
        // applied and 4 replicas will be reduced at a time."
        let minute = s(60);
        let mut rules = Rules::defaults(1, 100);
        rules.down = Behavior {
            stabilisation: Duration::ZERO,
            policies: vec![
                Policy { change: Change::Pods(4), period: minute },
                Policy { change: Change::Percent(10), period: minute },
            ],
            select: Select::Max,
        };
        let mut hpa = Hpa::new(rules);
        let mut replicas = 80;
        let mut steps = Vec::new();
        for step in 0..14 {
            replicas = hpa.decide(minute * step, replicas, 10);
            steps.push(replicas);
        }
        assert_eq!(steps, [72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10]);
    }

    #[test]
    fn by_default_replicas_double_or_grow_by_four_every_15_seconds() {
        assert_eq!(run(Rules::defaults(1, 100), 1, [50; 5]), [5, 10, 20, 40, 50]);
    }

    #[test]
    fn by_default_fewer_are_needed_for_five_minutes_before_any_goes() {
        let wanted = [10, 2].into_iter().chain([2; 22]);
        let replicas = run(Rules::defaults(1, 100), 10, wanted);
        assert_eq!(replicas.iter().position(|replicas| *replicas < 10), Some(21), "315 s after the last 10");
        assert_eq!(replicas.last(), Some(&2));
    }

    #[test]
    fn the_smallest_change_decides_where_it_is_asked_to() {
        let mut rules = Rules::defaults(1, 100);
        rules.up.select = Select::Min;
        assert_eq!(run(rules, 1, [50; 4]), [2, 4, 8, 12]);
    }

    #[test]
    fn within_a_period_a_policy_counts_what_was_done_already() {
        let mut rules = Rules::defaults(1, 100);
        rules.up.policies = vec![Policy { change: Change::Pods(3), period: s(60) }];
        assert_eq!(run(rules, 1, [100; 6]), [4, 4, 4, 4, 7, 7]);
    }

    proptest! {
        #[test]
        fn replicas_stay_within_bounds_and_go_only_where_they_are_wanted(
            wanted in proptest::collection::vec(0..200u32, 1..60),
            start in 2..50u32,
        ) {
            let replicas = run(Rules::defaults(2, 50), start, wanted.clone());
            let mut before = start;
            for (now, wanted) in replicas.iter().zip(&wanted) {
                prop_assert!((2..=50).contains(now));
                prop_assert!(*now <= before || wanted > &before, "{before} → {now}, wanted {wanted}");
                before = *now;
            }
        }
    }
}
