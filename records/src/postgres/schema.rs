//! The tables: one process at a time changes and fills them, and each version brings those of earlier ones up to date.

use tokio_postgres::{Client, Error};

/// What makes each version out of the one before, the first out of nothing. What stands here never changes: later versions
/// are added.
const MIGRATIONS: [&str; 1] = [include_str!("0001.sql")];
/// The advisory lock of who records: "CldPose1" in ASCII.
const LOCK: i64 = 0x436c_6450_6f73_6531;

/// Whether this connection is the one that records, from now until it ends.
pub(super) async fn is_ours(client: &Client) -> Result<bool, Error> {
    client.query_one("SELECT pg_try_advisory_lock($1)", &[&LOCK]).await?.try_get(0)
}

/// Makes what is missing. The version that is there, if it is later than ours.
pub(super) async fn bring_up_to_date(client: &mut Client) -> Result<Option<i32>, Error> {
    client
        .batch_execute(
            "CREATE SCHEMA IF NOT EXISTS cloudpose;
             SET search_path TO cloudpose, pg_temp;
             CREATE TABLE IF NOT EXISTS migrations
                 (version integer PRIMARY KEY, made_at timestamptz NOT NULL DEFAULT now());",
        )
        .await?;
    let found = client.query_one("SELECT coalesce(max(version), 0) FROM migrations", &[]).await?;
    let found: i32 = found.try_get(0)?;
    let there = usize::try_from(found).unwrap_or(0);
    if there > MIGRATIONS.len() {
        return Ok(Some(found));
    }
    for (version, migration) in (1_i32..).zip(MIGRATIONS).skip(there) {
        let transaction = client.transaction().await?;
        transaction.batch_execute(migration).await?;
        transaction.execute("INSERT INTO migrations (version) VALUES ($1)", &[&version]).await?;
        transaction.commit().await?;
        tracing::info!(version, "made the tables for records");
    }
    Ok(None)
}
