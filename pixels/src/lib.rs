//! Encoded images to planar YUV and back.
//!
//! A frame is decoded once to the Y, U and V planes it was compressed from, the model input and the
//! overlay work on those planes, and the encoder compresses them again: no RGB picture in between.
//! JPEG takes that way through libjpeg-turbo. Whatever cannot (PNG, WebP, CMYK or RGB JPEG) goes
//! through RGB and ends in the same planes.
//!
//! | module | what |
//! |---|---|
//! | `planar` | [`PlanarImage`]: the planes, their layout and subsampling |
//! | `decode` | [`Decoder`], [`probe`]: which format, how large, which way up; limits first |
//! | `jpeg` | JPEG through libjpeg-turbo |
//! | `packed` | PNG, WebP and odd JPEG by way of RGB |
//! | `webp`, `vp8l` | what a WebP claims, checked before its decoder allocates by it |
//! | `orient` | planes turned upright as EXIF says |
//! | `pool` | [`Pool`]: a bounded number of images lent from stage to stage |
//! | `recent` | [`Recent`]: when memory that is used again is given back |
//! | `idle` | [`Idle`]: what waits for its next picture, with its buffers |
//! | `encode` | [`Encoder`]: planes to JPEG |
//! | [`bt601`] | the colour conversion all of them share |
//!
//! It knows no model, no drawing, no sockets, and does not block on anything but the processor.
//!
//! ```
//! use cloudpose_pixels::{Decoder, Encoder, Limits, PlanarImage, Subsampling};
//!
//! let grey = PlanarImage::new(32, 16, Subsampling::S420);
//! let jpeg = Encoder::new()?.encode(&grey, 85)?;
//!
//! let mut frame = PlanarImage::default();
//! let header = Decoder::new(Limits::default())?.decode(&jpeg, &mut frame)?;
//! assert_eq!((header.width, header.height), (32, 16));
//! assert_eq!(frame.subsampling(), Subsampling::S420);
//! # Ok::<(), cloudpose_pixels::Error>(())
//! ```

pub mod bt601;
mod decode;
mod encode;
mod error;
mod idle;
mod jpeg;
mod orient;
mod packed;
mod planar;
mod pool;
mod recent;
mod vp8l;
mod webp;

pub use decode::{Decoder, Format, Header, Limits, Scale, probe};
pub use encode::Encoder;
pub use error::Error;
pub use idle::Idle;
/// How a picture must be turned to be upright (EXIF tag 0x0112).
pub use image::metadata::Orientation;
pub use planar::{Component, PlanarImage, Plane, PlaneMut, Subsampling};
pub use pool::{Pool, Pooled};
pub use recent::Recent;
