//! How evenly users are served.

/// Jain's fairness index of what each user got: 1 if all got the same, 1/n if one got everything.
/// `(Σx)² / (n Σx²)`, from R. Jain, D. Chiu, W. Hawe, "A Quantitative Measure of Fairness and Discrimination
/// for Resource Allocation in Shared Computer Systems", DEC-TR-301, 1984. None if nobody got anything.
pub(crate) fn jain(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|x| x * x).sum();
    (squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::jain;

    #[test]
    fn from_even_to_one_who_has_it_all() {
        assert_eq!(jain(&[3.0, 3.0, 3.0]), Some(1.0));
        assert_eq!(jain(&[1.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(jain(&[1.0, 1.0, 0.0, 0.0]), Some(0.5));
        assert_eq!((jain(&[]), jain(&[0.0, 0.0])), (None, None));
    }

    proptest! {
        #[test]
        fn lies_between_1_over_n_and_1(shares in proptest::collection::vec(0.0..1e3_f64, 1..50)) {
            if let Some(index) = jain(&shares) {
                prop_assert!(index <= 1.0 + 1e-9 && index >= 1.0 / shares.len() as f64 - 1e-9);
            }
        }
    }
}
