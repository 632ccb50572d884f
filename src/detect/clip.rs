//! Video files: every frame looked at, with tracks.

use std::{
    fs::File,
    io::{BufWriter, IsTerminal as _, Write as _},
    path::Path,
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

/// The annotated video, and the lines beside it.
type Written = (Writer, BufWriter<File>);

impl Detector<'_> {
    /// Frames in order, with tracks. Writes an annotated MP4, and beside it a line of JSON for each frame.
    pub(super) fn clip(&mut self, path: &Path) -> Result<()> {
        let mut video = Video::open(path)?;
        let info = video.info().clone();
        if info.has_sound && self.command.output.is_some() {
            self.progress.suspend(|| eprintln!("{}: its sound is left out", shown(path)));
        }
        let mut written = self.written(path, &info)?;
        let bar = bar(&info);
        let ended = self.frames(path, &mut video, &mut written, &bar);
        bar.finish_and_clear();
        // Also where the file is damaged: what came before is whole.
        if let Some((writer, mut lines)) = written.filter(|_| bar.position() > 0) {
            writer.finish()?;
            lines.flush().context("cannot write the tracks")?;
        }
        ended?;
        if bar.position() == 0 {
            bail!("there is no picture in it");
        }
        Ok(())
    }

    /// Looks at one frame after the other; `bar` counts those that are done.
    fn frames(
        &mut self,
        path: &Path,
        video: &mut Video,
        written: &mut Option<Written>,
        bar: &ProgressBar,
    ) -> Result<()> {
        let (mut picture, mut tracks) = (PlanarImage::default(), Registry::default());
        for seq in 1.. {
            let frame = || format!("frame {seq}");
            let Some(at) = video.next_into(&mut picture).with_context(frame)? else { break };
            let prior = tracks.prior();
            // Tracks count from 1 on: 0 is before the first frame.
            let past = Past { prior: &prior, at: 1 + at.as_millis() as u64, smooth: true };
            let mut found = self.look(&picture, past).with_context(frame)?;
            if let (Some(found), Some(skeleton)) = (found.tracks.take(), &self.skeleton) {
                tracks.absorb(skeleton, found.into());
            }
            let line = Self::line(path, Some(seq), &found)?;
            bar.suspend(|| self.report(&line, path, Some(seq), &found));
            if let Some((writer, lines)) = written {
                if let Some(skeleton) = &self.skeleton {
                    let persons = found.output.persons();
                    overlay::draw(&mut picture, skeleton, persons, &self.command.style);
                }
                writer.push(&picture, at).with_context(frame)?;
                writeln!(lines, "{line}").context("cannot write the tracks")?;
            }
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
