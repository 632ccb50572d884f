//! The record role: what was found goes from NATS into a database or files, once each.
//!
//! | module | what |
//! |---|---|
//! | [`Recorder`] | the loop: takes events that are kept, stores them, acknowledges them |
//! | `place` | where events go: one of the next two |
//! | `postgres` | PostgreSQL: tables by day, batches by `COPY` |
//! | `parquet` | Parquet files in a folder or a bucket, by stream and hour |
//! | `gaps` | how many events were lost before they came here, pure |
//! | `streams` | which streams are recorded, pure |
//!
//! It knows no sessions and no pictures. An event is acknowledged after the place has it, so it may come twice; its key
//! lets it in once.

mod config;
mod error;
mod gaps;
pub mod metrics;
mod parquet;
mod place;
mod postgres;
mod recorder;
mod streams;

pub use config::Config;
pub use error::Error;
pub use parquet::Error as ParquetError;
pub use place::Target;
pub use postgres::{Address, Error as PostgresError};
pub use recorder::{LoadError, Recorder};
pub use streams::Streams;
