//! Videos of all kinds, by the program `ffmpeg`: its pictures come through a pipe as YUV4MPEG2, one at a time.

use std::{
    io::{BufRead as _, BufReader, Read},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    thread::{self, JoinHandle},
    time::Duration,
};

use cloudpose_pixels::{PlanarImage, Subsampling};

use crate::{Error, Info, check_size, while_doing};

/// Bytes of a line of the format, at most.
const MOST_LINE: u64 = 1024;
/// Bytes that are kept of what it complains about.
const MOST_WORDS: usize = 400;

/// A running `ffmpeg`, which ends with this.
#[derive(Debug)]
pub(crate) struct Ffmpeg {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Its last words, once it has ended.
    words: Option<JoinHandle<String>>,
    info: Info,
    frames: u64,
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Ffmpeg {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let path = path.canonicalize().map_err(while_doing("cannot read it"))?;
        let mut file = std::ffi::OsString::from("file:");
        file.push(&path);
        let mut child = Command::new("ffmpeg")
            .args(["-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i"])
            .arg(&file)
            .args(["-map", "0:v:0", "-an", "-vf", "scale=out_range=full:out_color_matrix=bt601"])
            .args(["-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "-strict", "-1", "pipe:1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Error::NotInstalled,
                _ => while_doing("ffmpeg does not start")(error),
            })?;
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let errors = child.stderr.take().expect("it is piped");
        let words = Some(thread::spawn(move || last_words(errors)));
        let info = Info { width: 0, height: 0, rate: 0.0, frames: None, has_sound: false };
        let mut ffmpeg = Self { child, output, words, info, frames: 0 };
        let Some(header) = ffmpeg.line()? else { return Err(ffmpeg.complaint()) };
        let (width, height, rate) = parse(&header).ok_or_else(|| ffmpeg.complaint())?;
        check_size(width, height)?;
        ffmpeg.info = Info { width, height, rate, frames: None, has_sound: false };
        Ok(ffmpeg)
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    pub(crate) fn next_into(&mut self, picture: &mut PlanarImage) -> Result<Option<Duration>, Error> {
        match self.line()? {
            None if self.child.wait().map_err(while_doing("ffmpeg is lost"))?.success() => return Ok(None),
            None => return Err(self.complaint()),
            Some(line) if line.starts_with("FRAME") => {}
            Some(_) => return Err(Error::Video("ffmpeg answers something else than pictures".into())),
        }
        picture.resize(self.info.width, self.info.height, Subsampling::S420);
        let (mut luma, chroma) = picture.planes_mut();
        let [u, v] = chroma.expect("4:2:0 has chroma");
        let ended = |_| Error::Video("it ends within a picture".into());
        for y in 0..self.info.height {
            self.output.read_exact(luma.row_mut(y)).map_err(ended)?;
        }
        for mut plane in [u, v] {
            for y in 0..plane.height {
                self.output.read_exact(plane.row_mut(y)).map_err(ended)?;
            }
        }
        picture.extend_edges();
        let time = self.frames as f64 / self.info.rate;
        self.frames += 1;
        Ok(Some(Duration::from_secs_f64(time)))
    }

    /// The next line of the format; none at its end.
    fn line(&mut self) -> Result<Option<String>, Error> {
        let mut line = String::new();
        let read = self.output.by_ref().take(MOST_LINE).read_line(&mut line);
        match read.map_err(|_| Error::Video("ffmpeg answers no pictures".into()))? {
            0 => Ok(None),
            _ => Ok(Some(line)),
        }
    }

    /// What it says on its standard error.
    fn complaint(&mut self) -> Error {
        // It may have ended by itself.
        drop(self.child.kill());
        let words = self.words.take().and_then(|words| words.join().ok());
        let words = words.filter(|words| !words.is_empty()).unwrap_or_else(|| "it says nothing".into());
        Error::Video(format!("ffmpeg cannot decode it: {words}"))
    }
}

/// The last line of what somebody says. All of it is read, however much it is: who cannot go on talking does not go on
/// working either.
fn last_words(mut errors: impl Read) -> String {
    let (mut kept, mut piece) = (Vec::new(), [0; 4096]);
    while let Ok(read @ 1..) = errors.read(&mut piece) {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(MOST_WORDS));
    }
    let words = String::from_utf8_lossy(&kept);
    let last = words.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    last.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Width, height and frames a second of a header of YUV4MPEG2.
fn parse(header: &str) -> Option<(usize, usize, f64)> {
    let mut words = header.split_ascii_whitespace();
    (words.next() == Some("YUV4MPEG2")).then_some(())?;
    let (mut width, mut height, mut rate) = (None, None, None);
    for word in words {
        let (name, value) = word.split_at_checked(1)?;
        match name {
            "W" => width = value.parse().ok(),
            "H" => height = value.parse().ok(),
            "F" => {
                let (frames, seconds) = value.split_once(':')?;
                let (frames, seconds): (f64, f64) = (frames.parse().ok()?, seconds.parse().ok()?);
                rate = Some(frames / seconds).filter(|rate| rate.is_finite() && *rate > 0.0);
            }
            _ => {}
        }
    }
    Some((width?, height?, rate?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_complaints_are_read_and_the_last_is_told() {
        let mut long = "frame is damaged\n".repeat(20_000).into_bytes();
        long.extend_from_slice(b"moov atom \x1b not found\n\n");
        let mut rest = &long[..];
        assert_eq!(last_words(&mut rest), "moov atom   not found");
        assert!(rest.is_empty());
        assert_eq!(last_words(&b""[..]), "");
    }

    #[test]
    fn headers_say_size_and_rate() {
        let header = "YUV4MPEG2 W1768 H994 F30000:1001 Ip A1:1 C420jpeg XYSCSS=420JPEG\n";
        let (width, height, rate) = parse(header).unwrap();
        assert_eq!((width, height), (1768, 994));
        assert!((rate - 29.97).abs() < 0.001);
        for damaged in
            ["", "YUV4MPEG2", "YUV4MPEG2 W1 H1", "YUV4MPEG2 W1 H1 F0:0", "YUV4MPEG2 Wx H1 F1:1", "é"]
        {
            assert_eq!(parse(damaged), None, "{damaged:?}");
        }
    }
}
