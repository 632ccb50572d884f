//! What a model family shows of its models, for an engine that runs them on a GPU.

use std::fmt;

use super::buffers::Buffers;
use super::memory::{Number, Result};
use super::ops::Maps;
use super::program::{Device, Program};
use crate::contract::Found;

/// A model that can run on a GPU.
pub trait OnGpu {
    /// Puts its weights on `device`, with maps and matrices in `number`, float32 or float16.
    ///
    /// # Errors
    /// If the device cannot hold them.
    fn load(&self, device: &mut dyn Device, number: Number) -> Result<Box<dyn Loaded>>;
}

/// A model's weights on a device.
pub trait Loaded: fmt::Debug + Send {
    /// Whether it takes inputs of that size.
    fn takes(&self, height: usize, width: usize) -> bool;

    /// What it does to a batch of RGB images, `maps` their number and size, in `buffers` of `device`.
    ///
    /// # Errors
    /// If there is no memory for it.
    fn program(&self, maps: Maps, device: &mut dyn Device, buffers: &mut Buffers) -> Result<Program>;

    /// What was found in each image of a batch, in the bytes that its program leaves.
    fn read(&self, output: &[u8]) -> Vec<Found>;
}
