//! Newcomers: two model families and a task that no crate of ours knows, brought from outside through the public
//! seams, and taken through everything that a frame meets.
//!
//! | module | what |
//! |---|---|
//! | `blobs`, `hues` | the families: joints are the middles of coloured spots; a picture's mean colour has a name |
//! | `folder` | a model folder of theirs, with its manifest |
//! | `painting` | pictures in which it is known where everything is |
//! | `house` | the roles at work, and clients |
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apart;
mod blobs;
mod doors;
mod folder;
mod house;
mod hues;
mod painting;
mod pipelines;
mod refusals;
mod renewal;
