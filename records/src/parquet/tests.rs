//! A folder that is asked more than once.

use cloudpose_testing::sample;
use cloudpose_wire::{SharedEvent, StreamName, Tenant};

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

async fn open(path: &Path) -> Folder {
    let mut folder = Folder::new(path.to_owned());
    folder.open().await.unwrap();
    folder
}

fn names(folder: &Path, hour: &str) -> Vec<String> {
    let hour = folder.join("tenant=default/stream=door").join(hour);
    let name = |path: PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<String> = files(&hour, ".parquet").unwrap().into_iter().map(name).collect();
    names.sort();
    names
}

#[tokio::test]
async fn what_a_folder_has_it_does_not_take_again_whoever_asks() {
    let path = tempfile::tempdir().unwrap();
    let mut folder = open(path.path()).await;
    let events = [recorded(1, TEN), recorded(2, TEN + HOUR), recorded(1, TEN), recorded(3, u64::MAX)];
    assert_eq!(folder.store(&events).unwrap(), Stored { new: 2, known: 1, refused: 1 });
    assert_eq!(folder.store(&events).unwrap(), Stored { new: 0, known: 3, refused: 1 });
    drop(folder);
    // Half a file of who was killed.
    let half = path.path().join(UNFINISHED).join("000000000001-000000000009.part");
    fs::write(&half, "PAR1").unwrap();
    let mut folder = open(path.path()).await;
    assert!(!half.exists());
    assert_eq!(folder.store(&events).unwrap(), Stored { new: 0, known: 3, refused: 1 });
    // Another frame that a broker which was made anew counts like the first.
    let other = Recorded { sequence: 1, ..recorded(5, TEN) };
    assert_eq!(folder.store(&[other]).unwrap().new, 1);
    let expected = ["000000000001-000000000001-2.parquet", "000000000001-000000000001.parquet"];
    assert_eq!(names(path.path(), "date=2026-11-26/hour=22"), expected);
    assert_eq!(names(path.path(), "date=2026-11-26/hour=23"), ["000000000002-000000000002.parquet"]);
}

#[tokio::test]
async fn days_that_were_kept_long_enough_go_whole() {
    let path = tempfile::tempdir().unwrap();
    let mut folder = open(path.path()).await;
    let events = [recorded(1, TEN - 24 * HOUR), recorded(2, TEN), recorded(3, TEN + 24 * HOUR)];
    folder.store(&events).unwrap();
    let until = UNIX_EPOCH + Duration::from_millis(TEN + HOUR);
    assert_eq!(folder.forget(until).unwrap(), 1);
    assert_eq!(folder.forget(until).unwrap(), 0);
    assert_eq!(names(path.path(), "date=2026-11-26/hour=22").len(), 1);
    // What is gone is taken again, if somebody has it still.
    assert_eq!(folder.store(&events).unwrap(), Stored { new: 1, known: 2, refused: 0 });
}

#[tokio::test]
async fn a_file_that_is_damaged_is_named() {
    let path = tempfile::tempdir().unwrap();
    let mut folder = open(path.path()).await;
    folder.store(&[recorded(1, TEN)]).unwrap();
    let hour = path.path().join("tenant=default/stream=door/date=2026-11-26/hour=22");
    fs::write(hour.join("000000000001-000000000001.parquet"), "no Parquet at all").unwrap();
    let refused = Folder::new(path.path().to_owned()).store(&[recorded(2, TEN)]).unwrap_err();
    assert!(refused.to_string().contains("move it away") && !refused.is_passing(), "{refused}");
}
