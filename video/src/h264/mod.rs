//! A stream of H.264, decoded access unit by access unit.
//!
//! Between the bytes and the decoder stands a check of whatever they say that costs memory or time ([`sets`]): the size and
//! the number of pictures, lists, slices.

mod live;
mod sets;

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use rusty_h264_common::YuvFrame;
use rusty_h264_decoder::{DecodeError, Decoder};

use self::sets::{Pps, Slice, Sps};
use crate::{Refused, range::Colours};

pub use live::LiveDecoder;

/// Types of units (ITU-T H.264, table 7-1).
const SLICE: u8 = 1;
const KEY: u8 = 5;
const SPS: u8 = 7;
const PPS: u8 = 8;

/// What stands before a unit (Annex B).
pub(crate) const START: [u8; 4] = [0, 0, 0, 1];
/// Units of an access unit, at most.
const MOST_UNITS: usize = 4096;
/// Blocks that the slices of a picture may go over, at most: a slice of few bytes may claim all of its picture.
const MOST_CLAIMED: usize = 1 << 22;
/// Slices of a picture that are taken whatever it claims.
const USUAL_SLICES: usize = 16;
/// Bytes of a set, at most.
const MOST_SET_BYTES: usize = 4096;

/// What a stream may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Pixels of a picture.
    pub(crate) most_pixels: usize,
    /// Blocks of all pictures that are kept (table A-1: MaxDpbMbs).
    pub(crate) most_kept: usize,
    /// It begins with a key frame.
    pub(crate) is_live: bool,
    /// What becomes of pictures that are shown before others that come before them (B).
    pub(crate) earlier: Earlier,
}

/// What becomes of a picture that is shown before others that come before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// It is decoded as any.
    Given,
    /// The stream is refused.
    Refused,
    /// It is decoded if others build on it, and is none.
    Skipped,
}

/// A set, and its bytes.
#[derive(Debug)]
pub(crate) struct Kept<T> {
    set: T,
    unit: Vec<u8>,
    /// The decoder has it.
    is_known: bool,
}

/// A picture.
pub(crate) struct Picture {
    pub(crate) frame: YuvFrame,
    pub(crate) colours: Colours,
}

/// A stream that is decoded.
pub(crate) struct Stream {
    rules: Rules,
    sps: BTreeMap<u8, Kept<Sps>>,
    pps: BTreeMap<u8, Kept<Pps>>,
    /// The set that holds since the last key frame.
    active: Option<Vec<u8>>,
    decoder: Decoder,
    unit: Vec<u8>,
}

/// What has come of a picture.
#[derive(Default)]
struct Slices {
    count: usize,
    last: usize,
    sps: u8,
    /// It is no picture.
    is_skipped: bool,
    /// Nothing builds on it, so it is not even decoded.
    is_left_out: bool,
}

impl Stream {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            sps: BTreeMap::new(),
            pps: BTreeMap::new(),
            active: None,
            decoder: Decoder::new(),
            unit: Vec::new(),
        }
    }

    /// Decodes an access unit; none if there is no picture in it. Before memory for pictures is taken, `reserve` is asked for
    /// about so many bytes in the place of those it gave before.
    pub(crate) fn decode(
        &mut self,
        unit: &[u8],
        reserve: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Picture>, Refused> {
        let decoded = self.try_decode(unit, reserve);
        if decoded.is_err() {
            self.forget();
        }
        decoded
    }

    pub(crate) fn skip_earlier(&mut self) {
        self.rules.earlier = Earlier::Skipped;
    }

    /// Whether only a key frame can be decoded next.
    pub(crate) fn needs_key(&self) -> bool {
        self.rules.is_live && self.active.is_none()
    }

    /// Begins anew.
    fn forget(&mut self) {
        (self.active, self.decoder) = (None, Decoder::new());
        self.sps.values_mut().for_each(|kept| kept.is_known = false);
        self.pps.values_mut().for_each(|kept| kept.is_known = false);
    }

    fn try_decode(
        &mut self,
        unit: &[u8],
        reserve: &mut dyn FnMut(usize) -> bool,
    ) -> Result<Option<Picture>, Refused> {
        self.unit.clear();
        let (mut slices, mut begun) = (Slices::default(), false);
        for (index, unit) in units(unit).enumerate() {
            if index >= MOST_UNITS {
                return Err(Refused::Damaged("it has too many units"));
            }
            begun = true;
            match unit.first().map(|kind| kind & 31) {
                Some(SPS) => keep(&mut self.sps, unit, |unit| Sps::parse(unit).map(|set| (set.id, set)))?,
                Some(PPS) => keep(&mut self.pps, unit, |unit| Pps::parse(unit).map(|set| (set.id, set)))?,
                Some(SLICE | KEY) => self.slice(unit, &mut slices, reserve)?,
                Some(2..=4) => return Err(Refused::Unsupported("partitioned slices")),
                _ => {}
            }
        }
        if slices.count == 0 {
            return if begun { Ok(None) } else { Err(Refused::Damaged("it has no start code")) };
        }
        if slices.is_left_out {
            return Ok(None);
        }
        let decoder = &mut self.decoder;
        let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(&self.unit)));
        let frame = match decoded {
            Ok(Ok(Some(frame))) => frame,
            Ok(Ok(None)) => return Err(Refused::Damaged("a part of its picture is missing")),
            Ok(Err(error)) => return Err(refused(error)),
            Err(_) => return Err(Refused::Damaged("its decoder gave up")),
        };
        let sps = &self.sps.get(&slices.sps).ok_or(Refused::NoSets)?.set;
        let chroma = frame.width.div_ceil(2) * frame.height.div_ceil(2);
        if [frame.width, frame.height] != sps.size
            || (frame.y.len(), frame.u.len(), frame.v.len()) != (frame.width * frame.height, chroma, chroma)
        {
            return Err(Refused::Damaged("its picture has another size than it says"));
        }
        Ok((!slices.is_skipped).then_some(Picture { frame, colours: sps.colours }))
    }

    /// Takes in a slice, if it may be decoded.
    fn slice(
        &mut self,
        unit: &[u8],
        slices: &mut Slices,
        reserve: &mut dyn FnMut(usize) -> bool,
    ) -> Result<(), Refused> {
        let is_key = unit[0] & 31 == KEY;
        if !is_key && self.needs_key() {
            return Err(Refused::NeedsKey);
        }
        let slice = Slice::parse(unit, |id| self.sps.get(&id).map(|kept| &kept.set), &self.pps)?;
        let is_skipped = match self.rules.earlier {
            Earlier::Refused if slice.is_bidirectional => return Err(Refused::Reordered),
            Earlier::Skipped => slice.is_bidirectional,
            _ => false,
        };
        let Kept { set: sps, unit: bytes, .. } = self.sps.get(&slice.sps).ok_or(Refused::NoSets)?;
        let blocks = sps.blocks[0] * sps.blocks[1];
        if slices.count == 0 {
            if slice.first != 0 {
                return Err(Refused::Damaged("the beginning of its picture is missing"));
            }
            if self.active.as_ref() != Some(bytes) {
                if !is_key && self.rules.is_live {
                    return Err(Refused::NeedsKey);
                }
                self.rules.check(sps)?;
                if !reserve(memory(sps)) {
                    return Err(Refused::NoRoom(sps.size[0], sps.size[1]));
                }
                let bytes = bytes.clone();
                self.forget();
                self.active = Some(bytes);
            }
            slices.sps = slice.sps;
            // nal_ref_idc
            slices.is_left_out = is_skipped && unit[0] & 0x60 == 0;
        } else if slice.first <= slices.last || slice.sps != slices.sps {
            return Err(Refused::Damaged("its slices are out of order, or of more than one picture"));
        }
        (slices.count, slices.last) = (slices.count + 1, slice.first);
        if slices.count > USUAL_SLICES && slices.count * blocks > MOST_CLAIMED {
            return Err(Refused::Damaged("its picture has too many slices"));
        }
        slices.is_skipped |= is_skipped;
        if slices.is_left_out {
            return Ok(());
        }
        for unit in news(&mut self.sps).chain(news(&mut self.pps)).chain([unit]) {
            self.unit.extend_from_slice(&START);
            self.unit.extend_from_slice(unit);
        }
        Ok(())
    }
}

impl Rules {
    fn check(&self, sps: &Sps) -> Result<(), Refused> {
        let [width, height] = sps.size;
        let too_large = Refused::TooLarge(width, height, self.most_pixels);
        // Both are below 2^17.
        let [across, down] = sps.blocks;
        if width * height > self.most_pixels || across * down > self.most_pixels.div_ceil(256) + across + down
        {
            return Err(too_large);
        }
        if across * down * sps.references > self.most_kept {
            return Err(Refused::Damaged("it refers to more pictures than any level of H.264 allows"));
        }
        Ok(())
    }
}

/// About how many bytes the pictures of a stream take: those that are referred to, as many that have been, and a few that are
/// on their way; of each its planes and its motion.
fn memory(sps: &Sps) -> usize {
    const A_BLOCK: usize = 16 * 16 * 5 / 2;
    sps.blocks[0] * sps.blocks[1] * A_BLOCK * (2 * sps.references.max(1) + 3)
}

/// Keeps a set; one that is there already changes nothing.
fn keep<T>(
    sets: &mut BTreeMap<u8, Kept<T>>,
    unit: &[u8],
    parse: impl Fn(&[u8]) -> Result<(u8, T), Refused>,
) -> Result<(), Refused> {
    if unit.len() > MOST_SET_BYTES {
        return Err(Refused::Damaged("a parameter set is too long"));
    }
    if sets.values().any(|kept| kept.unit == unit) {
        return Ok(());
    }
    let (id, set) = parse(unit)?;
    sets.insert(id, Kept { set, unit: unit.to_vec(), is_known: false });
    Ok(())
}

/// The sets that the decoder does not know yet.
fn news<T>(sets: &mut BTreeMap<u8, Kept<T>>) -> impl Iterator<Item = &[u8]> {
    sets.values_mut().filter(|kept| !kept.is_known).map(|kept| {
        kept.is_known = true;
        &kept.unit[..]
    })
}

fn refused(error: DecodeError) -> Refused {
    match error {
        DecodeError::Truncated => Refused::Damaged("it ends too early"),
        DecodeError::MissingParameterSet => Refused::NoSets,
        DecodeError::Unsupported(what) => Refused::Damaged(what),
        DecodeError::Internal(what) => Refused::Damaged(what),
    }
}

/// The units of a byte stream (Annex B), without their start codes and the zeros behind them.
fn units(stream: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start(stream);
    std::iter::from_fn(move || {
        let stream = rest?;
        rest = after_start(stream);
        let unit = &stream[..stream.len() - rest.map_or(0, |rest| rest.len() + 3)];
        let zeros = unit.iter().rev().take_while(|byte| **byte == 0).count();
        Some(&unit[..unit.len() - zeros])
    })
}

/// What comes behind the first start code.
fn after_start(stream: &[u8]) -> Option<&[u8]> {
    let mut at = 2;
    loop {
        at += stream.get(at..)?.iter().position(|byte| *byte == 1)?;
        if stream[at - 2..at] == [0, 0] {
            return Some(&stream[at + 1..]);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests;
