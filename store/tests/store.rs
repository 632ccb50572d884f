//! What every store promises.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its tasks"
)]

use std::{fs, os::unix::fs::PermissionsExt as _};

use bytes::Bytes;
use cloudpose_store::{Error, Store};
use tempfile::TempDir;

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("a/b")).unwrap();
    (folder, store)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn bytes_are_written_whole_and_read_by_whoever_opens_the_folder() {
    let (folder, store) = store();
    assert_eq!(store.get("x/1").await.unwrap(), None);
    store.put("x/1", bytes("one")).await.unwrap();
    store.put("x/1", bytes("uno")).await.unwrap();
    let other = Store::open(folder.path().join("a/b")).unwrap();
    assert_eq!(other.get("x/1").await.unwrap(), Some(bytes("uno")));
    assert!(other.has("x/1").await.unwrap() && !other.has("x/2").await.unwrap());
    let written = fs::metadata(folder.path().join("a/b")).unwrap().permissions().mode();
    assert_eq!(written & 0o077, 0, "it is nobody else's");
    assert_eq!(fs::read_dir(folder.path().join("a/b/new")).unwrap().count(), 0, "nothing is left over");
}

#[tokio::test]
async fn what_is_new_is_written_once_whoever_tries() {
    let (_folder, store) = store();
    let tries = ["a", "b", "c", "d", "e", "f", "g", "h"].map(|text| {
        let store = store.clone();
        tokio::spawn(async move { (text, store.put_new("x/1", bytes(text)).await.unwrap()) })
    });
    let mut won = Vec::new();
    for tried in tries {
        let (text, wrote) = tried.await.unwrap();
        won.extend(wrote.then_some(text));
    }
    let [winner] = won[..] else { panic!("{won:?} wrote it") };
    assert_eq!(store.get("x/1").await.unwrap(), Some(bytes(winner)));
    assert_eq!(fs::read_dir(store.place().join("new")).unwrap().count(), 0, "nothing is left over");
}

#[tokio::test]
async fn names_are_those_directly_under_a_key_and_go_with_it() {
    let (_folder, store) = store();
    for key in ["x/2", "x/1", "x/y/3", "z/1"] {
        store.put(key, bytes("")).await.unwrap();
    }
    assert_eq!(store.names("x").await.unwrap(), ["1", "2", "y"]);
    store.remove_all("x").await.unwrap();
    store.remove_all("x").await.unwrap();
    assert!(store.names("x").await.unwrap().is_empty());
    assert_eq!(store.names("z").await.unwrap(), ["1"]);
}

#[tokio::test]
async fn a_document_is_replaced_by_who_knows_what_it_says() {
    let (_folder, store) = store();
    let first = store.create("t.job", bytes("1")).await.unwrap().unwrap();
    assert_eq!(store.create("t.job", bytes("2")).await.unwrap(), None, "it is there");
    let second = store.replace("t.job", &first, bytes("2")).await.unwrap().unwrap();
    assert_eq!(store.replace("t.job", &first, bytes("3")).await.unwrap(), None, "it has changed");
    assert!(!store.remove("t.job", &first).await.unwrap());
    assert_eq!(store.document("t.job").await.unwrap(), Some(second.clone()));
    assert_eq!(store.documents().await.unwrap(), ["t.job"]);
    assert!(store.remove("t.job", &second).await.unwrap());
    assert_eq!(store.replace("t.job", &second, bytes("3")).await.unwrap(), None, "it is gone");
    assert_eq!(store.document("t.job").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_change_of_a_document_is_lost() {
    let (folder, store) = store();
    store.create("count", bytes("0")).await.unwrap().unwrap();
    let counting = [(); 4].map(|()| {
        // As another process has it.
        let store = Store::open(folder.path().join("a/b")).unwrap();
        tokio::spawn(async move {
            for _ in 0..10 {
                loop {
                    let old = store.document("count").await.unwrap().unwrap();
                    let count: u32 = std::str::from_utf8(&old.body).unwrap().parse().unwrap();
                    let new = Bytes::from((count + 1).to_string());
                    if store.replace("count", &old, new).await.unwrap().is_some() {
                        break;
                    }
                }
            }
        })
    });
    for counted in counting {
        counted.await.unwrap();
    }
    assert_eq!(store.document("count").await.unwrap().unwrap().body, bytes("40"));
}

#[tokio::test]
async fn what_cannot_be_written_says_where() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let refused = Store::open(&file).unwrap_err();
    assert!(refused.to_string().contains(file.to_str().unwrap()), "{refused}");
    let store = Store::open(folder.path().join("store")).unwrap();
    fs::remove_dir_all(store.place()).unwrap();
    fs::write(store.place(), "").unwrap();
    let refused = store.put("x", bytes("1")).await.unwrap_err();
    assert!(matches!(refused, Error::Unusable { .. }) && !refused.is_full(), "{refused}");
}
