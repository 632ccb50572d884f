//! Memory of the host that pictures are uploaded from.

#[cfg(feature = "cuda")]
use super::cuda;

/// Host memory that pictures are gathered in before they are copied.
#[derive(Debug)]
pub(super) enum Staging {
    /// For the CPU in a device's place.
    Plain(Vec<u8>),
    #[cfg(feature = "cuda")]
    Pinned(cuda::Pinned),
}

impl Staging {
    /// The first `len` bytes, with whatever was there.
    pub(super) fn bytes(&mut self, len: usize) -> candle_core::Result<&mut [u8]> {
        match self {
            Self::Plain(bytes) => {
                if bytes.len() < len {
                    *bytes = vec![0; len];
                }
                Ok(&mut bytes[..len])
            }
            #[cfg(feature = "cuda")]
            Self::Pinned(pinned) => pinned.bytes(len),
        }
    }
}
