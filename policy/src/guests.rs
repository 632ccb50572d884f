//! How many connections there may be, in all and from one address.

use std::{collections::HashMap, net::IpAddr};

/// Why a connection is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are as many as there may be.
    All,
    /// Its address has as many as one may have.
    Address,
}

/// The connections that there are.
#[derive(Debug)]
pub struct Guests {
    most: usize,
    most_of_one: usize,
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Guests {
    /// Takes at most `most` connections, of one address at most `most_of_one`.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        Self { most, most_of_one, all: 0, by_address: HashMap::new() }
    }

    /// Another connection comes. What is admitted must [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`Full`]: it has to go.
    pub fn admit(&mut self, address: IpAddr) -> Result<(), Full> {
        let key = network(address);
        if self.by_address.get(&key).is_some_and(|count| *count >= self.most_of_one) {
            return Err(Full::Address);
        }
        if self.all >= self.most {
            return Err(Full::All);
        }
        self.all += 1;
        *self.by_address.entry(key).or_default() += 1;
        Ok(())
    }

    /// An admitted connection has ended.
    pub fn leave(&mut self, address: IpAddr) {
        let key = network(address);
        if let Some(count) = self.by_address.get_mut(&key) {
            self.all -= 1;
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&key);
            }
        }
    }
}

/// What counts as one address: of IPv6 the first 64 bits, which one subscriber has, the others are for it to choose.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::from((u128::from(v6) >> 64 << 64).to_be_bytes()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let mut guests = Guests::new(3, 2);
        assert_eq!(guests.admit(ip("10.0.0.1")), Ok(()));
        assert_eq!(
            guests.admit(ip("::ffff:10.0.0.1")),
            Ok(()),
            "the same address, as a socket for both tells it"
        );
        assert_eq!(guests.admit(ip("10.0.0.1")), Err(Full::Address));
        assert_eq!(guests.admit(ip("2001:db8::1")), Ok(()));
        assert_eq!(guests.admit(ip("10.0.0.2")), Err(Full::All));
        guests.leave(ip("10.0.0.1"));
        assert_eq!(guests.admit(ip("2001:db8::2:1")), Ok(()));
        guests.leave(ip("10.0.0.1"));
        assert_eq!(guests.admit(ip("2001:db8::3:1")), Err(Full::Address), "of the same network");
    }

    proptest! {
        #[test]
        fn what_left_is_forgotten(comings in prop::collection::vec((0u8..4, any::<bool>()), 0..200)) {
            let mut guests = Guests::new(5, 3);
            let mut inside: Vec<IpAddr> = Vec::new();
            for (host, comes) in comings {
                let address = IpAddr::from([10, 0, 0, host]);
                let of_it = inside.iter().filter(|other| **other == address).count();
                if comes {
                    let admitted = guests.admit(address).is_ok();
                    prop_assert_eq!(admitted, of_it < 3 && inside.len() < 5);
                    inside.extend(admitted.then_some(address));
                } else if let Some(at) = inside.iter().position(|other| *other == address) {
                    inside.remove(at);
                    guests.leave(address);
                }
            }
            inside.into_iter().for_each(|address| guests.leave(address));
            prop_assert!(guests.all == 0 && guests.by_address.is_empty());
        }
    }
}
