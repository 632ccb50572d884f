//! What is so of a folder only.

use std::{fs, os::unix::fs::PermissionsExt as _};

use bytes::Bytes;
use cloudpose_store::{Address, Error, Store};

async fn open(folder: &std::path::Path) -> Result<Store, Error> {
    Store::open(&Address::from(folder), None).await
}

#[tokio::test]
async fn it_is_nobody_elses_and_nothing_is_left_over() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a/b");
    let store = open(&root).await.unwrap();
    store.put("x/1", Bytes::from_static(b"1")).await.unwrap();
    assert!(!store.put_new("x/1", Bytes::from_static(b"2")).await.unwrap());
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o077, 0);
    assert_eq!(fs::read_dir(root.join("new")).unwrap().count(), 0);
}

#[tokio::test]
async fn what_cannot_be_written_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = open(&file).await.unwrap_err();
    assert!(refused.to_string().contains(file.to_str().unwrap()), "{refused}");
    let root = folder.path().join("store");
    let store = open(&root).await.unwrap();
    fs::remove_dir_all(&root).unwrap();
    fs::write(&root, "").unwrap();
    let refused = store.put("x", Bytes::from_static(b"1")).await.unwrap_err();
    assert!(matches!(refused, Error::Unusable { .. }) && !refused.is_full(), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_while_all_is_removed_is_no_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await.unwrap();
    for job in 0..60 {
        let [results, all] = [format!("jobs/{job}/results"), format!("jobs/{job}")];
        let write = async {
            for number in 0..20 {
                // Its folder may go the moment it is made.
                store.put_new(&format!("{results}/{number}"), Bytes::from("x")).await.ok();
            }
        };
        let remove = async {
            for _ in 0..20 {
                store.remove_all(&all).await.unwrap();
            }
        };
        tokio::join!(write, remove);
    }
}
