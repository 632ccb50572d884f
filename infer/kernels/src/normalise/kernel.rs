//! A plain loop: the compiler vectorises it for the instruction set of the function it is inlined in.

use super::Pattern;

#[inline(always)]
pub(crate) fn normalise(pattern: &Pattern, pixels: &[u8], output: &mut [f32]) {
    let (whole, rest) = pixels.as_chunks::<{ Pattern::PERIOD }>();
    let (whole_out, rest_out) = output.as_chunks_mut::<{ Pattern::PERIOD }>();
    for (from, to) in whole.iter().zip(whole_out) {
        for i in 0..Pattern::PERIOD {
            to[i] = f32::from(from[i]) * pattern.scale[i] + pattern.offset[i];
        }
    }
    for (i, (from, to)) in rest.iter().zip(rest_out).enumerate() {
        *to = f32::from(*from) * pattern.scale[i] + pattern.offset[i];
    }
}
