//! `cloudpose`: reads the command line, and reports how it ended.

use std::process::ExitCode;

use clap::Parser as _;
use cloudpose::{Cli, Failure};

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
    let (error, code) = match cloudpose::run(cli) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (error, ExitCode::from(USAGE)),
        Err(Failure::Work(error)) => (error, ExitCode::FAILURE),
    };
    eprintln!("cloudpose: {error:#}");
    code
}
