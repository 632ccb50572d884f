//! What streams may ask for, and what becomes of those that ask for more.

use rusty_h264_common::BitWriter;
use rusty_h264_encoder::{Encoder, EncoderConfig};

use super::*;

const SIZE: [usize; 2] = [96, 64];

/// A picture that moves: its luma rises from left to right, and by `step`.
fn frame(step: usize, [width, height]: [usize; 2]) -> YuvFrame {
    let y = (0..width * height).map(|at| (16 + (at % width + 3 * step) % 200) as u8).collect();
    let chroma = vec![128; width * height / 4];
    YuvFrame { width, height, y, u: chroma.clone(), v: chroma }
}

/// A key frame and as many that build on it as make `count`.
pub(crate) fn stream(count: usize, size: [usize; 2]) -> Vec<Vec<u8>> {
    let mut config = EncoderConfig::new(size[0], size[1]);
    (config.gop_size, config.qp, config.lookahead, config.bframes) = (250, 24, 0, 0);
    (config.mbtree, config.scenecut, config.num_ref_frames) = (false, 0, 1);
    let mut encoder = Encoder::new(config).unwrap();
    (0..count).map(|step| encoder.encode(&frame(step, size))).collect()
}

fn live() -> Stream {
    Stream::new(Rules { most_pixels: 1 << 20, most_kept: 184_320, is_live: true, earlier: Earlier::Refused })
}

fn decode(stream: &mut Stream, unit: &[u8]) -> Result<Option<Picture>, Refused> {
    stream.decode(unit, &mut |_| true)
}

fn size_of(decoded: Result<Option<Picture>, Refused>) -> [usize; 2] {
    let frame = decoded.unwrap().unwrap().frame;
    [frame.width, frame.height]
}

#[test]
fn pictures_come_one_by_one_and_are_those_that_were_sent() {
    let mut live = live();
    for (step, unit) in stream(8, SIZE).iter().enumerate() {
        let decoded = decode(&mut live, unit).unwrap().unwrap().frame;
        let sent = frame(step, SIZE);
        let off: u64 = decoded.y.iter().zip(&sent.y).map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        assert!(off < 4 * sent.y.len() as u64, "picture {step}: {off}");
    }
}

#[test]
fn after_a_loss_or_a_mistake_only_a_key_frame_is_decoded() {
    let units = stream(6, SIZE);
    let mut live = live();
    assert!(live.needs_key());
    assert_eq!(decode(&mut live, &units[1]).err(), Some(Refused::NeedsKey));
    assert_eq!(size_of(decode(&mut live, &units[0])), SIZE);
    assert!(!live.needs_key());
    assert_eq!(size_of(decode(&mut live, &units[1])), SIZE);
    // All but the head of it is lost.
    assert!(matches!(decode(&mut live, &units[2][..6]), Err(Refused::Damaged(_))));
    assert_eq!(decode(&mut live, &units[3]).err(), Some(Refused::NeedsKey));
    assert!(live.needs_key());
    assert_eq!(size_of(decode(&mut live, &units[0])), SIZE);
    for garbage in [&b""[..], b"no video", &[0, 0, 1], &[0, 0, 1, 0x65], &[0xff; 4000], &[0, 0, 1, 0x67, 66]]
    {
        decode(&mut live, &units[0]).unwrap();
        match decode(&mut live, garbage) {
            Ok(decoded) => assert!(decoded.is_none()),
            Err(_) => assert!(live.needs_key(), "{garbage:?}"),
        }
    }
}

/// The units of an access unit but those of some kinds.
fn without(unit: &[u8], kinds: &[u8]) -> Vec<u8> {
    let kept = units(unit).filter(|unit| !kinds.contains(&(unit[0] & 31)));
    kept.flat_map(|unit| [&START[..], unit].concat()).collect()
}

#[test]
fn parameter_sets_may_come_before_and_must_come() {
    let units = stream(2, SIZE);
    let mut live = live();
    let bare = without(&units[0], &[SPS, PPS]);
    assert_eq!(decode(&mut live, &bare).err(), Some(Refused::NoSets));
    let sets = without(&units[0], &[KEY]);
    assert!(decode(&mut live, &sets).unwrap().is_none());
    assert_eq!(size_of(decode(&mut live, &bare)), SIZE);
    assert_eq!(size_of(decode(&mut live, &units[1])), SIZE);
}

#[test]
fn another_size_comes_with_its_key_frame() {
    let (small, large) = (stream(3, SIZE), stream(3, [160, 112]));
    let mut live = live();
    assert_eq!(size_of(decode(&mut live, &small[0])), SIZE);
    assert_eq!(size_of(decode(&mut live, &small[1])), SIZE);
    for unit in &large {
        assert_eq!(size_of(decode(&mut live, unit)), [160, 112]);
    }
    // Its parameter sets without its key frame leave nothing to build on.
    let sets = without(&small[0], &[KEY]);
    assert!(decode(&mut live, &sets).unwrap().is_none());
    assert_eq!(decode(&mut live, &large[2]).err(), Some(Refused::NeedsKey));
    assert_eq!(size_of(decode(&mut live, &small[0])), SIZE);
}

#[test]
fn memory_is_asked_for_before_it_is_taken() {
    let units = stream(2, SIZE);
    let (mut asked, mut live) = (Vec::new(), live());
    let refused = live.decode(&units[0], &mut |bytes| {
        asked.push(bytes);
        false
    });
    assert_eq!(refused.err(), Some(Refused::NoRoom(96, 64)));
    // Twice what it refers to and three, at two and a half bytes a pixel.
    assert_eq!(asked, [96 * 64 * 5 / 2 * 5]);
    let large = stream(1, [1280, 1024]);
    assert_eq!(decode(&mut live, &large[0]).err(), Some(Refused::TooLarge(1280, 1024, 1 << 20)));
}

#[test]
fn pictures_that_come_before_their_turn_are_refused_live() {
    let mut config = EncoderConfig::new(SIZE[0], SIZE[1]);
    (config.gop_size, config.bframes, config.scenecut) = (250, 2, 0);
    config.profile = rusty_h264_common::Profile::Main;
    let frames: Vec<YuvFrame> = (0..12).map(|step| frame(step, SIZE)).collect();
    let bytes = Encoder::new(config).unwrap().encode_all(&frames).unwrap().concat();
    let mut live = live();
    let seen: Vec<_> = rusty_h264_decoder::split_access_units(&bytes)
        .into_iter()
        .map(|unit| decode(&mut live, unit).map(|_| ()))
        .collect();
    assert!(seen.contains(&Err(Refused::Reordered)), "{seen:?}");
}

#[test]
fn two_pictures_in_one_unit_are_refused() {
    let units = stream(2, SIZE);
    let mut live = live();
    assert!(matches!(decode(&mut live, &units.concat()), Err(Refused::Damaged(_))));
    assert!(live.needs_key());
}

/// A sequence parameter set of the Baseline profile.
fn sps(id: u32, references: u32, [across, down]: [u32; 2], crop: Option<[u32; 4]>) -> Vec<u8> {
    let mut w = BitWriter::new();
    w.write_bits(66, 8);
    w.write_bits(0, 8);
    w.write_bits(30, 8);
    for value in [id, 0, 2, references] {
        w.write_ue(value);
    }
    w.write_bits(1, 1);
    for value in [across - 1, down - 1] {
        w.write_ue(value);
    }
    w.write_bits(0b11, 2);
    w.write_bits(crop.is_some().into(), 1);
    for side in crop.into_iter().flatten() {
        w.write_ue(side);
    }
    w.write_bit(false);
    w.rbsp_trailing_bits();
    [vec![0x67], w.into_bytes()].concat()
}

#[test]
fn numbers_that_would_cost_memory_are_refused_where_they_stand() {
    assert_eq!(Sps::parse(&sps(0, 1, [6, 4], None)).unwrap().size, SIZE);
    assert_eq!(Sps::parse(&sps(31, 16, [6, 4], Some([0, 3, 0, 2]))).unwrap().size, [90, 60]);
    for (id, references, size, crop) in [
        (32, 1, [6, 4], None),
        (0, 17, [6, 4], None),
        (0, 65_535, [6, 4], None),
        (0, 1, [1 << 30, 4], None),
        (0, 1, [6, 1 << 30], None),
        (0, 1, [6, 4], Some([0, 48, 0, 0])),
        (0, 1, [6, 4], Some([u32::MAX - 1, 2, 0, 0])),
        (0, 1, [6, 4], Some([0, u32::MAX - 1, 0, 0])),
        (0, 1, [6, 4], Some([2, 0, 0, 0])),
    ] {
        let parsed = Sps::parse(&sps(id, references, size, crop));
        assert!(parsed.is_err(), "{id} {references} {size:?} {crop:?}: {parsed:?}");
    }
    // As many pictures of a size as no level allows.
    let many = Sps::parse(&sps(0, 16, [256, 144], None)).unwrap();
    let rules = Rules { most_pixels: 1 << 24, most_kept: 184_320, is_live: true, earlier: Earlier::Refused };
    assert!(matches!(rules.check(&many), Err(Refused::Damaged(_))));
    let few = Sps::parse(&sps(0, 5, [256, 144], None)).unwrap();
    assert_eq!(rules.check(&few), Ok(()));
}

/// Of files that x264 made with ffmpeg's `-colorspace` and `-color_range`, and of one without either.
#[test]
fn parameter_sets_tell_their_colours() {
    for (tail, colours) in [
        ("6a02020280000003008000000507891324", Colours { is_full: false, matrix: Some(1) }),
        ("6e02020280000003008000000507891324", Colours { is_full: true, matrix: Some(1) }),
        ("6a02020c80000003008000000507891324", Colours { is_full: false, matrix: Some(6) }),
        ("6e02020c80000003008000000507891324", Colours { is_full: true, matrix: Some(6) }),
        ("6a02021280000003008000000507891324", Colours { is_full: false, matrix: Some(9) }),
    ] {
        let hex = format!("6742c00ad9047b01{tail}");
        let unit: Vec<u8> =
            (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
        let sps = Sps::parse(&unit).unwrap();
        assert_eq!((sps.colours, sps.size), (colours, [64, 48]), "{tail}");
        // Cut off within, it says nothing.
        assert_eq!(Sps::parse(&unit[..9]).unwrap().colours, Colours::default());
    }
    assert_eq!(Sps::parse(&sps(0, 1, [6, 4], None)).unwrap().colours, Colours::default());
}

/// Damage anywhere is an error or another picture, and never more than a picture's work.
#[test]
fn damaged_streams_are_decoded_or_refused() {
    let units = stream(4, SIZE);
    let mut random = 9u32;
    let mut next = move |below: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 8) as usize % below
    };
    let mut live = live();
    let (mut decoded, mut refused) = (0, 0);
    for _ in 0..600 {
        for unit in &units {
            let mut unit = unit.clone();
            for _ in 0..next(3) {
                let at = next(unit.len());
                unit[at] ^= 1 << next(8);
            }
            if next(8) == 0 {
                unit.truncate(next(unit.len()) + 1);
            }
            match decode(&mut live, &unit) {
                Ok(_) => decoded += 1,
                Err(Refused::Damaged("its decoder gave up")) => panic!("{unit:?}"),
                Err(_) => refused += 1,
            }
        }
    }
    assert!(decoded > 100 && refused > 100, "{decoded} {refused}");
}

#[test]
fn units_are_cut_at_start_codes() {
    let stream = [9, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0, 1, 0, 0, 1, 0x65, 1, 2, 0, 0];
    let seen: Vec<&[u8]> = units(&stream).collect();
    assert_eq!(seen, [&[0x67, 1][..], &[0x68], &[], &[0x65, 1, 2]]);
    for none in [&b""[..], &[0], &[0, 0], &[1], &[0, 1], &[2, 0, 0, 2]] {
        assert_eq!(units(none).count(), 0, "{none:?}");
    }
    assert_eq!(units(&[0, 0, 1]).count(), 1);
}
