//! Motion JPEG: JPEG files one after another, as cameras and `ffmpeg -f mjpeg` write them.

/// The JPEGs in `bytes`, in order, without copying. What lies between them is skipped; a JPEG that is
/// cut off at the end of the file comes as far as it goes.
///
/// Walks the marker segments (ITU-T T.81, Annex B), so that the thumbnail in an EXIF segment is not
/// taken for a frame.
pub(crate) fn frames(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let start = rest.windows(3).position(|w| w == [0xff, 0xd8, 0xff])?;
        rest = &rest[start..];
        let (frame, after) = rest.split_at(length(rest));
        rest = after;
        Some(frame)
    })
}

/// Length of the JPEG that begins at the start of `bytes`, its EOI marker included.
fn length(bytes: &[u8]) -> usize {
    let mut at = 2;
    while let Some(found) = bytes.get(at..).and_then(|rest| rest.iter().position(|b| *b == 0xff)) {
        at += found + 1;
        match bytes.get(at) {
            Some(0xd9) => return at + 1,
            // Stuffing, fill bytes, TEM and restart markers have no length.
            Some(0x00 | 0x01 | 0xd0..=0xd7) => at += 1,
            Some(0xff) => {}
            // The next picture begins although this one has not ended.
            Some(0xd8) => return at - 1,
            Some(_) => match bytes.get(at + 1..at + 3) {
                Some(len) => at += 1 + usize::from(u16::from_be_bytes([len[0], len[1]])).max(2),
                None => break,
            },
            None => break,
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: &[u8] = &[0xff, 0xd8, 0xff, 0xda, 0, 2, 1, 0xff, 0x00, 0xff, 0xd3, 7, 0xff, 0xd9];
    const WITH_THUMBNAIL: &[u8] =
        &[0xff, 0xd8, 0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9, 0xff, 0xda, 0, 2, 5, 0xff, 0xd9];

    fn split(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        frames(&parts.concat()).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn finds_every_frame_whole() {
        assert_eq!(split(&[PLAIN, WITH_THUMBNAIL, PLAIN]), [PLAIN, WITH_THUMBNAIL, PLAIN]);
        assert_eq!(split(&[b"--boundary\r\n", PLAIN, b"\r\n--boundary\r\n", PLAIN]), [PLAIN, PLAIN]);
        assert!(split(&[b"", b"no jpeg"]).is_empty());
    }

    #[test]
    fn a_cut_off_frame_does_not_swallow_the_next() {
        assert_eq!(split(&[&PLAIN[..9], PLAIN]), [&PLAIN[..9], PLAIN]);
        for cut in 3..PLAIN.len() {
            assert_eq!(split(&[PLAIN, &PLAIN[..cut]]), [PLAIN, &PLAIN[..cut]]);
        }
    }

    /// Whatever bytes there are, frames lie one behind the other in them, and each begins as a JPEG.
    #[test]
    fn damaged_streams_are_cut_into_frames_too() {
        let whole = [PLAIN, WITH_THUMBNAIL, b"--boundary\r\n", PLAIN, WITH_THUMBNAIL].concat();
        let mut random = 5u32;
        let mut next = move |below: usize| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as usize % below
        };
        for _ in 0..20_000 {
            let mut bytes = whole.clone();
            for _ in 0..=next(6) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes[at] = [0xff, 0xd8, 0xd9, 0xda, 0, 1][next(6)],
                    1 => bytes[at] ^= 1 << next(8),
                    _ => bytes.truncate(at + 1),
                }
            }
            let mut ends = 0;
            for frame in frames(&bytes) {
                let begins = frame.as_ptr() as usize - bytes.as_ptr() as usize;
                assert!(begins >= ends && frame.starts_with(&[0xff, 0xd8]), "{bytes:?}");
                ends = begins + frame.len();
            }
            assert!(ends <= bytes.len());
        }
    }
}
