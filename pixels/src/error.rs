use crate::Format;

/// Why an image could not be decoded or encoded, in words for whoever sent it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There were no bytes at all.
    #[error("the image is empty: send the bytes of a JPEG, PNG or WebP file")]
    Empty,
    /// The first bytes are none of the formats we take.
    #[error("this is not a JPEG, PNG or WebP image: convert it to one of these")]
    UnknownFormat,
    /// The header claims more pixels than [`Limits`](crate::Limits) allows. Nothing was allocated.
    #[error("the image is {width}×{height} pixels, the limit is {max_pixels} pixels: scale it down")]
    TooLarge {
        /// Width the header claims, in pixels.
        width: u64,
        /// Height the header claims, in pixels.
        height: u64,
        /// Largest allowed width × height.
        max_pixels: u64,
    },
    /// The data end before the picture is complete.
    #[error("the {0} image is cut off: send the whole file")]
    Truncated(Format),
    /// The data contradict the format.
    #[error("the {format} image is damaged: {source}")]
    Corrupt {
        /// What the file said it was.
        format: Format,
        /// What the codec found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A valid file of a kind we do not take.
    #[error("{0} is not supported: save the image as an ordinary 8-bit JPEG, PNG or WebP")]
    Unsupported(&'static str),
    /// The JPEG codec could not be set up or could not compress the planes.
    #[error("the JPEG codec failed")]
    Codec(#[from] turbojpeg::Error),
}

impl Error {
    pub(crate) fn corrupt(
        format: Format,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Corrupt { format, source: source.into() }
    }
}
