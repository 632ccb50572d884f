//! What is so of a bucket only.

use std::fs;

use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity, nats};
use cloudpose_store::{Error, Store};
use cloudpose_testing::{NatsServer, S3, soon};

async fn open(s3: &S3, address: &str) -> Result<Store, Error> {
    Store::open_in(&s3.environment(), &address.parse().unwrap(), None).await
}

#[tokio::test]
async fn objects_lie_under_the_prefix_and_nothing_is_left_over() {
    let s3 = S3::start();
    let store = open(&s3, &s3.address()).await.unwrap();
    store.put("x/1", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(fs::read(s3.path().join("x/1")).unwrap(), b"1");
    assert!(store.names("new").await.unwrap().is_empty());
    let whole = open(&s3, "s3://photos").await.unwrap();
    assert_eq!(whole.get("a/b/x/1").await.unwrap(), Some(Bytes::from_static(b"1")));
}

#[tokio::test]
async fn what_cannot_be_used_is_said_when_it_is_opened() {
    let s3 = S3::start();
    let missing = open(&s3, "s3://nobody/x").await.unwrap_err();
    assert!(missing.to_string().contains("NoSuchBucket"), "{missing}");
    let mut environment = s3.environment();
    environment[2].1 = "wrong".into();
    let stranger = Store::open_in(&environment, &s3.address().parse().unwrap(), None).await.unwrap_err();
    assert!(stranger.to_string().contains("SignatureDoesNotMatch"), "{stranger}");
    s3.refuse(Some(503));
    let away = open(&s3, &s3.address()).await.unwrap_err();
    assert!(matches!(away, Error::Unusable { .. }) && away.to_string().contains("503"), "{away}");
    let careless = S3::that_overwrites();
    let overwrites = open(&careless, &careless.address()).await.unwrap_err();
    assert!(matches!(overwrites, Error::Overwrites { .. }), "{overwrites}");
}

#[tokio::test]
async fn a_moment_of_503_is_got_over_and_no_room_is_told_as_such() {
    let s3 = S3::start();
    let store = open(&s3, &s3.address()).await.unwrap();
    s3.refuse(Some(503));
    let back = async {
        soon(async {
            while s3.refused() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        s3.refuse(None);
    };
    let (put, ()) = tokio::join!(store.put("x/1", Bytes::from_static(b"1")), back);
    put.unwrap();
    s3.refuse(Some(507));
    let full = store.put("x/2", Bytes::from_static(b"2")).await.unwrap_err();
    assert!(full.is_full(), "{full}");
    s3.refuse(None);
    assert_eq!(store.names("x").await.unwrap(), ["1"]);
}

#[tokio::test]
async fn a_bucket_that_is_gone_is_not_taken_for_an_empty_one() {
    let s3 = S3::start();
    let store = open(&s3, &s3.address()).await.unwrap();
    fs::remove_dir_all(s3.bucket()).unwrap();
    store.get("x/1").await.unwrap_err();
    store.names("x").await.unwrap_err();
}

#[tokio::test]
async fn documents_on_nats_are_kept_in_files_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("nats.conf");
    fs::write(&config, "jetstream { max_memory_store: 1GB, max_file_store: 0 }").unwrap();
    let (s3, nats) = (S3::start(), NatsServer::with(&config, []));
    let config = nats::Config::at(nats.url());
    let bus = Bus::nats(&config, Capacity::default()).await.unwrap();
    let address = s3.address().parse().unwrap();
    let refused = Store::open_in(&s3.environment(), &address, bus.lasting_bucket("jobs")).await.unwrap_err();
    assert!(refused.to_string().contains("max_file_store"), "{refused}");
}
