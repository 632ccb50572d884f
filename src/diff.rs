//! `cloudpose diff`: in what two results of the same frames differ.
//!
//! | module | what |
//! |---|---|
//! | `results` | who was found in which frame, from clips and lines of JSON |
//! | `clips` | the frames that both results have, beside each other |
//! | `summary` | the numbers of it |
//! | `words` | the verdict and the table, as people read them |
//! | `pictures` | the frames that differ most, with both results drawn on them |
//! | `page` | all of it in one HTML file |
#![expect(clippy::print_stdout, reason = "the answer of a command")]

mod clips;
mod page;
mod pictures;
mod results;
mod summary;
mod words;

use std::{io::Write as _, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

use self::{results::Results, summary::Summary};
use crate::outputs::create;

#[derive(Debug, Args)]
#[command(
    after_help = "Takes clips of `cloudpose capture`, and the lines of JSON that `cloudpose replay` and `cloudpose detect --json` write. Persons
of a frame are one if their joints are alike (OKS of 0.5). Neither result is the truth: look at the frames on the page.

Examples:
  cloudpose diff door.tar accurate.jsonl                  what `accurate` sees otherwise than the server did
  cloudpose diff fast.jsonl accurate.jsonl -o page.html   with the frames that differ most, and plots
  cloudpose diff fast.jsonl accurate.jsonl --json         one line of JSON"
)]
pub(crate) struct Diff {
    /// The one result
    #[arg(value_name = "A")]
    a: PathBuf,
    /// The other
    #[arg(value_name = "B")]
    b: PathBuf,
    /// Write a page that shows the differences into this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print one line of JSON
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// If a file cannot be read, both have no frame in common, or the page cannot be written.
pub(crate) fn run(command: &Diff) -> Result<()> {
    let results = [Results::read(&command.a)?, Results::read(&command.b)?];
    let clips = clips::pair(&results)?;
    let total = Summary::of(&clips.iter().collect::<Vec<_>>());
    if command.json {
        println!("{}", summary::json(&results, &clips, &total));
    } else {
        print!("{}", words::text(&results, &clips, &total));
    }
    if let Some(path) = &command.output {
        let page = page::page(&results, &clips, &total, &pictures::worst(&results, &clips)?);
        let mut file = create(path)?;
        file.write_all(page.as_bytes()).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
