//! The gateway from outside: real sockets on one side, the bus with a stub worker on the other.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bad_streams;
mod broker;
mod codec;
mod homeward;
mod hostile;
mod http;
mod keys;
mod legacy;
mod origins;
mod pages;
mod stage;
mod streams;
mod trace;
mod watch;
