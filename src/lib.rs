//! The application: the command line, telemetry, and the composition of roles.
//!
//! | module | what |
//! |---|---|
//! | `cli`, `config` | the command line; which roles run in a process, with what settings |
//! | `roles` | the table of roles |
//! | `app` | [`App`]: loads a process's roles, runs them, drains them in order |
//! | `ops` | health, readiness and metrics, wherever monitors ask for them |
//! | `shutdown` | signals, and how the grace is divided |
//! | `telemetry`, `traces`, `vitals` | logs, metrics and traces of the process |
//! | `clip` | frames of a stream and what was found in them, in a file; `capture` writes it, `replay` runs it again, `diff` compares |
//! | `detect`, `loadgen`, `models`, `jobs`, `keys`, `health`, `doctor`, `manual`, `bench` and others | the other commands |
//!
//! It decides nothing about frames: policies are in the crates of the roles.

mod app;
mod bench;
mod bench_gpu;
mod capture;
mod cli;
mod clip;
mod config;
mod detect;
mod diff;
mod doctor;
mod eval;
mod health;
mod jobs;
mod keys;
mod loadgen;
mod manual;
mod mjpeg;
mod models;
mod ops;
mod outputs;
mod plain;
mod remote;
mod replay;
mod roles;
mod shutdown;
mod telemetry;
mod traces;
mod vitals;

use std::future::Future;

use anyhow::Context as _;
use cli::{Bench, Command};

pub use app::App;
pub use cli::Cli;
pub use config::Config;

/// Why a command did not do what it should.
#[derive(Debug)]
pub enum Failure {
    /// Its settings cannot work: nothing was begun.
    Usage(anyhow::Error),
    /// The work failed.
    Work(anyhow::Error),
}

/// Runs the command that `cli` names, to its end. A role serves until a signal.
///
/// # Errors
/// [`Failure`], to be told to the user.
pub fn run(cli: Cli) -> Result<(), Failure> {
    let _exporter = telemetry::start(&cli.telemetry, cli.command.traces()).map_err(Failure::Usage)?;
    let done = match cli.command {
        Command::Serve(config) => block_on(serve(*config)),
        Command::Detect(command) => detect::run(&command),
        Command::Eval(command) => eval::run(&command),
        Command::Capture(command) => block_on(capture::run(&command)),
        Command::Replay(command) => replay::run(&command),
        Command::Diff(command) => diff::run(&command),
        Command::Loadgen(command) => block_on(loadgen::run(&command)),
        Command::Models(command) => models::run(&command),
        Command::Jobs(command) => block_on(jobs::run(&command)),
        Command::Keys(command) => keys::run(&command),
        Command::Health(command) => health::run(&command),
        Command::Doctor(command) => block_on(doctor::run(&command)),
        Command::Completions(command) => manual::completions(&command),
        Command::Man(command) => manual::man(&command),
        Command::Bench(Bench::Worker { store, model, threads, batch, numbers, image }) => {
            let engine = bench::Engine { threads, precision: numbers.precision };
            bench::worker(&store, &model, engine, batch, image.as_deref())
        }
        Command::Bench(Bench::Batches(command)) => bench_gpu::batches(&command),
        Command::Bench(Bench::Frames(command)) => block_on(bench_gpu::frames(&command)),
        Command::Bench(Bench::Layers(command)) => bench::layers(&command),
    };
    done.map_err(Failure::Work)
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let stop = shutdown::on_signal()?;
    let grace = config.grace();
    App::load(config).await?.run(stop, grace).await
}

/// Runs `main` on a runtime of its own.
fn block_on(main: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let ended = runtime.block_on(main);
    // What is still on a blocking thread after the grace must not hold the process.
    runtime.shutdown_background();
    ended
}
