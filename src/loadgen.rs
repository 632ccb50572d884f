//! `cloudpose loadgen`: gives the load test its pictures.

use std::fs;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use cloudpose_loadgen::{Command, Surroundings};

use crate::{detect, mjpeg};

/// What users send who were given nothing.
const SAMPLE: &[u8] = include_bytes!("../ingest/web/sample.jpg");

/// Runs the command.
///
/// # Errors
/// If the pictures cannot be read, or the load test fails.
pub(crate) async fn run(command: &Command) -> Result<()> {
    let pictures = pictures(command)?;
    let binary = std::env::current_exe().context("cannot tell where this program is")?;
    Ok(cloudpose_loadgen::run(command, Surroundings { pictures, binary }).await?)
}

fn pictures(command: &Command) -> Result<Vec<Bytes>> {
    let paths = command.frames().unwrap_or_default();
    if paths.is_empty() {
        return Ok(vec![Bytes::from_static(SAMPLE)]);
    }
    let mut pictures = Vec::new();
    for path in detect::find(paths, &[])? {
        let bytes = Bytes::from(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        if detect::has_suffix(&path, &detect::MJPEG_SUFFIXES) {
            pictures.extend(mjpeg::frames(&bytes).map(|frame| bytes.slice_ref(frame)));
        } else {
            pictures.push(bytes);
        }
    }
    if pictures.is_empty() {
        bail!("there is no picture in what --frames names");
    }
    Ok(pictures)
}
