//! Full-range BT.601, the colour space of JPEG files (ITU-T T.871 section 7), in 16-bit fixed point.

const fn fixed(x: f64) -> i32 {
    (x * 65536.0 + 0.5) as i32
}

/// Converts an 8-bit RGB triple to `[Y, Cb, Cr]`, rounded to nearest.
#[inline]
pub const fn ycc_from_rgb(rgb: [u8; 3]) -> [u8; 3] {
    let [r, g, b] = [rgb[0] as i32, rgb[1] as i32, rgb[2] as i32];
    // The three luma weights add up to 65536 exactly, so that grey stays grey. A rounding term one
    // short of a half keeps pure blue and pure red from reaching 256.
    let y = (fixed(0.299) * r + fixed(0.587) * g + fixed(0.114) * b + 32768) >> 16;
    let cb = (-fixed(0.168_735_892) * r - fixed(0.331_264_108) * g + 32768 * b + (128 << 16) + 32767) >> 16;
    let cr = (32768 * r - fixed(0.418_687_589) * g - fixed(0.081_312_411) * b + (128 << 16) + 32767) >> 16;
    [y as u8, cb as u8, cr as u8]
}

/// Converts `[Y, Cb, Cr]` to an 8-bit RGB triple, rounded to nearest and clamped to 0..=255.
#[inline]
pub const fn rgb_from_ycc(ycc: [u8; 3]) -> [u8; 3] {
    let [y, cb, cr] = [(ycc[0] as i32) << 16, ycc[1] as i32 - 128, ycc[2] as i32 - 128];
    let r = (y + fixed(1.402) * cr + 32768) >> 16;
    let g = (y - fixed(0.344_136_286) * cb - fixed(0.714_136_286) * cr + 32768) >> 16;
    let b = (y + fixed(1.772) * cb + 32768) >> 16;
    [clamp(r), clamp(g), clamp(b)]
}

const fn clamp(x: i32) -> u8 {
    if x < 0 {
        0
    } else if x > 255 {
        255
    } else {
        x as u8
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_colours() {
        // T.871 section 7 by hand; libjpeg gives the same.
        assert_eq!(ycc_from_rgb([255, 255, 255]), [255, 128, 128]);
        assert_eq!(ycc_from_rgb([0, 0, 0]), [0, 128, 128]);
        assert_eq!(ycc_from_rgb([255, 0, 0]), [76, 85, 255]);
        assert_eq!(ycc_from_rgb([0, 255, 0]), [150, 44, 21]);
        assert_eq!(ycc_from_rgb([0, 0, 255]), [29, 255, 107]);
        for grey in 0..=255 {
            assert_eq!(ycc_from_rgb([grey; 3]), [grey, 128, 128]);
            assert_eq!(rgb_from_ycc([grey, 128, 128]), [grey; 3]);
        }
    }

    #[test]
    fn there_and_back_is_within_two_levels() {
        for r in (0..=255).step_by(15) {
            for g in (0..=255).step_by(15) {
                for b in (0..=255).step_by(15) {
                    let rgb = [r, g, b].map(|v: i32| v as u8);
                    let back = rgb_from_ycc(ycc_from_rgb(rgb));
                    for c in 0..3 {
                        assert!(rgb[c].abs_diff(back[c]) <= 2, "{rgb:?} came back as {back:?}");
                    }
                }
            }
        }
    }
}
