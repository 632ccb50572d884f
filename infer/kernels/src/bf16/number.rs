//! The number itself.

/// The upper half of a float32: its sign, its exponent and seven digits of its fraction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// The nearest to `value`, of two equally near ones the even one. Denormals become zero, NaN stays NaN: what
    /// `vcvtneps2bf16` does.
    #[inline(always)]
    pub const fn from_f32(value: f32) -> Self {
        let bits = value.to_bits();
        if value.is_nan() {
            return Self((bits >> 16) as u16 | 0x40);
        }
        if bits & 0x7f80_0000 == 0 {
            return Self((bits >> 16) as u16 & 0x8000);
        }
        Self(((bits + 0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }

    /// The same number.
    #[inline(always)]
    pub const fn to_f32(self) -> f32 {
        f32::from_bits((self.0 as u32) << 16)
    }
}

/// Memory of floats as twice as many bfloat16.
pub fn numbers(floats: &[f32]) -> &[Bf16] {
    // SAFETY: both are plain numbers without invalid bits; the memory is as long, and aligned for more.
    unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), 2 * floats.len()) }
}

/// [`numbers`] to write.
pub fn numbers_mut(floats: &mut [f32]) -> &mut [Bf16] {
    // SAFETY: as above, and `floats` is borrowed mutably.
    unsafe { std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), 2 * floats.len()) }
}

/// Writes `from` as float32.
///
/// # Panics
/// If the lengths differ.
pub fn widen(from: &[Bf16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len(), "as many numbers");
    to.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_f32());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_and_ties_to_even() {
        for (value, expected) in [
            (1.0, 1.0),
            (1.0 + 1.0 / 256.0, 1.0),
            (1.0 + 3.0 / 256.0, 1.0 + 4.0 / 256.0),
            (1.0 + 1.01 / 256.0, 1.0 + 2.0 / 256.0),
            (-127.5, -127.5),
            (f32::MAX, f32::INFINITY),
            (f32::MIN_POSITIVE / 2.0, 0.0),
            (f32::NEG_INFINITY, f32::NEG_INFINITY),
        ] {
            assert_eq!(Bf16::from_f32(value).to_f32(), expected, "{value}");
        }
        assert!(Bf16::from_f32(f32::NAN).to_f32().is_nan());
        assert!(Bf16::from_f32(f32::from_bits(0x7f80_0001)).to_f32().is_nan(), "not infinite");
    }

    #[test]
    fn every_number_is_itself() {
        for bits in 0..=u16::MAX {
            let number = Bf16(bits);
            let is_denormal = bits & 0x7f80 == 0;
            if !is_denormal && !number.to_f32().is_nan() {
                assert_eq!(Bf16::from_f32(number.to_f32()), number);
            }
        }
    }

    #[test]
    fn two_lie_in_a_float() {
        let mut floats = [0.0; 2];
        numbers_mut(&mut floats)[3] = Bf16::from_f32(-2.5);
        assert_eq!(numbers(&floats)[2..].iter().map(|n| n.to_f32()).collect::<Vec<_>>(), [0.0, -2.5]);
        let mut wide = [1.0; 4];
        widen(numbers(&floats), &mut wide);
        assert_eq!(wide, [0.0, 0.0, 0.0, -2.5]);
    }
}
