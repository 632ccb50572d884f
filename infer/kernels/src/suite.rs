//! What the tests of all kernels share: every instruction set in turn, and reproducible numbers.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{Isa, Kernels};

/// Runs `test` with every instruction set this processor has; `which_instruction_sets_were_tested` says those.
pub(crate) fn on_every_isa(test: impl Fn(&Kernels)) {
    for isa in Isa::ALL {
        if let Ok(kernels) = Kernels::of(isa) {
            test(&kernels);
        }
    }
}

/// A run ends with what this says (`.config/nextest.toml`): what was left out must not look tested.
#[test]
fn which_instruction_sets_were_tested() {
    let (tested, lacking): (Vec<Isa>, Vec<Isa>) = Isa::ALL.into_iter().partition(|isa| isa.is_supported());
    println!("kernels: tested on {tested:?}; NOT TESTED, for this processor lacks them: {lacking:?}");
    assert!(tested.contains(&Isa::Portable));
}

/// Numbers in −1..1 from a linear congruential generator (Knuth, "Seminumerical Algorithms", 3.3.4).
pub(crate) struct Numbers(u64);

impl Numbers {
    pub(crate) fn new(seed: usize) -> Self {
        Self(seed as u64)
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<f32> {
        (0..count)
            .map(|_| {
                self.0 =
                    self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
            })
            .collect()
    }
}

/// Asserts that each of `got` lies within its error bound of `want`, given as `(value, bound)`.
pub(crate) fn assert_within(got: &[f32], want: &[(f64, f64)], case: &str) {
    assert_eq!(got.len(), want.len(), "{case}");
    for (i, (&got, &(want, bound))) in got.iter().zip(want).enumerate() {
        let error = (f64::from(got) - want).abs();
        assert!(error <= bound, "{case}: [{i}] is {got}, not {want}; off by {error:e}, bound {bound:e}");
    }
}

/// Asserts that `call` panics and says `why`.
#[track_caller]
pub(crate) fn assert_refused(why: &str, call: impl FnOnce()) {
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("it was not refused");
    let said = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    assert!(said.is_some_and(|said| said.contains(why)), "{said:?} does not say {why:?}");
}
