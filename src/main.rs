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
    eprintln!("cloudpose: {}", in_words(&error));
    code
}

/// An error and what lies beneath it, as far as that is not said already.
fn in_words(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match &*said {
        "" => cause,
        words if words.contains(&cause) => said,
        words => format!("{words}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice() {
        let error = anyhow::anyhow!("no such file")
            .context("keys.json: no such file; make one")
            .context("cannot start");
        assert_eq!(in_words(&error), "cannot start: keys.json: no such file; make one");
    }
}
