//! The record role: what was found goes from NATS into a database, once each.
//!
//! | module | what |
//! |---|---|
//! | [`Recorder`] | the loop: takes events that are kept, stores them, acknowledges them |
//! | `postgres` | PostgreSQL: tables by day, batches by `COPY` |
//! | `gaps` | how many events were lost before they came here, pure |
//! | `streams` | which streams are recorded, pure |
//!
//! It knows no sessions and no pictures. An event is acknowledged after the database has it, so it may come twice; the
//! tables' key lets it in once.

mod config;
mod gaps;
pub mod metrics;
mod postgres;
mod recorder;
mod streams;

pub use config::Config;
pub use postgres::{Address, Error};
pub use recorder::{LoadError, Recorder};
pub use streams::Streams;
