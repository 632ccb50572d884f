//! How many groups of Huffman codes a lossless WebP picture has, found without decoding the picture.
//!
//! The codes of such a picture come in groups, and a small picture of blocks says which block uses which
//! (RFC 9649, section 3.7.2). The decoder makes tables for as many groups as the largest number in that picture
//! says, used or not: 65,536 of them take gigabytes, from a file of three megabytes. So the pictures that come
//! before the groups are read here, as far as the number goes.

use crate::{Error, Format};

/// Most groups of Huffman codes. libwebp's encoder, which most files come from, makes at most 2600
/// (`MAX_HUFF_IMAGE_SIZE`); their tables take at most 120 kB each.
const MOST_GROUPS: u32 = 2600;

/// Longest code, in bits.
const LONGEST: usize = 15;
/// The order in which lengths of the codes for lengths are written.
const LENGTH_ORDER: [usize; 19] = [17, 18, 0, 1, 2, 3, 4, 5, 16, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
/// Symbols for literals and for lengths of copies; those of the colour cache follow them.
const LITERALS: u16 = 256;
const LENGTHS: u16 = 24;

/// Checks a lossless bit stream with its own header (chunk `VP8L`).
///
/// # Errors
/// [`Error::Unsupported`] if it has more groups than we take, [`Error::Truncated`] or [`Error::Corrupt`] if it ends or
/// goes wrong before that is known.
pub(crate) fn check(data: &[u8]) -> Result<(), Error> {
    let mut stream = Stream { bits: Bits { data, at: 0 } };
    stream.bits.read(8)?;
    let (width, height) = (stream.bits.read(14)? + 1, stream.bits.read(14)? + 1);
    stream.bits.read(4)?;
    stream.check(width, height)
}

/// Checks the bit stream of an alpha channel, whose size stands elsewhere.
pub(crate) fn check_alpha(data: &[u8], (width, height): (u32, u32)) -> Result<(), Error> {
    Stream { bits: Bits { data, at: 0 } }.check(width, height)
}

fn corrupt(what: &'static str) -> Error {
    Error::corrupt(Format::WebP, what)
}

/// Bits of a stream, the lowest of each byte first.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn bit(&mut self) -> Result<u32, Error> {
        let byte = self.data.get(self.at / 8).ok_or(Error::Truncated(Format::WebP))?;
        let bit = byte >> (self.at % 8) & 1;
        self.at += 1;
        Ok(bit.into())
    }

    fn read(&mut self, count: u32) -> Result<u32, Error> {
        (0..count).try_fold(0, |value, place| Ok(value | self.bit()? << place))
    }
}

/// A canonical Huffman code.
#[derive(Default)]
struct Code {
    /// How many symbols have codes of each length. None at all: the only symbol takes no bits.
    counts: [u16; LONGEST + 1],
    /// The symbols by length, then by value.
    symbols: Vec<u16>,
}

impl Code {
    fn of_lengths(lengths: &[u8]) -> Result<Self, Error> {
        let mut code = Self::default();
        for length in 1..=LONGEST {
            let of_length = lengths.iter().enumerate().filter(|&(_, l)| usize::from(*l) == length);
            code.symbols.extend(of_length.map(|(symbol, _)| symbol as u16));
            code.counts[length] = code.symbols.len() as u16 - code.counts[..length].iter().sum::<u16>();
        }
        match code.symbols.len() {
            0 => return Err(corrupt("a Huffman code without symbols")),
            1 => code.counts = Default::default(),
            _ => {
                let used: u32 =
                    (1..=LONGEST).map(|length| u32::from(code.counts[length]) << (LONGEST - length)).sum();
                if used != 1 << LONGEST {
                    return Err(corrupt("a Huffman code that is not complete"));
                }
            }
        }
        Ok(code)
    }

    fn symbol(&self, bits: &mut Bits<'_>) -> Result<u16, Error> {
        if let [only] = *self.symbols {
            return Ok(only);
        }
        let (mut code, mut first, mut index) = (0u32, 0u32, 0u32);
        for count in &self.counts[1..] {
            code = code << 1 | bits.bit()?;
            first <<= 1;
            let count = u32::from(*count);
            if code - first < count {
                return Ok(self.symbols[(index + code - first) as usize]);
            }
            (first, index) = (first + count, index + count);
        }
        Err(corrupt("no such Huffman code"))
    }
}

/// The colours seen last, by a hash of them.
struct Cache {
    bits: u32,
    colors: Vec<u32>,
}

impl Cache {
    fn insert(&mut self, argb: u32) {
        self.colors[(0x1E35_A7BD_u32.wrapping_mul(argb) >> (32 - self.bits)) as usize] = argb;
    }
}

struct Stream<'a> {
    bits: Bits<'a>,
}

impl Stream<'_> {
    /// Reads up to the groups of the whole picture.
    fn check(mut self, width: u32, height: u32) -> Result<(), Error> {
        let groups = self.groups(width, height)?;
        if groups > MOST_GROUPS {
            return Err(Error::Unsupported("a WebP with more than 2600 groups of Huffman codes"));
        }
        Ok(())
    }

    fn groups(&mut self, width: u32, height: u32) -> Result<u32, Error> {
        let blocks = |side: u32, bits: u32| side.div_ceil(1 << bits);
        let (mut xsize, mut seen) = (width, [false; 4]);
        while self.bits.bit()? == 1 {
            let transform = self.bits.read(2)? as usize;
            if std::mem::replace(&mut seen[transform], true) {
                return Err(corrupt("a transform comes twice"));
            }
            match transform {
                // Predictors and colours, by blocks.
                0 | 1 => {
                    let bits = self.bits.read(3)? + 2;
                    self.picture(blocks(xsize, bits), blocks(height, bits))?;
                }
                // Green is subtracted.
                2 => {}
                // A palette; a pixel of few colours takes less than a byte.
                _ => {
                    let colors = self.bits.read(8)? + 1;
                    self.picture(colors, 1)?;
                    let bits = match colors {
                        ..=2 => 3,
                        3..=4 => 2,
                        5..=16 => 1,
                        _ => 0,
                    };
                    xsize = blocks(xsize, bits);
                }
            }
        }
        self.cache()?;
        if self.bits.bit()? == 0 {
            return Ok(1);
        }
        let bits = self.bits.read(3)? + 2;
        let of_blocks = self.picture(blocks(xsize, bits), blocks(height, bits))?;
        // Red and green are the group's number.
        Ok(of_blocks.into_iter().map(|argb| argb >> 8 & 0xFFFF).max().unwrap_or(0) + 1)
    }

    fn cache(&mut self) -> Result<Option<Cache>, Error> {
        if self.bits.bit()? == 0 {
            return Ok(None);
        }
        match self.bits.read(4)? {
            bits @ 1..=11 => Ok(Some(Cache { bits, colors: vec![0; 1 << bits] })),
            _ => Err(corrupt("a colour cache of a size that there is not")),
        }
    }

    /// Reads one of the pictures beside the picture. They have one group of codes.
    fn picture(&mut self, width: u32, height: u32) -> Result<Vec<u32>, Error> {
        let mut cache = self.cache()?;
        let cached = cache.as_ref().map_or(0, |cache| cache.colors.len() as u16);
        let green = self.code(LITERALS + LENGTHS + cached)?;
        let [red, blue, alpha] = [self.code(LITERALS)?, self.code(LITERALS)?, self.code(LITERALS)?];
        let distance = self.code(40)?;
        let near = nearest();

        let len = width as usize * height as usize;
        let mut pixels: Vec<u32> = Vec::with_capacity(len);
        while pixels.len() < len {
            let begun = pixels.len();
            match green.symbol(&mut self.bits)? {
                value @ ..LITERALS => {
                    let [r, b, a] = [
                        red.symbol(&mut self.bits)?,
                        blue.symbol(&mut self.bits)?,
                        alpha.symbol(&mut self.bits)?,
                    ];
                    let [a, r, g, b] = [a, r, value, b].map(u32::from);
                    pixels.push(a << 24 | r << 16 | g << 8 | b);
                }
                symbol if symbol < LITERALS + LENGTHS => {
                    let length = self.extended(symbol - LITERALS)?;
                    let symbol = distance.symbol(&mut self.bits)?;
                    let back = match self.extended(symbol)? {
                        far @ 121.. => far - 120,
                        close => {
                            let (x, y) = near[close - 1];
                            (x + y * width as i32).max(1) as usize
                        }
                    };
                    if back > begun || length > len - begun {
                        return Err(corrupt("a copy from outside of the picture"));
                    }
                    for _ in 0..length {
                        pixels.push(pixels[pixels.len() - back]);
                    }
                }
                symbol => {
                    let cached = symbol - LITERALS - LENGTHS;
                    let cache = cache.as_ref().expect("the alphabet ends there without a cache");
                    pixels.push(cache.colors[usize::from(cached)]);
                }
            }
            if let Some(cache) = &mut cache {
                pixels[begun..].iter().for_each(|argb| cache.insert(*argb));
            }
        }
        Ok(pixels)
    }

    /// A length or distance: a prefix, and bits that follow it.
    fn extended(&mut self, prefix: u16) -> Result<usize, Error> {
        let prefix = u32::from(prefix);
        if prefix < 4 {
            return Ok(prefix as usize + 1);
        }
        let extra = (prefix - 2) / 2;
        let offset = (2 + (prefix & 1)) << extra;
        Ok((offset + self.bits.read(extra)?) as usize + 1)
    }

    fn code(&mut self, symbols: u16) -> Result<Code, Error> {
        if self.bits.bit()? == 1 {
            return self.simple_code(symbols);
        }
        let mut lengths = [0; 19];
        let written = 4 + self.bits.read(4)? as usize;
        for at in &LENGTH_ORDER[..written] {
            lengths[*at] = self.bits.read(3)? as u8;
        }
        let code = Code::of_lengths(&lengths)?;
        let mut left = u32::from(symbols);
        if self.bits.bit()? == 1 {
            let bits = 2 + 2 * self.bits.read(3)?;
            left = 2 + self.bits.read(bits)?;
            if left > symbols.into() {
                return Err(corrupt("more code lengths than symbols"));
            }
        }
        let (mut lengths, mut last) = (Vec::with_capacity(symbols.into()), 8);
        while lengths.len() < symbols.into() && left > 0 {
            left -= 1;
            let (length, times) = match code.symbol(&mut self.bits)? {
                16 => (last, 3 + self.bits.read(2)?),
                17 => (0, 3 + self.bits.read(3)?),
                18 => (0, 11 + self.bits.read(7)?),
                length => (length as u8, 1),
            };
            if length != 0 {
                last = length;
            }
            lengths.extend(std::iter::repeat_n(length, times as usize));
        }
        if lengths.len() > symbols.into() {
            return Err(corrupt("more code lengths than symbols"));
        }
        Code::of_lengths(&lengths)
    }

    /// One or two symbols, written out.
    fn simple_code(&mut self, symbols: u16) -> Result<Code, Error> {
        let two = self.bits.bit()? == 1;
        let wide = self.bits.bit()? == 1;
        let mut code =
            Code { symbols: vec![self.bits.read(if wide { 8 } else { 1 })? as u16], ..Code::default() };
        if two {
            code.symbols.push(self.bits.read(8)? as u16);
            code.counts[1] = 2;
        }
        if code.symbols.iter().any(|symbol| *symbol >= symbols) {
            return Err(corrupt("a symbol beyond the alphabet"));
        }
        Ok(code)
    }
}

/// The 120 pixels that a small distance code stands for, as steps to the left and up, nearest first
/// (RFC 9649, section 3.6.2.2).
fn nearest() -> Vec<(i32, i32)> {
    let mut steps: Vec<(i32, i32)> =
        (0..8).flat_map(|y| (-7..9).map(move |x| (x, y))).filter(|&(x, y)| y > 0 || x > 0).collect();
    steps.sort_by_key(|&(x, y)| (x * x + y * y, x.abs(), x < 0));
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_an_encoders_pictures_are_told() {
        let groups = |file: &[u8]| {
            let at = file.windows(4).position(|name| name == b"VP8L").unwrap() + 8;
            let mut stream = Stream { bits: Bits { data: &file[at..], at: 40 } };
            let groups = stream.groups(128, 96).unwrap();
            // The codes of all groups follow, with one of the sizes of the colour cache: nothing was read too much or
            // too little.
            let (data, at) = (stream.bits.data, stream.bits.at);
            let complete = |green: u16| {
                let mut stream = Stream { bits: Bits { data, at } };
                let mut symbols =
                    [green, LITERALS, LITERALS, LITERALS, 40].into_iter().cycle().take(5 * groups as usize);
                symbols.all(|symbols| stream.code(symbols).is_ok())
            };
            assert!((0..12).any(|bits| complete(LITERALS + LENGTHS + (1 << bits & !1))));
            groups
        };
        assert!((2..50).contains(&groups(include_bytes!("../tests/data/photo.webp"))));
        assert_eq!(groups(include_bytes!("../tests/data/drawing.webp")), 1);
    }

    #[test]
    fn near_pixels_are_those_of_the_standard() {
        let near = nearest();
        assert_eq!(near.len(), 120);
        // Its first two rows and its last.
        assert_eq!(near[..8], [(0, 1), (1, 0), (1, 1), (-1, 1), (0, 2), (2, 0), (1, 2), (-1, 2)]);
        assert_eq!(near[8..16], [(2, 1), (-2, 1), (2, 2), (-2, 2), (0, 3), (3, 0), (1, 3), (-1, 3)]);
        assert_eq!(near[112..], [(-6, 7), (7, 6), (-7, 6), (8, 5), (7, 7), (-7, 7), (8, 6), (8, 7)]);
    }
}
