//! Motion JPEG over HTTP: one part after the other of `multipart/x-mixed-replace`, as cameras write it.
//!
//! Cameras are not exact: boundaries come with dashes too many or too few, lines end with LF, lengths are missing. What
//! lies between a delimiter's line and the next delimiter is a part; where a part says how long it is, that counts.

use bytes::{Buf as _, Bytes, BytesMut};

/// Bytes that are no part and belong to none, at most: headers, and what stands before the first delimiter.
const MOST_BESIDE: usize = 16 << 10;

/// Why this is no Motion JPEG.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("a picture of more than {0} bytes")]
    TooLarge(usize),
    #[error("{MOST_BESIDE} bytes without a picture in them")]
    NoPart,
}

/// Takes bytes as they come, gives the parts.
#[derive(Debug)]
pub(super) struct Parts {
    /// With two dashes before it.
    delimiter: Vec<u8>,
    most: usize,
    buffer: BytesMut,
    state: State,
    /// Up to there in the buffer was looked at.
    searched: usize,
    /// Bytes that belonged to no part since the last one.
    beside: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A delimiter must come.
    Between,
    /// What remains of its line.
    Line,
    /// Headers, line by line.
    Headers(Headers),
    /// The part itself.
    Body(Headers),
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Headers {
    length: Option<usize>,
    /// It says that it is something else than a picture.
    is_other: bool,
}

impl Parts {
    /// Parts of up to `most` bytes, by the `boundary` of the content type.
    pub(super) fn new(boundary: &str, most: usize) -> Self {
        let delimiter = format!("--{}", boundary.trim_start_matches("--")).into_bytes();
        Self { delimiter, most, buffer: BytesMut::new(), state: State::Between, searched: 0, beside: 0 }
    }

    /// What came.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next picture that is whole, if one is.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, Bad> {
        loop {
            match self.state {
                State::Between => match self.delimiter() {
                    Some(at) => {
                        self.skip(at + self.delimiter.len())?;
                        self.state = State::Line;
                    }
                    None => {
                        let kept = self.delimiter.len() - 1;
                        self.skip(self.buffer.len().saturating_sub(kept))?;
                        return Ok(None);
                    }
                },
                State::Line => match self.line()? {
                    None => return Ok(None),
                    Some(_) => self.state = State::Headers(Headers::default()),
                },
                State::Headers(headers) => match self.line()? {
                    None => return Ok(None),
                    Some(line) if line.is_empty() => self.state = State::Body(headers),
                    Some(line) => self.state = State::Headers(headers.and(&line)),
                },
                State::Body(headers) => match self.body(headers)? {
                    None => return Ok(None),
                    Some(body) => {
                        (self.state, self.searched) = (State::Between, 0);
                        if headers.is_other || body.is_empty() {
                            self.beside(body.len())?;
                        } else {
                            self.beside = 0;
                            return Ok(Some(body));
                        }
                    }
                },
            }
        }
    }

    /// Where the next delimiter begins. Each byte is looked at about once, however small the pieces are that come.
    fn delimiter(&mut self) -> Option<usize> {
        let from = self.searched.min(self.buffer.len());
        let found =
            self.buffer[from..].windows(self.delimiter.len()).position(|at| *at == self.delimiter[..]);
        self.searched = self.buffer.len().saturating_sub(self.delimiter.len() - 1);
        found.map(|at| from + at)
    }

    /// Takes the next line, without its end, if it is whole.
    fn line(&mut self) -> Result<Option<Bytes>, Bad> {
        let Some(end) = self.buffer.iter().take(MOST_BESIDE).position(|byte| *byte == b'\n') else {
            return if self.buffer.len() >= MOST_BESIDE { Err(Bad::NoPart) } else { Ok(None) };
        };
        let mut line = self.buffer.split_to(end + 1).freeze();
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        self.searched = 0;
        self.beside(end + 1)?;
        Ok(Some(line))
    }

    /// Takes the part that begins here, if it is whole.
    fn body(&mut self, headers: Headers) -> Result<Option<Bytes>, Bad> {
        if let Some(length) = headers.length {
            if length > self.most {
                return Err(Bad::TooLarge(self.most));
            }
            return Ok((self.buffer.len() >= length).then(|| self.buffer.split_to(length).freeze()));
        }
        let Some(at) = self.delimiter() else {
            let is_too_large = self.buffer.len() > self.most + self.delimiter.len() + 2;
            return if is_too_large { Err(Bad::TooLarge(self.most)) } else { Ok(None) };
        };
        let mut body = self.buffer.split_to(at).freeze();
        for end in [b'\n', b'\r'] {
            if body.last() == Some(&end) {
                body.truncate(body.len() - 1);
            }
        }
        if body.len() > self.most { Err(Bad::TooLarge(self.most)) } else { Ok(Some(body)) }
    }

    fn skip(&mut self, bytes: usize) -> Result<(), Bad> {
        self.buffer.advance(bytes);
        self.searched = 0;
        self.beside(bytes)
    }

    /// So many bytes belonged to no part.
    fn beside(&mut self, bytes: usize) -> Result<(), Bad> {
        self.beside = self.beside.saturating_add(bytes);
        if self.beside > MOST_BESIDE { Err(Bad::NoPart) } else { Ok(()) }
    }
}

impl Headers {
    /// With what another line says.
    fn and(self, line: &[u8]) -> Self {
        let Some((name, value)) = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':')) else {
            return self;
        };
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "content-length" => Self { length: value.parse().ok(), ..self },
            "content-type" => Self { is_other: !value.to_ascii_lowercase().starts_with("image/"), ..self },
            _ => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As much as `stream` has, in pieces that end there.
    fn parts(boundary: &str, stream: &[u8], ends: &[usize]) -> Result<Vec<Bytes>, Bad> {
        let mut parts = Parts::new(boundary, 1000);
        let mut found = Vec::new();
        let mut begun = 0;
        for end in ends.iter().copied().chain([stream.len()]) {
            let end = end.clamp(begun, stream.len());
            parts.push(&stream[begun..end]);
            begun = end;
            while let Some(part) = parts.next()? {
                found.push(part);
            }
        }
        Ok(found)
    }

    #[test]
    fn cameras_are_understood_however_they_write_it() {
        for (boundary, stream) in [
            ("b", &b"--b\r\nContent-Type: image/jpeg\r\nContent-Length: 3\r\n\r\none\r\n--b\r\nContent-Type: image/jpeg\r\nContent-Length: 4\r\n\r\n--b!\r\n--b\r\n"[..]),
            ("--b", b"--b\nContent-type:image/jpeg\n\none\n--b\nContent-type:image/jpeg\n\n\r--c!\n--b\n"),
            ("--b", b"\r\n----b\r\n\r\none\r\n--b\r\ncontent-length: 4\r\n\r\n--b!--b\r\n"),
            ("b", b"--b\r\nContent-Type: text/plain\r\n\r\nhello\r\n--b\r\n\r\none\r\n--b\r\nX: y\r\nContent-Length: x\r\n\r\n\r--c!\r\n--b"),
        ] {
            let found = parts(boundary, stream, &[]).unwrap();
            assert_eq!(found.len(), 2, "{boundary}: {found:?}");
            assert_eq!(found[0], "one");
            assert!(found[1].ends_with(b"!"), "{:?}", found[1]);
        }
    }

    #[test]
    fn nothing_is_kept_without_end() {
        let endless = [b"--b\r\n", &b"X: y\r\n".repeat(5000)[..]].concat();
        assert_eq!(parts("b", &endless, &[]), Err(Bad::NoPart));
        let line = [b"--b\r\n", &b"x".repeat(50_000)[..]].concat();
        assert_eq!(parts("b", &line, &[]), Err(Bad::NoPart));
        assert_eq!(parts("b", &b"x".repeat(50_000), &[100, 40_000]), Err(Bad::NoPart));
        let others = b"--b\r\nContent-Type: text/html\r\n\r\nno picture\r\n".repeat(1000);
        assert_eq!(parts("b", &others, &[]), Err(Bad::NoPart));
        assert_eq!(parts("b", b"--b\nContent-Length: 1001\n\n", &[]), Err(Bad::TooLarge(1000)));
        let long = [b"--b\n\n", &b"x".repeat(1100)[..]].concat();
        assert_eq!(parts("b", &long, &[]), Err(Bad::TooLarge(1000)));
    }

    proptest! {
        #[test]
        fn pieces_change_nothing(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..200), 1..5),
            lengths in any::<bool>(),
            mut ends in prop::collection::vec(0_usize..1500, 0..20),
        ) {
            let mut stream = Vec::new();
            for body in &bodies {
                let length = if lengths { format!("Content-Length: {}\r\n", body.len()) } else { String::new() };
                stream.extend_from_slice(format!("--delimiter\r\n{length}\r\n").as_bytes());
                stream.extend_from_slice(body);
                stream.extend_from_slice(b"\r\n");
            }
            stream.extend_from_slice(b"--delimiter\r\n");
            ends.sort();
            let whole = parts("delimiter", &stream, &[]);
            prop_assert_eq!(&parts("delimiter", &stream, &ends), &whole);
            if lengths {
                prop_assert_eq!(whole, Ok(bodies.into_iter().map(Bytes::from).collect()));
            }
        }

        #[test]
        fn no_bytes_panic_and_no_part_is_larger_than_it_may_be(
            words in prop::collection::vec(
                prop_oneof![
                    Just(&b"--b"[..]), Just(&b"\r\n"[..]), Just(&b"\n"[..]), Just(&b"Content-Length: "[..]),
                    Just(&b"7"[..]), Just(&b"99999999999999999999"[..]), Just(&b"-"[..]), Just(&b"\xff\xd8"[..]),
                ],
                0..200,
            ),
        ) {
            if let Ok(found) = parts("b", &words.concat(), &[3, 50]) {
                prop_assert!(found.iter().all(|part| !part.is_empty() && part.len() <= 1000));
            }
        }
    }
}
