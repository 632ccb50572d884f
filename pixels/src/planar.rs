//! The planes of a picture, their layout and subsampling.

use crate::Recent;

/// How many luma samples share one chroma sample.
///
/// Chroma is sited in the middle of the luma samples that share it, as in JPEG (T.871 section 6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subsampling {
    /// One luma sample: full colour resolution.
    S444,
    /// 2 across.
    S422,
    /// 2 across, 2 down.
    S420,
    /// 2 down: what 4:2:2 becomes when it is turned by 90°.
    S440,
    /// 4 across.
    S411,
    /// 4 down: what 4:1:1 becomes when it is turned by 90°.
    S441,
    /// No chroma planes.
    Grey,
}

impl Subsampling {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::S444, Self::S422, Self::S420, Self::S440, Self::S411, Self::S441, Self::Grey];

    /// Returns the luma samples per chroma sample, (across, down). (1, 1) for grey.
    #[inline]
    pub const fn step(self) -> (usize, usize) {
        match self {
            Self::S444 | Self::Grey => (1, 1),
            Self::S422 => (2, 1),
            Self::S420 => (2, 2),
            Self::S440 => (1, 2),
            Self::S411 => (4, 1),
            Self::S441 => (1, 4),
        }
    }

    /// Returns what this becomes when rows and columns change places.
    pub const fn transposed(self) -> Self {
        match self {
            Self::S422 => Self::S440,
            Self::S440 => Self::S422,
            Self::S411 => Self::S441,
            Self::S441 => Self::S411,
            same => same,
        }
    }
}

/// Which plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// Luma, 0 black to 255 white.
    Y,
    /// Blue-difference chroma (Cb), 128 neutral.
    U,
    /// Red-difference chroma (Cr), 128 neutral.
    V,
}

/// A picture as planes of 8-bit full-range BT.601 YUV, upright, origin top left.
///
/// All planes lie in one buffer, Y then U then V, rows without gaps. For subsamplings other than
/// 4:4:4 and grey the Y plane is padded on the right and at the bottom to whole chroma samples:
/// that is libjpeg-turbo's unified planar layout (`tj3DecompressToYUV8` with `align` 1).
///
/// The buffer is kept when the image is resized, so an image decoded into over and over allocates
/// only when a larger one comes. It shrinks when it has long been far too large ([`Recent`]).
#[derive(Debug)]
pub struct PlanarImage {
    samples: Vec<u8>,
    recent: Recent,
    width: usize,
    height: usize,
    subsampling: Subsampling,
}

impl Clone for PlanarImage {
    fn clone(&self) -> Self {
        let Self { samples, recent, width, height, subsampling } = self;
        let (samples, recent) = (samples.clone(), recent.clone());
        Self { samples, recent, width: *width, height: *height, subsampling: *subsampling }
    }

    /// In the buffer that is there, if it is large enough.
    fn clone_from(&mut self, other: &Self) {
        self.resize(other.width, other.height, other.subsampling);
        self.samples.copy_from_slice(&other.samples);
    }
}

/// One plane to read. Row `y` begins at `samples[y * stride]`.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct Plane<'a> {
    pub samples: &'a [u8],
    /// Samples from one row to the next; at least `width`.
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

/// One plane to write. Row `y` begins at `samples[y * stride]`.
#[derive(Debug)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub struct PlaneMut<'a> {
    pub samples: &'a mut [u8],
    /// Samples from one row to the next; at least `width`.
    pub stride: usize,
    pub width: usize,
    pub height: usize,
}

impl<'a> Plane<'a> {
    /// Returns the samples of row `y`, without padding.
    #[inline]
    pub fn row(&self, y: usize) -> &'a [u8] {
        &self.samples[y * self.stride..][..self.width]
    }
}

impl PlaneMut<'_> {
    /// Returns the samples of row `y`, without padding.
    #[inline]
    pub fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.samples[y * self.stride..][..self.width]
    }
}

impl Default for PlanarImage {
    /// An image of no pixels, to decode into.
    fn default() -> Self {
        Self {
            samples: Vec::new(),
            recent: Recent::default(),
            width: 0,
            height: 0,
            subsampling: Subsampling::Grey,
        }
    }
}

impl PlanarImage {
    /// Makes a mid-grey image (every sample 128).
    pub fn new(width: usize, height: usize, subsampling: Subsampling) -> Self {
        let mut image = Self::default();
        image.resize(width, height, subsampling);
        image
    }

    /// Gives the image another shape, keeping its buffer. What the samples hold is unspecified.
    pub fn resize(&mut self, width: usize, height: usize, subsampling: Subsampling) {
        (self.width, self.height, self.subsampling) = (width, height, subsampling);
        let (y, chroma) = self.plane_lens();
        self.samples.resize(y + 2 * chroma, 128);
        self.recent.settle(&mut self.samples);
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// How the chroma planes relate to the luma plane.
    pub fn subsampling(&self) -> Subsampling {
        self.subsampling
    }

    /// Returns one plane, or `None` for the chroma of a grey image.
    pub fn plane(&self, component: Component) -> Option<Plane<'_>> {
        let (y, chroma) = self.plane_lens();
        let samples = match component {
            Component::Y => &self.samples[..y],
            _ if self.subsampling == Subsampling::Grey => return None,
            Component::U => &self.samples[y..y + chroma],
            Component::V => &self.samples[y + chroma..],
        };
        let (stride, width, height) = self.geometry(component);
        Some(Plane { samples, stride, width, height })
    }

    /// Returns the luma plane.
    pub fn luma(&self) -> Plane<'_> {
        self.plane(Component::Y).expect("every image has luma")
    }

    /// Returns all planes to write: Y, and U and V unless the image is grey.
    pub fn planes_mut(&mut self) -> (PlaneMut<'_>, Option<[PlaneMut<'_>; 2]>) {
        let (y_len, chroma_len) = self.plane_lens();
        let (stride, width, height) = self.geometry(Component::Y);
        let (chroma_stride, chroma_width, chroma_height) = self.geometry(Component::U);
        let grey = self.subsampling == Subsampling::Grey;
        let (y, chroma) = self.samples.split_at_mut(y_len);
        let (u, v) = chroma.split_at_mut(chroma_len);
        let chroma = (!grey).then(|| {
            [u, v].map(|samples| PlaneMut {
                samples,
                stride: chroma_stride,
                width: chroma_width,
                height: chroma_height,
            })
        });
        (PlaneMut { samples: y, stride, width, height }, chroma)
    }

    /// Gives a grey image neutral chroma planes (4:2:0), so that colours can be drawn on it.
    /// Leaves any other image as it is.
    pub fn add_chroma(&mut self) {
        if self.subsampling != Subsampling::Grey {
            return;
        }
        let (width, height) = (self.width, self.height);
        self.resize(width, height, Subsampling::S420);
        let (stride, ..) = self.geometry(Component::Y);
        if stride != width {
            // Rows grow apart: from the last one, so that none is overwritten before it has moved.
            for y in (0..height).rev() {
                self.samples.copy_within(y * width..(y + 1) * width, y * stride);
            }
        }
        let (y_len, _) = self.plane_lens();
        self.samples[y_len..].fill(128);
        self.extend_edges();
    }

    /// Bytes that the buffer has room for.
    pub(crate) fn room(&self) -> usize {
        self.samples.capacity()
    }

    /// All planes as libjpeg-turbo takes them.
    pub(crate) fn samples(&self) -> &[u8] {
        &self.samples
    }

    /// All planes as libjpeg-turbo fills them.
    pub(crate) fn samples_mut(&mut self) -> &mut [u8] {
        &mut self.samples
    }

    /// Copies the last luma column and row into the padding, so that the encoder, which compresses
    /// the padding too, sees no edge there.
    pub fn extend_edges(&mut self) {
        let (stride, width, height) = self.geometry(Component::Y);
        let (y_len, _) = self.plane_lens();
        if width == 0 || height == 0 {
            return;
        }
        if stride > width {
            for row in self.samples[..height * stride].chunks_exact_mut(stride) {
                let last = row[width - 1];
                row[width..].fill(last);
            }
        }
        let last_row = (height - 1) * stride..height * stride;
        for start in (height * stride..y_len).step_by(stride) {
            self.samples.copy_within(last_row.clone(), start);
        }
    }

    /// Samples in the luma plane and in each chroma plane, padding included.
    fn plane_lens(&self) -> (usize, usize) {
        let (across, down) = self.subsampling.step();
        let luma = self.width.next_multiple_of(across) * self.height.next_multiple_of(down);
        match self.subsampling {
            Subsampling::Grey => (luma, 0),
            _ => (luma, self.width.div_ceil(across) * self.height.div_ceil(down)),
        }
    }

    /// (stride, width, height) of a plane.
    fn geometry(&self, component: Component) -> (usize, usize, usize) {
        let (across, down) = self.subsampling.step();
        match component {
            Component::Y => (self.width.next_multiple_of(across), self.width, self.height),
            Component::U | Component::V => {
                let width = self.width.div_ceil(across);
                (width, width, self.height.div_ceil(down))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_libjpeg_turbos() {
        for subsampling in Subsampling::ALL {
            for (width, height) in [(1, 1), (2, 3), (17, 13), (640, 480)] {
                let image = PlanarImage::new(width, height, subsampling);
                let theirs =
                    turbojpeg::yuv_pixels_len(width, 1, height, crate::jpeg::to_turbo(subsampling)).unwrap();
                assert_eq!(image.samples().len(), theirs, "{width}×{height} {subsampling:?}");
            }
        }
    }

    #[test]
    fn adding_chroma_keeps_luma() {
        for (width, height) in [(5, 3), (8, 4), (1, 1), (0, 3), (3, 0)] {
            let mut image = PlanarImage::new(width, height, Subsampling::Grey);
            for (i, sample) in image.samples_mut().iter_mut().enumerate() {
                *sample = i as u8;
            }
            image.add_chroma();
            assert_eq!(image.subsampling(), Subsampling::S420);
            for y in 0..height {
                let expected: Vec<u8> = (0..width).map(|x| (y * width + x) as u8).collect();
                assert_eq!(image.luma().row(y), expected);
            }
            let chroma = image.plane(Component::U).unwrap();
            assert!(chroma.samples.iter().all(|&s| s == 128));
            assert!(image.plane(Component::V).unwrap().samples.iter().all(|&s| s == 128));
        }
    }

    #[test]
    fn edges_are_repeated_in_the_padding_and_nothing_else_changes() {
        for subsampling in Subsampling::ALL {
            for (width, height) in [(1, 1), (5, 3), (7, 6), (8, 4), (9, 9)] {
                let mut image = PlanarImage::new(width, height, subsampling);
                for (i, sample) in image.samples_mut().iter_mut().enumerate() {
                    *sample = (i * 37 % 251) as u8;
                }
                let before = image.clone();
                image.extend_edges();
                let (across, down) = subsampling.step();
                let stride = width.next_multiple_of(across);
                for y in 0..height.next_multiple_of(down) {
                    for x in 0..stride {
                        let edge = before.luma().row(y.min(height - 1))[x.min(width - 1)];
                        let case = format!("{width}×{height} {subsampling:?} ({x}, {y})");
                        assert_eq!(image.samples()[y * stride + x], edge, "{case}");
                    }
                }
                let (luma, _) = image.plane_lens();
                assert_eq!(image.samples()[luma..], before.samples()[luma..], "chroma is not padded");
            }
        }
    }

    #[test]
    fn a_large_picture_is_not_paid_for_for_ever() {
        let mut image = PlanarImage::new(4096, 4096, Subsampling::S420);
        let mut resized = |times: usize| {
            (0..times).for_each(|_| image.resize(640, 480, Subsampling::S420));
            image.room()
        };
        assert!(resized(1) >= 4096 * 4096, "the next may be as large");
        assert_eq!(resized(100), 640 * 480 * 3 / 2);
    }

    #[test]
    fn shrinking_and_growing_back_keeps_the_buffer() {
        let mut image = PlanarImage::new(640, 480, Subsampling::S420);
        let buffer = image.samples().as_ptr();
        image.resize(32, 32, Subsampling::S444);
        image.resize(640, 480, Subsampling::S420);
        assert_eq!(image.samples().as_ptr(), buffer);
    }
}
