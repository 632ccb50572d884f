//! Clips: frames of a stream, and what was found in them, in one file.
//!
//! A tar archive (POSIX.1-1988 ustar) with two members for each frame, in order: `000001.jpg`, the picture as it came, and
//! `000001.json`, the event. So WebDataset reads it, and everybody has a program that unpacks it. It is written as frames
//! come: what was killed while it wrote left every frame before that, and no end, which readers see.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use cloudpose_pixels::Format;
use cloudpose_wire::Event;
use tar::{Archive, Builder, EntryType, Header};

/// What a clip's name ends in.
pub(crate) const CLIP_SUFFIXES: [&str; 1] = ["tar"];

/// In which a tar archive is counted.
const BLOCK: u64 = 512;
/// An archive ends in two empty blocks.
const END: u64 = 2 * BLOCK;
/// Largest member that is read.
const MOST_BYTES: u64 = 64 << 20;

/// A frame of a clip.
#[derive(Debug, Default)]
pub(crate) struct ClipFrame {
    /// Its number in the clip.
    pub(crate) number: u64,
    /// JPEG, PNG or WebP.
    pub(crate) image: Vec<u8>,
    /// What was found in it, if the clip says.
    pub(crate) event: Option<Event>,
}

/// Writes a clip.
pub(crate) struct ClipWriter {
    tar: Builder<BufWriter<File>>,
    frames: u64,
    bytes: u64,
    most_bytes: u64,
}

impl ClipWriter {
    /// A clip of at most `most_bytes`. A file that is there is left alone.
    ///
    /// # Errors
    /// If there is a file, or none can be made.
    pub(crate) fn create(path: &Path, most_bytes: u64) -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let file = file.with_context(|| format!("cannot make {}: choose another name", path.display()))?;
        Ok(Self { tar: Builder::new(BufWriter::new(file)), frames: 0, bytes: END, most_bytes })
    }

    /// Adds a frame. False: it does not fit any more, and the clip is as it was.
    ///
    /// # Errors
    /// If it is no image, or cannot be written.
    pub(crate) fn push(&mut self, image: &[u8], event: &str, captured_at: u64) -> Result<bool> {
        let suffix = match Format::sniff(image).context("a frame is no image")? {
            Format::Jpeg => "jpg",
            Format::Png => "png",
            Format::WebP => "webp",
        };
        let members = [(suffix, image), ("json", event.as_bytes())];
        let size = |bytes: &[u8]| BLOCK + (bytes.len() as u64).next_multiple_of(BLOCK);
        let more: u64 = members.iter().map(|(_, bytes)| size(bytes)).sum();
        if self.bytes + more > self.most_bytes {
            return Ok(false);
        }
        self.frames += 1;
        for (suffix, bytes) in members {
            let mut header = Header::new_ustar();
            header.set_path(format!("{:06}.{suffix}", self.frames))?;
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(captured_at / 1000);
            header.set_cksum();
            self.tar.append(&header, bytes).context("cannot write the clip")?;
        }
        // Who kills us finds every frame up to here.
        self.tar.get_mut().flush().context("cannot write the clip")?;
        self.bytes += more;
        Ok(true)
    }

    /// Frames that it has.
    pub(crate) fn frames(&self) -> u64 {
        self.frames
    }

    /// How long the file is with its end.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the clip.
    ///
    /// # Errors
    /// If it cannot be written.
    pub(crate) fn finish(self) -> Result<()> {
        let file = self.tar.into_inner().context("cannot write the clip")?;
        let file = file.into_inner().context("cannot write the clip")?;
        file.sync_all().context("cannot write the clip")
    }
}

/// Whether a clip was written to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It was.
    Whole,
    /// It was cut off: what came before is there.
    CutOff,
}

/// Gives the frames of a clip to `each`, in the order in which they stand in it, until that says to stop.
///
/// # Errors
/// If it is no clip, a member of it is not what its name says, or `each` fails.
pub(crate) fn read(path: &Path, mut each: impl FnMut(ClipFrame) -> Result<bool>) -> Result<Ended> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let ended = ended(&mut file).context("cannot read it")?;
    let mut archive = Archive::new(BufReader::new(file));
    let mut frame = ClipFrame::default();
    let mut members = archive.entries().context("it is no tar archive")?;
    loop {
        let member = match members.next() {
            None => break,
            Some(Ok(member)) => member,
            // Cut off in a header, or in what lies before it.
            Some(Err(_)) if ended == Ended::CutOff && frame.number > 0 => break,
            Some(Err(error)) => return Err(error).context("it is no tar archive"),
        };
        if member.header().entry_type() != EntryType::Regular {
            continue;
        }
        let name = member.path().context("a name in it is none")?.into_owned();
        let suffix = name.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
        let number = name.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        let (Some(number), "jpg" | "jpeg" | "png" | "webp" | "json") = (number, suffix) else { continue };
        let size = member.size();
        ensure!(size <= MOST_BYTES, "{} is {size} bytes; at most {MOST_BYTES} are read", name.display());
        let mut bytes = Vec::new();
        member
            .take(size)
            .read_to_end(&mut bytes)
            .with_context(|| format!("cannot read {}", name.display()))?;
        if bytes.len() as u64 != size {
            break;
        }
        if number != frame.number && frame.number > 0 && !hand_over(&mut frame, &mut each)? {
            return Ok(ended);
        }
        frame.number = number;
        if suffix == "json" {
            let event = serde_json::from_slice(&bytes);
            frame.event = Some(event.with_context(|| format!("{} is no event", name.display()))?);
        } else {
            frame.image = bytes;
        }
    }
    if frame.number > 0 {
        hand_over(&mut frame, &mut each)?;
    } else {
        bail!("there is no frame in it: a clip has members 000001.jpg, 000001.json and so on");
    }
    Ok(ended)
}

/// Frames without a picture are none.
fn hand_over(frame: &mut ClipFrame, each: &mut impl FnMut(ClipFrame) -> Result<bool>) -> Result<bool> {
    let frame = std::mem::take(frame);
    if frame.image.is_empty() { Ok(true) } else { each(frame) }
}

fn ended(file: &mut File) -> std::io::Result<Ended> {
    let mut end = [1; END as usize];
    let length = file.metadata()?.len();
    if length >= END && length.is_multiple_of(BLOCK) {
        file.seek(SeekFrom::Start(length - END))?;
        file.read_exact(&mut end)?;
        file.rewind()?;
    }
    Ok(if end.iter().all(|byte| *byte == 0) { Ended::Whole } else { Ended::CutOff })
}

#[cfg(test)]
mod tests {
    use super::*;

    const JPEG: &[u8] = &[0xff, 0xd8, 0xff, 0xd9, 1, 2, 3];
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

    fn event(seq: u64) -> String {
        format!(
            r#"{{"stream":"door","seq":{seq},"captured_at":{},"width":8,"height":8,"model":"fast","device":"cpu","persons":[],"timings_ms":{{"queue":0.0,"decode":0.0,"preprocess":0.0,"inference":0.0,"postprocess":0.0}}}}"#,
            1000 + 40 * seq
        )
    }

    fn clip(most_bytes: u64) -> (tempfile::TempDir, std::path::PathBuf, u64) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.tar");
        let mut clip = ClipWriter::create(&path, most_bytes).unwrap();
        for seq in 1..=3 {
            let image = if seq == 2 { PNG } else { JPEG };
            clip.push(image, &event(seq), 1000 + 40 * seq).unwrap();
        }
        let bytes = clip.bytes();
        clip.finish().unwrap();
        (folder, path, bytes)
    }

    fn frames(path: &Path) -> (Vec<(u64, Vec<u8>, Option<u64>)>, Result<Ended>) {
        let mut frames = Vec::new();
        let ended = read(path, |frame| {
            frames.push((frame.number, frame.image, frame.event.map(|event| event.seq)));
            Ok(true)
        });
        (frames, ended)
    }

    fn whole() -> Vec<(u64, Vec<u8>, Option<u64>)> {
        vec![(1, JPEG.into(), Some(1)), (2, PNG.into(), Some(2)), (3, JPEG.into(), Some(3))]
    }

    #[test]
    fn frames_and_events_come_back_as_they_were() {
        let (_folder, path, bytes) = clip(u64::MAX);
        assert_eq!(path.metadata().unwrap().len(), bytes);
        let (frames, ended) = frames(&path);
        assert_eq!((frames, ended.unwrap()), (whole(), Ended::Whole));
    }

    #[test]
    fn a_clip_is_no_longer_than_it_may_be() {
        let (_folder, path, all) = clip(u64::MAX);
        let (_folder, bounded, bytes) = clip(all - 1);
        assert!(bytes < all && bounded.metadata().unwrap().len() == bytes);
        let (frames, ended) = frames(&bounded);
        assert_eq!((frames, ended.unwrap()), (whole()[..2].to_vec(), Ended::Whole));
        let refused = ClipWriter::create(&path, 1).err().unwrap();
        assert!(format!("{refused:#}").contains("another name"), "{refused:#}");
    }

    #[test]
    fn wherever_a_clip_is_cut_off_what_came_before_is_read_and_it_is_told() {
        let (_folder, path, _) = clip(u64::MAX);
        let bytes = std::fs::read(&path).unwrap();
        let cut = path.with_file_name("cut.tar");
        for length in (0..bytes.len()).step_by(64) {
            std::fs::write(&cut, &bytes[..length]).unwrap();
            let (frames, ended) = frames(&cut);
            // Two members of two blocks each.
            let written = length / 2048;
            assert!(frames.len() >= written.min(3), "{length}: {frames:?}");
            for (frame, whole) in frames.iter().zip(whole()) {
                assert_eq!((frame.0, &frame.1), (whole.0, &whole.1), "{length}");
                assert!(frame.2.is_none_or(|seq| Some(seq) == whole.2), "{length}");
            }
            match ended {
                Ok(ended) => assert_eq!(ended, Ended::CutOff, "{length}"),
                Err(error) => assert!(frames.is_empty(), "{length}: {error:#}"),
            }
        }
    }

    #[test]
    fn what_is_no_clip_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.tar");
        for bytes in [&b""[..], b"no tar", &[0; 1024], &[0xff; 4096]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(frames(&path).1.is_err(), "{bytes:?}");
        }
        let mut clip = ClipWriter::create(&path.with_file_name("other.tar"), u64::MAX).unwrap();
        clip.push(JPEG, "no event", 0).unwrap();
        clip.finish().unwrap();
        let refused = frames(&path.with_file_name("other.tar")).1.unwrap_err();
        assert!(format!("{refused:#}").contains("000001.json is no event"), "{refused:#}");
    }
}
