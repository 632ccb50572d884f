//! Between what videos and what JPEGs mean by the same numbers.
//!
//! Videos keep luma in 16 to 235 and chroma in 16 to 240 (ITU-R BT.601 and BT.709, "limited range") unless they say that they
//! use all of 0 to 255, and weigh the colours as they say (ITU-T H.264, Annex E); those that say nothing as BT.709 does from
//! 720 rows on and as BT.601 does below, as players take them. JPEGs use all of 0 to 255 and BT.601's weights (JFIF 1.02).

use cloudpose_pixels::{PlanarImage, Subsampling};
use rusty_h264_common::YuvFrame;

/// Red's and blue's share of luma.
const BT_601: [f32; 2] = [0.299, 0.114];
const BT_709: [f32; 2] = [0.2126, 0.0722];
/// From so many rows on a video that says nothing has the colours of BT.709.
const HD_ROWS: usize = 720;

/// What a video says of its colours.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Colours {
    /// Its samples use all of 0 to 255.
    pub(crate) is_full: bool,
    /// Which weights, as in table E-5 of ITU-T H.264.
    pub(crate) matrix: Option<u32>,
}

impl Colours {
    /// Red's and blue's share of luma in a picture of so many rows.
    fn weights(self, rows: usize) -> [f32; 2] {
        match self.matrix {
            Some(1) => BT_709,
            Some(4) => [0.30, 0.11],
            Some(5 | 6) => BT_601,
            Some(7) => [0.212, 0.087],
            Some(9 | 10) => [0.2627, 0.0593],
            _ if rows >= HD_ROWS => BT_709,
            _ => BT_601,
        }
    }
}

/// The planes of a 4:2:0 picture of a video, each row right behind the one before it.
pub(crate) struct Planes<'a> {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) luma: &'a [u8],
    pub(crate) chroma: [&'a [u8]; 2],
}

impl<'a> Planes<'a> {
    /// Those of a decoded picture.
    pub(crate) fn of(frame: &'a YuvFrame) -> Self {
        let YuvFrame { width, height, y, u, v } = frame;
        Self { width: *width, height: *height, luma: y, chroma: [u, v] }
    }
}

/// From Y, U and V to others that mean the same colours: `y' = scale * y + from_u * u + from_v * v + offset` and so on, chroma
/// counted from 128.
#[derive(Clone, Copy, Debug)]
struct Map {
    luma: [f32; 4],
    chroma: [[f32; 2]; 2],
}

impl Map {
    /// From one matrix to another at full range.
    fn between([red_a, blue_a]: [f32; 2], [red_b, blue_b]: [f32; 2]) -> Self {
        // Of U = (B - Y) / (2 - 2 blue) and V = (R - Y) / (2 - 2 red).
        let green_a = 1.0 - red_a - blue_a;
        let red = [0.0, 2.0 - 2.0 * red_a];
        let blue = [2.0 - 2.0 * blue_a, 0.0];
        let green = [-blue_a * blue[0] / green_a, -red_a * red[1] / green_a];
        let green_b = 1.0 - red_b - blue_b;
        // How far from luma of `a` that of `b` is, and colours from the latter.
        let luma = [0, 1].map(|c| red_b * red[c] + green_b * green[c] + blue_b * blue[c]);
        let u = [0, 1].map(|c| (blue[c] - luma[c]) / (2.0 - 2.0 * blue_b));
        let v = [0, 1].map(|c| (red[c] - luma[c]) / (2.0 - 2.0 * red_b));
        Self { luma: [1.0, luma[0], luma[1], 0.0], chroma: [u, v] }
    }

    fn of_video(colours: Colours, rows: usize) -> Self {
        let Self { luma, chroma } = Self::between(colours.weights(rows), BT_601);
        if colours.is_full {
            return Self { luma, chroma };
        }
        let (y, c) = (255.0 / 219.0, 255.0 / 224.0);
        Self {
            luma: [y, c * luma[1], c * luma[2], -16.0 * y],
            chroma: chroma.map(|row| row.map(|factor| c * factor)),
        }
    }

    fn to_video(rows: usize) -> Self {
        let Self { luma, chroma } = Self::between(BT_601, Colours::default().weights(rows));
        let (y, c) = (219.0 / 255.0, 224.0 / 255.0);
        Self {
            luma: [y, y * luma[1], y * luma[2], 16.0],
            chroma: chroma.map(|row| row.map(|factor| c * factor)),
        }
    }

    /// In whole numbers.
    fn fixed(&self) -> Fixed {
        let [scale, of_u, of_v, offset] = self.luma;
        let offset = offset - 128.0 * (of_u + of_v) + 0.5;
        let chroma =
            self.chroma.map(|[of_u, of_v]| [of_u, of_v, 128.0 - 128.0 * (of_u + of_v) + 0.5].map(fixed));
        Fixed { scale: fixed(scale), added: [of_u, of_v, offset].map(fixed), chroma }
    }
}

/// Bits behind the point: processors do many whole numbers at once.
const POINT: i32 = 16;

fn fixed(value: f32) -> i32 {
    (value * (1 << POINT) as f32).round() as i32
}

fn whole(value: i32) -> u8 {
    (value >> POINT).clamp(0, 255) as u8
}

/// A [`Map`] of bytes; what is behind the point is rounded.
struct Fixed {
    scale: i32,
    /// From U, from V, and whatever they are.
    added: [i32; 3],
    chroma: [[i32; 3]; 2],
}

impl Fixed {
    fn of([of_u, of_v, offset]: [i32; 3], u: u8, v: u8) -> i32 {
        of_u * i32::from(u) + of_v * i32::from(v) + offset
    }

    fn chroma(&self, u: u8, v: u8) -> [u8; 2] {
        self.chroma.map(|row| whole(Self::of(row, u, v)))
    }

    /// What luma gets from the chroma beside it.
    fn added(&self, u: u8, v: u8) -> i32 {
        Self::of(self.added, u, v)
    }

    #[cfg(test)]
    fn luma(&self, y: u8, added: i32) -> u8 {
        whole(self.scale * i32::from(y) + added)
    }
}

/// Makes `picture` the picture of a video of such colours that says `planes`.
pub(crate) fn read(planes: &Planes<'_>, colours: Colours, picture: &mut PlanarImage) {
    let Planes { width, height, luma, chroma: [u, v] } = *planes;
    let map = Map::of_video(colours, height).fixed();
    let across = width.div_ceil(2);
    picture.resize(width, height, Subsampling::S420);
    let (mut to, chroma) = picture.planes_mut();
    let [mut to_u, mut to_v] = chroma.expect("4:2:0 has chroma");
    // Of each pixel of a row, so that the loop over luma is a plain one.
    let mut added = vec![0; 2 * across];
    for row in 0..height.div_ceil(2) {
        let (us, vs) = (&u[row * across..][..across], &v[row * across..][..across]);
        let both = us.iter().zip(vs).zip(added.as_chunks_mut::<2>().0);
        let written = to_u.row_mut(row).iter_mut().zip(to_v.row_mut(row).iter_mut());
        for (((u, v), added), (to_u, to_v)) in both.zip(written) {
            [*to_u, *to_v] = map.chroma(*u, *v);
            *added = [map.added(*u, *v); 2];
        }
        for y in 2 * row..(2 * row + 2).min(height) {
            shift(&luma[y * width..][..width], map.scale, &added, to.row_mut(y));
        }
    }
    picture.extend_edges();
}

/// What a video says of `picture`, which is 4:2:0: its planes, one behind the other, rows without gaps.
pub(crate) fn write(picture: &PlanarImage, luma: &mut Vec<u8>, chroma: &mut [Vec<u8>; 2]) {
    use cloudpose_pixels::Component::{U, V};
    let (width, height) = (picture.width(), picture.height());
    let map = Map::to_video(height).fixed();
    let across = width.div_ceil(2);
    let (Some(us), Some(vs)) = (picture.plane(U), picture.plane(V)) else { return };
    luma.resize(width * height, 0);
    let [to_u, to_v] = chroma;
    for plane in [&mut *to_u, &mut *to_v] {
        plane.resize(across * height.div_ceil(2), 0);
    }
    // Of each pixel of a row, so that the loop over luma is a plain one.
    let mut added = vec![0; 2 * across];
    for row in 0..height.div_ceil(2) {
        let both = us.row(row).iter().zip(vs.row(row)).zip(added.as_chunks_mut::<2>().0);
        let written = to_u[row * across..].iter_mut().zip(&mut to_v[row * across..]);
        for (((u, v), added), (to_u, to_v)) in both.zip(written).take(across) {
            [*to_u, *to_v] = map.chroma(*u, *v);
            *added = [map.added(*u, *v); 2];
        }
        for y in 2 * row..(2 * row + 2).min(height) {
            let from = &picture.luma().row(y)[..width];
            shift(from, map.scale, &added, &mut luma[y * width..][..width]);
        }
    }
}

/// Scales a row of luma, and adds what belongs to each of it.
fn shift(from: &[u8], scale: i32, added: &[i32], to: &mut [u8]) {
    for ((from, added), to) in from.iter().zip(added).zip(to) {
        *to = whole(scale * i32::from(*from) + added);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half a step is lost in the video, which counts 255 / 219 here, and half a step here.
    fn near(a: f32, b: f32) -> bool {
        (a - b).abs() < 1.1
    }

    /// By the definitions in ITU-R BT.709 and BT.601: pure red at half its strength.
    #[test]
    fn colours_stay_what_they_are() {
        let (red, green, blue) = (128.0, 0.0, 0.0);
        let says = |[of_red, of_blue]: [f32; 2]| {
            let y = of_red * red + (1.0 - of_red - of_blue) * green + of_blue * blue;
            [y, (blue - y) / (2.0 - 2.0 * of_blue), (red - y) / (2.0 - 2.0 * of_red)]
        };
        let [y, u, v] = says(BT_709);
        let video = [16.0 + 219.0 / 255.0 * y, 128.0 + 224.0 / 255.0 * u, 128.0 + 224.0 / 255.0 * v];
        let [y, u, v] = video.map(|value| value.round() as u8);
        let map = Map::of_video(Colours::default(), 720).fixed();
        let [to_u, to_v] = map.chroma(u, v);
        let to_y = f32::from(map.luma(y, map.added(u, v)));
        let [y, u, v] = says(BT_601);
        assert!(near(to_y, y) && near(f32::from(to_u), 128.0 + u) && near(f32::from(to_v), 128.0 + v));
    }

    /// A colour, (176, 64, 32), as `ffmpeg -vf scale=out_range=full:out_color_matrix=bt601` 5.1.9 reads it of files that `-colorspace`
    /// and `-color_range` made. It is off by 2 itself where it changes weights.
    #[test]
    fn colours_are_those_that_ffmpeg_reads() {
        for (is_full, matrix, video, ffmpegs) in [
            (false, 1, [89, 102, 178], [92, 93, 186]),
            (true, 1, [85, 98, 185], [92, 92, 186]),
            (false, 6, [97, 97, 179], [94, 93, 186]),
            (true, 6, [94, 93, 186], [94, 93, 186]),
            (false, 9, [94, 99, 177], [91, 91, 185]),
        ] {
            let colours = Colours { is_full, matrix: Some(matrix) };
            // What it says counts, not its size.
            for rows in [480, 1080] {
                let map = Map::of_video(colours, rows).fixed();
                let [y, u, v] = video;
                let [to_u, to_v] = map.chroma(u, v);
                let read = [map.luma(y, map.added(u, v)), to_u, to_v];
                let off = read.iter().zip(ffmpegs).map(|(a, b)| a.abs_diff(b)).max();
                assert!(off <= Some(2), "{colours:?}: {read:?}, ffmpeg {ffmpegs:?}");
                // By the definitions. The video of BT.2020 that it wrote is off by 1 in each sample.
                let off = read.iter().zip([94, 93, 187]).map(|(a, b)| a.abs_diff(b)).max();
                assert!(off <= Some(if matrix == 9 { 2 } else { 1 }), "{colours:?}: {read:?}");
            }
        }
    }

    #[test]
    fn white_and_black_fill_the_range_and_come_back() {
        for (rows, video) in [(480, [16, 235]), (1080, [16, 235])] {
            for (level, expected) in video.into_iter().zip([0, 255]) {
                let [to, from] =
                    [Map::of_video(Colours::default(), rows).fixed(), Map::to_video(rows).fixed()];
                let seen = to.luma(level as u8, to.added(128, 128));
                assert_eq!((seen, to.chroma(128, 128)), (expected, [128, 128]));
                let back = from.luma(seen, from.added(128, 128));
                assert_eq!(back, level as u8);
            }
        }
    }

    /// An odd size: the last column and row have chroma of their own.
    #[test]
    fn pictures_come_back_within_a_step() {
        let (width, height) = (5, 3);
        let luma: Vec<u8> = (0..15).map(|i| 40 + 10 * i).collect();
        let chroma = [[100, 110, 120, 130, 140, 150], [150, 140, 130, 120, 110, 100]].map(Vec::from);
        let mut picture = PlanarImage::default();
        let planes = Planes { width, height, luma: &luma, chroma: [&chroma[0], &chroma[1]] };
        read(&planes, Colours::default(), &mut picture);
        let (mut luma_now, mut chroma_now) = (Vec::new(), [Vec::new(), Vec::new()]);
        write(&picture, &mut luma_now, &mut chroma_now);
        let off = |a: &[u8], b: &[u8]| a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max();
        assert_eq!(luma_now.len(), luma.len());
        assert!(off(&luma_now, &luma) <= Some(1), "{luma_now:?}");
        for (now, then) in chroma_now.iter().zip(&chroma) {
            assert!(now.len() == then.len() && off(now, then) <= Some(1), "{now:?}");
        }
    }
}
