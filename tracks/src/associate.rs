//! Which person of a frame is which track.

/// Below this similarity a person is somebody else.
const LEAST: f32 = 0.2;

/// Pairs tracks with persons, best first: `similarity(track, person)` says how well they fit, 0 to 1.
/// Gives each person their track, if any. Ties go to the lower track, then the lower person.
///
/// Greedy: with at most a handful of people the pairs that compete are few, and an assignment that is
/// optimal in sum would part a certain pair to mend an unlikely one.
pub(crate) fn associate(
    tracks: usize,
    persons: usize,
    similarity: impl Fn(usize, usize) -> f32,
) -> Vec<Option<usize>> {
    let mut pairs: Vec<(f32, usize, usize)> = (0..tracks)
        .flat_map(|track| (0..persons).map(move |person| (track, person)))
        .map(|(track, person)| (similarity(track, person), track, person))
        .filter(|(similarity, ..)| *similarity >= LEAST)
        .collect();
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let mut taken = vec![false; tracks];
    let mut result = vec![None; persons];
    for (_, track, person) in pairs {
        if !taken[track] && result[person].is_none() {
            taken[track] = true;
            result[person] = Some(track);
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_pair_goes_first_and_strangers_stay_alone() {
        let table = [[0.9, 0.95, 0.1], [0.3, 0.8, 0.19]];
        assert_eq!(associate(2, 3, |t, p| table[t][p]), [Some(1), Some(0), None]);
        assert_eq!(associate(0, 2, |_, _| 1.0), [None, None]);
        assert_eq!(associate(3, 1, |_, _| 0.5), [Some(0)]);
    }
}
