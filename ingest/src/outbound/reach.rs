//! Which addresses may be reached. Who names one reaches what the gateway reaches: its own ports, its network, the metadata
//! of its cloud. So only public addresses are reached for clients, and those that the operator allows.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Addresses that begin alike, written like `192.168.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Net {
    base: IpAddr,
    bits: u8,
}

impl Net {
    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                same(base.to_bits().into(), address.to_bits().into(), self.bits, 32)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                same(base.to_bits(), address.to_bits(), self.bits, 128)
            }
            _ => false,
        }
    }
}

/// Whether the first `bits` of numbers of so many bits are the same.
fn same(a: u128, b: u128, bits: u8, of: u32) -> bool {
    bits == 0 || (a ^ b) >> (of - u32::from(bits)) == 0
}

impl FromStr for Net {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, bits) =
            text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let base: IpAddr = address
            .parse()
            .map_err(|_| format!("{address} is no address; write it like 192.168.1.0/24 or fd00::/8"))?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = match bits.map(str::parse::<u8>) {
            None => most,
            Some(Ok(bits)) if bits <= most => bits,
            Some(_) => return Err(format!("what follows / must be 0 to {most}")),
        };
        Ok(Self { base, bits })
    }
}

impl fmt::Display for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// What an address may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anything: the operator has named it.
    Anywhere,
    /// Public addresses, and these, which an option of this name allows.
    Public(Vec<Net>, &'static str),
}

impl Reach {
    /// Lets an address pass, or says what kind it is of.
    pub(super) fn check(&self, address: IpAddr) -> Result<(), &'static str> {
        match self {
            Self::Anywhere => Ok(()),
            Self::Public(allowed, _) => {
                let address = address.to_canonical();
                if allowed.iter().any(|net| net.contains(address)) {
                    return Ok(());
                }
                reserved(address).map_or(Ok(()), Err)
            }
        }
    }

    /// Says so. Which address a name leads to is not said: that is nobody's business who cannot reach it.
    pub(super) fn refused(&self, kind: &str) -> String {
        match self {
            Self::Anywhere => format!("its address is {kind}"),
            Self::Public(_, option) => format!(
                "its address is {kind}, and such ones are not reached for clients unless whoever runs the gateway allows \
                 their range with {option}, like {option} 192.168.1.0/24"
            ),
        }
    }
}

/// What an address is that not everybody in the Internet reaches (the special-purpose registries of IANA, RFC 6890).
fn reserved(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => reserved_v4(address),
        IpAddr::V6(address) => reserved_v6(address),
    }
}

fn reserved_v4(address: Ipv4Addr) -> Option<&'static str> {
    match address.octets() {
        [127, ..] => Some("this machine's own"),
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Some("private"),
        [169, 254, ..] => Some("link-local"),
        [100, 64..=127, ..] => Some("a provider's own"),
        [0, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [224..=255, ..] => Some("reserved"),
        _ => None,
    }
}

fn reserved_v6(address: Ipv6Addr) -> Option<&'static str> {
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        reserved_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Some("this machine's own"),
        [0xfc00..=0xfdff, ..] => Some("private"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        // Of NAT64 and of 6to4: what they lead to.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
        [0x2002, high, low, ..] => embedded(high, low),
        [0x2001, 0..=0x1ff | 0xdb8, ..] => Some("reserved"),
        [0x2000..=0x3ffe, ..] => None,
        _ => Some("reserved"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(reach: &Reach, address: &str) -> Result<(), &'static str> {
        reach.check(address.parse().unwrap())
    }

    #[test]
    fn only_public_addresses_pass() {
        let reach = Reach::Public(Vec::new(), "--allow");
        for public in
            ["1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "64:ff9b::101:101"]
        {
            assert_eq!(check(&reach, public), Ok(()), "{public}");
        }
        for (address, kind) in [
            ("127.0.0.1", "this machine's own"),
            ("127.255.255.254", "this machine's own"),
            ("::1", "this machine's own"),
            ("::ffff:127.0.0.1", "this machine's own"),
            ("10.1.2.3", "private"),
            ("172.16.0.1", "private"),
            ("172.31.255.255", "private"),
            ("192.168.0.1", "private"),
            ("::ffff:192.168.0.1", "private"),
            ("fd00:ec2::254", "private"),
            ("169.254.169.254", "link-local"),
            ("fe80::1", "link-local"),
            ("100.64.0.1", "a provider's own"),
            ("100.100.100.200", "a provider's own"),
            ("0.0.0.0", "reserved"),
            ("::", "reserved"),
            ("::7f00:1", "reserved"),
            ("192.0.0.192", "reserved"),
            ("198.18.0.1", "reserved"),
            ("224.0.0.1", "reserved"),
            ("255.255.255.255", "reserved"),
            ("ff02::1", "reserved"),
            ("fec0::1", "reserved"),
            ("2001:db8::1", "reserved"),
            ("2001::1", "reserved"),
            ("64:ff9b::7f00:1", "this machine's own"),
            ("64:ff9b::a9fe:a9fe", "link-local"),
            ("64:ff9b:1::1", "reserved"),
            ("2002:7f00:1::", "this machine's own"),
            ("2002:c0a8:1::", "private"),
        ] {
            assert_eq!(check(&reach, address), Err(kind), "{address}");
            assert_eq!(check(&Reach::Anywhere, address), Ok(()));
        }
    }

    #[test]
    fn what_is_allowed_passes_and_nothing_beside_it() {
        let allowed = vec!["192.168.1.0/24".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let reach = Reach::Public(allowed, "--allow");
        for allowed in ["192.168.1.0", "192.168.1.255", "::ffff:192.168.1.7", "fdff::1"] {
            assert_eq!(check(&reach, allowed), Ok(()), "{allowed}");
        }
        for other in ["192.168.2.0", "192.168.0.255", "fc00::1", "127.0.0.1"] {
            assert!(check(&reach, other).is_err(), "{other}");
        }
        let all = Reach::Public(vec!["0.0.0.0/0".parse().unwrap()], "--allow");
        assert_eq!(check(&all, "127.0.0.1"), Ok(()));
        assert!(check(&all, "::1").is_err(), "the other family is not meant");
    }

    #[test]
    fn ranges_are_read_as_they_are_written() {
        for good in ["10.0.0.0/8", "::1/128", "192.168.1.7"] {
            let net: Net = good.parse().unwrap();
            assert!(net.to_string().starts_with(good));
        }
        for bad in ["10.0.0.0/33", "10.0.0/8", "cam/8", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert!(bad.parse::<Net>().is_err(), "{bad}");
        }
    }
}
