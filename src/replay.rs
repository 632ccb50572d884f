//! `cloudpose replay`: runs frames that were kept again, with any model, and writes what it finds.
//!
//! | module | what |
//! |---|---|
//! | `frames` | the frames of clips, videos and folders, with their times |
//! | `live` | in real time, through a running server |

pub(crate) mod frames;
mod live;

use std::{
    io::{BufWriter, IsTerminal as _, Write},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueHint};
use cloudpose_infer::{Detail, Job, Models, Past, Pipeline, cpu::CpuEngine};
use cloudpose_tracks::Registry;
use cloudpose_wire::{ModelId, Output, Person, SkeletonName, event::parse_score};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use self::frames::Moment;
use crate::{clip::Ended, outputs::create, plain::shown};

#[derive(Debug, Args)]
#[command(
    after_help = "Writes a line of JSON for each frame. Persons are followed by the frames' own times, whatever time the work takes: the same
frames and model give the same bytes. With --server the frames go to a running server as they came once, at their pace, and
those that it drops are counted.

Examples:
  cloudpose replay door.tar --model accurate -o accurate.jsonl
  cloudpose replay clip.mp4 --model fast -o fast.jsonl
  cloudpose replay frames/ --model balanced                     the pictures of a folder, by name, 30 a second
  cloudpose replay door.tar --model fast --server http://127.0.0.1:60000 -o live.jsonl
  cloudpose diff door.tar accurate.jsonl -o page.html           says what changed"
)]
pub(crate) struct Replay {
    /// Clip, video, or folder of pictures
    #[arg(value_name = "CLIP")]
    clip: PathBuf,
    /// The model to run; `cloudpose models list` shows all
    #[arg(long, env = "CLOUDPOSE_MODEL", value_name = "MODEL", value_hint = ValueHint::Other)]
    model: ModelId,
    /// Write the lines into this file [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Have this server do it, in real time
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// The key to show it
    #[arg(long, env = "CLOUDPOSE_KEY", hide_env_values = true, value_name = "KEY", requires = "server")]
    key: Option<String>,
    /// Report persons with at least this score, 0 to 1; a server has its own
    #[arg(long, default_value_t = 0.2, value_parser = parse_score, value_name = "SCORE", conflicts_with = "server")]
    min_score: f32,
    #[command(flatten)]
    numbers: cloudpose_infer::PrecisionConfig,
    #[command(flatten)]
    store: cloudpose_infer::StoreConfig,
}

/// What was found in a frame. Nothing that differs from run to run is in it.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    frame: u64,
    captured_at: u64,
    width: u32,
    height: u32,
    model: &'a ModelId,
    #[serde(skip_serializing_if = "is_default")]
    skeleton: &'a SkeletonName,
    persons: &'a [Person],
}

fn is_default(skeleton: &&SkeletonName) -> bool {
    **skeleton == SkeletonName::default()
}

/// What was found in a frame, and by what.
struct Found<'a> {
    size: [u32; 2],
    model: &'a ModelId,
    output: &'a Output,
}

/// Where the lines go.
struct Lines {
    file: String,
    out: Box<dyn Write + Send>,
    bar: ProgressBar,
}

impl Lines {
    fn create(command: &Replay) -> Result<Self> {
        let out: Box<dyn Write + Send> = match &command.output {
            Some(path) => Box::new(BufWriter::new(create(path)?)),
            None => Box::new(BufWriter::new(std::io::stdout())),
        };
        Ok(Self { file: command.clip.display().to_string(), out, bar: bar() })
    }

    fn write(&mut self, moment: Moment, found: &Found<'_>) -> Result<()> {
        let Some((skeleton, persons)) = found.output.poses() else {
            bail!("{} finds no persons", found.model);
        };
        let [width, height] = found.size;
        let Moment { number: frame, at: captured_at } = moment;
        let model = found.model;
        let line = Line { file: &self.file, frame, captured_at, width, height, model, skeleton, persons };
        serde_json::to_writer(&mut self.out, &line).context("cannot write what was found")?;
        self.out.write_all(b"\n").context("cannot write what was found")?;
        self.bar.inc(1);
        Ok(())
    }

    fn finish(mut self) -> Result<()> {
        self.bar.finish_and_clear();
        self.out.flush().context("cannot write what was found")
    }
}

/// Runs the command.
///
/// # Errors
/// If there are no frames, there is no such model, the server does not do it, or the output cannot be written.
pub(crate) fn run(command: &Replay) -> Result<()> {
    if let Some(server) = &command.server {
        return crate::block_on(live::run(command, server));
    }
    // One frame at a time, so it gets all cores.
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let models = Arc::new(Models::open(&command.store)?);
    let engine = CpuEngine::new(models.clone(), threads)?.in_precision(command.numbers.precision)?;
    let Some(skeleton) = models.served(&command.model)?.info.skeleton().cloned() else {
        bail!("{} finds no persons", command.model);
    };
    let mut pipeline = Pipeline::with_engine(models, Box::new(engine))?;
    let mut tracks = Registry::default();
    let mut lines = Lines::create(command)?;
    let ended = frames::play(&command.clip, |moment, image| {
        let prior = tracks.prior();
        // Tracks count from 1 on: 0 is before the first frame.
        let past = Past { prior: &prior, at: moment.at.max(1), smooth: true };
        let found = pipeline.detect(Job {
            image,
            detail: Detail::Model,
            model: &command.model,
            min_score: command.min_score,
            top: cloudpose_wire::frame::USUAL_TOP,
            past: Some(past),
            stream: None,
            pictures: None,
        });
        let mut found = found.with_context(|| format!("frame {}", moment.number))?;
        if let Some(found) = found.tracks.take() {
            tracks.absorb(&skeleton, found.into());
        }
        let found = Found { size: [found.width, found.height], model: &found.model, output: &found.output };
        lines.write(moment, &found)?;
        Ok(true)
    });
    lines.finish()?;
    warn(&command.clip, ended?);
    Ok(())
}

/// Says of a clip that its end is missing.
fn warn(clip: &Path, ended: Ended) {
    if ended == Ended::CutOff {
        eprintln!("{} was cut off while it was written: what came before was done", shown(clip));
    }
}

fn bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos} frames, {per_sec}");
    ProgressBar::new_spinner().with_style(style.expect("the template is a constant"))
}
