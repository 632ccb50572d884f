//! A file that lies elsewhere, of which a part is here.

use std::{
    io::{ErrorKind, Read, Result, Seek, SeekFrom},
    ops::Range,
};

use bytes::Bytes;

/// Bytes that are fetched at once.
const PIECE: u64 = 4 << 20;

type Fetch = Box<dyn FnMut(Range<u64>) -> Result<Bytes> + Send>;

/// Where it is read, and the piece that is here.
pub(super) struct Part {
    bytes: u64,
    fetch: Fetch,
    at: u64,
    /// Where the piece begins.
    from: u64,
    piece: Bytes,
}

impl Part {
    /// A file of so many bytes, of which `fetch` brings a range.
    pub(super) fn new(bytes: u64, fetch: Fetch) -> Self {
        Self { bytes, fetch, at: 0, from: 0, piece: Bytes::new() }
    }

    fn here(&self) -> &[u8] {
        let offset = self.at.checked_sub(self.from).and_then(|offset| usize::try_from(offset).ok());
        offset.and_then(|offset| self.piece.get(offset..)).unwrap_or_default()
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if self.here().is_empty() && self.at < self.bytes {
            self.piece = (self.fetch)(self.at..self.bytes.min(self.at + PIECE))?;
            self.from = self.at;
        }
        let here = self.here();
        let length = here.len().min(buffer.len());
        buffer[..length].copy_from_slice(&here[..length]);
        self.at += length as u64;
        Ok(length)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(offset) => self.bytes.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.at.checked_add_signed(offset),
        };
        self.at = at.ok_or(ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn a_file_is_read_wherever_it_is_and_fetched_piece_by_piece() {
        let whole: Vec<u8> = (0..10_000_000_u32).map(|n| (n % 253) as u8).collect();
        let fetched: Arc<Mutex<Vec<Range<u64>>>> = Arc::default();
        let (bytes, file, ranges) = (whole.len() as u64, Bytes::from(whole.clone()), Arc::clone(&fetched));
        let fetch = move |range: Range<u64>| {
            ranges.lock().unwrap().push(range.clone());
            Ok(file.slice(range.start as usize..range.end as usize))
        };
        let mut part = Part::new(bytes, Box::new(fetch));
        let mut read = Vec::new();
        part.read_to_end(&mut read).unwrap();
        assert!(read == whole);
        assert_eq!(*fetched.lock().unwrap(), [0..PIECE, PIECE..2 * PIECE, 2 * PIECE..bytes]);
        let mut four = [0; 4];
        for (to, at) in [
            (SeekFrom::Start(5), 5),
            (SeekFrom::Current(-8), 1),
            (SeekFrom::End(-4), whole.len() - 4),
            (SeekFrom::Start(PIECE - 2), PIECE as usize - 2),
        ] {
            assert_eq!(part.seek(to).unwrap(), at as u64);
            part.read_exact(&mut four).unwrap();
            assert_eq!(four, whole[at..at + 4], "{to:?}");
        }
        assert_eq!(part.seek(SeekFrom::End(5)).unwrap(), bytes + 5);
        assert_eq!(part.read(&mut four).unwrap(), 0, "there is nothing behind the end");
        assert!(part.seek(SeekFrom::Start(3)).is_ok() && part.seek(SeekFrom::Current(-4)).is_err());
    }
}
