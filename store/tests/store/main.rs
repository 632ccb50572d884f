//! What every store promises, wherever it lies.
#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and waits for its tasks"
)]

mod bucket;
mod folder;

use bytes::Bytes;
use cloudpose_bus::{Bus, Capacity, nats};
use cloudpose_store::{Address, Store};
use cloudpose_testing::{NatsServer, S3, soon};
use tempfile::TempDir;

/// A place for a store, which is gone when it is dropped.
enum Place {
    Folder(TempDir),
    Bucket(S3),
    /// Documents lie on NATS.
    Apart(S3, NatsServer),
}

impl Place {
    /// Opens the store as a process does.
    async fn open(&self) -> Store {
        let (environment, address) = match self {
            Self::Folder(folder) => (Vec::new(), Address::Folder(folder.path().join("a/b"))),
            Self::Bucket(s3) | Self::Apart(s3, _) => (s3.environment(), s3.address().parse().unwrap()),
        };
        let documents = match self {
            Self::Folder(_) | Self::Bucket(_) => None,
            Self::Apart(_, nats) => {
                let config = nats::Config::at(nats.url());
                Bus::nats(&config, Capacity::default()).await.unwrap().lasting_bucket("jobs")
            }
        };
        Store::open_in(&environment, &address, documents).await.unwrap()
    }

    /// The same again as another process has it; one alone may have documents in a bucket.
    async fn open_beside(&self, store: &Store) -> Store {
        match self {
            Self::Folder(_) | Self::Apart(..) => self.open().await,
            Self::Bucket(_) => store.clone(),
        }
    }
}

/// Makes a test of each promise for each place.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod in_a_folder {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                super::$promise(super::Place::Folder(tempfile::tempdir().unwrap())).await;
            })*
        }
        mod in_a_bucket {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                super::$promise(super::Place::Bucket(super::S3::start())).await;
            })*
        }
        mod in_a_bucket_and_on_nats {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $promise() {
                let nats = super::NatsServer::start();
                super::$promise(super::Place::Apart(super::S3::start(), nats)).await;
            })*
        }
    };
}

promises!(
    bytes_are_written_whole_and_read_by_whoever_opens_it,
    what_is_new_is_written_once_whoever_tries,
    what_comes_piece_by_piece_is_there_once_it_is_finished_and_read_in_parts,
    names_are_those_directly_under_a_key_and_go_with_it,
    a_document_is_replaced_by_who_knows_what_it_says,
    no_change_of_a_document_is_lost,
    one_that_is_removed_may_come_again,
);

fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

async fn bytes_are_written_whole_and_read_by_whoever_opens_it(place: Place) {
    let store = place.open().await;
    assert_eq!(store.get("x/1").await.unwrap(), None);
    store.put("x/1", bytes("one")).await.unwrap();
    store.put("x/1", bytes("uno")).await.unwrap();
    store.put("x/3", bytes("")).await.unwrap();
    let other = place.open().await;
    assert_eq!(other.get("x/1").await.unwrap(), Some(bytes("uno")));
    assert_eq!(other.get("x/3").await.unwrap(), Some(bytes("")));
    assert!(other.has("x/1").await.unwrap() && !other.has("x/2").await.unwrap());
}

async fn what_comes_piece_by_piece_is_there_once_it_is_finished_and_read_in_parts(place: Place) {
    let store = place.open().await;
    // More than two parts of an object, and no whole number of them.
    let piece: Vec<u8> = (0..1_000_003_u32).map(|n| (n % 251) as u8).collect();
    let mut writer = store.writer("jobs/a/video").await.unwrap();
    for _ in 0..18 {
        writer.write(&piece).await.unwrap();
    }
    assert!(!store.has("jobs/a/video").await.unwrap(), "nobody sees half of it");
    writer.finish().await.unwrap();
    let again = place.open_beside(&store).await;
    let whole = again.get("jobs/a/video").await.unwrap().unwrap();
    assert!(whole.len() == 18 * piece.len() && whole.chunks(piece.len()).all(|chunk| chunk == piece));
    let part = again.get_part("jobs/a/video", 9_999_990..10_000_010).await.unwrap().unwrap();
    assert_eq!(part, whole[9_999_990..10_000_010]);
    let end = whole.len() as u64;
    assert_eq!(
        again.get_part("jobs/a/video", end - 3..end + 3).await.unwrap().unwrap(),
        whole[whole.len() - 3..]
    );
    assert_eq!(again.get_part("jobs/b/video", 0..1).await.unwrap(), None);

    let mut broken_off = store.writer("jobs/b/video").await.unwrap();
    broken_off.write(&piece).await.unwrap();
    drop(broken_off);
    assert!(!store.has("jobs/b/video").await.unwrap());
    if let Place::Folder(folder) = &place {
        assert_eq!(
            std::fs::read_dir(folder.path().join("a/b/new")).unwrap().count(),
            0,
            "nothing is left of it"
        );
    }
}

async fn what_is_new_is_written_once_whoever_tries(place: Place) {
    let store = place.open().await;
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
}

async fn names_are_those_directly_under_a_key_and_go_with_it(place: Place) {
    let store = place.open().await;
    for key in ["x/2", "x/1", "x/y/3", "xx/1", "z/1"] {
        store.put(key, bytes("")).await.unwrap();
    }
    assert_eq!(store.names("x").await.unwrap(), ["1", "2", "y"]);
    let all = store.names("").await.unwrap();
    assert!(["x", "xx", "z"].iter().all(|name| all.contains(&(*name).to_owned())), "{all:?}");
    store.remove_all("x").await.unwrap();
    store.remove_all("x").await.unwrap();
    assert!(store.names("x").await.unwrap().is_empty());
    assert_eq!(
        (store.names("z").await.unwrap(), store.names("xx").await.unwrap()),
        (vec!["1".into()], vec!["1".into()])
    );
}

async fn a_document_is_replaced_by_who_knows_what_it_says(place: Place) {
    let store = place.open().await;
    assert!(store.documents().await.unwrap().is_empty());
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
    soon(async { while !store.documents().await.unwrap().is_empty() {} }).await;
}

async fn no_change_of_a_document_is_lost(place: Place) {
    let store = place.open().await;
    store.create("count", bytes("0")).await.unwrap().unwrap();
    let mut counting = Vec::new();
    for _ in 0..4 {
        let store = place.open_beside(&store).await;
        counting.push(tokio::spawn(async move {
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
        }));
    }
    for counted in counting {
        counted.await.unwrap();
    }
    assert_eq!(store.document("count").await.unwrap().unwrap().body, bytes("40"));
}

/// Who hands a job in again with its key while another removes it.
async fn one_that_is_removed_may_come_again(place: Place) {
    let store = place.open().await;
    for _ in 0..10 {
        let old = store.create("t.job", bytes("old")).await.unwrap().unwrap();
        let (remover, maker) = (place.open_beside(&store).await, place.open_beside(&store).await);
        let removed = tokio::spawn(async move { remover.remove("t.job", &old).await.unwrap() });
        let made = loop {
            if let Some(made) = maker.create("t.job", bytes("new")).await.unwrap() {
                break made;
            }
        };
        assert!(removed.await.unwrap());
        assert_eq!(store.document("t.job").await.unwrap(), Some(made.clone()), "the new one stays");
        assert!(store.remove("t.job", &made).await.unwrap());
    }
}
