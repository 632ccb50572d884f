//! Maps, and windows that go over them.

/// The size of a map, whose floats lie `[height, width, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
}

impl Shape {
    /// Floats.
    pub(super) fn len(self) -> usize {
        self.height * self.row()
    }

    /// Floats of a row.
    pub(super) fn row(self) -> usize {
        self.width * self.channels
    }
}

/// A map to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Map<'a> {
    pub(super) shape: Shape,
    pub(super) data: &'a [f32],
}

impl<'a> Map<'a> {
    /// A row, if there is one: `y` counts from `above` rows over the first one.
    pub(super) fn row(&self, y: usize, above: usize) -> Option<&'a [f32]> {
        let y = y.checked_sub(above).filter(|&y| y < self.shape.height)?;
        let row = self.shape.row();
        Some(&self.data[y * row..][..row])
    }
}

/// Windows of one size, a number of pixels apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// Rows and columns.
    pub(super) size: [usize; 2],
    pub(super) stride: usize,
    /// Rows above the map and columns left of it that the first window covers.
    pub(super) before: [usize; 2],
    /// Rows below and columns to the right that the last one may.
    pub(super) behind: [usize; 2],
}

impl Window {
    /// Rows and columns of what is made of a map; none if it is smaller than a window.
    pub(super) fn outputs(self, of: Shape) -> Option<[usize; 2]> {
        let along = |size: usize, axis: usize| {
            let room = size + self.before[axis] + self.behind[axis];
            Some(room.checked_sub(self.size[axis])? / self.stride + 1)
        };
        Some([along(of.height, 0)?, along(of.width, 1)?])
    }

    /// Whether it is a pixel alone, at every pixel.
    pub(super) fn is_pixel(self) -> bool {
        self == Self { size: [1, 1], stride: 1, before: [0, 0], behind: [0, 0] }
    }

    /// Copies the pixels of a row from `left` columns before its first one on to `to`, with zeros where there are none.
    pub(super) fn copy_padded(row: Option<&[f32]>, channels: usize, left: usize, to: &mut [f32]) {
        let Some(row) = row else { return to.fill(0.0) };
        let before = (left * channels).min(to.len());
        let (zeros, to) = to.split_at_mut(before);
        zeros.fill(0.0);
        let count = row.len().min(to.len());
        to[..count].copy_from_slice(&row[..count]);
        to[count..].fill(0.0);
    }
}
