//! Why an access unit is not decoded.

/// Why an access unit is not decoded. The next key frame begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Not a key frame, where one is due.
    #[error("it builds on pictures that are not there: send a key frame")]
    NeedsKey,
    /// It names parameter sets that have not come.
    #[error("its parameter sets (SPS and PPS) have not come: send them with every key frame")]
    NoSets,
    /// It has B-frames.
    #[error("its pictures do not come in the order in which they are shown (B-frames): encode without them")]
    Reordered,
    /// Larger pictures than are taken.
    #[error("its pictures of {0}×{1} pixels are too large: the limit is {2} pixels")]
    TooLarge(usize, usize, usize),
    /// There is no memory left for pictures of that size.
    #[error(
        "there is no room to decode another stream of {0}×{1} pixels: try again later, or send smaller pictures"
    )]
    NoRoom(usize, usize),
    /// A part of H.264 that is not decoded.
    #[error("{0} are not decoded")]
    Unsupported(&'static str),
    /// It is not H.264, or damaged.
    #[error("it is damaged, or of a kind that is not decoded: {0}")]
    Damaged(&'static str),
}
