//! When memory that is used again is given back.
//!
//! A buffer grows to the largest picture that it has met. One of 16 megapixels would keep it that large for good; so
//! a buffer of which none of the last [`PICTURES`] pictures needed a quarter shrinks to what they needed.

/// After how many pictures is decided.
const PICTURES: usize = 32;
/// A buffer may be this many times as large as what is needed of it.
const MOST: usize = 4;

/// What the last pictures needed of a buffer.
#[derive(Debug, Clone, Default)]
pub struct Recent {
    largest: usize,
    pictures: usize,
}

impl Recent {
    /// A picture needed `len` bytes of a buffer that has `room` for more. Says how much to keep of it, if the rest is
    /// to be given back.
    pub fn needed(&mut self, len: usize, room: usize) -> Option<usize> {
        self.largest = self.largest.max(len);
        self.pictures += 1;
        if self.pictures < PICTURES {
            return None;
        }
        let Self { largest, .. } = std::mem::take(self);
        is_excessive(room, largest).then_some(largest)
    }

    /// A picture needed the whole length of `buffer`, whose spare capacity is given back where it is too much.
    pub fn settle(&mut self, buffer: &mut Vec<u8>) {
        if let Some(len) = self.needed(buffer.len(), buffer.capacity()) {
            buffer.shrink_to(len);
        }
    }
}

/// Whether a buffer with so much `room` is too large for pictures that need `largest` bytes at most.
pub(crate) fn is_excessive(room: usize, largest: usize) -> bool {
    largest < room / MOST
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is decided about a buffer with `room` after each of `needs`.
    fn decisions(room: usize, needs: impl IntoIterator<Item = usize>) -> Vec<Option<usize>> {
        let mut recent = Recent::default();
        needs.into_iter().map(|len| recent.needed(len, room)).collect()
    }

    #[test]
    fn only_what_nobody_needed_for_a_while_is_given_back() {
        let small = std::iter::repeat_n(24, PICTURES - 1);
        let after = |needs: &mut dyn Iterator<Item = usize>| decisions(100, needs).last().copied().flatten();
        assert_eq!(after(&mut small.clone()), None, "too early");
        assert_eq!(after(&mut small.clone().chain([20])), Some(24), "the most that was needed is kept");
        assert_eq!(
            after(&mut [100].into_iter().chain(small.clone())),
            None,
            "the large one is among the last"
        );
        assert_eq!(
            after(&mut [100].into_iter().chain(small.clone()).chain(small.clone()).chain([24])),
            Some(24)
        );
        assert_eq!(after(&mut small.chain([25])), None, "a quarter is needed");
    }

    #[test]
    fn a_steady_stream_keeps_its_buffer() {
        assert!(
            decisions(300, [100, 299, 75].into_iter().cycle().take(10 * PICTURES))
                .iter()
                .all(Option::is_none)
        );
    }

    #[test]
    fn a_buffer_shrinks_and_keeps_what_it_holds() {
        let (mut recent, mut buffer) = (Recent::default(), vec![1; 1000]);
        buffer.truncate(10);
        for _ in 0..PICTURES {
            assert!(buffer.capacity() >= 1000);
            recent.settle(&mut buffer);
        }
        assert!(buffer.capacity() < 100, "{}", buffer.capacity());
        assert_eq!(buffer, [1; 10]);
    }
}
