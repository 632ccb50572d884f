//! The record role on the real binary: every event once, whoever dies meanwhile.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[allow(dead_code, reason = "each test binary uses its part")]
mod server;

use std::{
    fs::{self, File},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use arrow_array::{cast::AsArray as _, types::Int64Type};
use cloudpose_bus::{Bus, Capacity, nats};
use cloudpose_testing::{Disk, NatsServer, Postgres, S3, sample, soon};
use cloudpose_wire::{
    Event, Keypoint, Output, Person, SessionId, SharedEvent, SkeletonName, StreamName, Tenant,
    event::{BoundingBox, Class},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use server::Server;
use tokio::task::JoinSet;
use tokio_postgres::{Client, Row};

/// An hour, in milliseconds.
const HOUR: u64 = 3600 * 1000;

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Frame `seq` of a stream, received at `at`, with one person.
fn event(stream: &str, seq: u64, at: u64) -> Event {
    let sample = sample::pose(seq).event().unwrap().clone();
    let joint = |name: &str, x: f32| Keypoint { name: name.parse().unwrap(), x, y: x + 0.5, score: 0.75 };
    let keypoints = (0..17).map(|number| joint(&format!("joint-{number}"), number as f32)).collect();
    let bounding_box = BoundingBox { x: 1.0, y: 2.0, width: 3.0, height: 4.0 };
    let person = |track_id| Person { track_id, score: 0.5, bounding_box, keypoints, coarse: false };
    let persons = vec![person(Some(7))];
    let output = Output::Poses { skeleton: SkeletonName::default(), persons };
    Event { stream: StreamName::new(stream).unwrap(), seq, captured_at: at, output, ..sample }
}

async fn bus(nats: &NatsServer) -> Bus {
    let config = nats::Config::at(nats.url());
    Bus::nats(&config, Capacity::default()).await.unwrap()
}

async fn publish(bus: &Bus, tenant: &Tenant, event: Event) {
    let session = SessionId::new("s-1").unwrap();
    bus.publish_event(&SharedEvent::from(event), tenant, Some(&session), None).await;
}

fn record(nats: &NatsServer, postgres: &Postgres, options: &[&str]) -> Server {
    Server::worker_with("record", &nats.url(), &[&["--to", &postgres.url()], options].concat())
}

/// Someone who looks into the database, as often as it takes to reach it.
struct Reader {
    client: Client,
    _socket: JoinSet<()>,
}

impl Reader {
    async fn connect(postgres: &Postgres) -> Self {
        let (client, _socket) = postgres.connect().await;
        Self { client, _socket }
    }

    async fn rows(&self, query: &str) -> Vec<Row> {
        self.client.query(query, &[]).await.unwrap()
    }

    async fn count(&self, table: &str) -> i64 {
        self.rows(&format!("SELECT count(*) FROM cloudpose.{table}")).await[0].get(0)
    }

    async fn until_there_are(&self, frames: i64) {
        soon(async {
            while self.count("frames").await < frames {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    }
}

/// What a process says of how events ended.
async fn ended(recorder: &Server, end: &str) -> u64 {
    told(recorder, &format!("cloudpose_record_events_total{{end=\"{end}\"}} ")).await
}

/// Until the place has said no since it had said so `before` times.
async fn until_it_fails(recorder: &Server, before: u64) {
    soon(async {
        while told(recorder, "cloudpose_record_failures_total ").await <= before {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
}

async fn told(recorder: &Server, name: &str) -> u64 {
    let page = reqwest::get(recorder.url("/metrics")).await.unwrap().text().await.unwrap();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_else(|| panic!("{page}")).parse().unwrap()
}

#[tokio::test]
async fn what_was_found_is_in_the_tables() {
    let (nats, postgres) = (NatsServer::start(), Postgres::start());
    let recorder = record(&nats, &postgres, &["--streams", "door,acme/*"]);
    let bus = bus(&nats).await;
    let (nobody, acme) = (Tenant::default(), Tenant::new("acme").unwrap());
    let at = now();
    let classes =
        vec![Class { label: "helmet".into(), score: 0.75 }, Class { label: "cap".into(), score: 0.25 }];
    publish(&bus, &nobody, event("door", 1, at)).await;
    publish(&bus, &nobody, event("yard", 1, at)).await;
    publish(&bus, &acme, Event { output: Output::Classes(classes), ..event("door", 1, at) }).await;
    // Again: its worker had died after it said so.
    publish(&bus, &nobody, event("door", 1, at)).await;
    publish(&bus, &nobody, event("door", 2, at + 100)).await;

    let reader = Reader::connect(&postgres).await;
    reader.until_there_are(3).await;
    let frames = reader.rows("SELECT tenant, stream, seq, session, model, persons, classes, class_scores FROM cloudpose.frames ORDER BY 1, 3").await;
    assert_eq!(frames.len(), 3);
    let [classified, door, _] = &frames[..] else { panic!() };
    assert_eq!((classified.get(0), classified.get::<_, Option<i32>>("persons")), ("acme", None));
    assert_eq!(classified.get::<_, Vec<&str>>("classes"), ["helmet", "cap"]);
    assert_eq!(classified.get::<_, Vec<f32>>("class_scores"), [0.75, 0.25]);
    assert_eq!((door.get(0), door.get(1), door.get(2)), (Tenant::default().as_str(), "door", 1_i64));
    assert_eq!((door.get("session"), door.get::<_, Option<Vec<&str>>>("classes")), ("s-1", None));

    let expected = event("door", 1, at);
    let persons = expected.output.persons();
    let rows = reader.rows("SELECT * FROM cloudpose.persons WHERE seq = 1 ORDER BY ordinal").await;
    assert_eq!((rows.len(), door.get("persons")), (persons.len(), persons.len() as i32));
    for (row, person) in rows.iter().zip(persons) {
        assert_eq!(row.get::<_, Option<i64>>("track_id"), person.track_id.map(i64::from));
        let of = |what: fn(&Keypoint) -> f32| person.keypoints.iter().map(what).collect::<Vec<_>>();
        assert_eq!(row.get::<_, Vec<f32>>("joint_x"), of(|joint| joint.x));
        assert_eq!(row.get::<_, Vec<f32>>("joint_y"), of(|joint| joint.y));
        assert_eq!(row.get::<_, Vec<f32>>("joint_score"), of(|joint| joint.score));
        let edges = ["x", "y", "width", "height"].map(|edge| row.get::<_, f32>(edge));
        let BoundingBox { x, y, width, height } = person.bounding_box;
        assert_eq!(edges, [x, y, width, height]);
        let received: SystemTime = row.get("captured_at");
        assert_eq!(received.duration_since(UNIX_EPOCH).unwrap().as_millis(), u128::from(at));
    }
    let presence = reader.rows("SELECT track_id, sum(frames)::bigint, min(first_at), max(last_at) FROM cloudpose.presence GROUP BY 1").await;
    assert_eq!(
        (presence.len(), presence[0].get(0), presence[0].get(1)),
        (1, 7_i64, 2_i64),
        "each frame counts once"
    );
    let ms =
        |column| presence[0].get::<_, SystemTime>(column).duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert_eq!((ms(2), ms(3)), (u128::from(at), u128::from(at + 100)));
    let skeletons = reader.rows("SELECT joints FROM cloudpose.skeletons").await;
    let names: Vec<&str> = persons[0].keypoints.iter().map(|joint| joint.name.as_str()).collect();
    assert_eq!(skeletons[0].get::<_, Vec<&str>>(0), names);
    assert_eq!((ended(&recorder, "stored").await, ended(&recorder, "known").await), (3, 1));
}

#[tokio::test]
async fn every_event_is_there_once_whoever_dies() {
    const EACH: u64 = 400;
    let (mut nats, mut postgres) = (NatsServer::start(), Postgres::start());
    let mut recorder = record(&nats, &postgres, &[]);
    let nobody = Tenant::default();
    let at = now();
    let mut seq = 0;
    let mut batch = async |nats: &NatsServer| {
        let bus = bus(nats).await;
        for _ in 0..EACH {
            seq += 1;
            publish(&bus, &nobody, event("door", seq, at + seq)).await;
        }
        // Until the broker has them all: what it has taken is what must not be lost.
        let client = async_nats::connect(nats.url()).await.unwrap();
        let jetstream = async_nats::jetstream::new(client);
        soon(async {
            while jetstream.get_stream("cloudpose-events").await.unwrap().cached_info().state.last_sequence
                < seq
            {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await;
        seq
    };
    batch(&nats).await;
    recorder.signal("-KILL");
    recorder.exit_code();
    batch(&nats).await;
    let _second = record(&nats, &postgres, &[]);
    postgres.kill();
    batch(&nats).await;
    nats.kill();
    postgres.start_again();
    nats.start_again();
    let all = batch(&nats).await;

    let reader = Reader::connect(&postgres).await;
    reader.until_there_are(all as i64).await;
    let row = &reader
        .rows("SELECT count(*), count(DISTINCT seq), min(seq), max(seq) FROM cloudpose.frames")
        .await[0];
    let counts = [0, 1, 2, 3].map(|column| row.get::<_, i64>(column));
    assert_eq!(counts, [all as i64, all as i64, 1, all as i64]);
    let persons = event("door", 1, at).output.persons().len();
    assert_eq!(reader.count("persons").await, (all as usize * persons) as i64);
}

#[tokio::test]
async fn what_the_broker_had_no_room_for_is_counted() {
    const SENT: u64 = 2000;
    let (nats, mut postgres) = (NatsServer::start(), Postgres::start());
    let recorder = record(&nats, &postgres, &["--max-spool-bytes", "1048576"]);
    postgres.kill();
    let bus = bus(&nats).await;
    let at = now();
    for seq in 1..=SENT {
        publish(&bus, &Tenant::default(), event("door", seq, at + seq)).await;
    }
    // So that all of them have reached the broker before anybody takes one.
    bus.close(Duration::from_secs(10)).await;
    postgres.start_again();
    let reader = Reader::connect(&postgres).await;
    soon(async {
        loop {
            let (stored, lost) = (ended(&recorder, "stored").await, ended(&recorder, "lost").await);
            if stored + lost == SENT {
                assert!(lost > 0, "a megabyte holds no {SENT} events");
                assert_eq!(reader.count("frames").await, stored as i64);
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn old_days_are_dropped_whole() {
    let (nats, postgres) = (NatsServer::start(), Postgres::start());
    let first = record(&nats, &postgres, &[]);
    let bus = bus(&nats).await;
    let now = now();
    for (seq, age) in [(1, 0), (2, 30), (3, 24 * 40), (4, 24 * 41)] {
        publish(&bus, &Tenant::default(), event("door", seq, now - age * HOUR)).await;
    }
    let reader = Reader::connect(&postgres).await;
    reader.until_there_are(4).await;
    // It stands by until the first is gone.
    let address = [nats.url(), postgres.url()];
    let second = std::thread::spawn(move || {
        Server::worker_with("record", &address[0], &["--to", &address[1], "--keep", "30d"])
    });
    drop(first);
    let _second = second.join().unwrap();
    soon(async {
        while reader.count("frames").await > 2 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let left = reader.rows("SELECT seq FROM cloudpose.frames ORDER BY seq").await;
    assert_eq!(left.iter().map(|row| row.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 2]);
    let tables = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'cloudpose.frames'::regclass";
    assert!(reader.rows(tables).await[0].get::<_, i64>(0) <= 2);
}

#[test]
fn a_database_that_says_no_ends_it_with_its_words() {
    let (nats, postgres) = (NatsServer::start(), Postgres::start());
    let nobody_there = postgres.url().replace("/postgres", "/missing");
    let said = std::process::Command::new(env!("CARGO_BIN_EXE_cloudpose"))
        .args(["record", "--nats", &nats.url(), "--to", &nobody_there])
        .output()
        .unwrap();
    let words = String::from_utf8(said.stderr).unwrap();
    assert!(!said.status.success() && words.contains("\"missing\" does not exist"), "{words}");
}

/// The numbers of the frames in all Parquet files of a folder, in their order.
fn numbers(folder: &Path) -> Vec<i64> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            numbers.extend(self::numbers(&path));
        } else if path.extension().is_some_and(|extension| extension == "parquet") {
            let file = File::open(path).unwrap();
            for rows in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
                let rows = rows.unwrap();
                let of_frames = rows.column_by_name("seq").unwrap().as_primitive::<Int64Type>();
                numbers.extend(of_frames.values());
            }
        }
    }
    numbers.sort_unstable();
    numbers
}

/// Until a folder's files have so many frames: each of them once.
async fn until_all_are_there_once(folder: &Path, frames: u64) {
    soon(async {
        while (numbers(folder).len() as u64) < frames {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(numbers(folder), (1..=frames as i64).collect::<Vec<_>>());
}

#[tokio::test]
async fn every_event_is_in_the_bucket_once_whoever_is_away_or_dies() {
    const EACH: u64 = 300;
    let (nats, s3) = (NatsServer::start(), S3::start());
    let bus = bus(&nats).await;
    let mut sent = 0;
    let at = now();
    let mut publish_more = async || {
        for _ in 0..EACH {
            sent += 1;
            publish(&bus, &Tenant::default(), event("door", sent, at + sent)).await;
        }
        sent
    };
    let (environment, url, to) = (s3.environment(), nats.url(), s3.address());
    let record = move || Server::worker_in(&environment, "record", &url, &["--to", &to, "--every", "1s"]);
    let mut first = record();
    let sent = publish_more().await;
    until_all_are_there_once(&s3.path(), sent).await;
    s3.refuse(Some(503));
    publish_more().await;
    until_it_fails(&first, 0).await;
    s3.refuse(None);
    let sent = publish_more().await;
    until_all_are_there_once(&s3.path(), sent).await;
    // Written, and nobody hears of it.
    s3.lose_the_answer(".parquet");
    publish_more().await;
    first.signal("-KILL");
    first.exit_code();
    // Once its lease has ended.
    let second = std::thread::spawn(record);
    let sent = publish_more().await;
    let second = second.join().unwrap();
    until_all_are_there_once(&s3.path(), sent).await;
    assert_eq!(ended(&second, "lost").await, 0);
}

#[tokio::test]
async fn a_full_disk_holds_events_back_until_there_is_room() {
    const EACH: u64 = 200;
    let (nats, folder) = (NatsServer::start(), tempfile::tempdir().unwrap());
    let to = folder.path().to_str().unwrap();
    let options = ["--to", to, "--every", "1s"];
    let mut recorder = Server::worker_with_room_for(2048, "record", &nats.url(), &options);
    let bus = bus(&nats).await;
    let at = now();
    for seq in 1..=EACH {
        publish(&bus, &Tenant::default(), event("door", seq, at + seq)).await;
    }
    until_it_fails(&recorder, 1).await;
    assert_eq!((ended(&recorder, "stored").await, numbers(folder.path())), (0, Vec::new()));
    let unfinished = fs::read_dir(folder.path().join(".unfinished")).unwrap();
    assert!(unfinished.count() <= 2, "but for the lock, one try at most takes room");
    recorder.make_room();
    for seq in EACH + 1..=2 * EACH {
        publish(&bus, &Tenant::default(), event("door", seq, at + seq)).await;
    }
    until_all_are_there_once(folder.path(), 2 * EACH).await;
    assert_eq!(ended(&recorder, "lost").await, 0);
    recorder.terminate();
    assert_eq!(recorder.exit_code(), Some(0));
    let said = recorder.log().join("\n");
    assert!(said.contains("events wait at the broker") && said.contains("File too large"), "{said}");
}

#[tokio::test]
async fn what_nats_took_before_its_disk_was_full_is_recorded_when_there_is_room() {
    let Some(disk) = Disk::of(8) else {
        eprintln!("NOT TESTED: this system lets nobody mount a disk of his own, so none is full");
        return;
    };
    let (mut nats, mut postgres) = (NatsServer::on(disk), Postgres::start());
    let recorder = record(&nats, &postgres, &[]);
    postgres.kill();
    let client = async_nats::connect(nats.url()).await.unwrap();
    let mut jetstream = async_nats::jetstream::new(client);
    jetstream.set_timeout(Duration::from_secs(2));
    let at = now();
    let take = async |seq: u64| {
        let json = serde_json::to_vec(&event("door", seq, at + seq)).unwrap();
        jetstream.publish("cloudpose.poses.door", json.into()).await.unwrap().await.is_ok()
    };
    let mut taken = 0;
    while take(taken + 1).await {
        taken += 1;
    }
    assert!(taken > 100, "8 MiB hold more than {taken} events");
    assert!(nats.log().contains("no space left on device"), "{}", nats.log());
    nats.disk().resize(64);
    // As who looks after it does when it says that it is not healthy.
    nats.kill();
    nats.start_again();
    postgres.start_again();
    soon(async {
        while !take(taken + 1).await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let reader = Reader::connect(&postgres).await;
    reader.until_there_are(taken as i64 + 1).await;
    assert_eq!((ended(&recorder, "lost").await, reader.count("frames").await), (0, taken as i64 + 1));
}
