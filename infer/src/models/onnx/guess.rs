//! Which kind a graph is of, by the shapes of its outputs.

use super::config::Kind;
use super::graph::Output;
use super::kinds::{nanodet, yolox};

/// The kind whose outputs look like these, of a graph for inputs of that width and height; none if several or no kinds
/// do.
pub(super) fn kind(input: [usize; 2], outputs: &[Output]) -> Option<Kind> {
    let shapes: Vec<&[usize]> = outputs.iter().map(|output| &output.shape[..]).collect();
    match shapes[..] {
        [[1, 1, _, _], [1, 2, _, _], [1, 2, _, _], [1, 10, _, _]] => Some(Kind::Centerface),
        [&[1, joints, columns], &[1, same, rows]] if joints == same => {
            // As many bins a pixel along both axes.
            (columns * input[1] == rows * input[0] && columns >= input[0]).then_some(Kind::Simcc)
        }
        [&[1, rows, 5], &[1, same, _, 3]] | [&[1, same, _, 3], &[1, rows, 5]] if rows == same => {
            Some(Kind::Rtmo)
        }
        [&[1, rows, 5], &[1, same]] | [&[1, same], &[1, rows, 5]] if rows == same => Some(Kind::Rtmdet),
        [&[1, joints, height, width]] if joints > 1 && height > 1 && width > 1 => {
            // Smaller than the input, and of its shape.
            (width * input[1] == height * input[0] && width < input[0]).then_some(Kind::Heatmaps)
        }
        [&[1, first, second]] => rows_or_columns(input, first, second),
        [&[1, classes]] | [&[1, classes, 1, 1]] if classes > 1 => Some(Kind::Classes),
        _ if nanodet::is_nanodet(input, &shapes) => Some(Kind::Nanodet),
        _ => None,
    }
}

fn rows_or_columns(input: [usize; 2], first: usize, second: usize) -> Option<Kind> {
    let cells = yolox::cells(input);
    let have_joints = |numbers: usize, head: usize| numbers > head && (numbers - head).is_multiple_of(3);
    if second == cells {
        // Of 5 + 3 K numbers some could be 4 + classes: persons' joints are what people bring here.
        return Some(if have_joints(first, 5) { Kind::YoloPose } else { Kind::Yolo });
    }
    if first == cells && second > 5 {
        return Some(Kind::Yolox);
    }
    if first == nanodet::cells_of_plus(input) && second > nanodet::SIDES_OF_PLUS {
        return Some(Kind::Nanodet);
    }
    match second {
        6 => Some(Kind::Yolo),
        _ if have_joints(second, 6) && first > second => Some(Kind::YoloPose),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_outputs_are_recognised() {
        let guess = |input: [usize; 2], shapes: &[&[usize]]| {
            let output =
                |shape: &&[usize]| Output { name: String::new(), shape: shape.to_vec(), values: Vec::new() };
            kind(input, &shapes.iter().map(output).collect::<Vec<_>>())
        };
        for (input, shapes, expected) in [
            ([192, 256], &[&[1, 17, 384][..], &[1, 17, 512]][..], Some(Kind::Simcc)),
            ([288, 384], &[&[1, 133, 576], &[1, 133, 768]], Some(Kind::Simcc)),
            ([192, 256], &[&[1, 17, 64, 48]], Some(Kind::Heatmaps)),
            ([640, 640], &[&[1, 56, 8400]], Some(Kind::YoloPose)),
            ([640, 640], &[&[1, 300, 57]], Some(Kind::YoloPose)),
            ([640, 640], &[&[1, 84, 8400]], Some(Kind::Yolo)),
            ([640, 640], &[&[1, 300, 6]], Some(Kind::Yolo)),
            ([416, 416], &[&[1, 3549, 85]], Some(Kind::Yolox)),
            ([416, 416], &[&[1, 3598, 112]], Some(Kind::Nanodet)),
            ([320, 320], &[&[1, 2125, 112]], Some(Kind::Nanodet)),
            (
                [320, 320],
                &[&[1, 1600, 80], &[1, 400, 80], &[1, 100, 80], &[1, 1600, 32], &[1, 400, 32], &[1, 100, 32]],
                Some(Kind::Nanodet),
            ),
            ([640, 640], &[&[1, 7, 5], &[1, 7, 17, 3]], Some(Kind::Rtmo)),
            ([320, 320], &[&[1, 0, 5], &[1, 0]], Some(Kind::Rtmdet)),
            (
                [640, 480],
                &[&[1, 1, 120, 160], &[1, 2, 120, 160], &[1, 2, 120, 160], &[1, 10, 120, 160]],
                Some(Kind::Centerface),
            ),
            ([224, 224], &[&[1, 1000]], Some(Kind::Classes)),
            ([224, 224], &[&[1, 1000], &[1, 1000]], None),
            ([224, 224], &[&[1, 3, 224, 224]], None),
            ([224, 224], &[&[1, 1]], None),
            ([224, 224], &[], None),
        ] {
            assert_eq!(guess(input, shapes), expected, "{input:?} {shapes:?}");
        }
    }
}
