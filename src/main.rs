//! `cloudpose`: parses the command line, starts telemetry, and composes the roles.

mod bench;
mod bench_gpu;
mod cli;
mod detect;
mod health;
mod loadgen;
mod mjpeg;
mod models;
mod probes;
mod process;
mod serve;
mod shutdown;
mod telemetry;
mod traces;
mod vitals;

use std::process::ExitCode;

use clap::Parser as _;
use cli::{Bench, Cli, Command};

/// Exit status for a configuration that cannot work (`EX_USAGE` of sysexits.h).
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version go to standard output and are no failure.
            error.print().ok();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let _exporter = match telemetry::start(&cli.telemetry, cli.command.traces()) {
        Ok(exporter) => exporter,
        Err(error) => {
            eprintln!("cloudpose: {error:#}");
            return ExitCode::from(USAGE);
        }
    };
    let done = match &cli.command {
        Command::Serve(command) => process::run(serve::all(command)),
        Command::Ingest(command) => process::run(serve::ingest(command)),
        Command::Infer(command) => process::run(serve::infer(command)),
        Command::Annotate(command) => process::run(serve::annotate(command)),
        Command::Detect(command) => detect::run(command),
        Command::Loadgen(command) => process::run(loadgen::run(command)),
        Command::Models(command) => models::run(command),
        Command::Health(command) => health::run(command),
        Command::Bench(Bench::Worker { model, threads, image }) => {
            bench::worker(model, *threads, image.as_deref())
        }
        Command::Bench(Bench::Batches(command)) => bench_gpu::batches(command),
        Command::Bench(Bench::Frames(command)) => process::run(bench_gpu::frames(command)),
        Command::Bench(Bench::Layers { model, runs, image }) => bench::layers(model, *runs, image.as_deref()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cloudpose: {error:#}");
            ExitCode::FAILURE
        }
    }
}
