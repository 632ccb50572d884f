//! Persons over time: who in this frame is whom of the frames before, smoothed, with ids that last.
//!
//! A worker keeps nothing between frames: [`follow`] takes the persons of a frame and the stream's
//! [`Prior`](cloudpose_wire::Prior), and gives back both, brought up to date. Whoever holds the stream
//! keeps a [`Registry`], which merges what comes back, from however many workers and in whatever order,
//! and alone gives out ids. With several frames in flight each is followed from the same past; because
//! ids come from one place, frames worked on side by side never disagree about them.
//!
//! Pure: no clock (the frames' own times are arguments), no state outside of [`Registry`].
//!
//! | module | what |
//! |---|---|
//! | `similarity` | object keypoint similarity between a track and a person |
//! | `associate` | tracks to persons |
//! | `smooth` | the One-Euro filter |
//! | `follow` | one frame: all of these |
//! | `registry` | tracks between frames: numbers, confirmation, age |

mod associate;
mod follow;
mod registry;
mod similarity;
mod smooth;

pub use follow::{Frame, follow};
pub use registry::Registry;
