//! Parameter sets and heads of slices (ITU-T H.264, 7.3.2.1, 7.3.2.2 and 7.3.3), as far as they say what decoding asks for.
//!
//! The decoder behind this trusts their numbers with its memory. Whatever passes here is bounded.

use std::collections::BTreeMap;

use rusty_h264_common::{BitReader, bit_reader::OutOfData, nal::emulation_unprevent};

use crate::{Refused, range::Colours};

/// Profiles that say more of their samples (7.3.2.1.1).
const HIGH_PROFILES: [u32; 13] = [100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135];
/// Pictures that may be referred to, at most (A.3.1), and entries of a list of them (7.4.3).
const MOST_REFERENCES: u32 = 16;
const MOST_ACTIVE: u32 = 32;
/// Ids of sets, at most (7.4.2.1.1 and 7.4.2.2).
const MOST_SPS: u32 = 31;
const MOST_PPS: u32 = 255;
/// Bytes of a slice that hold all of its head that is read here: some numbers of at most 8 bytes.
const HEAD: usize = 128;

impl From<OutOfData> for Refused {
    fn from(_: OutOfData) -> Self {
        Self::Damaged("it ends too early")
    }
}

/// What a sequence parameter set says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sps {
    pub(crate) id: u8,
    /// Width and height in blocks of 16×16 pixels.
    pub(crate) blocks: [usize; 2],
    /// Pictures that are kept to refer to.
    pub(crate) references: usize,
    /// Width and height in pixels, as they are shown.
    pub(crate) size: [usize; 2],
    /// Of its usability information (Annex E), if it says any.
    pub(crate) colours: Colours,
    frame_num_bits: u32,
    order: Order,
    frames_only: bool,
}

/// How slices tell their order (8.2.1).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Order {
    Counted { bits: u32 },
    Expected { says_difference: bool },
    AsDecoded,
}

impl Sps {
    /// Reads a unit, its type included.
    pub(crate) fn parse(unit: &[u8]) -> Result<Self, Refused> {
        let payload = emulation_unprevent(unit.get(1..).unwrap_or_default());
        let r = &mut BitReader::new(&payload);
        let profile = r.read_bits(8)?;
        r.read_bits(16)?;
        let id = at_most(r.read_ue()?, MOST_SPS, "the id of its SPS")? as u8;
        if HIGH_PROFILES.contains(&profile) {
            samples(r)?;
        }
        let frame_num_bits = at_most(r.read_ue()?, 12, "its frame numbers")? + 4;
        let order = match r.read_ue()? {
            0 => Order::Counted { bits: at_most(r.read_ue()?, 12, "its picture order")? + 4 },
            1 => {
                let says_difference = !r.read_bit()?;
                r.read_se()?;
                r.read_se()?;
                for _ in 0..at_most(r.read_ue()?, 255, "its picture order")? {
                    r.read_se()?;
                }
                Order::Expected { says_difference }
            }
            2 => Order::AsDecoded,
            _ => return Err(Refused::Damaged("its picture order")),
        };
        let references = at_most(r.read_ue()?, MOST_REFERENCES, "its references")? as usize;
        r.read_bit()?;
        let across = r.read_ue()?.saturating_add(1) as usize;
        let rows = r.read_ue()?.saturating_add(1) as usize;
        let frames_only = r.read_bit()?;
        let down = rows.saturating_mul(if frames_only { 1 } else { 2 });
        if !frames_only && r.read_bit()? {
            return Err(Refused::Unsupported("interlaced pictures"));
        }
        r.read_bit()?;
        let mut crop = [0; 4];
        if r.read_bit()? {
            for side in &mut crop {
                *side = r.read_ue()? as usize;
            }
        }
        let [left, right, top, bottom] = crop;
        if (left, top) != (0, 0) {
            return Err(Refused::Unsupported("pictures that are cut off at the left or the top"));
        }
        let shown = |blocks: usize, cut: usize| {
            let pixels = blocks.checked_mul(16)?.checked_sub(cut)?;
            (1..=1 << 20).contains(&pixels).then_some(pixels)
        };
        let width = shown(across, right.saturating_mul(2));
        let height = shown(down, bottom.saturating_mul(if frames_only { 2 } else { 4 }));
        let (Some(width), Some(height)) = (width, height) else {
            return Err(Refused::Damaged("the size of its pictures"));
        };
        // What cannot be read of it says nothing.
        let colours = if r.read_bit()? { colours(r).unwrap_or_default() } else { Colours::default() };
        let (blocks, size) = ([across, down], [width, height]);
        Ok(Self { id, blocks, references, size, colours, frame_num_bits, order, frames_only })
    }
}

/// Refuses all samples but those of 4:2:0 with 8 bits.
fn samples(r: &mut BitReader<'_>) -> Result<(), Refused> {
    if r.read_ue()? != 1 {
        return Err(Refused::Unsupported("colours other than 4:2:0"));
    }
    if (r.read_ue()?, r.read_ue()?) != (0, 0) {
        return Err(Refused::Unsupported("samples of more than 8 bits"));
    }
    r.read_bit()?;
    if r.read_bit()? {
        for size in [16, 16, 16, 16, 16, 16, 64, 64] {
            if r.read_bit()? {
                scaling_list(r, size)?;
            }
        }
    }
    Ok(())
}

/// Skips a scaling list (7.3.2.1.1.1).
fn scaling_list(r: &mut BitReader<'_>, size: usize) -> Result<(), Refused> {
    let (mut last, mut next) = (8i32, 8i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(r.read_se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Ok(())
}

/// What the usability information says of colours (E.1.1).
fn colours(r: &mut BitReader<'_>) -> Result<Colours, OutOfData> {
    const FREE_RATIO: u32 = 255;
    if r.read_bit()? && r.read_bits(8)? == FREE_RATIO {
        r.read_bits(32)?;
    }
    if r.read_bit()? {
        r.read_bit()?;
    }
    if !r.read_bit()? {
        return Ok(Colours::default());
    }
    r.read_bits(3)?;
    let is_full = r.read_bit()?;
    let matrix = if r.read_bit()? {
        r.read_bits(16)?;
        Some(r.read_bits(8)?)
    } else {
        None
    };
    Ok(Colours { is_full, matrix })
}

fn at_most(value: u32, most: u32, what: &'static str) -> Result<u32, Refused> {
    if value <= most { Ok(value) } else { Err(Refused::Damaged(what)) }
}

/// What a picture parameter set says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pps {
    pub(crate) id: u8,
    pub(crate) sps: u8,
    says_bottom_order: bool,
    has_redundant: bool,
}

impl Pps {
    /// Reads a unit, its type included.
    pub(crate) fn parse(unit: &[u8]) -> Result<Self, Refused> {
        let payload = emulation_unprevent(unit.get(1..).unwrap_or_default());
        let r = &mut BitReader::new(&payload);
        let id = at_most(r.read_ue()?, MOST_PPS, "the id of its PPS")? as u8;
        let sps = at_most(r.read_ue()?, MOST_SPS, "the id of its SPS")? as u8;
        r.read_bit()?;
        let says_bottom_order = r.read_bit()?;
        if r.read_ue()? != 0 {
            return Err(Refused::Unsupported("slice groups"));
        }
        for _ in 0..2 {
            at_most(r.read_ue()?, MOST_ACTIVE - 1, "its lists of references")?;
        }
        r.read_bits(3)?;
        for _ in 0..2 {
            let quantiser = r.read_se()?;
            if !(-26..=25).contains(&quantiser) {
                return Err(Refused::Damaged("its quantiser"));
            }
        }
        if !(-12..=12).contains(&r.read_se()?) {
            return Err(Refused::Damaged("its quantiser"));
        }
        r.read_bits(2)?;
        let has_redundant = r.read_bit()?;
        Ok(Self { id, sps, says_bottom_order, has_redundant })
    }
}

/// Whether the slice with which the picture of an access unit begins refers to pictures that are shown later (B).
pub(super) fn is_bidirectional(unit: &[u8]) -> bool {
    let kind = |unit: &&[u8]| matches!(unit.first().map(|kind| kind & 31), Some(super::SLICE | super::KEY));
    let Some(slice) = super::units(unit).find(kind) else { return false };
    let head = emulation_unprevent(&slice[1..slice.len().min(HEAD)]);
    let r = &mut BitReader::new(&head);
    r.read_ue().is_ok() && r.read_ue().is_ok_and(|kind| kind % 5 == 1)
}

/// What the head of a slice says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Slice {
    /// The number of its first block.
    pub(crate) first: usize,
    /// It refers to pictures that are shown later.
    pub(crate) is_bidirectional: bool,
    pub(crate) sps: u8,
}

impl Slice {
    /// Reads the beginning of a unit, its type included.
    pub(crate) fn parse<'a>(
        unit: &[u8],
        sps_of: impl Fn(u8) -> Option<&'a Sps>,
        pps_of: &BTreeMap<u8, super::Kept<Pps>>,
    ) -> Result<Self, Refused> {
        let is_key = unit.first().is_some_and(|kind| kind & 31 == super::KEY);
        let head = emulation_unprevent(&unit[1.min(unit.len())..unit.len().min(HEAD)]);
        let r = &mut BitReader::new(&head);
        let first = r.read_ue()? as usize;
        let kind = at_most(r.read_ue()?, 9, "the type of a slice")? % 5;
        let pps = u8::try_from(r.read_ue()?).ok().and_then(|id| pps_of.get(&id)).ok_or(Refused::NoSets)?;
        let pps = &pps.set;
        let sps = sps_of(pps.sps).ok_or(Refused::NoSets)?;
        r.read_bits(sps.frame_num_bits)?;
        if !sps.frames_only && r.read_bit()? {
            return Err(Refused::Unsupported("interlaced pictures"));
        }
        if is_key {
            r.read_ue()?;
        }
        match sps.order {
            Order::Counted { bits } => {
                r.read_bits(bits)?;
                if pps.says_bottom_order {
                    r.read_se()?;
                }
            }
            Order::Expected { says_difference: true } => {
                r.read_se()?;
                if pps.says_bottom_order {
                    r.read_se()?;
                }
            }
            Order::Expected { says_difference: false } | Order::AsDecoded => {}
        }
        if pps.has_redundant {
            r.read_ue()?;
        }
        let is_bidirectional = kind == 1;
        match kind {
            0 | 1 => {
                if is_bidirectional {
                    r.read_bit()?;
                }
                if r.read_bit()? {
                    for _ in 0..if is_bidirectional { 2 } else { 1 } {
                        at_most(r.read_ue()?, MOST_ACTIVE - 1, "its lists of references")?;
                    }
                }
            }
            2 => {}
            _ => return Err(Refused::Unsupported("switching slices")),
        }
        Ok(Self { first, is_bidirectional, sps: pps.sps })
    }
}
