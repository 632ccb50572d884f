//! Bodies that come compressed: gzip, and deflate in zlib's frame (RFC 9110, section 8.4.1).

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};

use crate::{doors::Problem, unfinished::Share};

/// Bytes that are unpacked between two looks at the limits.
const STEP: u64 = 256 << 10;

/// How a body is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    Deflate,
}

impl Packing {
    /// What `Content-Encoding` says.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Self::Plain) };
        match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(Self::Plain),
            "gzip" | "x-gzip" => Ok(Self::Gzip),
            "deflate" => Ok(Self::Deflate),
            _ => Err(Problem::unsupported_content_type(
                "content encoding is unknown; use gzip or deflate, or none",
            )),
        }
    }

    /// Unpacks to at most `limit` bytes, as far as there is room for them: a bomb is not unpacked further than that, nor
    /// many at once.
    pub(super) fn unpack(self, body: Bytes, limit: usize, room: &mut Share) -> Result<Bytes, Problem> {
        match self {
            Self::Plain => Ok(body),
            Self::Gzip => bounded(GzDecoder::new(&body[..]), limit, room),
            Self::Deflate => bounded(ZlibDecoder::new(&body[..]), limit, room),
        }
    }
}

fn bounded(mut packed: impl Read, limit: usize, room: &mut Share) -> Result<Bytes, Problem> {
    let mut plain = Vec::new();
    loop {
        let before = plain.len();
        packed
            .by_ref()
            .take(STEP)
            .read_to_end(&mut plain)
            .map_err(|error| Problem::bad_body(format!("the body cannot be unpacked: {error}")))?;
        if plain.len() == before {
            return Ok(plain.into());
        }
        if plain.len() > limit {
            let detail = format!("the body unpacks to more than {limit} bytes; send fewer images");
            return Err(Problem::too_large(detail));
        }
        if !room.hold(plain.len() as u64) {
            return Err(Problem::unavailable("too much is being sent at once; try again in a moment"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;
    use crate::unfinished::Budget;

    fn room() -> Share {
        Budget::new(1 << 30).share()
    }

    fn gzip(plain: &[u8]) -> Bytes {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        packed.write_all(plain).unwrap();
        packed.finish().unwrap().into()
    }

    #[test]
    fn what_is_packed_is_unpacked_up_to_the_limit() {
        let plain = vec![7; 1000];
        let mut packed = ZlibEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&plain).unwrap();
        let deflated = Bytes::from(packed.finish().unwrap());
        for (packing, packed) in [
            (Packing::Gzip, gzip(&plain)),
            (Packing::Deflate, deflated),
            (Packing::Plain, plain.clone().into()),
        ] {
            assert_eq!(packing.unpack(packed, 1000, &mut room()).unwrap(), plain, "{packing:?}");
        }
        assert_eq!(Packing::Gzip.unpack(gzip(&plain), 999, &mut room()).unwrap_err().status, 413);
        let bomb = gzip(&vec![0; 64 << 20]);
        assert_eq!(Packing::Gzip.unpack(bomb.clone(), 4096, &mut room()).unwrap_err().status, 413);
        let budget = Budget::new(20 << 20);
        let mut others = budget.share();
        assert!(others.hold(16 << 20));
        let refused = Packing::Gzip.unpack(bomb, 64 << 20, &mut budget.share()).unwrap_err();
        assert_eq!(refused.status, 503, "{refused:?}");
    }

    #[test]
    fn what_is_not_packed_so_is_refused() {
        for packing in [Packing::Gzip, Packing::Deflate] {
            assert_eq!(
                packing.unpack(Bytes::from_static(b"plain"), 100, &mut room()).unwrap_err().status,
                400
            );
            let cut = gzip(&[1; 500]).slice(..12);
            assert_eq!(packing.unpack(cut, 1000, &mut room()).unwrap_err().status, 400);
        }
        let mut headers = HeaderMap::new();
        assert_eq!(Packing::of(&headers).unwrap(), Packing::Plain);
        for (value, packing) in
            [("gzip", Packing::Gzip), ("Deflate", Packing::Deflate), ("identity", Packing::Plain)]
        {
            headers.insert(header::CONTENT_ENCODING, value.parse().unwrap());
            assert_eq!(Packing::of(&headers).unwrap(), packing);
        }
        headers.insert(header::CONTENT_ENCODING, "br".parse().unwrap());
        assert_eq!(Packing::of(&headers).unwrap_err().status, 415);
    }
}
