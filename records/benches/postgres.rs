//! What recording takes: events that wait in NATS into PostgreSQL, as fast as it goes, and looking things up in a day of a stream.
//!
//!     cargo bench -p cloudpose-records --bench postgres
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]

use std::{
    fs,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cloudpose_bus::{Bus, Capacity, nats};
use cloudpose_records::{Config, Recorder};
use cloudpose_testing::{NatsServer, Postgres, sample};
use cloudpose_wire::{
    Event, Keypoint, Output, Person, SharedEvent, SkeletonName, StreamName, Tenant, event::BoundingBox,
};
use tokio::task::JoinSet;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

const EVENTS: u64 = 100_000;
const STREAMS: u64 = 100;
/// A day at 10 frames a second.
const DAY: u64 = 864_000;

fn main() {
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let postgres = Postgres::start();
        record(&postgres).await;
        look_up(&postgres).await;
    });
}

/// Frame `seq` with one person.
fn event(seq: u64, at: u64) -> Event {
    let sample = sample::pose(seq).event().unwrap().clone();
    let joint = |number: u64| Keypoint {
        name: format!("joint-{number}").parse().unwrap(),
        x: 100.25 + number as f32,
        y: 200.5 + number as f32,
        score: 0.875,
    };
    let bounding_box = BoundingBox { x: 100.0, y: 50.0, width: 80.5, height: 200.25 };
    let person = Person {
        track_id: Some(7),
        score: 0.75,
        bounding_box,
        keypoints: (0..17).map(joint).collect(),
        coarse: false,
    };
    let output = Output::Poses { skeleton: SkeletonName::default(), persons: vec![person] };
    let stream = StreamName::new(&format!("cam-{}", seq % STREAMS)).unwrap();
    Event { stream, seq, captured_at: at, output, ..sample }
}

async fn record(postgres: &Postgres) {
    let server = NatsServer::start();
    let connect = async || {
        let config = nats::Config::at(server.url());
        Bus::nats(&config, Capacity::default()).await.unwrap()
    };
    let config = || Config {
        to: postgres.url().parse().unwrap(),
        streams: "*/*".parse().unwrap(),
        keep: None,
        every: Duration::from_secs(300),
        max_spool_bytes: 900 << 20,
    };
    let bus = connect().await;
    // From now on events are kept.
    let recorder = Recorder::load(config(), &bus).await.unwrap();
    let begun = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for seq in 1..=EVENTS {
        let event = SharedEvent::from(event(seq, begun + seq / STREAMS));
        bus.publish_event(&event, &Tenant::default(), None, None).await;
    }
    let jetstream = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    // What has been acknowledged is gone.
    let waiting =
        async || jetstream.get_stream("cloudpose-events").await.unwrap().cached_info().state.messages;
    while waiting().await < EVENTS {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let reader = Reader::connect(postgres).await;
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(recorder.run(stop.clone()));
    while waiting().await == EVENTS {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // The processes of its connections are there now.
    let pids = [vec![std::process::id()], postgres.pids(), vec![server.pid()]];
    let (begun, left) = (Instant::now(), waiting().await);
    let before = pids.each_ref().map(|pids| processor_time(pids));
    while waiting().await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let (took, recorded) = (begun.elapsed(), left as f64);
    let after = pids.each_ref().map(|pids| processor_time(pids));
    stop.cancel();
    running.join_next().await.unwrap().unwrap().unwrap();
    assert_eq!(reader.frames().await, EVENTS as i64);
    let [own, database, broker] =
        [0, 1, 2].map(|who| (after[who] - before[who]).as_secs_f64() * 1e6 / recorded);
    println!(
        "| events/s | µs of processor time an event: record | PostgreSQL | NATS | all |\n|---|---|---|---|---|"
    );
    let (rate, all) = (recorded / took.as_secs_f64(), own + database + broker);
    println!("| {rate:.0} | {own:.0} | {database:.0} | {broker:.0} | {all:.0} |\n");
}

/// Questions about a day of a stream with one person in each frame, somebody else every minute.
async fn look_up(postgres: &Postgres) {
    let reader = Reader::connect(postgres).await;
    let (day, from) = ("2026-01-01 00:00+00", "TIMESTAMPTZ '2026-01-01 00:00+00'");
    let at = format!("{from} + n * interval '100 ms'");
    let fill = format!(
        "SELECT cloudpose.make_day('{day}');
         INSERT INTO cloudpose.frames SELECT 'default', 'day', {at}, '', n, 1280, 720, 'fast', 'cpu', 'coco-17', 1
             FROM generate_series(0, {DAY} - 1) n;
         INSERT INTO cloudpose.persons SELECT 'default', 'day', {at}, '', n, 1, n / 600, 0.5, 1, 2, 3, 4, false,
             array_fill(1.5::real, ARRAY[17]), array_fill(2.5::real, ARRAY[17]), array_fill(0.5::real, ARRAY[17])
             FROM generate_series(0, {DAY} - 1) n;
         INSERT INTO cloudpose.presence SELECT tenant, stream, date_trunc('minute', captured_at), session, track_id,
             count(*), min(captured_at), max(captured_at) FROM cloudpose.persons WHERE stream = 'day'
             GROUP BY 1, 2, 3, 4, 5;
         VACUUM ANALYZE cloudpose.presence; VACUUM ANALYZE cloudpose.frames; VACUUM ANALYZE cloudpose.persons;"
    );
    // One by one: they may not all be in one transaction.
    for statement in format!("SET search_path TO cloudpose;{fill}").split_inclusive(';') {
        reader.client.batch_execute(statement).await.unwrap();
    }
    let of_day = "FROM cloudpose.persons WHERE tenant = 'default' AND stream = 'day'";
    let hour = |count: u32| {
        format!(
            "captured_at >= {from} + interval '12 hours' AND captured_at < {from} + interval '{count} hours'"
        )
    };
    let minute = format!(
        "captured_at >= {from} + interval '12 hours' AND captured_at < {from} + interval '12 hours 1 minute'"
    );
    println!("| question | rows | ms |\n|---|---|---|");
    for (question, query) in [
        ("joints of everybody in a minute", format!("SELECT * {of_day} AND {minute}")),
        ("joints of one person in a minute", format!("SELECT * {of_day} AND {minute} AND track_id = 720")),
        (
            "who was there in an hour, from when to when",
            format!(
                "SELECT track_id, min(captured_at), max(captured_at) {of_day} AND {} GROUP BY 1",
                hour(13)
            ),
        ),
        (
            "who was there on that day, minute by minute",
            format!(
                "SELECT captured_at, track_id, frames FROM cloudpose.presence WHERE tenant = 'default' AND stream = 'day'
             AND captured_at >= {from} AND captured_at < {from} + interval '24 hours'"
            ),
        ),
    ] {
        let mut times = Vec::new();
        let mut rows = 0;
        for _ in 0..7 {
            let begun = Instant::now();
            rows = reader.client.query(&query, &[]).await.unwrap().len();
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        println!("| {question} | {rows} | {:.1} |", times[times.len() / 2].as_secs_f64() * 1e3);
    }
}

/// Somebody who looks into the database.
struct Reader {
    client: Client,
    _socket: JoinSet<()>,
}

impl Reader {
    async fn connect(postgres: &Postgres) -> Self {
        let (client, _socket) = postgres.connect().await;
        Self { client, _socket }
    }

    async fn frames(&self) -> i64 {
        self.client.query_one("SELECT count(*) FROM cloudpose.frames", &[]).await.unwrap().get(0)
    }
}

/// User and system time of the processes so far, to a hundredth of a second (Linux).
fn processor_time(pids: &[u32]) -> Duration {
    let ticks = pids.iter().filter_map(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // Fields 14 and 15; the second, in parentheses, may hold spaces.
        let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
        Some(fields[11].parse::<u64>().ok()? + fields[12].parse::<u64>().ok()?)
    });
    Duration::from_millis(ticks.sum::<u64>() * 10)
}
