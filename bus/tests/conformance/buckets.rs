//! Documents that several change together.

use std::time::Duration;

use bytes::Bytes;
use cloudpose_bus::{BucketError, Bus, Document, Over};
use cloudpose_testing::soon;

pub(super) async fn of_several_who_write_over_the_same_one_does(bus: Bus) {
    let (one, other) = (bus.bucket("cameras"), bus.bucket("cameras"));
    assert!(one.read().await.unwrap().is_empty());
    let first = one.write("cameras.a.door", "1".into(), Over::Nothing, None).await.unwrap();
    assert_eq!(
        other.write("cameras.a.door", "x".into(), Over::Nothing, None).await,
        Err(BucketError::Changed)
    );
    let second = other.write("cameras.a.door", "2".into(), Over::Revision(first), None).await.unwrap();
    assert!(second > first);
    for late in [
        one.write("cameras.a.door", "x".into(), Over::Revision(first), None).await.map(drop),
        one.remove("cameras.a.door", Over::Revision(first)).await,
    ] {
        assert_eq!(late, Err(BucketError::Changed));
    }
    let third = one.write("gateways.g", "3".into(), Over::Anything, None).await.unwrap();
    let all = other.read().await.unwrap();
    let document =
        |revision, value: &'static str| Document { revision, value: Bytes::from_static(value.as_bytes()) };
    let expected = [("cameras.a.door", document(second, "2")), ("gateways.g", document(third, "3"))];
    assert_eq!(all, expected.map(|(key, document)| (key.to_owned(), document)).into());
    assert_eq!(other.get("gateways.g").await.unwrap(), Some(document(third, "3")));
    assert_eq!(other.get("gateways.x").await.unwrap(), None);
    assert_eq!(other.keys().await.unwrap(), ["cameras.a.door", "gateways.g"]);
    assert!(bus.bucket("others").read().await.unwrap().is_empty());
}

pub(super) async fn what_is_removed_or_has_lasted_is_nothing(bus: Bus) {
    let bucket = bus.bucket("cameras");
    let first = bucket.write("a.b", "1".into(), Over::Nothing, None).await.unwrap();
    bucket.remove("a.b", Over::Revision(first)).await.unwrap();
    assert!(bucket.read().await.unwrap().is_empty());
    assert_eq!(bucket.get("a.b").await.unwrap(), None);
    // At once, and again when nothing is known of it any more.
    let again = bucket.write("a.b", "2".into(), Over::Nothing, None).await.unwrap();
    assert!(again > first, "{again}");
    assert_eq!(bucket.write("a.b", "x".into(), Over::Revision(first), None).await, Err(BucketError::Changed));
    bucket.write("a.b", "3".into(), Over::Anything, Some(Duration::from_secs(1))).await.unwrap();
    soon(async {
        while !bucket.read().await.unwrap().is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    bucket.write("a.b", "4".into(), Over::Nothing, None).await.unwrap();
}

pub(super) async fn the_keys_of_many_are_told(bus: Bus) {
    let bucket = bus.bucket("cameras");
    assert!(bucket.keys().await.unwrap().is_empty());
    // More than NATS tells of at once.
    let keys: Vec<String> = (1000..2100).map(|n| format!("a.{n}")).collect();
    for key in &keys {
        bucket.write(key, "1".into(), Over::Nothing, None).await.unwrap();
    }
    assert_eq!(bucket.keys().await.unwrap(), keys);
}

pub(super) async fn who_wants_to_know_is_told_of_changes(bus: Bus) {
    let bucket = bus.bucket("cameras");
    bucket.read().await.unwrap();
    let mut changes = bucket.changes("cameras").await;
    for _ in 0..2 {
        let written = bucket.write("cameras.a.b", "1".into(), Over::Anything, None).await.unwrap();
        soon(changes.next()).await;
        bucket.write("gateways.g", "1".into(), Over::Anything, None).await.unwrap();
        let more = tokio::time::timeout(Duration::from_millis(100), changes.next()).await;
        assert!(more.is_err(), "of other keys nothing is said");
        bucket.remove("cameras.a.b", Over::Revision(written)).await.unwrap();
        soon(changes.next()).await;
    }
}
