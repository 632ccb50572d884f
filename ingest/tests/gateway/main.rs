//! The gateway from outside: real sockets on one side, the bus with a stub worker on the other.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_streams;
mod broker;
mod callbacks;
mod camera_quotas;
mod cameras;
mod claims;
mod codec;
mod fleet;
mod homeward;
mod hostile;
mod http;
mod images;
mod jobs;
mod keys;
mod legacy;
mod oip;
mod origins;
mod pages;
mod quotas;
mod roboflow;
mod stage;
mod streams;
mod tickets;
mod tls;
mod trace;
mod turns;
mod videos;
mod watch;
