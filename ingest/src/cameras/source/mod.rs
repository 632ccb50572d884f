//! The ways to fetch a camera. A new one is a file here and a variant of [`Place`].
//!
//! | module | what |
//! |---|---|
//! | `http` | Motion JPEG and single pictures over HTTP |
//! | `files` | a video or a folder of pictures, in a loop |
//! | `multipart` | the parts of Motion JPEG |
//! | `rtsp` | H.264 and JPEG over RTSP |
//! | `tap` | bounds for what RTSP brings |
//!
//! [`Place`]: super::address::Place

mod files;
mod http;
mod multipart;
mod rtsp;
mod tap;

use std::time::{Duration, Instant};

use bytes::Bytes;
use cloudpose_pixels::{Encoder, PlanarImage};
use cloudpose_wire::{Decoded, Payload};

use super::{
    address::{Address, Place},
    feed::{Cost, Feed},
};
use crate::{
    decoders::Decoders,
    outbound::{Reach, Trouble},
};

/// A picture must be whole so long after the one before.
const SILENCE: Duration = Duration::from_secs(10);
/// Of pictures that leave the process: as good as what cameras send.
const QUALITY: u8 = 90;

/// What a source may do.
#[derive(Debug, Clone)]
pub(super) struct Bounds {
    pub(super) decoders: Decoders,
    pub(super) reach: Reach,
    /// Of an encoded picture.
    pub(super) max_image_bytes: usize,
}

/// Fetches a camera into `feed`, until it cannot.
pub(super) async fn fetch(address: &Address, bounds: &Bounds, feed: &Feed, fps: Option<f32>) -> Trouble {
    let trouble = match &address.place {
        Place::Http(url) => http::fetch(url, address.credentials.as_ref(), bounds, (feed, fps)).await,
        Place::Rtsp(url) => rtsp::fetch(url, address.credentials.as_ref(), bounds, feed).await,
        Place::File(path) => files::fetch(path, feed, fps).await,
    };
    match trouble {
        Trouble::Gone(why) => Trouble::Gone(address.hide(&why)),
        Trouble::Wrong(why) => Trouble::Wrong(address.hide(&why)),
    }
}

/// An encoded picture that a camera sent `at`.
fn encoded(feed: &Feed, at: Instant, picture: Bytes) {
    if feed.takes(at, Cost::Nothing) {
        feed.put(at, Payload::Encoded(picture));
    }
}

/// Planes as what a frame shows. They are encoded if they leave the process.
fn decoded(picture: PlanarImage) -> Payload {
    let encode = |picture: &PlanarImage| {
        let encoded = Encoder::new().and_then(|mut encoder| encoder.encode(picture, QUALITY));
        encoded.map_err(|error| error.to_string())
    };
    Payload::Decoded(Decoded::new(picture, encode))
}
