//! H.264 in MP4 and MOV (ISO/IEC 14496-12 and -15), decoded in this process.

mod outline;

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read as _, Seek as _, SeekFrom},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::Duration,
};

use cloudpose_pixels::PlanarImage;
use re_mp4::{Sample, StsdBoxContent, TrackKind};

use self::outline::Outline;
use crate::{
    Error, Info, Input, MOST_PIXELS, check_size,
    h264::{Earlier, Picture, Rules, START, Stream},
    range, while_doing,
};

/// Pictures that wait for one that is shown before them, at most: as many as H.264 lets a decoder keep (clause A.3.1).
const MOST_WAITING: usize = 16;
/// Frames a second where a file does not say how long it is.
const USUAL_RATE: f64 = 30.0;
/// Blocks of all pictures that a file has kept, at most: level 6.2's (ITU-T H.264, table A-1).
const MOST_KEPT: usize = 696_320;
/// Bytes of an access unit, at most; an uncompressed picture of 4096×4096 pixels has 24 MiB.
const MOST_BYTES: u64 = 32 << 20;

/// A file whose pictures are decoded one after the other.
pub(crate) struct Mp4 {
    info: Info,
    file: Box<dyn Input>,
    samples: Vec<Sample>,
    /// The samples in the order in which they are shown, and the place of each there.
    order: Vec<usize>,
    places: Vec<usize>,
    stream: Stream,
    /// Bytes of the number before each unit that says how long it is.
    length_bytes: usize,
    /// Parameter sets, as a stream has them.
    sets: Vec<u8>,
    /// The next sample to decode, and the next place to show.
    next: usize,
    shown: usize,
    /// The file ends before all its pictures have come.
    is_cut: bool,
    /// By their places.
    waiting: BTreeMap<usize, Picture>,
    unit: Vec<u8>,
}

impl std::fmt::Debug for Mp4 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mp4").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Mp4 {
    /// Opens a file and decodes its first picture.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Video`] if it is another container or codec, or damaged.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(while_doing("cannot read it"))?;
        let bytes = file.metadata().map_err(while_doing("cannot read it"))?.len();
        Self::read(Box::new(file), bytes)
    }

    /// The same of a file of `bytes` that lies elsewhere.
    pub(crate) fn read(mut file: Box<dyn Input>, bytes: u64) -> Result<Self, Error> {
        let outline = Outline::read(BufReader::new(&mut file), bytes)?;
        file.rewind().map_err(while_doing("cannot read it"))?;
        // Whatever its tables say beyond what has been looked at. A reader that panics is not read any more.
        let read = || re_mp4::Mp4::read(outline.veil(BufReader::new(&mut file)), outline.end);
        let read = catch_unwind(AssertUnwindSafe(read));
        let read = read.map_err(|_| Error::Video("its tables make no sense".into()))?;
        let mp4 = read.map_err(|error| Error::Video(format!("it is no MP4 that can be read ({error})")))?;
        let tracks = mp4.tracks();
        let track = tracks.values().find(|track| track.kind == Some(TrackKind::Video));
        let track = track.ok_or_else(|| Error::Video("there is no video in it".into()))?;
        let trak = track.trak(&mp4);
        let StsdBoxContent::Avc1(config) = &trak.mdia.minf.stbl.stsd.contents else {
            let codec = track.codec_string(&mp4).unwrap_or_else(|| "of an unknown codec".into());
            return Err(Error::Video(format!("its video is {codec}, not H.264")));
        };
        let (length_bytes, sets) = parameter_sets(&config.avcc.raw)
            .ok_or_else(|| Error::Video("its H.264 configuration is damaged".into()))?;
        let matrix = &trak.tkhd.matrix;
        if (matrix.a, matrix.b, matrix.c, matrix.d) != (1 << 16, 0, 0, 1 << 16) {
            return Err(Error::Video("its pictures are turned".into()));
        }
        let samples = track.samples.clone();
        let mut order: Vec<usize> = (0..samples.len()).collect();
        order.sort_by_key(|&sample| samples[sample].composition_timestamp);
        let mut places = vec![0; samples.len()];
        for (place, &sample) in order.iter().enumerate() {
            places[sample] = place;
        }
        let seconds = track.duration as f64 / track.timescale.max(1) as f64;
        let info = Info {
            width: 0,
            height: 0,
            rate: if seconds > 0.0 { samples.len() as f64 / seconds } else { USUAL_RATE },
            frames: Some(samples.len() as u64),
            has_sound: outline.has_sound,
        };
        let mut mp4 = Self {
            info,
            file,
            samples,
            order,
            places,
            stream: Stream::new(Rules {
                most_pixels: MOST_PIXELS,
                most_kept: MOST_KEPT,
                is_live: false,
                earlier: Earlier::Given,
            }),
            length_bytes,
            sets,
            next: 0,
            shown: 0,
            is_cut: false,
            waiting: BTreeMap::new(),
            unit: Vec::new(),
        };
        // What the decoder cannot do shows in the first picture.
        while mp4.waiting.is_empty() {
            if !mp4.decode_next()? {
                return Err(match mp4.is_cut {
                    true => Error::CutOff("all of its pictures"),
                    false => Error::Video("there is no picture in it".into()),
                });
            }
        }
        let first = mp4.waiting.values().next().map(|picture| (picture.frame.width, picture.frame.height));
        (mp4.info.width, mp4.info.height) = first.unwrap_or_default();
        Ok(mp4)
    }

    pub(crate) fn info(&self) -> &Info {
        &self.info
    }

    pub(crate) fn next_into(&mut self, picture: &mut PlanarImage) -> Result<Option<Duration>, Error> {
        let Some((place, decoded)) = self.next_frame()? else {
            // Said once.
            return if std::mem::take(&mut self.is_cut) {
                Err(Error::CutOff("some of its pictures"))
            } else {
                Ok(None)
            };
        };
        check_size(decoded.frame.width, decoded.frame.height)?;
        range::read(&range::Planes::of(&decoded.frame), decoded.colours, picture);
        Ok(Some(self.time(place)))
    }

    /// The next picture in the order in which they are shown, and its place there.
    fn next_frame(&mut self) -> Result<Option<(usize, Picture)>, Error> {
        loop {
            // A sample without a picture leaves its place empty.
            let goes_on = self.next == self.samples.len() || self.waiting.len() > MOST_WAITING;
            let next = self.waiting.first_entry().filter(|entry| *entry.key() == self.shown || goes_on);
            if let Some(entry) = next {
                let (place, picture) = entry.remove_entry();
                self.shown = place + 1;
                return Ok(Some((place, picture)));
            }
            if !self.decode_next()? {
                return Ok(None);
            }
        }
    }

    /// When the picture at that place is shown.
    fn time(&self, place: usize) -> Duration {
        let sample = &self.samples[self.order[place]];
        let ticks = sample.composition_timestamp.max(0) as f64;
        Duration::from_secs_f64(ticks / sample.timescale.max(1) as f64)
    }

    /// Decodes the next sample; false if there is none.
    fn decode_next(&mut self) -> Result<bool, Error> {
        let Some(sample) = self.samples.get(self.next) else { return Ok(false) };
        let place = self.places[self.next];
        self.next += 1;
        if sample.size > MOST_BYTES {
            return Err(Error::Video(format!("one of its pictures has {} bytes", sample.size)));
        }
        let mut bytes = vec![0; sample.size as usize];
        self.file.seek(SeekFrom::Start(sample.offset)).map_err(while_doing("cannot read it"))?;
        match self.file.read_exact(&mut bytes) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                (self.is_cut, self.next) = (true, self.samples.len());
                return Ok(false);
            }
            read => read.map_err(while_doing("cannot read it"))?,
        }
        self.unit.clear();
        // Whoever begins here needs them, and they change nothing for others.
        if sample.is_sync || self.next == 1 {
            self.unit.extend_from_slice(&self.sets);
        }
        to_stream(&bytes, self.length_bytes, &mut self.unit)
            .ok_or_else(|| Error::Video("one of its pictures is cut off".into()))?;
        let decoded = self.stream.decode(&self.unit, &mut |_| true);
        let picture = decoded.map_err(|refused| Error::Video(format!("picture {}: {refused}", self.next)))?;
        if let Some(picture) = picture {
            self.waiting.insert(place, picture);
        }
        Ok(true)
    }
}

/// The parameter sets of a configuration (ISO/IEC 14496-15, 5.3.3.1) as a stream has them, and the bytes of a length.
fn parameter_sets(config: &[u8]) -> Option<(usize, Vec<u8>)> {
    let length_bytes = usize::from(config.get(4)? & 3) + 1;
    let (mut at, mut sets) = (5, Vec::new());
    for mask in [31, 255] {
        let count = config.get(at)? & mask;
        at += 1;
        for _ in 0..count {
            let length = usize::from(u16::from_be_bytes([*config.get(at)?, *config.get(at + 1)?]));
            sets.extend_from_slice(&START);
            sets.extend_from_slice(config.get(at + 2..at + 2 + length)?);
            at += 2 + length;
        }
    }
    Some((length_bytes, sets))
}

/// Units with their lengths before them, as a stream has them.
fn to_stream(mut units: &[u8], length_bytes: usize, stream: &mut Vec<u8>) -> Option<()> {
    while !units.is_empty() {
        let (length, rest) = units.split_at_checked(length_bytes)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (unit, rest) = rest.split_at_checked(length)?;
        stream.extend_from_slice(&START);
        stream.extend_from_slice(unit);
        units = rest;
    }
    Some(())
}

#[cfg(test)]
pub(crate) mod tests {
    use rusty_h264_common::YuvFrame;

    use super::*;

    /// The access units of a clip of ours in the order in which they are decoded, the place of each in the order in which they
    /// are shown, and the pictures in that order.
    pub(crate) fn access_units(name: &str) -> (Vec<Vec<u8>>, Vec<usize>, Vec<YuvFrame>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips").join(name);
        let mut mp4 = Mp4::open(&path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let unit = |sample: &Sample| {
            let mut unit = if sample.is_sync { mp4.sets.clone() } else { Vec::new() };
            let at = sample.offset as usize;
            to_stream(&bytes[at..at + sample.size as usize], mp4.length_bytes, &mut unit).unwrap();
            unit
        };
        let (units, places) = (mp4.samples.iter().map(unit).collect(), mp4.places.clone());
        let mut pictures = Vec::new();
        while let Some((_, picture)) = mp4.next_frame().unwrap() {
            pictures.push(picture.frame);
        }
        (units, places, pictures)
    }

    /// Found by fuzzing: the demuxer read it for ever.
    #[test]
    fn a_box_without_a_size_in_another_ends_in_an_error() {
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips/high_b_frames.mp4");
        let mut bytes = std::fs::read(clip).unwrap();
        let track = bytes.windows(4).position(|name| name == b"trak").unwrap();
        bytes[track - 4..track + 4].fill(0);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.mp4");
        std::fs::write(&path, bytes).unwrap();
        let error = Mp4::open(&path).unwrap_err().to_string();
        assert!(error.contains("one of its boxes has no size"), "{error}");
    }

    #[test]
    fn units_get_start_codes_and_what_is_cut_off_is_refused() {
        let mut stream = Vec::new();
        assert_eq!(to_stream(&[0, 2, 7, 8, 0, 1, 9], 2, &mut stream), Some(()));
        assert_eq!(stream, [0, 0, 0, 1, 7, 8, 0, 0, 0, 1, 9]);
        for cut in [&[0][..], &[0, 2, 7], &[0, 1, 7, 0]] {
            assert_eq!(to_stream(cut, 2, &mut Vec::new()), None, "{cut:?}");
        }
    }

    /// Adler-32 (RFC 1950, section 8.2).
    fn adler(planes: [&[u8]; 3]) -> u32 {
        let (mut a, mut b) = (0u32, 0u32);
        for byte in planes.concat() {
            a = (a + u32::from(byte)) % 65521;
            b = (b + a) % 65521;
        }
        b << 16 | a
    }

    /// The clip has three B-frames in a row, CABAC and the transform of 8×8. `ffmpeg -i high_b_frames.mp4 -f framecrc -` wrote
    /// what its pictures are; it begins its sums with 0.
    #[test]
    fn pictures_are_ffmpegs_bit_for_bit_and_in_its_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips");
        let listed = std::fs::read_to_string(folder.join("high_b_frames.framecrc")).unwrap();
        let lines = listed.lines().filter(|line| !line.starts_with('#'));
        let expected: Vec<&str> = lines.map(|line| line.rsplit(", ").next().unwrap()).collect();
        let mut mp4 = Mp4::open(&folder.join("high_b_frames.mp4")).unwrap();
        let mut got = Vec::new();
        while let Some((place, Picture { frame, .. })) = mp4.next_frame().unwrap() {
            assert_eq!(place, got.len());
            got.push(format!("{:#010x}", adler([&frame.y, &frame.u, &frame.v])));
        }
        assert_eq!(got, expected);
    }

    /// Whatever a file says of the times of its samples, each picture comes once.
    #[test]
    fn times_that_make_no_sense_lose_no_picture() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clips/high_b_frames.mp4");
        for seed in 0..4 {
            let mut mp4 = Mp4::open(&path).unwrap();
            let count = mp4.samples.len();
            // The first of them last, or in an order of its own.
            mp4.order = (0..count).map(|place| (place * [1, 5, 7, 11][seed] + seed) % count).collect();
            for (place, &sample) in mp4.order.iter().enumerate() {
                mp4.places[sample] = place;
            }
            let waiting = std::mem::take(&mut mp4.waiting);
            mp4.waiting = waiting.into_values().map(|frame| (mp4.places[0], frame)).collect();
            let mut seen = Vec::new();
            while let Some((place, _)) = mp4.next_frame().unwrap() {
                assert!(mp4.waiting.len() <= MOST_WAITING);
                seen.push(place);
            }
            seen.sort_unstable();
            assert_eq!(seen, (0..count).collect::<Vec<_>>(), "{seed}");
        }
    }

    #[test]
    fn parameter_sets_are_read_as_far_as_they_are_there() {
        let config = [1, 66, 0, 30, 0xff, 0xe1, 0, 2, 0x67, 1, 1, 0, 1, 0x68];
        let (length_bytes, sets) = parameter_sets(&config).unwrap();
        assert_eq!((length_bytes, &sets[..]), (4, &[0, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68][..]));
        for end in 0..config.len() {
            assert!(parameter_sets(&config[..end]).is_none(), "{end}");
        }
    }
}
