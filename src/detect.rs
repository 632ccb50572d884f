//! `cloudpose detect`: poses in images, folders and Motion JPEG files.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

use std::{
    fs,
    io::{BufWriter, IsTerminal as _, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use cloudpose_annotate::Annotator;
use cloudpose_infer::{Models, Pipeline, Poses};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{cli::Detect, mjpeg};

const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
const MJPEG_SUFFIXES: [&str; 2] = ["mjpeg", "mjpg"];

/// Runs the command. Files that cannot be read are named on standard error, and the others done.
///
/// # Errors
/// If nothing is there to do, the output cannot be written, or any file could not be read.
pub(crate) fn run(command: &Detect) -> Result<()> {
    let files = find(&command.paths)?;
    if let Some(folder) = &command.output {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    // One image at a time, so it gets all cores.
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let mut detector = Detector {
        command,
        pipeline: Pipeline::new(Arc::new(Models::open(&command.store)?), threads)?,
        annotator: Annotator::new(command.style)?,
        progress: progress(files.len()),
    };
    let mut failed = 0;
    for file in &files {
        detector.progress.set_message(file.display().to_string());
        if let Err(error) = detector.file(file) {
            failed += 1;
            detector.progress.suspend(|| eprintln!("{}: {error:#}", file.display()));
        }
        detector.progress.inc(1);
    }
    detector.progress.finish_and_clear();
    if failed > 0 {
        bail!("{failed} of {} files could not be done", files.len());
    }
    Ok(())
}

fn progress(files: usize) -> ProgressBar {
    if files < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30.cyan} {pos}/{len} {per_sec} {eta} left  {wide_msg}");
    ProgressBar::new(files as u64).with_style(style.expect("the template is a constant"))
}

/// The files named, and those in the folders named, by name.
fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut inside = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
            inside.retain(|p| has_suffix(p, &IMAGE_SUFFIXES) || has_suffix(p, &MJPEG_SUFFIXES));
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        bail!("no images there: looked for .{}, .{}", IMAGE_SUFFIXES.join(", ."), MJPEG_SUFFIXES.join(", ."));
    }
    Ok(files)
}

fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let suffix = path.extension().and_then(|s| s.to_str()).unwrap_or_default();
    suffixes.iter().any(|s| s.eq_ignore_ascii_case(suffix))
}

struct Detector<'a> {
    command: &'a Detect,
    pipeline: Pipeline,
    annotator: Annotator,
    progress: ProgressBar,
}

impl Detector<'_> {
    fn file(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).context("cannot read it")?;
        if !has_suffix(path, &MJPEG_SUFFIXES) {
            let (poses, jpeg) = self.image(&bytes)?;
            self.report(path, None, &poses)?;
            if let (Some(target), Some(jpeg)) = (self.target(path, Some("jpg"))?, jpeg) {
                fs::write(&target, jpeg).with_context(|| format!("cannot write {}", target.display()))?;
            }
            return Ok(());
        }
        let target = self.target(path, None)?;
        let mut output = match &target {
            Some(target) => {
                let file = fs::File::create(target);
                Some(BufWriter::new(file.with_context(|| format!("cannot write {}", target.display()))?))
            }
            None => None,
        };
        let mut frames = 0;
        for (frame, seq) in mjpeg::frames(&bytes).zip(1..) {
            let (poses, jpeg) = self.image(frame).with_context(|| format!("frame {seq}"))?;
            self.report(path, Some(seq), &poses)?;
            if let (Some(output), Some(jpeg)) = (&mut output, jpeg) {
                output.write_all(&jpeg).context("cannot write the annotated frames")?;
            }
            self.progress.tick();
            frames = seq;
        }
        if frames == 0 {
            bail!("there is no JPEG in it");
        }
        if let Some(mut output) = output {
            output.flush().context("cannot write the annotated frames")?;
        }
        Ok(())
    }

    /// The poses, and the annotated JPEG if one is to be written.
    fn image(&mut self, bytes: &[u8]) -> Result<(Poses, Option<bytes::Bytes>)> {
        let command = self.command;
        let poses = self.pipeline.detect(bytes, command.model, command.min_score)?;
        let jpeg = match command.output {
            Some(_) => Some(self.annotator.annotate(bytes, &poses.persons, command.quality)?),
            None => None,
        };
        Ok((poses, jpeg))
    }

    fn target(&self, path: &Path, suffix: Option<&str>) -> Result<Option<PathBuf>> {
        let Some(folder) = &self.command.output else { return Ok(None) };
        let mut target = folder.join(path.file_name().context("it has no file name")?);
        if let Some(suffix) = suffix {
            target.set_extension(suffix);
        }
        if target.canonicalize().is_ok_and(|t| path.canonicalize().is_ok_and(|p| p == t)) {
            bail!("the annotated picture would overwrite it: choose another folder with -o");
        }
        Ok(Some(target))
    }

    fn report(&self, path: &Path, frame: Option<u64>, poses: &Poses) -> Result<()> {
        let line = if self.command.json {
            let mut line = serde_json::json!({
                "file": path.display().to_string(),
                "width": poses.width,
                "height": poses.height,
                "model": poses.model,
                "persons": poses.persons,
                "timings_ms": poses.timings_ms,
            });
            if let Some(frame) = frame {
                line["frame"] = frame.into();
            }
            serde_json::to_string(&line)?
        } else {
            let frame = frame.map_or(String::new(), |seq| format!(" frame {seq}"));
            let people = match poses.persons.len() {
                0 => "nobody".to_owned(),
                1 => "1 person".to_owned(),
                n => format!("{n} people"),
            };
            format!("{}{frame}: {people} in {}×{}", path.display(), poses.width, poses.height)
        };
        self.progress.suspend(|| println!("{line}"));
        Ok(())
    }
}
