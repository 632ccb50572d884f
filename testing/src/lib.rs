//! What the tests of several crates share. A dev-dependency only: nothing that ships knows of it.
//!
//! - [`NatsServer`]: a real nats-server of its own for one test
//! - [`Postgres`]: a real PostgreSQL of its own
//! - `S3`, with the feature `s3`: a real S3 service of its own
//! - [`Receiver`]: an HTTP server that is called, and answers as it is told
//! - [`Disk`]: a disk of its own, which is full when the test wants it to be
//! - [`Link`]: a network that breaks when it is told to
//! - [`sample`]: frames to send around, and a bus to send them on
//! - [`golden`]: photos, and what TensorFlow saw in them
//!
//! What fails here panics: it is a test that fails.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
pub mod golden;
mod link;
mod nats_server;
mod postgres;
mod receiver;
#[cfg(feature = "s3")]
mod s3;
pub mod sample;

use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;

pub use disk::Disk;
pub use link::Link;
pub use nats_server::NatsServer;
pub use postgres::Postgres;
pub use receiver::{Call, Receiver, Reply};
#[cfg(feature = "s3")]
pub use s3::S3;

/// Waits for what must happen. The time is no expectation: only a test that hangs gets there.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(240), what).await.expect("it never happens")
}

/// Waits until the server knows of all that `client` has subscribed to: when it has answered what came after. A flush only
/// says that it was sent.
pub async fn subscribed(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut answer = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    soon(answer.next()).await.unwrap();
}

/// The folder of the workspace.
fn repository() -> PathBuf {
    // A test binary that was carried to another machine finds it through the variable.
    let here = std::env::var("CARGO_MANIFEST_DIR").unwrap_or(env!("CARGO_MANIFEST_DIR").to_owned());
    let root = Path::new(&here).ancestors().find(|folder| folder.join("Cargo.lock").is_file());
    root.expect("tests run in the repository").into()
}
