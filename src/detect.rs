//! `cloudpose detect`: what models find in images, folders, and videos.
#![expect(clippy::print_stdout, reason = "the answer of a command")]

mod clip;

use std::{
    fs,
    io::{BufWriter, IsTerminal as _, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, bail};
use cloudpose_annotate::Annotator;
use cloudpose_infer::{Detail, Detection, Image, Job, Models, Past, Pipeline, cpu::CpuEngine};
use cloudpose_pixels::Pool;
use cloudpose_tracks::Registry;
use cloudpose_wire::{Class, Output, Skeleton, skeleton::Part};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    cli::Detect,
    mjpeg,
    outputs::{self, create},
    plain::{plain, shown},
};

pub(crate) const IMAGE_SUFFIXES: [&str; 4] = ["jpg", "jpeg", "png", "webp"];
/// Motion JPEG does not say how fast it goes.
pub(crate) const ASSUMED_FPS: u64 = 30;
pub(crate) const MJPEG_SUFFIXES: [&str; 2] = ["mjpeg", "mjpg"];
pub(crate) const VIDEO_SUFFIXES: [&str; 6] = ["mp4", "m4v", "mov", "mkv", "webm", "avi"];

/// Runs the command. Files that cannot be read are named on standard error, and the others done.
///
/// # Errors
/// If nothing is there to do, the output cannot be written, or any file could not be read.
pub(crate) fn run(command: &Detect) -> Result<()> {
    let files = find(&command.paths, &VIDEO_SUFFIXES)?;
    if let Some(folder) = &command.output {
        outputs::check(folder, &files)?;
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    // One image at a time, so it gets all cores.
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let models = Arc::new(Models::open(&command.store)?);
    let engine = CpuEngine::new(models.clone(), threads)?.in_precision(command.numbers.precision)?;
    let mut detector = Detector {
        command,
        skeleton: models.served(&command.model)?.info.skeleton().cloned(),
        pipeline: Pipeline::with_engine(models, Box::new(engine))?,
        // The one that is drawn on.
        pictures: Pool::new(1),
        annotator: Annotator::new(command.style)?,
        progress: progress(files.len()),
    };
    let mut failed = 0;
    for file in &files {
        detector.progress.set_message(shown(file));
        if let Err(error) = detector.file(file) {
            failed += 1;
            let error = plain(&format!("{error:#}"));
            detector.progress.suspend(|| eprintln!("{}: {error}", shown(file)));
        }
        detector.progress.inc(1);
    }
    detector.progress.finish_and_clear();
    if failed > 0 {
        bail!("{failed} of {} files could not be done", files.len());
    }
    Ok(())
}

pub(crate) fn progress(files: usize) -> ProgressBar {
    if files < 2 || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30.cyan} {pos}/{len} {per_sec} {eta} left  {wide_msg}");
    ProgressBar::new(files as u64).with_style(style.expect("the template is a constant"))
}

/// The files named, and those in the folders named, by name; of videos those with the suffixes in `videos`.
pub(crate) fn find(paths: &[PathBuf], videos: &[&str]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
            let mut inside = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
            let suffixes = [&IMAGE_SUFFIXES[..], &MJPEG_SUFFIXES, videos].concat();
            inside.retain(|p| has_suffix(p, &suffixes));
            inside.sort();
            files.extend(inside);
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        let suffixes = [&IMAGE_SUFFIXES[..], &MJPEG_SUFFIXES, videos].concat();
        bail!("nothing to look at there: looked for .{}", suffixes.join(", ."));
    }
    Ok(files)
}

pub(crate) fn has_suffix(path: &Path, suffixes: &[&str]) -> bool {
    let suffix = path.extension().and_then(|s| s.to_str()).unwrap_or_default();
    suffixes.iter().any(|s| s.eq_ignore_ascii_case(suffix))
}

struct Detector<'a> {
    command: &'a Detect,
    /// Of the persons, if the model finds persons.
    skeleton: Option<Arc<Skeleton>>,
    pictures: Pool,
    pipeline: Pipeline,
    annotator: Annotator,
    progress: ProgressBar,
}

impl Detector<'_> {
    fn file(&mut self, path: &Path) -> Result<()> {
        if has_suffix(path, &VIDEO_SUFFIXES) {
            return self.clip(path);
        }
        let bytes = fs::read(path).context("cannot read it")?;
        if has_suffix(path, &MJPEG_SUFFIXES) {
            self.video(path, &bytes)
        } else {
            let (poses, jpeg) = self.image(&bytes, None)?;
            self.report(&Self::line(path, None, &poses)?, path, None, &poses);
            if let (Some(target), Some(jpeg)) = (self.target(path, Some("jpg"))?, jpeg) {
                create(&target)?
                    .write_all(&jpeg)
                    .with_context(|| format!("cannot write {}", target.display()))?;
            }
            Ok(())
        }
    }

    /// Frames in order, with tracks. Writes the annotated frames, and beside them a line of JSON for each.
    fn video(&mut self, path: &Path, bytes: &[u8]) -> Result<()> {
        let open = |target: Option<PathBuf>| -> Result<_> {
            target.map(|target| create(&target).map(BufWriter::new)).transpose()
        };
        let mut pictures = open(self.target(path, None)?)?;
        let mut lines = open(self.target(path, Some("jsonl"))?)?;
        let mut tracks = Registry::default();
        let mut frames = 0;
        for (frame, seq) in mjpeg::frames(bytes).zip(1..) {
            let prior = tracks.prior();
            let past = Past { prior: &prior, at: seq * 1000 / ASSUMED_FPS, smooth: true };
            let (mut poses, jpeg) = self.image(frame, Some(past)).with_context(|| format!("frame {seq}"))?;
            if let (Some(found), Some(skeleton)) = (poses.tracks.take(), &self.skeleton) {
                tracks.absorb(skeleton, found.into());
            }
            let line = Self::line(path, Some(seq), &poses)?;
            self.report(&line, path, Some(seq), &poses);
            if let (Some(pictures), Some(lines), Some(jpeg)) = (&mut pictures, &mut lines, jpeg) {
                pictures.write_all(&jpeg).context("cannot write the annotated frames")?;
                writeln!(lines, "{line}").context("cannot write the tracks")?;
            }
            self.progress.tick();
            frames = seq;
        }
        if frames == 0 {
            bail!("there is no JPEG in it");
        }
        for mut output in [pictures, lines].into_iter().flatten() {
            output.flush().context("cannot write what was found")?;
        }
        Ok(())
    }

    /// The poses, and the annotated JPEG if one is to be written.
    fn image(&mut self, image: &[u8], past: Option<Past<'_>>) -> Result<(Detection, Option<bytes::Bytes>)> {
        let command = self.command;
        let draw = command.output.is_some();
        let mut found = self.pipeline.detect(Job {
            image: Image::Encoded(image),
            detail: if draw { Detail::Full } else { Detail::Model },
            model: &command.model,
            min_score: command.min_score,
            top: cloudpose_wire::frame::USUAL_TOP,
            past,
            stream: None,
            pictures: draw.then_some(&self.pictures),
        })?;
        let Some(mut picture) = found.picture.take() else { return Ok((found, None)) };
        let figures = self.skeleton.as_deref().map(|skeleton| (skeleton, found.output.persons()));
        let jpeg = self.annotator.annotate_decoded(&mut picture, figures, command.quality)?;
        Ok((found, Some(jpeg)))
    }

    fn target(&self, path: &Path, suffix: Option<&str>) -> Result<Option<PathBuf>> {
        let Some(folder) = &self.command.output else { return Ok(None) };
        let target = outputs::target(folder, path, suffix).context("it has no file name")?;
        if target.canonicalize().is_ok_and(|t| path.canonicalize().is_ok_and(|p| p == t)) {
            bail!("the annotated picture would overwrite it: choose another folder with -o");
        }
        Ok(Some(target))
    }

    /// The poses as a line of JSON.
    fn line(path: &Path, frame: Option<u64>, poses: &Detection) -> Result<String> {
        let (kind, found) = match &poses.output {
            Output::Poses { persons, .. } => ("persons", serde_json::to_value(persons)?),
            Output::Classes(classes) => ("classes", serde_json::to_value(classes)?),
        };
        let mut line = serde_json::json!({
            "file": path.display().to_string(),
            "width": poses.width,
            "height": poses.height,
            "model": poses.model,
            (kind): found,
            "timings_ms": poses.timings_ms,
        });
        if let Some(frame) = frame {
            line["frame"] = frame.into();
        }
        Ok(serde_json::to_string(&line)?)
    }

    /// Prints `line`, or the same in words.
    fn report(&self, line: &str, path: &Path, frame: Option<u64>, poses: &Detection) {
        let line = if self.command.json {
            line.to_owned()
        } else {
            let frame = frame.map_or(String::new(), |seq| format!(" frame {seq}"));
            let found = in_words(&poses.output, self.skeleton.as_deref());
            plain(&format!("{}{frame}: {found} in {}×{}", path.display(), poses.width, poses.height))
        };
        self.progress.suspend(|| println!("{line}"));
    }
}

/// How many people or faces there are, or what a picture shows.
fn in_words(output: &Output, skeleton: Option<&Skeleton>) -> String {
    let are_faces =
        skeleton.is_some_and(|skeleton| skeleton.keypoints().iter().all(|kind| kind.part == Part::Head));
    match output {
        Output::Poses { persons, .. } => match persons.len() {
            0 if are_faces => "no face".to_owned(),
            0 => "nobody".to_owned(),
            1 if are_faces => "1 face".to_owned(),
            1 => "1 person".to_owned(),
            n if are_faces => format!("{n} faces"),
            n => format!("{n} people"),
        },
        Output::Classes(classes) => {
            let class = |class: &Class| format!("{} ({:.0} %)", class.label, 100.0 * class.score);
            classes.iter().map(class).collect::<Vec<_>>().join("; ")
        }
    }
}
