//! A build that decodes no live streams and writes no videos.

use std::{convert::Infallible, fs::File, time::Duration};

use cloudpose_pixels::PlanarImage;

use crate::{Error, Refused};

/// Of which there is none.
#[derive(Debug)]
pub struct Writer(Infallible);

impl Writer {
    /// Begins no file.
    ///
    /// # Errors
    /// Always: says what to do.
    pub fn new(_: File, _: [usize; 2], _: f64) -> Result<Self, Error> {
        Err(Error::Video("this build writes no videos: build it with the feature h264".into()))
    }

    /// Appends a picture.
    ///
    /// # Errors
    /// None.
    pub fn push(&mut self, _: &PlanarImage, _: Duration) -> Result<(), Error> {
        match self.0 {}
    }

    /// Completes the file.
    ///
    /// # Errors
    /// None.
    pub fn finish(self) -> Result<(), Error> {
        match self.0 {}
    }
}

/// Of which there is none.
#[derive(Debug)]
pub struct LiveDecoder(Infallible);

impl LiveDecoder {
    /// Makes no decoder.
    ///
    /// # Errors
    /// Always: says what to do.
    pub fn new(_: usize, _: impl FnMut(usize) -> bool + Send + 'static) -> Result<Self, Error> {
        Err(Error::Video(
            "this server was built without H.264 (the feature h264): send JPEG, PNG or WebP".into(),
        ))
    }

    /// Skips nothing.
    pub fn skip_earlier(&mut self) {
        match self.0 {}
    }

    /// Of nothing, nothing is.
    pub fn is_earlier(_: &[u8]) -> bool {
        false
    }

    /// Decodes nothing.
    ///
    /// # Errors
    /// None.
    pub fn decode(&mut self, _: &[u8], _: bool) -> Result<Option<PlanarImage>, Refused> {
        match self.0 {}
    }

    /// Needs nothing.
    pub fn needs_key(&self) -> bool {
        match self.0 {}
    }
}
