//! How far strided data reach. Sizes come from callers, and a product that wrapped would pass for a small one.

/// Where `count` runs of `width` end that begin `stride` after one another; None if no memory goes that far.
#[inline]
pub(crate) fn end_of(count: usize, stride: usize, width: usize) -> Option<usize> {
    match count.checked_sub(1) {
        Some(last) => last.checked_mul(stride)?.checked_add(width),
        None => Some(0),
    }
}
