//! What boxes an MP4 has (ISO/IEC 14496-12), read before anybody trusts their numbers.
//!
//! The demuxer behind this builds a list of all samples of all tracks by what the tables claim. Here tables are held against
//! each other and against bounds, and tracks other than video are hidden: uncompressed sound has a sample for each moment.

use std::{
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
};

use crate::{Error, while_doing};

/// Samples of all video tracks, at most: a day and a half at 30 a second.
const MOST_SAMPLES: u64 = 1 << 22;
/// Bytes of a box that is read whole, at most.
const MOST_BYTES: u64 = 64 << 20;
/// Bytes of a box in which the demuxer looks around, at most: it may make room for as much at once.
const MOST_CONTENTS: u64 = 256 << 20;
/// Boxes that are looked at, at most.
const MOST_BOXES: usize = 1 << 20;
/// How often the demuxer may go to one place without going anywhere else: boxes in each other end there together.
const MOST_RETURNS: usize = 64;
/// Where boxes may end.
const MOST_LEN: u64 = 1 << 62;

/// What is in a file.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// Where its last box ends by its own word, which may be behind the end of the file.
    pub(super) end: u64,
    /// There is a track of sound.
    pub(super) has_sound: bool,
    /// Where the names of boxes stand that the demuxer is not to see, in order.
    hidden: Vec<u64>,
}

/// A box: its name, and where what is in it stands.
struct Inside {
    name: [u8; 4],
    at: u64,
    inner: Range<u64>,
}

/// The tables of a track, as far as they have been seen.
#[derive(Default)]
struct Tables {
    samples: Option<u64>,
    /// Samples for which there are times, and offsets of times if there are any.
    timed: Option<u64>,
    offset: Option<u64>,
    chunks: Option<u64>,
    /// First chunk and samples of each chunk, of runs.
    runs: Option<Vec<[u64; 2]>>,
    first_key: Option<u64>,
}

impl Outline {
    /// Looks at a file of `len` bytes.
    ///
    /// # Errors
    /// [`Error::CutOff`] if it ends before it can be read, else [`Error::Video`].
    pub(super) fn read(file: impl Read + Seek, len: u64) -> Result<Self, Error> {
        let mut reader = Reader { file, len, boxes: 0, hidden: Vec::new() };
        let mut outline = Self::default();
        let (mut moov, mut is_mp4, mut samples) = (None, false, 0);
        while let Some(found) = reader.next(outline.end..MOST_LEN)? {
            let is_cut = found.inner.end > len;
            is_mp4 |= [*b"ftyp", *b"moov", *b"mdat"].contains(&found.name);
            outline.end = found.inner.end;
            let is_looked_into = [*b"moov", *b"moof"].contains(&found.name);
            if is_looked_into && !is_cut && found.inner.end - found.inner.start > MOST_CONTENTS {
                return Err(damaged("its table of contents is too long"));
            }
            match &found.name {
                b"moov" if is_cut => return Err(Error::CutOff("its table of contents (moov)")),
                b"moov" => moov = Some(found.inner),
                // The fragments before it are whole.
                b"moof" if is_cut => {
                    outline.end = found.at;
                    break;
                }
                b"moof" => samples += reader.fragment(found.inner)?,
                b"emsg" => reader.hide(&found),
                _ => {}
            }
        }
        let Some(moov) = moov else {
            return Err(match is_mp4 {
                true => Error::CutOff("its table of contents (moov), which is written last"),
                false => damaged("it is another kind of file"),
            });
        };
        for found in reader.inside(moov)? {
            match &found.name {
                b"trak" => {
                    let (mut tables, mut kind) = (Tables::default(), *b"none");
                    reader.track(found.inner.clone(), &mut tables, &mut kind)?;
                    outline.has_sound |= &kind == b"soun";
                    match &kind {
                        b"vide" => samples += tables.check().map_err(damaged)?,
                        _ => reader.hide(&found),
                    }
                }
                b"meta" | b"udta" => reader.hide(&found),
                _ => {}
            }
        }
        outline.hidden = reader.hidden;
        outline.hidden.sort_unstable();
        if samples > MOST_SAMPLES { Err(damaged("it has too many pictures")) } else { Ok(outline) }
    }

    /// The file, in which boxes that are hidden have another name.
    pub(super) fn veil<R>(&self, file: R) -> Veiled<'_, R> {
        Veiled { file, at: 0, hidden: &self.hidden, aim: 0, returns: 0 }
    }
}

/// A file whose boxes are read.
struct Reader<R> {
    file: R,
    len: u64,
    boxes: usize,
    hidden: Vec<u64>,
}

impl<R: Read + Seek> Reader<R> {
    /// The box that begins where `within` does; none if there are no bytes for one.
    fn next(&mut self, within: Range<u64>) -> Result<Option<Inside>, Error> {
        let Range { start: at, end } = within;
        if at.saturating_add(8) > end.min(self.len) {
            return Ok(None);
        }
        self.boxes += 1;
        if self.boxes > MOST_BOXES {
            return Err(damaged("it has too many boxes"));
        }
        let head = self.bytes(at..at + 8)?;
        let name = [head[4], head[5], head[6], head[7]];
        let (size, head) = match number(&head, 0) {
            Some(0) | None => (end.min(self.len) - at, 8),
            Some(1) => {
                let long = self.bytes(at + 8..at + 16)?;
                (number(&long, 0).unwrap_or(0) << 32 | number(&long, 4).unwrap_or(0), 16)
            }
            Some(size) => (size, 8),
        };
        let ends = at.checked_add(size).filter(|ends| size >= head && *ends <= end);
        let ends = ends.ok_or_else(|| damaged("one of its boxes has a size that cannot be"))?;
        Ok(Some(Inside { name, at, inner: at + head..ends }))
    }

    fn hide(&mut self, found: &Inside) {
        self.hidden.push(found.at + 4);
    }

    /// The boxes in a box.
    fn inside(&mut self, within: Range<u64>) -> Result<Vec<Inside>, Error> {
        let (mut at, mut found) = (within.start, Vec::new());
        while let Some(next) = self.next(at..within.end)? {
            at = next.inner.end;
            found.push(next);
        }
        Ok(found)
    }

    fn bytes(&mut self, range: Range<u64>) -> Result<Vec<u8>, Error> {
        if range.end > self.len {
            return Err(Error::CutOff("one of its boxes"));
        }
        if range.end - range.start > MOST_BYTES {
            return Err(damaged("one of its tables is too long"));
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let read =
            self.file.seek(SeekFrom::Start(range.start)).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(while_doing("cannot read it"))?;
        Ok(bytes)
    }

    /// A track, or what is in it.
    fn track(&mut self, within: Range<u64>, tables: &mut Tables, kind: &mut [u8; 4]) -> Result<(), Error> {
        for found in self.inside(within)? {
            match &found.name {
                b"mdia" | b"minf" | b"stbl" => self.track(found.inner, tables, kind)?,
                b"meta" => self.hide(&found),
                b"hdlr" if kind == b"none" => {
                    kind.copy_from_slice(self.bytes(found.inner)?.get(8..12).unwrap_or(b"none"));
                }
                b"stsz" | b"stts" | b"ctts" | b"stco" | b"co64" | b"stsc" | b"stss" => {
                    let bytes = self.bytes(found.inner)?;
                    tables
                        .take(&found.name, &bytes)
                        .ok_or_else(|| damaged("one of its tables is cut off"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How many samples a fragment has.
    fn fragment(&mut self, moof: Range<u64>) -> Result<u64, Error> {
        let mut samples = 0;
        for traf in self.inside(moof)?.into_iter().filter(|found| &found.name == b"traf") {
            for trun in self.inside(traf.inner)?.into_iter().filter(|found| &found.name == b"trun") {
                let bytes = self.bytes(trun.inner)?;
                samples += number(&bytes, 4).ok_or_else(|| damaged("one of its fragments is cut off"))?;
            }
        }
        Ok(samples)
    }
}

impl Tables {
    /// Takes in what a table says.
    fn take(&mut self, name: &[u8; 4], bytes: &[u8]) -> Option<()> {
        let counts = |bytes: &[u8]| {
            let entries = number(bytes, 4)?;
            let all = bytes.get(8..)?.as_chunks::<8>().0;
            let all = all.get(..usize::try_from(entries).ok()?)?;
            Some(
                all.iter()
                    .map(|entry| u64::from(u32::from_be_bytes([entry[0], entry[1], entry[2], entry[3]])))
                    .sum(),
            )
        };
        match name {
            // Who reads it twice may believe either.
            b"stsz" if self.samples.is_some() => return None,
            b"stsz" => self.samples = Some(number(bytes, 8)?),
            b"stts" => self.timed = Some(counts(bytes)?),
            b"ctts" => self.offset = Some(counts(bytes)?),
            b"stco" | b"co64" => self.chunks = Some(number(bytes, 4)?),
            b"stss" if number(bytes, 4)? > 0 => {
                let entries = bytes.get(8..)?.as_chunks::<4>().0;
                let entries = entries.get(..usize::try_from(number(bytes, 4)?).ok()?)?;
                self.first_key = entries.iter().map(|entry| u32::from_be_bytes(*entry).into()).min();
            }
            b"stsc" => {
                let entries = bytes.get(8..)?.as_chunks::<12>().0;
                let entries = entries.get(..usize::try_from(number(bytes, 4)?).ok()?)?;
                let run = |entry: &[u8; 12]| [0, 4].map(|at| number(entry, at).unwrap_or_default());
                self.runs = Some(entries.iter().map(run).collect());
            }
            _ => {}
        }
        Some(())
    }

    /// How many samples there are, if the tables agree on it.
    fn check(&self) -> Result<u64, &'static str> {
        let samples = self.samples.unwrap_or(0);
        if samples == 0 {
            // The samples of fragments stand elsewhere.
            return Ok(0);
        }
        let (Some(timed), Some(chunks), Some(runs)) = (self.timed, self.chunks, &self.runs) else {
            return Err("a table of its samples is missing");
        };
        let mut room = 0u64;
        let ends = runs.iter().skip(1).map(|run| run[0]).chain([chunks + 1]);
        for ([first, each], end) in runs.iter().zip(ends) {
            if *first == 0 || end > chunks + 1 {
                return Err("its samples are where there are none");
            }
            let several = end.checked_sub(*first).ok_or("its samples are out of order")?;
            room = room.saturating_add(several.saturating_mul(*each));
        }
        let is_placed = runs.first().is_some_and(|run| run[0] == 1) && room >= samples;
        if !is_placed || timed < samples || self.offset.is_some_and(|offset| offset < samples) {
            return Err("its tables of samples do not agree");
        }
        if self.first_key == Some(0) {
            return Err("its key frames are where there are none");
        }
        Ok(samples)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?).into())
}

fn damaged(what: &str) -> Error {
    Error::Video(format!("it is no MP4 that can be read: {what}"))
}

/// A file with other names in some places, in which nobody goes round in circles: behind a box of no size, in another, stands
/// for the demuxer the box itself.
pub(super) struct Veiled<'a, R> {
    file: R,
    at: u64,
    hidden: &'a [u64],
    /// Where it was last gone to, and how often since it was first.
    aim: u64,
    returns: usize,
}

impl<R: Read> Read for Veiled<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        let (begins, ends) = (self.at, self.at + read as u64);
        let first = self.hidden.partition_point(|place| place + 4 <= begins);
        for place in self.hidden[first..].iter().take_while(|place| **place < ends) {
            for (at, letter) in (*place..).zip(b"free") {
                let at = at.checked_sub(begins).and_then(|at| usize::try_from(at).ok());
                if let Some(byte) = at.and_then(|at| buffer[..read].get_mut(at)) {
                    *byte = *letter;
                }
            }
        }
        self.at = ends;
        Ok(read)
    }
}

impl<R: Seek> Seek for Veiled<'_, R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        if let SeekFrom::Start(aim) = to {
            self.returns = if aim == self.aim { self.returns + 1 } else { 0 };
            self.aim = aim;
            if self.returns > MOST_RETURNS {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "one of its boxes has no size"));
            }
        }
        self.at = self.file.seek(to)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn boxed(name: &str, content: &[u8]) -> Vec<u8> {
        [&(content.len() as u32 + 8).to_be_bytes(), name.as_bytes(), content].concat()
    }

    fn table(name: &str, numbers: &[u32]) -> Vec<u8> {
        boxed(name, &numbers.iter().flat_map(|number| number.to_be_bytes()).collect::<Vec<u8>>())
    }

    /// A track whose tables say so; the first of each is its version.
    fn track(kind: &str, tables: &[(&str, &[u32])]) -> Vec<u8> {
        let tables: Vec<u8> = tables.iter().flat_map(|(name, numbers)| table(name, numbers)).collect();
        let hdlr = boxed("hdlr", &[&[0; 8], kind.as_bytes()].concat());
        boxed("trak", &boxed("mdia", &[hdlr, boxed("minf", &boxed("stbl", &tables))].concat()))
    }

    fn read(boxes: &[Vec<u8>]) -> Result<Outline, Error> {
        let file = boxes.concat();
        Outline::read(Cursor::new(&file), file.len() as u64)
    }

    /// Ten samples, four in each of the first two chunks and two in the third.
    const GOOD: [(&str, &[u32]); 5] = [
        ("stsz", &[0, 100, 10]),
        ("stts", &[0, 2, 4, 1, 6, 1]),
        ("stco", &[0, 3, 0, 0, 0]),
        ("stsc", &[0, 2, 1, 4, 1, 3, 2, 1]),
        ("stss", &[0, 1, 1]),
    ];

    fn with(change: (&'static str, &'static [u32])) -> Result<Outline, Error> {
        let tables: Vec<_> = GOOD.into_iter().filter(|(name, _)| *name != change.0).chain([change]).collect();
        read(&[boxed("ftyp", b"isom"), boxed("moov", &track("vide", &tables))])
    }

    #[test]
    fn tables_must_agree() {
        assert!(with(("free", &[])).is_ok());
        for wrong in [
            ("stsz", &[0, 100, 11][..]),
            ("stsz", &[0, 1, u32::MAX]),
            ("stts", &[0, 1, 9, 1]),
            ("stts", &[0, 9, 4, 1]),
            ("ctts", &[0, 1, 9, 0]),
            ("stco", &[0, 2, 0, 0]),
            ("stsc", &[0, 0]),
            ("stsc", &[0, 2, 1, 4, 1, 1, 2, 1]),
            ("stsc", &[0, 2, 2, 4, 1, 3, 2, 1]),
            ("stsc", &[0, 2, 1, 4, 1, 9, 2, 1]),
            ("stsc", &[0, 1, 0, 4, 1]),
            ("stss", &[0, 1, 0]),
        ] {
            assert!(matches!(with(wrong), Err(Error::Video(_))), "{wrong:?}");
        }
    }

    #[test]
    fn other_tracks_are_hidden_and_the_rest_is_as_it_was() {
        // A day of sound.
        let sound = track("soun", &[("stsz", &[0, 4, u32::MAX])]);
        let ftyp = boxed("ftyp", b"isom");
        let before = ftyp.len() + 8;
        let file = [ftyp, boxed("moov", &[sound, track("vide", &GOOD)].concat())].concat();
        let outline = Outline::read(Cursor::new(&file), file.len() as u64).unwrap();
        assert!(outline.has_sound);
        let mut expected = file.clone();
        expected[before + 4..before + 8].copy_from_slice(b"free");
        // However it is read.
        for piece in [1, 3, 5, 1000] {
            let (mut veiled, mut seen) = (outline.veil(Cursor::new(&file)), Vec::new());
            let mut buffer = vec![0; piece];
            loop {
                match veiled.read(&mut buffer).unwrap() {
                    0 => break,
                    read => seen.extend_from_slice(&buffer[..read]),
                }
            }
            assert_eq!(seen, expected, "{piece}");
        }
    }

    #[test]
    fn metadata_is_hidden_wherever_the_demuxer_would_read_it() {
        // 4 GB of it, in a few bytes.
        let meta = boxed(
            "meta",
            &[&[0; 4][..], &boxed("hdlr", &[0; 24]), &u32::MAX.to_be_bytes(), b"data"].concat(),
        );
        let video = track("vide", &GOOD);
        let video = boxed("trak", &[&meta, &video[8..]].concat());
        let moov = boxed("moov", &[meta.clone(), boxed("udta", &meta), video].concat());
        let file = [boxed("ftyp", b"isom"), boxed("emsg", &meta), moov].concat();
        let outline = Outline::read(Cursor::new(&file), file.len() as u64).unwrap();
        let mut seen = Vec::new();
        outline.veil(Cursor::new(&file)).read_to_end(&mut seen).unwrap();
        let named = |at: usize| std::str::from_utf8(&seen[at + 4..at + 8]).unwrap();
        let (emsg, moov) = (12, 12 + 8 + meta.len());
        let (udta, trak) = (moov + 8 + meta.len(), moov + 8 + 2 * meta.len() + 8);
        assert_eq!(
            [emsg, moov, moov + 8, udta, trak, trak + 8].map(named),
            ["free", "moov", "free", "free", "trak", "free"]
        );
    }

    #[test]
    fn what_is_cut_off_says_where() {
        let (ftyp, moov) = (boxed("ftyp", b"isom"), boxed("moov", &track("vide", &GOOD)));
        let mdat = boxed("mdat", &[0; 500]);
        let cut = read(&[ftyp.clone(), mdat.clone()]);
        assert!(matches!(cut, Err(Error::CutOff(what)) if what.contains("written last")), "{cut:?}");
        let cut = read(&[ftyp.clone(), moov[..moov.len() - 9].to_vec()]);
        assert!(matches!(cut, Err(Error::CutOff("its table of contents (moov)"))), "{cut:?}");
        // Its pictures alone may be.
        let outline = read(&[ftyp.clone(), moov.clone(), mdat[..100].to_vec()]).unwrap();
        assert_eq!(outline.end, (ftyp.len() + moov.len() + mdat.len()) as u64);
        let none = read(&[b"RIFF this is something else".to_vec()]);
        assert!(matches!(none, Err(Error::Video(_))), "{none:?}");
    }

    #[test]
    fn fragments_count_too() {
        let moof = |samples| boxed("moof", &boxed("traf", &table("trun", &[0, samples])));
        let file =
            |samples| read(&[boxed("ftyp", b"isom"), boxed("moov", &track("vide", &[])), moof(samples)]);
        assert!(file(1000).is_ok());
        assert!(matches!(file(u32::MAX), Err(Error::Video(_))));
    }
}
