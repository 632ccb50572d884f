//! W3C Trace Context: which of its caller's traces a frame belongs to.

use std::{fmt, str::FromStr};

/// Name of the header, in HTTP and in NATS messages.
pub const TRACEPARENT: &str = "traceparent";

/// Version, two ids and flags in hexadecimal, with dashes between them.
const LENGTH: usize = 55;

/// The header `traceparent` (W3C Trace Context, section 3.2): a trace, and the span in it that asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace; never zero.
    pub trace_id: u128,
    /// The caller's span; never zero.
    pub parent_id: u64,
    /// Bit 0: the caller may have recorded its part.
    pub flags: u8,
}

/// What was given is no `traceparent`. The specification has it ignored, as if it were not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a W3C traceparent")]
pub struct InvalidTraceParent;

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    /// Reads version 00, and of later versions what they share with it (section 4.3).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (known, later) = text.split_at_checked(LENGTH).ok_or(InvalidTraceParent)?;
        let mut fields = known.split('-');
        let mut hex = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits).ok_or(InvalidTraceParent)?;
            let lower = field.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            if lower {
                u128::from_str_radix(field, 16).map_err(|_| InvalidTraceParent)
            } else {
                Err(InvalidTraceParent)
            }
        };
        let (version, trace_id, parent_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        let ends = if version == 0 { later.is_empty() } else { later.is_empty() || later.starts_with('-') };
        if version == 0xff || trace_id == 0 || parent_id == 0 || !ends {
            return Err(InvalidTraceParent);
        }
        // The fields are as long as the types are wide.
        Ok(Self { trace_id, parent_id: parent_id as u64, flags: flags as u8 })
    }
}

impl fmt::Display for TraceParent {
    /// As version 00.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.parent_id, self.flags)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of section 3.2.3.1.
    const EXAMPLE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_specifications_example_reads_and_writes_the_same() {
        let read: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!(read.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
        assert_eq!((read.parent_id, read.flags), (0x00f0_67aa_0ba9_02b7, 1));
        assert_eq!(read.to_string(), EXAMPLE);
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_are_known() {
        let read: TraceParent = EXAMPLE.parse().unwrap();
        for later in [EXAMPLE.replacen("00", "01", 1), format!("cc{}-what-comes", &EXAMPLE[2..])] {
            assert_eq!(later.parse(), Ok(read), "{later}");
        }
    }

    #[test]
    fn anything_else_is_no_trace_context() {
        for wrong in [
            "".to_owned(),
            "00".to_owned(),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            EXAMPLE.replace("00f067aa0ba902b7", &"0".repeat(16)),
            EXAMPLE.replace('-', "_"),
            EXAMPLE.replace("b7-01", "b7-+1"),
            format!("{EXAMPLE}-more"),
            format!("01{}x", &EXAMPLE[2..]),
            "é".repeat(40),
        ] {
            assert_eq!(wrong.parse::<TraceParent>(), Err(InvalidTraceParent), "{wrong}");
        }
    }
}
