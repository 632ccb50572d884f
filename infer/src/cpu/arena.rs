//! One block of memory for all activations: buffers that are never live at the same step share floats.

use std::ops::Range;

/// Buffers begin on a cache line.
const ALIGNMENT: usize = 16;

/// A buffer of a [`Layout`] under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Buffer(usize);

#[derive(Clone, Copy, Debug)]
struct Span {
    /// Of one of them.
    floats: usize,
    count: usize,
    first_step: usize,
    last_step: usize,
}

impl Span {
    /// Floats of all of them.
    fn size(&self) -> usize {
        match self.count {
            1 => self.floats,
            count => count * self.floats.next_multiple_of(ALIGNMENT),
        }
    }
}

/// Where the buffer of another picture than the first lies.
pub(super) fn of_picture(first: &Range<usize>, picture: usize) -> Range<usize> {
    let offset = picture * first.len().next_multiple_of(ALIGNMENT);
    first.start + offset..first.end + offset
}

/// Which buffers there are, how large, and from which step to which step each is in use.
#[derive(Debug, Default)]
pub(super) struct Layout {
    spans: Vec<Span>,
}

impl Layout {
    /// A buffer that `step` uses.
    pub(super) fn buffer(&mut self, floats: usize, step: usize) -> Buffer {
        self.buffers(1, floats, step)
    }

    /// One for each of `count` pictures, side by side: [`of_picture`] says where.
    pub(super) fn buffers(&mut self, count: usize, floats: usize, step: usize) -> Buffer {
        self.spans.push(Span { floats, count, first_step: step, last_step: step });
        Buffer(self.spans.len() - 1)
    }

    /// Keeps `buffer` alive through `step`, not earlier than any it was named with.
    pub(super) fn keep(&mut self, buffer: Buffer, step: usize) {
        let span = &mut self.spans[buffer.0];
        span.last_step = span.last_step.max(step);
    }

    /// Lets the steps before `step` run once for each picture before `step` does: what they leave for later is in use from
    /// the start.
    pub(super) fn repeat_before(&mut self, step: usize) {
        for span in self.spans.iter_mut().filter(|span| span.last_step >= step && span.first_step < step) {
            span.first_step = 0;
        }
    }

    /// Places every buffer and says how many floats that takes.
    ///
    /// Greedy by size, as in "Efficient Memory Management for Deep Neural Net Inference" (Pisarchyk and
    /// Lee, 2020, arXiv:2001.03288), section 5: largest first, each at the lowest offset that is free
    /// during its whole life.
    pub(super) fn place(&self) -> Placement {
        let mut order: Vec<usize> = (0..self.spans.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(self.spans[i].size()));
        let mut ranges = vec![0..0; self.spans.len()];
        let mut placed: Vec<usize> = Vec::new();
        for index in order {
            let span = self.spans[index];
            let mut taken: Vec<Range<usize>> = placed
                .iter()
                .filter(|&&other| {
                    let other = self.spans[other];
                    other.first_step <= span.last_step && span.first_step <= other.last_step
                })
                .map(|&other| ranges[other].clone())
                .collect();
            taken.sort_by_key(|range| range.start);
            let mut start = 0;
            for range in taken {
                if start + span.size() <= range.start {
                    break;
                }
                start = start.max(range.end.next_multiple_of(ALIGNMENT));
            }
            ranges[index] = start..start + span.size();
            placed.push(index);
        }
        let floats = ranges.iter().map(|range| range.end).max().unwrap_or(0);
        let first = |(range, span): (&Range<usize>, &Span)| range.start..range.start + span.floats;
        Placement { floats, ranges: ranges.iter().zip(&self.spans).map(first).collect() }
    }
}

/// Where each buffer of a [`Layout`] lies.
#[derive(Debug)]
pub(super) struct Placement {
    /// The size of the arena.
    pub(super) floats: usize,
    ranges: Vec<Range<usize>>,
}

impl Placement {
    /// The floats of `buffer`, of the first of several, or none.
    pub(super) fn range(&self, buffer: Option<Buffer>) -> Range<usize> {
        buffer.map_or(0..0, |buffer| self.ranges[buffer.0].clone())
    }
}

/// The parts of the arena that a step uses for one picture; unused ones are empty.
#[derive(Clone, Debug)]
pub(in crate::cpu) struct Regions {
    /// `[height, width, channels]`, read.
    pub(super) input: Range<usize>,
    /// `[height / 2, width / 2, channels]`, read.
    pub(super) coarse: Range<usize>,
    /// `[height / stride, width / stride, channels]`, written.
    pub(super) output: Range<usize>,
    /// Scratch, the same for all pictures, as large as the step says.
    pub(super) ring: Range<usize>,
    pub(super) middle: Range<usize>,
    pub(super) rows: Range<usize>,
}

impl Regions {
    /// Those of another picture than the first.
    pub(super) fn of(&self, picture: usize) -> Self {
        let [input, coarse, output] =
            [&self.input, &self.coarse, &self.output].map(|first| of_picture(first, picture));
        Self { input, coarse, output, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_that_live_together_are_apart_and_others_share() {
        let mut layout = Layout::default();
        let sizes = [100, 37, 5, 64, 100, 1, 80];
        let buffers: Vec<Buffer> = (0..sizes.len()).map(|step| layout.buffer(sizes[step], step)).collect();
        for (step, &buffer) in buffers.iter().enumerate() {
            layout.keep(buffer, step + 1);
        }
        layout.keep(buffers[1], 6);
        let placement = layout.place();
        let ranges: Vec<Range<usize>> = buffers.iter().map(|&b| placement.range(Some(b))).collect();
        for (i, a) in ranges.iter().enumerate() {
            assert_eq!(a.len(), sizes[i]);
            assert!(a.start.is_multiple_of(ALIGNMENT) && a.end <= placement.floats);
            for (j, b) in ranges.iter().enumerate().skip(i + 1) {
                let together = j == i + 1 || i == 1;
                assert!(!together || a.end <= b.start || b.end <= a.start, "{i} and {j} overlap");
            }
        }
        assert!(placement.floats < sizes.iter().sum(), "nothing is shared");
    }

    #[test]
    fn no_buffer_is_no_floats() {
        assert!(Layout::default().place().range(None).is_empty());
    }
}
