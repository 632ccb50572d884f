//! Bodies that come compressed: gzip, and deflate in zlib's frame (RFC 9110, section 8.4.1).

use std::io::Read;

use axum::http::{HeaderMap, header};
use bytes::Bytes;
use flate2::read::{GzDecoder, ZlibDecoder};

use crate::doors::Problem;

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

    /// Unpacks to at most `limit` bytes: a bomb is not unpacked further than that.
    pub(super) fn unpack(self, body: Bytes, limit: usize) -> Result<Bytes, Problem> {
        match self {
            Self::Plain => Ok(body),
            Self::Gzip => bounded(GzDecoder::new(&body[..]), limit),
            Self::Deflate => bounded(ZlibDecoder::new(&body[..]), limit),
        }
    }
}

fn bounded(packed: impl Read, limit: usize) -> Result<Bytes, Problem> {
    let mut plain = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    packed
        .take(most)
        .read_to_end(&mut plain)
        .map_err(|error| Problem::bad_body(format!("the body cannot be unpacked: {error}")))?;
    if plain.len() > limit {
        return Err(Problem::too_large(format!(
            "the body unpacks to more than {limit} bytes; send fewer images"
        )));
    }
    Ok(plain.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };

    use super::*;

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
            assert_eq!(packing.unpack(packed, 1000).unwrap(), plain, "{packing:?}");
        }
        assert_eq!(Packing::Gzip.unpack(gzip(&plain), 999).unwrap_err().status, 413);
        assert_eq!(Packing::Gzip.unpack(gzip(&vec![0; 64 << 20]), 4096).unwrap_err().status, 413);
    }

    #[test]
    fn what_is_not_packed_so_is_refused() {
        for packing in [Packing::Gzip, Packing::Deflate] {
            assert_eq!(packing.unpack(Bytes::from_static(b"plain"), 100).unwrap_err().status, 400);
            let cut = gzip(&[1; 500]).slice(..12);
            assert_eq!(packing.unpack(cut, 1000).unwrap_err().status, 400);
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
