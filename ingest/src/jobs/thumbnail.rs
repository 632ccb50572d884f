//! Small pictures of the images of jobs.

use bytes::Bytes;
use cloudpose_pixels::{Component, Decoder, Encoder, Error, Limits, PlanarImage, Plane, PlaneMut};

/// No thumbnail is wider or higher, in pixels.
pub(crate) const SIDE: usize = 200;
const QUALITY: u8 = 85;

/// A small picture.
#[derive(Debug)]
pub(crate) struct Thumbnail {
    pub(crate) jpeg: Bytes,
    /// Its width and height, and those of the image, upright, in pixels.
    pub(crate) size: [usize; 2],
    pub(crate) original: [usize; 2],
}

impl Thumbnail {
    /// Makes one of an image file. It takes as long as decoding the image.
    pub(crate) fn of(image: &[u8]) -> Result<Self, Error> {
        let mut whole = PlanarImage::default();
        let (header, _) = Decoder::new(Limits::default())?.decode_reduced(image, fitting, &mut whole)?;
        Self::shrunk(&whole, [header.width as usize, header.height as usize])
    }

    /// Makes one of a decoded picture, which may be smaller already than its `original`.
    pub(crate) fn shrunk(whole: &PlanarImage, original: [usize; 2]) -> Result<Self, Error> {
        let (width, height) = fitting(original[0], original[1]);
        let mut small = PlanarImage::new(width, height, whole.subsampling());
        let (mut luma, chroma) = small.planes_mut();
        shrink(&whole.luma(), &mut luma);
        for (component, mut plane) in
            [Component::U, Component::V].into_iter().zip(chroma.into_iter().flatten())
        {
            if let Some(from) = whole.plane(component) {
                shrink(&from, &mut plane);
            }
        }
        small.extend_edges();
        let jpeg = Encoder::new()?.encode(&small, QUALITY)?;
        Ok(Self { jpeg, size: [width, height], original })
    }
}

/// The largest size of the same shape that is no larger than the picture and fits.
fn fitting(width: usize, height: usize) -> (usize, usize) {
    let longest = width.max(height);
    if longest <= SIDE {
        return (width, height);
    }
    let scaled = |side: usize| ((side * SIDE + longest / 2) / longest).max(1);
    (scaled(width), scaled(height))
}

/// Each sample becomes the average of those that it stands for.
fn shrink(from: &Plane<'_>, into: &mut PlaneMut<'_>) {
    let span = |at: usize, of: usize, length: usize| {
        let begin = (at * length / of).min(length - 1);
        begin..((at + 1) * length / of).clamp(begin + 1, length)
    };
    for y in 0..into.height {
        let rows = span(y, into.height, from.height);
        for x in 0..into.width {
            let columns = span(x, into.width, from.width);
            let samples = rows.clone().flat_map(|row| &from.row(row)[columns.clone()]);
            let sum: usize = samples.map(|sample| usize::from(*sample)).sum();
            let count = rows.len() * columns.len();
            into.samples[y * into.stride + x] = u8::try_from((sum + count / 2) / count).unwrap_or(u8::MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudpose_pixels::Subsampling;

    use super::*;

    #[test]
    fn it_keeps_the_shape_and_never_grows() {
        for (from, to) in [
            ((400, 300), (200, 150)),
            ((300, 400), (150, 200)),
            ((200, 200), (200, 200)),
            ((16, 12), (16, 12)),
            ((4000, 10), (200, 1)),
            ((201, 1), (200, 1)),
        ] {
            assert_eq!(fitting(from.0, from.1), to, "{from:?}");
        }
    }

    #[test]
    fn it_shows_what_the_image_shows() {
        // Dark on the left, bright on the right.
        for subsampling in [Subsampling::S420, Subsampling::S444, Subsampling::Grey] {
            let mut image = PlanarImage::new(1001, 501, subsampling);
            let (mut luma, _) = image.planes_mut();
            for y in 0..501 {
                let row = luma.row_mut(y);
                row.iter_mut().enumerate().for_each(|(x, sample)| *sample = if x < 500 { 20 } else { 220 });
            }
            image.extend_edges();
            let jpeg = Encoder::new().unwrap().encode(&image, 90).unwrap();
            let thumbnail = Thumbnail::of(&jpeg).unwrap();
            assert_eq!((thumbnail.size, thumbnail.original), ([200, 100], [1001, 501]));
            let mut small = PlanarImage::default();
            Decoder::new(Limits::default()).unwrap().decode(&thumbnail.jpeg, &mut small).unwrap();
            assert_eq!((small.width(), small.height()), (200, 100));
            for y in 0..100 {
                let row = small.luma().row(y);
                assert!(row[..90].iter().all(|sample| sample.abs_diff(20) < 8), "{subsampling:?}");
                assert!(row[110..].iter().all(|sample| sample.abs_diff(220) < 8), "{subsampling:?}");
            }
        }
        assert!(Thumbnail::of(b"no image").is_err());
    }
}
