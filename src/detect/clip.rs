//! Video files: every frame looked at, with tracks, while others are decoded and encoded.

use std::{
    fs::File,
    io::{BufWriter, IsTerminal as _, Write as _},
    panic::resume_unwind,
    path::Path,
    sync::mpsc::{self, Receiver, Sender, SyncSender},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use cloudpose_annotate::overlay;
use cloudpose_infer::{Detail, Detection, Image, Job, Past};
use cloudpose_pixels::PlanarImage;
use cloudpose_tracks::Registry;
use cloudpose_video::{Info, Video, Writer};
use indicatif::{ProgressBar, ProgressStyle};

use super::Detector;
use crate::{outputs::create, plain::shown};

/// Frames that wait between two of the threads, at most.
const AHEAD: usize = 2;

/// The annotated video, and the lines beside it.
type Written = (Writer, BufWriter<File>);

/// A picture, its number from 1 on, and when it is shown.
struct Frame {
    picture: PlanarImage,
    seq: u64,
    at: Duration,
}

impl Detector<'_> {
    /// Frames in order, with tracks. Writes an annotated MP4, and beside it a line of JSON for each frame.
    pub(super) fn clip(&mut self, path: &Path) -> Result<()> {
        let video = Video::open(path)?;
        let info = video.info().clone();
        if info.has_sound && self.command.output.is_some() {
            self.progress.suspend(|| eprintln!("{}: its sound is left out", shown(path)));
        }
        let written = self.written(path, &info)?;
        let bar = bar(&info);
        let ended = self.frames(path, video, written, &bar);
        bar.finish_and_clear();
        ended?;
        if bar.position() == 0 {
            bail!("there is no picture in it");
        }
        Ok(())
    }

    /// Looks at one frame after the other, each while others are decoded and encoded. Where it ends early, as with a file
    /// that is damaged, what came before is whole.
    fn frames(
        &mut self,
        path: &Path,
        video: Video,
        written: Option<Written>,
        bar: &ProgressBar,
    ) -> Result<()> {
        let (spare, spares) = mpsc::channel();
        thread::scope(|scope| {
            let (decoded, frames) = mpsc::sync_channel(AHEAD);
            scope.spawn(move || decode(video, &spares, &decoded));
            let Some((writer, mut lines)) = written else {
                return self.look_at(path, frames, bar, |_, frame| {
                    spare.send(frame.picture).ok();
                    Ok(())
                });
            };
            let (drawn, pictures) = mpsc::sync_channel(AHEAD);
            let encoder = scope.spawn(move || encode(writer, &pictures, &spare));
            let looked = self.look_at(path, frames, bar, |line, frame| {
                writeln!(lines, "{line}").context("cannot write the tracks")?;
                // It is gone if it failed, and says so at the end.
                drawn.send(frame).context("the annotated video is not written")
            });
            drop(drawn);
            encoder.join().unwrap_or_else(|panic| resume_unwind(panic))?;
            lines.flush().context("cannot write the tracks")?;
            looked
        })
    }

    /// Gives each frame, drawn on if it is to be written, and its line of JSON to `done`. `bar` counts them.
    fn look_at(
        &mut self,
        path: &Path,
        frames: Receiver<Result<Frame>>,
        bar: &ProgressBar,
        mut done: impl FnMut(&str, Frame) -> Result<()>,
    ) -> Result<()> {
        let mut tracks = Registry::default();
        for frame in frames {
            let mut frame = frame?;
            let prior = tracks.prior();
            // Tracks count from 1 on: 0 is before the first frame.
            let past = Past { prior: &prior, at: 1 + frame.at.as_millis() as u64, smooth: true };
            let found = self.look(&frame.picture, past);
            let mut found = found.with_context(|| numbered(frame.seq))?;
            if let (Some(found), Some(skeleton)) = (found.tracks.take(), &self.skeleton) {
                tracks.absorb(skeleton, found.into());
            }
            let line = Self::line(path, Some(frame.seq), &found)?;
            bar.suspend(|| self.report(&line, path, Some(frame.seq), &found));
            if let (Some(_), Some(skeleton)) = (&self.command.output, &self.skeleton) {
                overlay::draw(&mut frame.picture, skeleton, found.output.persons(), &self.command.style);
            }
            done(&line, frame)?;
            bar.inc(1);
        }
        Ok(())
    }

    fn look(&mut self, picture: &PlanarImage, past: Past<'_>) -> Result<Detection> {
        let command = self.command;
        Ok(self.pipeline.detect(Job {
            image: Image::Planes(picture),
            detail: Detail::Full,
            model: &command.model,
            min_score: command.min_score,
            top: cloudpose_wire::frame::USUAL_TOP,
            past: Some(past),
            stream: None,
            pictures: None,
        })?)
    }

    /// Where the annotated video goes and the lines beside it, if they are wanted.
    fn written(&self, path: &Path, info: &Info) -> Result<Option<Written>> {
        let (Some(target), Some(lines)) =
            (self.target(path, Some("mp4"))?, self.target(path, Some("jsonl"))?)
        else {
            return Ok(None);
        };
        let writer = Writer::new(create(&target)?, [info.width, info.height], info.rate)?;
        Ok(Some((writer, BufWriter::new(create(&lines)?))))
    }
}

/// Decodes into pictures that others are done with, until the end, damage, or nobody wants more.
fn decode(mut video: Video, spares: &Receiver<PlanarImage>, decoded: &SyncSender<Result<Frame>>) {
    for seq in 1.. {
        let mut picture = spares.try_recv().unwrap_or_default();
        let next = video.next_into(&mut picture).with_context(|| numbered(seq)).transpose();
        let Some(next) = next else { return };
        let is_last = next.is_err();
        let sent = decoded.send(next.map(|at| Frame { picture, seq, at }));
        if is_last || sent.is_err() {
            return;
        }
    }
}

/// Encodes until no more come, and completes the file if any came.
fn encode(mut writer: Writer, drawn: &Receiver<Frame>, spare: &Sender<PlanarImage>) -> Result<()> {
    let mut is_empty = true;
    for Frame { picture, seq, at } in drawn {
        writer.push(&picture, at).with_context(|| numbered(seq))?;
        // Nobody wants it behind the last.
        spare.send(picture).ok();
        is_empty = false;
    }
    if is_empty { Ok(()) } else { Ok(writer.finish()?) }
}

fn numbered(seq: u64) -> String {
    format!("frame {seq}")
}

/// How far it is, how fast, and how long it will take.
fn bar(info: &Info) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match info.frames {
        Some(frames) => (ProgressBar::new(frames), "{bar:30.cyan} {pos}/{len} frames, {per_sec}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {pos} frames, {per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).expect("the template is a constant"))
}
