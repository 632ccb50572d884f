//! The contract between CloudPose's roles, and between CloudPose and other people's programs.
//!
//! Pure data: no runtime, no sockets, no tensors. Every other crate builds on this one.
//!
//! - [`caller`]: who asks
//! - [`id`]: names and numbers that identify things, checked when they are made
//! - [`lane`]: the work queues (stage × kind), and the modes of a session
//! - [`frame`]: one image on its way through the stages, and what comes back
//! - [`payload`]: what a frame shows
//! - [`event`]: what there is to find, and what was found in a frame
//! - [`skeleton`]: which keypoints a person has, and how they hang together
//! - [`model`]: what is said of models
//! - [`outcome`]: the closed set of ends that a frame can meet
//! - [`track`]: what a stream remembers of its persons
//! - [`ws`]: messages of the WebSocket `/v1/stream`
//! - [`watch`]: live streams, and what those who watch them see
//! - [`trace`]: W3C trace context
//! - [`subject`]: NATS subjects, built and parsed here only

pub mod caller;
pub mod event;
pub mod frame;
pub mod id;
pub mod lane;
pub mod model;
pub mod outcome;
pub mod payload;
pub mod skeleton;
pub mod subject;
pub mod trace;
pub mod track;
pub mod watch;
pub mod ws;

pub use caller::Caller;
pub use event::{Class, Event, Keypoint, Output, Person, SharedEvent, Task};
pub use frame::{Address, Draw, Frame, FrameHeader, FrameResult, Reply, Route, Want};
pub use id::{
    Domain, GatewayId, JobId, KeyName, KeypointName, ModelId, Prefix, Scope, SessionId, SkeletonName,
    StreamName, Tenant,
};
pub use lane::{Kind, Lane, Mode, Stage};
pub use model::ModelInfo;
pub use outcome::{DropReason, Outcome};
pub use payload::{Decoded, Payload};
pub use skeleton::Skeleton;
pub use trace::TraceParent;
pub use track::Prior;
pub use watch::{News, View};
