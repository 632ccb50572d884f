//! How much one may use: one tenant, or one address.
//!
//! Connections, sessions and photos are counted while they last. Of what flows (frames, bytes, pixels, processor time) so much a second
//! is allowed, and a second's worth at once. What something takes may be known only when it is there or done, so it is
//! charged then: whoever is in debt by it waits until that is worked off. A photo or frame larger than a second's worth
//! gets in, and is paid for by the wait after it. What is stored is summed up by whoever stores it.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resource {
    /// Connections at once.
    Connections,
    /// WebSockets at once.
    Sessions,
    /// Single images being worked on at once.
    Photos,
    /// Frames and photos a second.
    Frames,
    /// Bytes of images a second.
    Bytes,
    /// Megapixels to be decoded a second.
    Megapixels,
    /// Seconds of workers a second.
    Cpu,
    /// Bytes of jobs that are kept.
    Stored,
}

impl Resource {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Connections,
        Self::Sessions,
        Self::Photos,
        Self::Frames,
        Self::Bytes,
        Self::Megapixels,
        Self::Cpu,
        Self::Stored,
    ];

    /// As it is written in options, files, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Sessions => "sessions",
            Self::Photos => "photos",
            Self::Frames => "frames",
            Self::Bytes => "bytes",
            Self::Megapixels => "megapixels",
            Self::Cpu => "cpu",
            Self::Stored => "stored",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much there is of each; without end where nothing is said.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits([Option<f64>; Resource::ALL.len()]);

impl Limits {
    /// Whether nothing is limited.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How much of it.
    pub fn get(&self, resource: Resource) -> Option<f64> {
        self.0[resource as usize]
    }

    /// Sets one.
    ///
    /// # Errors
    /// Unless it is a number above 0, of what is counted at least 1.
    pub fn set(&mut self, resource: Resource, amount: f64) -> Result<(), BadLimits> {
        let least = if COUNTED.contains(&resource) { 1.0 } else { f64::MIN_POSITIVE };
        if !amount.is_finite() || amount < least {
            return Err(BadLimits::Amount(resource));
        }
        self.0[resource as usize] = Some(amount);
        Ok(())
    }

    /// Those that are said, in order.
    pub fn said(&self) -> impl Iterator<Item = (Resource, f64)> {
        Resource::ALL.into_iter().filter_map(|resource| Some((resource, self.get(resource)?)))
    }

    /// These, and where they say nothing `others`.
    pub fn or(self, others: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at].or(others.0[at])))
    }
}

/// Why a text is no list of limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLimits {
    /// There is no such resource.
    #[error(
        "{0:?} cannot be limited; use connections, sessions, photos, frames, bytes, megapixels, cpu or stored"
    )]
    Unknown(String),
    /// That cannot be its amount.
    #[error("{0} needs a number above 0, connections, sessions and photos at least 1")]
    Amount(Resource),
    /// There is no `=` in it.
    #[error("{0:?} is no limit; write it like frames=100,bytes=20000000")]
    Form(String),
}

impl FromStr for Resource {
    type Err = BadLimits;

    fn from_str(name: &str) -> Result<Self, BadLimits> {
        let named = |resource: &Self| resource.as_str() == name;
        Self::ALL.into_iter().find(named).ok_or_else(|| BadLimits::Unknown(name.into()))
    }
}

impl FromStr for Limits {
    type Err = BadLimits;

    fn from_str(text: &str) -> Result<Self, BadLimits> {
        let mut limits = Self::default();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let (name, amount) = item.split_once('=').ok_or_else(|| BadLimits::Form(item.into()))?;
            let resource: Resource = name.trim().parse()?;
            limits.set(resource, amount.trim().parse().map_err(|_| BadLimits::Amount(resource))?)?;
        }
        Ok(limits)
    }
}

impl fmt::Display for Limits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (resource, amount)) in self.said().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            write!(f, "{comma}{resource}={amount}")?;
        }
        Ok(())
    }
}

/// Something is used up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Exceeded {
    /// What.
    pub resource: Resource,
    /// How much of it there may be.
    pub limit: f64,
    /// When there is some again, if time brings it: what is counted comes free when somebody ends.
    pub again: Option<Duration>,
}

/// What one uses.
#[derive(Debug, Default)]
pub struct Usage {
    /// Of each of [`COUNTED`] how many there are.
    counts: [usize; COUNTED.len()],
    /// Of each resource what is over the allowance, at the time of the last look; below 0 what is left of it.
    debts: [f64; Resource::ALL.len()],
    looked: Option<Instant>,
}

/// Nobody is told to wait longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What is counted while it lasts: these come first in [`Resource::ALL`].
const COUNTED: [Resource; 3] = [Resource::Connections, Resource::Sessions, Resource::Photos];

/// What frames and photos use, of which so much a second is allowed.
const FLOWS: [Resource; 4] = [Resource::Frames, Resource::Bytes, Resource::Megapixels, Resource::Cpu];

impl Usage {
    /// Another connection, session or photo begins. What is admitted must be [`ended`](Self::ended).
    ///
    /// # Errors
    /// [`Exceeded`]: it has to wait.
    pub fn begin(&mut self, limits: &Limits, resource: Resource) -> Result<(), Exceeded> {
        let Some(count) = self.counts.get_mut(resource as usize) else { return Ok(()) };
        match limits.get(resource) {
            Some(limit) if (*count + 1) as f64 > limit => Err(Exceeded { resource, limit, again: None }),
            _ => {
                *count += 1;
                Ok(())
            }
        }
    }

    /// A connection or session has ended, or a photo is answered.
    pub fn ended(&mut self, resource: Resource) {
        if let Some(count) = self.counts.get_mut(resource as usize) {
            *count = count.saturating_sub(1);
        }
    }

    /// Whether another frame or photo may come now.
    ///
    /// # Errors
    /// [`Exceeded`]: of that which is back last.
    pub fn may_come(&mut self, now: Instant, limits: &Limits) -> Result<(), Exceeded> {
        self.look(now, limits);
        let over = FLOWS.into_iter().filter_map(|resource| {
            let (limit, debt) = (limits.get(resource)?, self.debts[resource as usize]);
            let again = Duration::try_from_secs_f64(debt / limit).map_or(LONGEST, |again| again.min(LONGEST));
            (debt > 0.0).then_some(Exceeded { resource, limit, again: Some(again) })
        });
        over.max_by_key(|exceeded| exceeded.again).map_or(Ok(()), Err)
    }

    /// So much of it was used.
    pub fn used(&mut self, now: Instant, limits: &Limits, resource: Resource, amount: f64) {
        self.look(now, limits);
        if limits.get(resource).is_some() {
            self.debts[resource as usize] += amount;
        }
    }

    /// Whether it is as if nothing had ever been used.
    pub fn is_idle(&mut self, now: Instant, limits: &Limits) -> bool {
        self.look(now, limits);
        let full = |resource: Resource| {
            limits.get(resource).is_none_or(|limit| self.debts[resource as usize] <= -limit)
        };
        self.counts.iter().all(|count| *count == 0) && FLOWS.into_iter().all(full)
    }

    /// Time brings back what it brings.
    fn look(&mut self, now: Instant, limits: &Limits) {
        let first = self.looked.is_none();
        let past = now.saturating_duration_since(*self.looked.get_or_insert(now)).as_secs_f64();
        self.looked = self.looked.max(Some(now));
        for resource in FLOWS {
            let debt = &mut self.debts[resource as usize];
            *debt = match limits.get(resource) {
                Some(limit) if first => -limit,
                Some(limit) => (*debt - limit * past).max(-limit),
                None => 0.0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limits(text: &str) -> Limits {
        text.parse().unwrap()
    }

    #[test]
    fn limits_are_read_and_written() {
        let all = "connections=9,sessions=2,photos=1,frames=30,bytes=1000000,megapixels=4.5,cpu=0.5,stored=1000000000";
        assert_eq!(limits(all).to_string(), all);
        assert_eq!(limits(" cpu = 2 , frames=1,").to_string(), "frames=1,cpu=2");
        assert!(limits("").is_none());
        assert_eq!(limits("frames=1").or(limits("frames=2,cpu=3")), limits("frames=1,cpu=3"));
        for bad in [
            "frames",
            "frames=",
            "frames=-1",
            "frames=NaN",
            "sessions=0.5",
            "connections=0",
            "luck=1",
            "cpu=0",
            "cpu=inf",
        ] {
            assert!(bad.parse::<Limits>().is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_counted_comes_free_when_it_ends() {
        assert_eq!(Resource::ALL[..COUNTED.len()], COUNTED);
        let (limits, mut usage, now) =
            (limits("connections=3,sessions=2,photos=1"), Usage::default(), Instant::now());
        for (resource, limit) in COUNTED.into_iter().zip([3, 2, 1]) {
            for _ in 0..limit {
                assert_eq!(usage.begin(&limits, resource), Ok(()));
            }
            let full = Exceeded { resource, limit: f64::from(limit), again: None };
            assert_eq!(usage.begin(&limits, resource), Err(full));
            usage.ended(resource);
            assert_eq!(usage.begin(&limits, resource), Ok(()));
            assert!(!usage.is_idle(now, &limits));
            (0..limit).for_each(|_| usage.ended(resource));
        }
        assert!(usage.is_idle(now, &limits));
    }

    #[test]
    fn who_is_in_debt_waits_until_it_is_worked_off_and_is_told_how_long() {
        let (start, mut usage) = (Instant::now(), Usage::default());
        let limits = limits("bytes=100,cpu=1");
        assert_eq!(usage.may_come(start, &limits), Ok(()));
        usage.used(start, &limits, Resource::Bytes, 350.0);
        usage.used(start, &limits, Resource::Cpu, 1.5);
        let told = usage.may_come(start, &limits).unwrap_err();
        assert_eq!((told.resource, told.again), (Resource::Bytes, Some(Duration::from_millis(2500))));
        let soon = start + Duration::from_millis(2499);
        assert_eq!(usage.may_come(soon, &limits).map_err(|told| told.resource), Err(Resource::Bytes));
        assert_eq!(usage.may_come(start + Duration::from_millis(2500), &limits), Ok(()));
        assert!(!usage.is_idle(start + Duration::from_millis(2600), &limits));
        assert!(usage.is_idle(start + Duration::from_millis(3600), &limits));
    }

    proptest! {
        /// Over any time no more comes than is allowed, but for a second's worth and one; and that much does.
        #[test]
        fn over_time_it_is_what_is_allowed(rate in 1u32..50, gaps in prop::collection::vec(0u64..200, 1..300)) {
            let (start, limits) = (Instant::now(), limits(&format!("frames={rate}")));
            let (mut now, mut usage, mut came, mut refused) = (start, Usage::default(), 0u32, 0u32);
            for gap in gaps {
                now += Duration::from_millis(gap);
                if usage.may_come(now, &limits).is_ok() {
                    usage.used(now, &limits, Resource::Frames, 1.0);
                    came += 1;
                } else {
                    refused += 1;
                }
            }
            let allowed = f64::from(rate) * (now - start).as_secs_f64();
            prop_assert!(f64::from(came) <= allowed + f64::from(rate) + 1.0 + 1e-6, "{came} of {allowed}");
            prop_assert!(refused == 0 || f64::from(came) >= f64::from(rate));
        }
    }
}
