//! A number for each class, `[1, classes]`: logits, or scores that sum to 1 already.

use super::{Output, unlike};
use crate::task::{Found, softmax};

/// How far the sum of scores may be from 1.
const ROUNDING: f32 = 1e-3;

pub(super) fn decode(outputs: &[Output]) -> Result<Found, String> {
    let expected = "a number for each class";
    let [output] = outputs else { return Err(unlike(expected, outputs)) };
    if output.shape.first() != Some(&1) || output.shape[1..].iter().filter(|&&size| size != 1).count() > 1 {
        return Err(unlike(expected, outputs));
    }
    let values = &output.values;
    let are_scores = values.iter().all(|value| (0.0..=1.0).contains(value))
        && (values.iter().sum::<f32>() - 1.0).abs() < ROUNDING;
    Ok(Found::Classes(if are_scores { values.clone() } else { softmax(values) }))
}

#[cfg(test)]
mod tests {
    use super::super::output;
    use super::*;

    #[test]
    fn logits_become_scores_and_scores_stay() {
        let decoded = |values: Vec<f32>| decode(&[output("o", &[1, values.len()], values)]).unwrap();
        assert_eq!(decoded(vec![0.25, 0.75]), Found::Classes(vec![0.25, 0.75]));
        assert_eq!(decoded(vec![7.0, 7.0]), Found::Classes(vec![0.5, 0.5]));
        assert_eq!(decoded(vec![0.5, 0.5, 0.5, 0.5]), Found::Classes(vec![0.25; 4]), "they sum to 2");
        assert!(decode(&[output("o", &[1, 3, 4], vec![0.0; 12])]).is_err());
        assert!(decode(&[output("o", &[1, 3, 1, 1], vec![0.0; 3])]).is_ok(), "as a pooled map");
    }
}
