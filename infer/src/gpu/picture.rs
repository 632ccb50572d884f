//! A picture as it is uploaded: the rows that resizing reads, and how.
//!
//! Of a picture much larger than the model's input most rows are read by no output row. What is read goes to
//! the device in pairs, the upper and the lower row of each output row, so that the kernel needs no indices
//! for them. All numbers are little-endian `u32`; offsets count bytes from the picture's beginning, and every
//! part begins at a multiple of 16.
//!
//! | word | what |
//! |---|---|
//! | 0–2 | offsets of the rows of Y, U, V |
//! | 3, 4 | bytes of a row of Y, of U and V |
//! | 5, 6 | offsets of the taps across, Y and chroma: first sample, plus the second one's share × 2²³ |
//! | 7, 8 | offsets of the shares of the lower rows, Y and chroma |
//! | 9–12 | width and height of the resized picture, and its left and top in the model input |
//! | 13 | 1 if there is chroma |
//!
//! A batch's upload is the offsets of its pictures from its beginning, then the pictures.

use cloudpose_pixels::{Component, PlanarImage, Plane, Recent, Scale, Subsampling};

use crate::preprocess::{Axes, Fit, Placement, Plan, Preprocessor, Source, Tap, Transform};

/// Words before the first part.
pub(super) const HEADER_WORDS: usize = 16;
/// Where a tap's share begins, in bits.
pub(super) const SHARE_SHIFT: u32 = 23;
/// Where parts begin.
const ALIGNMENT: usize = 16;
/// Bytes that are uploaded at once, at most: more than any one picture has. The largest are two rows for each of the
/// 256 rows of a model's input, in three planes 65 500 samples wide. A full batch of ordinary pictures has less.
pub(super) const MOST_UPLOAD: usize = 128 << 20;

/// A picture packed for upload.
#[derive(Debug, Default)]
pub struct Picture {
    bytes: Vec<u8>,
    recent: Recent,
    /// Of the model input, in pixels.
    pub(crate) height: usize,
    pub(crate) width: usize,
    pub(crate) image_from_model: Option<Transform>,
}

impl Picture {
    /// The whole of `image`, of at least one pixel, fitted into a model's input.
    pub fn whole(image: &PlanarImage, fit: Fit) -> Self {
        let source = Source { width: image.width(), height: image.height(), scale: Scale::FULL };
        let mut picture = Self::default();
        picture.pack(image, Preprocessor::new(fit).plan(image, source, None));
        picture
    }

    /// Packs what `plan` reads of `image`, into the memory that was used before.
    pub(crate) fn pack(&mut self, image: &PlanarImage, plan: &Plan) {
        let Placement { width, height, inner_width, inner_height, x0, y0 } = plan.placement;
        (self.height, self.width) = (height, width);
        self.image_from_model = Some(plan.image_from_model);
        self.bytes.clear();
        self.bytes.resize(HEADER_WORDS * 4, 0);
        let chroma = (image.subsampling() != Subsampling::Grey).then_some(&plan.chroma);
        let mut header = [0; HEADER_WORDS];
        header[0] = self.rows(image.luma(), &plan.luma);
        header[3] = image.luma().width as u32;
        [header[5], header[7]] = self.taps(&plan.luma);
        if let Some(chroma) = chroma {
            for (slot, component) in [(1, Component::U), (2, Component::V)] {
                let plane = image.plane(component).expect("not grey");
                header[slot] = self.rows(plane, chroma);
                header[4] = plane.width as u32;
            }
            [header[6], header[8]] = self.taps(chroma);
            header[13] = 1;
        }
        for (slot, value) in [(9, inner_width), (10, inner_height), (11, x0), (12, y0)] {
            header[slot] = value as u32;
        }
        for (bytes, word) in self.bytes.chunks_exact_mut(4).zip(header) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        self.recent.settle(&mut self.bytes);
    }

    /// The packed bytes, a multiple of 16.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn rows(&mut self, plane: Plane<'_>, axes: &Axes) -> u32 {
        let start = self.bytes.len();
        for tap in &axes.down {
            self.bytes.extend_from_slice(&plane.row(tap.first)[..plane.width]);
            self.bytes.extend_from_slice(&plane.row(tap.second)[..plane.width]);
        }
        self.close(start)
    }

    fn taps(&mut self, axes: &Axes) -> [u32; 2] {
        // Shares are at most 256, and no picture is 2²³ pixels wide.
        let mut part = |taps: &[Tap], word: fn(&Tap) -> u32| {
            let start = self.bytes.len();
            taps.iter().for_each(|tap| self.bytes.extend_from_slice(&word(tap).to_le_bytes()));
            self.close(start)
        };
        [
            part(&axes.across, |tap| tap.first as u32 | tap.share << SHARE_SHIFT),
            part(&axes.down, |tap| tap.share),
        ]
    }

    /// Ends the part that began at `start`, and says where that is.
    fn close(&mut self, start: usize) -> u32 {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        start as u32
    }
}

/// Bytes before the first picture of an upload.
pub(super) fn table_len(images: usize) -> usize {
    (4 * images).next_multiple_of(ALIGNMENT)
}

/// Bytes of the upload of `pictures`.
pub(super) fn upload_len(pictures: &[&Picture]) -> usize {
    table_len(pictures.len()) + pictures.iter().map(|picture| picture.bytes.len()).sum::<usize>()
}

/// Cuts `pictures` into parts, in order, whose uploads have `most` bytes or are of one picture.
pub(super) fn cut<'a, 'b>(pictures: &'a [&'b Picture], most: usize) -> Vec<&'a [&'b Picture]> {
    let mut parts = Vec::with_capacity(1);
    let mut rest = pictures;
    while !rest.is_empty() {
        let fits = |count: &usize| upload_len(&rest[..*count]) <= most;
        let count = (1..=rest.len()).rev().find(fits).unwrap_or(1);
        let (part, after) = rest.split_at(count);
        parts.push(part);
        rest = after;
    }
    parts
}

/// Writes the upload of `pictures` into `upload`, which is [`upload_len`] long.
pub(super) fn write_upload(pictures: &[&Picture], upload: &mut [u8]) {
    let mut start = table_len(pictures.len());
    for (index, picture) in pictures.iter().enumerate() {
        upload[4 * index..4 * index + 4].copy_from_slice(&(start as u32).to_le_bytes());
        upload[start..start + picture.bytes.len()].copy_from_slice(&picture.bytes);
        start += picture.bytes.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_where_the_next_picture_would_be_too_much() {
        let picture = |bytes: usize| Picture { bytes: vec![0; bytes], ..Picture::default() };
        let sizes = |pictures: &[&Picture], most| -> Vec<usize> {
            cut(pictures, most).iter().map(|part| part.len()).collect()
        };
        let pictures = [16, 16, 16, 160, 16].map(picture);
        let pictures: Vec<&Picture> = pictures.iter().collect();
        assert_eq!(sizes(&pictures, 1000), [5]);
        assert_eq!(sizes(&pictures, upload_len(&pictures)), [5]);
        assert_eq!(sizes(&pictures, upload_len(&pictures) - 1), [4, 1]);
        assert_eq!(sizes(&pictures, upload_len(&pictures[..2])), [2, 1, 1, 1], "the large one goes alone");
        assert!(sizes(&[], 1000).is_empty());
    }

    #[test]
    fn a_large_picture_is_not_paid_for_for_ever() {
        let fit = Fit::Letterbox { side: 192 };
        let mut picture = Picture::whole(&PlanarImage::new(4096, 2048, Subsampling::S444), fit);
        let large = picture.bytes.capacity();
        let small = PlanarImage::new(64, 64, Subsampling::S420);
        let source = Source { width: 64, height: 64, scale: Scale::FULL };
        for _ in 0..100 {
            picture.pack(&small, Preprocessor::new(fit).plan(&small, source, None));
        }
        assert!(picture.bytes.capacity() * 4 < large, "{} of {large}", picture.bytes.capacity());
    }
}
