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
    is_scratch: bool,
    first_step: usize,
    last_step: usize,
}

impl Span {
    /// Floats of all of them.
    fn size(&self) -> usize {
        self.count * self.floats
    }
}

/// Which buffers there are, how large, and from which step to which step each is in use.
#[derive(Debug, Default)]
pub(super) struct Layout {
    spans: Vec<Span>,
}

impl Layout {
    /// A buffer that `step` writes for a picture.
    pub(super) fn buffer(&mut self, floats: usize, step: usize) -> Buffer {
        self.push(floats, false, step)
    }

    /// A buffer that `step` uses while it runs, for however many pictures.
    pub(super) fn scratch(&mut self, floats: usize, step: usize) -> Buffer {
        self.push(floats, true, step)
    }

    fn push(&mut self, floats: usize, is_scratch: bool, step: usize) -> Buffer {
        self.spans.push(Span { floats, count: 1, is_scratch, first_step: step, last_step: step });
        Buffer(self.spans.len() - 1)
    }

    /// Keeps `buffer` alive through `step`, not earlier than any it was named with.
    pub(super) fn keep(&mut self, buffer: Buffer, step: usize) {
        let span = &mut self.spans[buffer.0];
        span.last_step = span.last_step.max(step);
    }

    /// Makes room for several `pictures`, which go `together` through some of the `steps`, and one after another through
    /// those before and those behind. What is in use only there exists once.
    pub(super) fn for_pictures(&mut self, pictures: usize, together: Range<usize>, steps: usize) {
        for span in self.spans.iter_mut().filter(|span| !span.is_scratch) {
            let (first, last) = (span.first_step, span.last_step);
            if last < together.start || first >= together.end && last < steps {
                continue;
            }
            span.count = pictures;
            // The steps on either side are repeated.
            if first < together.start {
                span.first_step = 0;
            }
            if last >= together.end {
                span.first_step = span.first_step.min(together.end);
                span.last_step = steps;
            }
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
        let places = |(range, span): (&Range<usize>, &Span)| Places {
            first: range.start..range.start + span.floats,
            pitch: if span.count > 1 { span.floats } else { 0 },
        };
        Placement { floats, places: ranges.iter().zip(&self.spans).map(places).collect() }
    }
}

/// Where each buffer of a [`Layout`] lies.
#[derive(Debug)]
pub(super) struct Placement {
    /// The size of the arena.
    pub(super) floats: usize,
    places: Vec<Places>,
}

impl Placement {
    /// The floats of `buffer`, or none.
    pub(super) fn places(&self, buffer: Option<Buffer>) -> Places {
        buffer.map_or_else(Places::default, |buffer| self.places[buffer.0].clone())
    }
}

/// Where a buffer lies for each picture: one behind the other without a gap, or all in one place.
#[derive(Clone, Debug, Default)]
pub(crate) struct Places {
    first: Range<usize>,
    pitch: usize,
}

impl Places {
    /// For that picture.
    pub(crate) fn of(&self, picture: usize) -> Range<usize> {
        self.over(picture..picture + 1)
    }

    /// For those pictures, one or more.
    pub(super) fn over(&self, pictures: Range<usize>) -> Range<usize> {
        self.first.start + pictures.start * self.pitch..self.first.end + (pictures.end - 1) * self.pitch
    }
}

/// The parts of the arena that a step uses for some pictures; unused ones are empty.
#[derive(Clone, Debug)]
pub(crate) struct Regions {
    /// `[height, width, channels]`, read.
    pub(super) input: Range<usize>,
    /// `[height / 2, width / 2, channels]`, read.
    pub(super) coarse: Range<usize>,
    /// `[height / stride, width / stride, channels]`, written.
    pub(super) output: Range<usize>,
    /// Scratch, as large as the step says.
    pub(super) ring: Range<usize>,
    pub(super) middle: Range<usize>,
    pub(super) rows: Range<usize>,
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
        let ranges: Vec<Range<usize>> = buffers.iter().map(|&b| placement.places(Some(b)).of(0)).collect();
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
        assert!(Layout::default().place().places(None).of(3).is_empty());
    }

    /// Every buffer is written by its step and read by later ones; each picture's turn must find what it left there.
    #[test]
    fn pictures_that_go_apart_and_together_do_not_disturb_one_another() {
        const STEPS: usize = 7;
        const PICTURES: usize = 3;
        // The steps that read what each step writes; one behind the last is whoever reads results.
        let readers: [&[usize]; STEPS] = [&[1], &[2, 5], &[3], &[4, 6], &[5], &[6, STEPS], &[STEPS]];
        for together in [0..7, 0..3, 2..4, 3..3, 4..7, 7..7] {
            let mut layout = Layout::default();
            let buffers: Vec<Buffer> = (0..STEPS).map(|step| layout.buffer(16 * (step + 1), step)).collect();
            for (&buffer, readers) in buffers.iter().zip(readers) {
                readers.iter().for_each(|&reader| layout.keep(buffer, reader));
            }
            layout.for_pictures(PICTURES, together.clone(), STEPS);
            let placement = layout.place();
            let mut arena = vec![None; placement.floats];
            let place = |step: usize, picture| placement.places(Some(buffers[step])).of(picture);
            let mut turn = |step: usize, picture: usize| {
                for from in (0..step).filter(|&from| readers[from].contains(&step)) {
                    let read = &arena[place(from, picture)];
                    assert!(
                        read.iter().all(|&left| left == Some((from, picture))),
                        "{together:?}, step {step}"
                    );
                }
                arena[place(step, picture)].fill(Some((step, picture)));
            };
            for (steps, is_together) in
                [(0..together.start, false), (together.clone(), true), (together.end..STEPS, false)]
            {
                if is_together {
                    steps.for_each(|step| (0..PICTURES).for_each(|picture| turn(step, picture)));
                } else {
                    (0..PICTURES).for_each(|picture| steps.clone().for_each(|step| turn(step, picture)));
                }
            }
            for picture in 0..PICTURES {
                for step in [5, 6] {
                    assert!(arena[place(step, picture)].iter().all(|&left| left == Some((step, picture))));
                }
            }
        }
    }
}
