use super::*;
use crate::suite::on_every_isa;

#[test]
fn every_byte_in_every_channel_and_any_length() {
    let (scale, offset) = ([0.5, 1.0 / 127.5, -2.0], [-1.0, 0.0, 3.0]);
    let pattern = Pattern::new(scale, offset);
    let pixels: Vec<u8> = (0..3 * 256).map(|i| (i * 7 % 256) as u8).collect();
    on_every_isa(|kernels| {
        for length in [0, 1, 2, 3, 47, 48, 49, 96, 576, 768] {
            let mut output = vec![f32::NAN; length];
            kernels.normalise(&pattern, &pixels[..length], &mut output);
            for (i, (&got, &pixel)) in output.iter().zip(&pixels).enumerate() {
                let want = f64::from(scale[i % 3]) * f64::from(pixel) + f64::from(offset[i % 3]);
                assert!(
                    (f64::from(got) - want).abs() <= 1e-6 * want.abs().max(1.0),
                    "{} [{i}]",
                    kernels.isa()
                );
            }
        }
    });
}
