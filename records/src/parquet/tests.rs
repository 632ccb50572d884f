//! Files that are asked for more than once, in a folder and in a bucket.

use std::{fs, path::Path};

use cloudpose_bus::{Bus, Capacity};
use cloudpose_testing::{S3, sample, soon};
use cloudpose_wire::{SharedEvent, StreamName, Tenant};
use tempfile::TempDir;

use super::*;

/// 2026-11-26 22:00:00 UTC.
const TEN: u64 = 1_795_730_400_000;
const HOUR: u64 = 3600 * 1000;

/// Frame `seq` of a stream, which NATS has under the same number.
fn recorded(seq: u64, captured_at: u64) -> Recorded {
    let sample = sample::pose(seq).event().unwrap().clone();
    let event = Event { stream: StreamName::new("door").unwrap(), seq, captured_at, ..sample };
    Recorded { tenant: Tenant::default(), session: None, event: SharedEvent::from(event), sequence: seq }
}

/// Where files are for one test.
enum Place {
    Folder(TempDir),
    Bucket(S3, Bus),
}

impl Place {
    fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    fn bucket() -> Self {
        Self::Bucket(S3::start(), Bus::local(Capacity::default()))
    }

    /// As a process has them that has just begun.
    async fn open(&self) -> Files {
        let (mut files, environment) = match self {
            Self::Folder(folder) => (Files::in_folder(folder.path().to_owned()), Vec::new()),
            Self::Bucket(s3, bus) => {
                let files = Files::in_bucket(s3.address().parse().unwrap(), bus.bucket("records"));
                (files, s3.environment())
            }
        };
        files.open(&environment).await.unwrap();
        files
    }

    /// Where they lie.
    fn path(&self) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.path().to_owned(),
            Self::Bucket(s3, _) => s3.path(),
        }
    }

    /// The files of an hour of the stream.
    fn names(&self, hour: &str) -> Vec<String> {
        let hour = self.path().join("tenant=default/stream=door").join(hour);
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = fs::read_dir(hour).unwrap().map(name).collect();
        names.sort();
        names
    }
}

/// Makes a test of each promise for each place.
macro_rules! promises {
    ($($promise:ident),* $(,)?) => {
        mod in_a_folder {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(super::Place::folder()).await;
            })*
        }
        mod in_a_bucket {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $promise() {
                super::$promise(super::Place::bucket()).await;
            })*
        }
    };
}

promises!(
    what_a_place_has_it_does_not_take_again_whoever_asks,
    days_that_were_kept_long_enough_go_whole,
    a_file_that_is_damaged_is_named,
);

async fn what_a_place_has_it_does_not_take_again_whoever_asks(place: Place) {
    let mut files = place.open().await;
    let events = [recorded(1, TEN), recorded(2, TEN + HOUR), recorded(1, TEN), recorded(3, u64::MAX)];
    assert_eq!(files.store(&events).await.unwrap(), Stored { new: 2, known: 1, refused: 1 });
    assert_eq!(files.store(&events).await.unwrap(), Stored { new: 0, known: 3, refused: 1 });
    files.leave().await;
    drop(files);
    let mut files = place.open().await;
    assert_eq!(files.store(&events).await.unwrap(), Stored { new: 0, known: 3, refused: 1 });
    // Another frame that a broker which was made anew counts like the first.
    let other = Recorded { sequence: 1, ..recorded(5, TEN) };
    assert_eq!(files.store(&[other]).await.unwrap().new, 1);
    let expected = ["000000000001-000000000001-2.parquet", "000000000001-000000000001.parquet"];
    assert_eq!(place.names("date=2026-11-26/hour=22"), expected);
    assert_eq!(place.names("date=2026-11-26/hour=23"), ["000000000002-000000000002.parquet"]);
}

async fn days_that_were_kept_long_enough_go_whole(place: Place) {
    let mut files = place.open().await;
    let events = [recorded(1, TEN - 24 * HOUR), recorded(2, TEN), recorded(3, TEN + 24 * HOUR)];
    files.store(&events).await.unwrap();
    let until = UNIX_EPOCH + Duration::from_millis(TEN + HOUR);
    assert_eq!(files.forget(until).await.unwrap(), 1);
    assert_eq!(files.forget(until).await.unwrap(), 0);
    assert_eq!(place.names("date=2026-11-26/hour=22").len(), 1);
    // What is gone is taken again, if somebody has it still.
    assert_eq!(files.store(&events).await.unwrap(), Stored { new: 1, known: 2, refused: 0 });
}

async fn a_file_that_is_damaged_is_named(place: Place) {
    let mut files = place.open().await;
    files.store(&[recorded(1, TEN)]).await.unwrap();
    let hour = place.path().join("tenant=default/stream=door/date=2026-11-26/hour=22");
    fs::write(hour.join("000000000001-000000000001.parquet"), "no Parquet at all").unwrap();
    files.leave().await;
    drop(files);
    let refused = place.open().await.store(&[recorded(2, TEN)]).await.unwrap_err();
    assert!(refused.to_string().contains("move it away") && !refused.is_passing(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_file_of_who_was_killed_is_removed() {
    let place = Place::folder();
    drop(place.open().await);
    let half = place.path().join(folder::UNFINISHED).join("000000000001-000000000009.part");
    fs::write(&half, "PAR1").unwrap();
    place.open().await;
    assert!(!Path::new(&half).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_whose_writing_was_not_heard_of_is_there_once() {
    let place = Place::bucket();
    let Place::Bucket(s3, _) = &place else { unreachable!() };
    let mut files = place.open().await;
    s3.lose_the_answer(".parquet");
    assert_eq!(files.store(&[recorded(1, TEN)]).await.unwrap().new, 1);
    assert_eq!(place.names("date=2026-11-26/hour=22"), ["000000000001-000000000001.parquet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_away_takes_them_when_it_is_back() {
    let place = Place::bucket();
    let Place::Bucket(s3, _) = &place else { unreachable!() };
    let mut files = place.open().await;
    s3.refuse(Some(503));
    let away = files.store(&[recorded(1, TEN), recorded(2, TEN)]).await.unwrap_err();
    assert!(away.is_passing() && away.to_string().contains("503"), "{away}");
    s3.refuse(Some(507));
    let full = files.store(&[recorded(1, TEN), recorded(2, TEN)]).await.unwrap_err();
    assert!(full.is_passing() && full.to_string().contains("no room"), "{full}");
    s3.refuse(None);
    assert_eq!(files.store(&[recorded(1, TEN), recorded(2, TEN)]).await.unwrap().new, 2);
    assert_eq!(place.names("date=2026-11-26/hour=22"), ["000000000001-000000000002.parquet"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_right_to_a_bucket_is_told_and_does_not_wait() {
    let s3 = S3::start();
    let mut environment = s3.environment();
    environment[2].1 = "wrong".into();
    let refused = async |address: &str, environment: &[(String, String)]| {
        let documents = Bus::local(Capacity::default()).bucket("records");
        soon(Files::in_bucket(address.parse().unwrap(), documents).open(environment)).await.unwrap_err()
    };
    let said = refused(&s3.address(), &environment).await;
    assert!(!said.is_passing() && said.to_string().contains("SignatureDoesNotMatch"), "{said}");
    let said = refused("s3://nobody/poses", &s3.environment()).await;
    assert!(!said.is_passing() && said.to_string().contains("NoSuchBucket"), "{said}");
}
