//! Values that are one number, or a range of them: `50`, `1..50`.

use std::{fmt, str::FromStr, time::Duration};

/// From `from` to `to`, both included; `from <= to`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Range<T> {
    /// Where it begins.
    pub from: T,
    /// Where it ends.
    pub to: T,
}

/// One end of a [`Range`], as people write it.
pub trait Bound: PartialOrd + Copy {
    /// Reads one.
    ///
    /// # Errors
    /// What to write instead.
    fn read(text: &str) -> Result<Self, String>;
}

impl Bound for u32 {
    fn read(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| format!("{text:?} is no whole number"))
    }
}

impl Bound for f64 {
    fn read(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if f64::is_finite(number) && number >= 0.0 => Ok(number),
            _ => Err(format!("{text:?} is no number from 0 on")),
        }
    }
}

impl Bound for Duration {
    fn read(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map_err(|error| format!("{error}; write it like 500ms or 3s"))
    }
}

impl<T: Bound> FromStr for Range<T> {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text.split_once("..").unwrap_or((text, text));
        let range = Self { from: T::read(from)?, to: T::read(to)? };
        if range.from <= range.to { Ok(range) } else { Err("a range goes up, like 1..50".into()) }
    }
}

impl<T: fmt::Display + PartialEq> fmt::Display for Range<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.from == self.to { write!(f, "{}", self.to) } else { write!(f, "{}..{}", self.from, self.to) }
    }
}

impl Range<f64> {
    /// The point at `share` (0 to 1) of the way.
    pub fn at(self, share: f64) -> f64 {
        self.from + (self.to - self.from) * share
    }
}

impl Range<Duration> {
    /// The point at `share` (0 to 1) of the way.
    pub fn at(self, share: f64) -> Duration {
        self.from + (self.to - self.from).mul_f64(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_or_two() {
        assert_eq!("50".parse(), Ok(Range { from: 50_u32, to: 50 }));
        assert_eq!("1..50".parse(), Ok(Range { from: 1_u32, to: 50 }));
        assert_eq!("0.5..2".parse(), Ok(Range { from: 0.5, to: 2.0 }));
        let think: Range<Duration> = "1s..3s".parse().unwrap();
        assert_eq!(think.at(0.5), Duration::from_secs(2));
        for bad in ["", "..", "5..1", "-1", "1..", "x"] {
            assert!(bad.parse::<Range<u32>>().is_err(), "{bad}");
            assert!(bad.parse::<Range<f64>>().is_err(), "{bad}");
        }
        assert!("3".parse::<Range<Duration>>().is_err(), "a time needs its unit");
    }
}
