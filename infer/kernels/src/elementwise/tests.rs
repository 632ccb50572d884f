use super::*;
use crate::suite::{Numbers, assert_refused, on_every_isa};

/// Numbers of every size, of both signs.
fn numbers() -> Vec<f32> {
    let small = Numbers::new(5).take(997);
    let scaled = small.iter().enumerate().map(|(i, x)| x * [0.01, 1.0, 8.0, 30.0, 120.0][i % 5]);
    scaled.chain([0.0, -0.0, 1e30, -1e30, f32::INFINITY]).collect()
}

#[test]
fn activations_are_what_they_say_within_their_bound() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    let hard = |x: f64| (x / 6.0 + 0.5).clamp(0.0, 1.0);
    let (slope, offset) = (1.0 / 6.0, 0.5);
    type Exact<'a> = &'a dyn Fn(f64) -> f64;
    let cases: [(Activation, Exact<'_>); 5] = [
        (Activation::Clamp(Clamp { low: -0.5, high: 6.0 }), &|x| x.clamp(-0.5, 6.0)),
        (Activation::Sigmoid, &sigmoid),
        (Activation::Silu, &|x| x * sigmoid(x)),
        (Activation::HardSigmoid { slope, offset }, &hard),
        (Activation::HardSwish { slope, offset }, &|x| x * hard(x)),
    ];
    on_every_isa(|kernels| {
        for (activation, exact) in cases {
            for length in [0, 1, 15, 16, 17, numbers().len()] {
                let mut values = numbers()[..length].to_vec();
                kernels.activate(activation, &mut values);
                for (&got, &x) in values.iter().zip(&numbers()) {
                    let want = exact(f64::from(x));
                    let least = if x < -40.0 { 5e-18 * f64::from(x.abs()) } else { 0.0 };
                    let terms = match activation {
                        Activation::HardSigmoid { .. } => (x / 6.0).abs() + 0.5,
                        Activation::HardSwish { .. } => ((x / 6.0).abs() + 0.5) * x.abs(),
                        _ => want.abs() as f32,
                    };
                    let bound = 8.0 * 2f64.powi(-24) * f64::from(terms) + least;
                    let error = (f64::from(got) - want).abs();
                    let is_right = f64::from(got) == want || error <= bound;
                    assert!(is_right, "{} {activation:?} of {x}: {got}, not {want}", kernels.isa());
                }
            }
            let mut nan = [f32::NAN];
            kernels.activate(activation, &mut nan);
            assert!(nan[0].is_nan(), "{activation:?}");
        }
    });
}

#[test]
fn pairs_of_numbers() {
    on_every_isa(|kernels| {
        let (a, b) = (Numbers::new(1).take(101), Numbers::new(2).take(101));
        type Exact = fn(f32, f32) -> f32;
        let cases: [(Pairing, Exact); 3] =
            [(Pairing::Sum, |a, b| a + b), (Pairing::Product, |a, b| a * b), (Pairing::Maximum, f32::max)];
        for (pairing, exact) in cases {
            let mut got = a.clone();
            kernels.pair(pairing, &mut got, &b);
            let want: Vec<f32> = a.iter().zip(&b).map(|(&a, &b)| exact(a, b)).collect();
            assert_eq!(got, want, "{} {pairing:?}", kernels.isa());
        }
        assert_refused("as many numbers", || kernels.pair(Pairing::Sum, &mut [0.0], &[]));
    });
}
