//! Which source samples make an output sample, and by how much, along one axis.

/// Beyond this many source samples per output sample, interpolating between two of them would
/// leave others out.
const LARGEST_BILINEAR_STEP: f64 = 2.0;

/// The weights of one axis, in 1/256. Those of each output sample add up to 256, none is negative.
#[derive(Debug)]
pub(super) struct Taps {
    /// First source sample of each output sample, and how many it is made of.
    spans: Vec<(usize, usize)>,
    /// `stride` weights for each output sample; zeros after its last.
    weights: Vec<u16>,
    stride: usize,
}

impl Taps {
    /// Plans the resizing of `luma_len` pixels to `out_len`, on a plane that has one sample per
    /// `step` pixels, sited in their middle.
    pub(super) fn new(luma_len: usize, step: usize, out_len: usize) -> Self {
        let len = luma_len.div_ceil(step);
        // Source samples per output sample. The plane may reach beyond the last pixel.
        let ratio = luma_len as f64 / (step * out_len) as f64;
        let by_area = ratio > LARGEST_BILINEAR_STEP;
        // An interval of this length touches at most so many samples.
        let stride = match if by_area { ratio.ceil() as usize + 1 } else { 2 } {
            0..=2 => 2,
            3..=4 => 4,
            more => more.next_multiple_of(8),
        };
        let mut taps = Self {
            spans: Vec::with_capacity(out_len),
            weights: Vec::with_capacity(out_len * stride),
            stride,
        };
        for out in 0..out_len {
            let first = if by_area {
                taps.push_area(out as f64 * ratio, (out + 1) as f64 * ratio, len)
            } else {
                taps.push_bilinear((out as f64 + 0.5) * ratio - 0.5, len)
            };
            taps.spans.push((first, taps.weights.len() - out * stride));
            taps.weights.resize((out + 1) * stride, 0);
        }
        taps
    }

    /// Returns the first source sample of an output sample, and the weights from there on.
    pub(super) fn of(&self, out: usize) -> (usize, &[u16]) {
        let (first, count) = self.spans[out];
        (first, &self.weights[out * self.stride..][..count])
    }

    /// How many samples `resize` may read behind the first one of any output sample.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Resizes a row of samples in 1/256, which has `stride` more behind its end, whatever they are.
    pub(super) fn resize(&self, source: &[u16], into: &mut [u8]) {
        // As many taps for every sample, a number the compiler knows: no branch to mispredict.
        match self.stride {
            2 => self.resize_by::<2>(source, into),
            4 => self.resize_by::<4>(source, into),
            _ => self.resize_by::<8>(source, into),
        }
    }

    fn resize_by<const N: usize>(&self, source: &[u16], into: &mut [u8]) {
        let weights = self.weights.chunks_exact(self.stride);
        for ((&(first, _), weights), sample) in self.spans.iter().zip(weights).zip(into) {
            let mut sum = 1 << 15;
            let (weights, _) = weights.as_chunks::<N>();
            let (source, _) = source[first..first + self.stride].as_chunks::<N>();
            for (source, weights) in source.iter().zip(weights) {
                for i in 0..N {
                    sum += u32::from(source[i]) * u32::from(weights[i]);
                }
            }
            *sample = (sum >> 16) as u8;
        }
    }

    /// Between the two samples around `centre`; the outermost samples continue beyond the edges.
    fn push_bilinear(&mut self, centre: f64, len: usize) -> usize {
        let centre = centre.clamp(0.0, (len - 1) as f64);
        let first = centre as usize;
        let second = ((centre - first as f64) * 256.0).round() as u16;
        self.weights.push(256 - second);
        if second > 0 {
            self.weights.push(second);
        }
        first
    }

    /// Every sample by its share of the interval `begin..end`.
    fn push_area(&mut self, begin: f64, end: f64, len: usize) -> usize {
        let first = (begin as usize).min(len - 1);
        let last = (end.ceil() as usize).clamp(first + 1, len);
        // Differences of rounded sums: so the weights add up, however many there are.
        let mut before = 0;
        for sample in first..last {
            let covered = (((sample + 1) as f64).min(end) - begin) / (end - begin);
            let sum = if sample + 1 == last { 256 } else { (covered * 256.0).round() as u16 };
            self.weights.push(sum - before);
            before = sum;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_add_up_and_stay_inside() {
        for len in [1, 2, 3, 17, 255, 256, 257, 1280, 4001, 65_500] {
            for step in [1, 2, 4] {
                for out_len in [1, 2, 109, 192, 256] {
                    let taps = Taps::new(len, step, out_len);
                    for out in 0..out_len {
                        let (first, weights) = taps.of(out);
                        assert_eq!(weights.iter().sum::<u16>(), 256, "{len}/{step} to {out_len}: {out}");
                        assert!(
                            first + weights.len() <= len.div_ceil(step),
                            "{len}/{step} to {out_len}: {out}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn same_length_copies() {
        let taps = Taps::new(100, 1, 100);
        assert!((0..100).all(|i| taps.of(i) == (i, &[256])));
    }

    #[test]
    fn area_counts_every_sample_alike() {
        let taps = Taps::new(700, 1, 200);
        let mut total = vec![0u32; 700];
        for out in 0..200 {
            let (first, weights) = taps.of(out);
            for (sum, weight) in total[first..].iter_mut().zip(weights) {
                *sum += u32::from(*weight);
            }
        }
        // 256 · 200 / 700 = 73.1, rounded twice.
        assert!(total.iter().all(|&weight| (72..=75).contains(&weight)));
    }
}
