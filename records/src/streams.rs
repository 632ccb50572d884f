//! Which streams are recorded.

use std::str::FromStr;

use cloudpose_wire::{StreamName, Tenant};

/// Streams by name and tenant, with wildcards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Streams(Vec<Pattern>);

/// `*` stands for any characters, also none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    tenant: String,
    stream: String,
}

impl Streams {
    /// Whether a stream is one of them.
    pub(crate) fn have(&self, tenant: &Tenant, stream: &StreamName) -> bool {
        self.0.iter().any(|pattern| {
            matches(&pattern.tenant, tenant.as_str()) && matches(&pattern.stream, stream.as_str())
        })
    }
}

impl FromStr for Streams {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pattern = |name: &str| {
            let default = Tenant::default();
            let (tenant, stream) = name.split_once('/').unwrap_or((default.as_str(), name));
            let fits = |part: &str| {
                let allowed = |c: char| c.is_ascii_alphanumeric() || "-_*".contains(c);
                !part.is_empty() && part.chars().all(allowed)
            };
            if fits(tenant) && fits(stream) {
                Ok(Pattern { tenant: tenant.into(), stream: stream.into() })
            } else {
                Err(format!("{name:?} names no stream: write it like door, door-* or acme/door"))
            }
        };
        text.split(',').map(|name| pattern(name.trim())).collect::<Result<_, _>>().map(Self)
    }
}

/// Whether `name` is what `pattern` says.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let parts: Vec<&str> = rest.split('*').collect();
    let (last, middle) = parts.split_last().expect("splitting leaves one part at least");
    // Each as early as it can be: what comes after has the most room then.
    for part in middle {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_any_characters() {
        for (pattern, name, is_one) in [
            ("door", "door", true),
            ("door", "doors", false),
            ("door-*", "door-1", true),
            ("door-*", "door-", true),
            ("door-*", "yard", false),
            ("*-1", "door-1", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, name), is_one, "{pattern} {name}");
        }
    }

    #[test]
    fn a_name_without_a_tenant_is_the_default_ones() {
        let streams: Streams = "door-*, acme/yard".parse().unwrap();
        let (nobody, acme) = (Tenant::default(), Tenant::new("acme").unwrap());
        let name = |name| StreamName::new(name).unwrap();
        assert!(streams.have(&nobody, &name("door-1")) && streams.have(&acme, &name("yard")));
        assert!(!streams.have(&acme, &name("door-1")) && !streams.have(&nobody, &name("yard")));
        let all: Streams = "*/*".parse().unwrap();
        assert!(all.have(&nobody, &name("x")) && all.have(&acme, &name("x")));
        for wrong in ["", "a,,b", "a/b/c", "door.*", "/x"] {
            assert!(wrong.parse::<Streams>().unwrap_err().contains("names no stream"), "{wrong:?}");
        }
    }
}
