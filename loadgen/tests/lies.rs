//! Services that lie are caught, and the lie is named: real sockets, the command as people type it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod stub;

use std::path::PathBuf;

use bytes::Bytes;
use clap::Parser;
use cloudpose_loadgen::{
    Command, Error, Surroundings,
    summary::{File, Run},
};
use stub::{Lie, Stub};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

async fn run(arguments: &str) -> Result<(), Error> {
    let command = Cli::parse_from(["loadgen"].into_iter().chain(arguments.split(' '))).command;
    // A megabyte: more than a few of them do not fit into sockets.
    let mut picture = vec![0; 1 << 20];
    picture[..3].copy_from_slice(&[0xff, 0xd8, 0xff]);
    let (small, large) = (Bytes::copy_from_slice(&picture[..4]), Bytes::from(picture));
    let pictures = vec![if arguments.contains("complete") { large } else { small }];
    cloudpose_loadgen::run(&command, Surroundings { pictures, binary: PathBuf::new() }).await
}

/// Runs `arguments` against a service that lies. Answers how it ended, and what was written.
async fn loadgen(url: &str, arguments: &str) -> (Result<(), Error>, Run) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().to_str().unwrap();
    // Tests run beside one another: how late the generator is says nothing here, unless it is the question.
    let lag = if arguments.contains("--max-send-lag") { "" } else { " --max-send-lag 10s" };
    let ended = run(&format!("{arguments} --url {url} --output {output}{lag}")).await;
    let mut file = File::read(&folder.path().join("results.json")).unwrap();
    for name in ["results.csv", "report.html"] {
        assert!(folder.path().join(name).metadata().unwrap().len() > 100, "{name}");
    }
    (ended, file.results.remove(0).runs.remove(0))
}

fn names(run: &Run, failure: &str) -> u64 {
    run.all.failures.get(failure).copied().unwrap_or_default()
}

const HTTP: &str =
    "http --users 4 --spawn-rate 100 --think 1ms..5ms --run-time 2s --timeout 500ms --fail-if errors>0%";
const STREAM: &str = "stream --users 2 --fps 50 --run-time 2s --timeout 500ms --fail-if errors>0%";

#[tokio::test]
async fn an_honest_service_passes() {
    let stub = Stub::start(Lie::None).await;
    let (ended, run) = loadgen(&stub.url(), HTTP).await;
    assert!(ended.is_ok(), "{ended:?}");
    assert!(run.all.count > 20 && run.all.failed() == 0 && run.calls.iter().all(|call| call.count > 0));
    let (ended, run) = loadgen(&stub.url(), STREAM).await;
    assert!(ended.is_ok(), "{ended:?}");
    let streams = run.streams.unwrap();
    assert_eq!((streams.delivered, streams.order_violations), (run.all.count, 0));
    // A machine that is too slow for the test does not take all of them; no frame goes missing even so.
    assert_eq!(streams.delivered + streams.drops.values().sum::<u64>(), streams.due, "{streams:?}");
    assert!(streams.ids_checked == streams.delivered && streams.jain.is_some(), "{streams:?}");
}

#[tokio::test]
async fn users_show_their_keys_in_turn() {
    let stub = Stub::start(Lie::None).await;
    loadgen(&stub.url(), STREAM).await.0.unwrap();
    assert_eq!(stub.shown(), [(String::new(), 2)].into(), "nobody has one");
    let keys = "--key cpk_one --key cpk_two";
    let stub = Stub::start(Lie::None).await;
    loadgen(&stub.url(), &format!("{} --idle 2 {keys}", STREAM.replace("users 2", "users 4")))
        .await
        .0
        .unwrap();
    let shown = ["Bearer cpk_one", "Bearer cpk_two"].map(str::to_owned);
    assert_eq!(stub.shown(), shown.clone().map(|key| (key, 3)).into());
    let stub = Stub::start(Lie::None).await;
    loadgen(&stub.url(), &format!("{HTTP} {keys}")).await.0.unwrap();
    assert_eq!(stub.shown().into_keys().collect::<Vec<_>>(), shown);
}

#[tokio::test]
async fn lies_over_http_are_named() {
    for (lie, name) in [
        (Lie::WrongId, "wrong id"),
        (Lie::NoAnswer, "timeout"),
        (Lie::Errors, "status 500"),
        (Lie::Empty, "bad answer"),
    ] {
        let stub = Stub::start(lie).await;
        let (ended, run) = loadgen(&stub.url(), HTTP).await;
        assert!(matches!(ended, Err(Error::Threshold(_))), "{lie:?}: {ended:?}");
        assert!(names(&run, name) > 0, "{lie:?}: {:?}", run.all.failures);
        assert_eq!(names(&run, name), run.all.failed(), "{lie:?} and nothing else");
    }
    let stub = Stub::start(Lie::Errors).await;
    let (_, run) = loadgen(&stub.url(), HTTP).await;
    let share = 1.0 - run.all.success();
    assert!((share - 0.05).abs() < 0.02, "one in twenty, and not {share}");
}

#[tokio::test]
async fn lies_over_websocket_are_named() {
    for (lie, name) in [
        (Lie::WrongId, "wrong id"),
        (Lie::NoAnswer, "never answered"),
        (Lie::OutOfOrder, "out of order"),
        (Lie::Errors, "refused: unavailable"),
        (Lie::Empty, "bad answer"),
        (Lie::Twice, "answered twice"),
    ] {
        let stub = Stub::start(lie).await;
        let (ended, run) = loadgen(&stub.url(), STREAM).await;
        assert!(matches!(ended, Err(Error::Threshold(_))), "{lie:?}: {ended:?}");
        assert!(names(&run, name) > 0, "{lie:?}: {:?}", run.all.failures);
        if lie == Lie::OutOfOrder {
            assert_eq!(run.streams.as_ref().unwrap().order_violations, names(&run, name));
        }
    }
}

/// Frames that could not even be sent while the service slept waited as well: of the 40 that are due in two
/// seconds about 20. Counted from when they went out, only the few that the sockets took would be late.
#[tokio::test]
async fn a_stall_counts_for_all_that_were_due() {
    let stub = Stub::start(Lie::Stalls).await;
    let arguments = "stream --fps 20 --run-time 2s --timeout 10s --mode complete";
    let (ended, run) = loadgen(&stub.url(), arguments).await;
    assert!(ended.is_ok(), "{ended:?}");
    assert!(run.all.count > 10, "{run:?}");
    let latency = run.all.latency.unwrap();
    assert!(latency.percentile(66.0) > Some(200.0), "{latency:?}");
}

#[tokio::test]
async fn who_is_not_there_is_named() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    for command in [HTTP, STREAM] {
        let (ended, run) = loadgen(&nobody, command).await;
        assert!(matches!(ended, Err(Error::Threshold(_))), "{ended:?}");
        assert_eq!((names(&run, "no connection") > 0, run.all.success()), (true, 0.0));
    }
}

/// A flood goes as far as the sockets hold it; the rest stays with the service: nothing piles up here.
#[tokio::test]
async fn a_slow_reader_takes_no_more_than_it_reads() {
    let stub = Stub::start(Lie::Flood).await;
    let arguments = "stream --fps 100 --run-time 4s --timeout 5s --idle 100 --slow-readers 1";
    let (ended, run) = loadgen(&stub.url(), arguments).await;
    assert!(ended.is_ok(), "{ended:?}: {:?}", run.all.failures);
    assert_eq!(run.all.failed(), 0, "idle streams are held: {:?}", run.all.failures);
    assert_eq!(run.series.iter().map(|point| point.users).max(), Some(102));
    let poured = stub.poured() >> 20;
    assert!((1..100).contains(&poured), "{poured} of 400 MB");
}

#[tokio::test]
async fn results_of_several_places_become_one_table() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let stub = Stub::start(Lie::None).await;
    for location in ["local", "remote"] {
        let output = path(location);
        let arguments = format!(
            "find-max --start 1 --limit 1 --step-time 1s --confirm-time 1s --think 1ms --p95 1m --p99 1m \
             --max-send-lag 1m --location {location} --output {output} --url {}",
            stub.url()
        );
        run(&arguments).await.unwrap();
    }
    let (a, b, both) = (path("local/results.json"), path("remote/results.json"), path("both"));
    run(&format!("merge {a} {b} -o {both}")).await.unwrap();
    let joined = File::read(&folder.path().join("both/results.json")).unwrap().results;
    let places: Vec<_> = joined.iter().map(|of| (of.location.as_str(), of.searches[0].found)).collect();
    assert_eq!(places, [("local", Some(1)), ("remote", Some(1))]);
    let page = std::fs::read_to_string(folder.path().join("both/report.html")).unwrap();
    for what in ["cloudpose (local)", "cloudpose (remote)", "p99 latency by load", "<td>remote</td>"] {
        assert!(page.contains(what), "{what}");
    }
    assert!(!page.contains("http-equiv") && !page.contains("src="), "one file that needs no other");
    std::fs::write(folder.path().join("other.json"), "{}").unwrap();
    let refused = run(&format!("merge {a} {} -o {both}", path("other.json"))).await;
    assert!(matches!(refused, Err(Error::NotResults { .. })), "{refused:?}");
}

/// A generator that cannot keep its schedule says so, and fails.
#[tokio::test]
async fn a_saturated_generator_fails() {
    let stub = Stub::start(Lie::None).await;
    let arguments = "http --rate 200 --run-time 1s --max-send-lag 1us";
    let (ended, run) = loadgen(&stub.url(), arguments).await;
    assert!(matches!(&ended, Err(Error::Void(why)) if why[0].contains("saturated")), "{ended:?}");
    assert_eq!(run.flaws.len(), 1);
}
