//! ONNX's `NonMaxSuppression`, and graphs cut in two at it.
//!
//! The library's own compares boxes of different classes, and in the order in which they come: it keeps other boxes than
//! ONNX says. So what comes before the node is one graph, what needs it another, and the node itself is here.

use std::collections::HashSet;

use rten_onnx::onnx::{GraphProto, NodeProto, TensorProto, ValueInfoProto};

use super::nodes::Constants;

/// The operator's name.
const OPERATOR: &str = "NonMaxSuppression";
/// Its inputs: boxes, scores, most boxes of a class, overlap, least score.
const INPUTS: usize = 5;

/// Where a graph was cut.
#[derive(Debug)]
pub(super) struct Suppression {
    /// The tensors that the node takes, by name; of the last three some are not given.
    pub(super) inputs: Vec<Option<Input>>,
    /// What it makes.
    pub(super) output: String,
    /// Whether boxes are middle and size, not corners.
    are_around_middle: bool,
}

/// What the node takes.
#[derive(Debug)]
pub(super) enum Input {
    /// What the graph before it makes.
    Made(String),
    /// A number that is in the file.
    Constant(f32),
}

/// Cuts a graph whose nodes are in order at its `NonMaxSuppression`, if it has one. What stays makes what the rest needs;
/// that comes back, unless nothing but the node was there.
///
/// # Errors
/// In words, if it has several.
pub(super) fn cut(graph: &mut GraphProto) -> Result<Option<(Suppression, Option<GraphProto>)>, String> {
    let is_one = |node: &NodeProto| node.op_type.as_deref() == Some(OPERATOR);
    let Some(place) = graph.node.iter().position(is_one) else { return Ok(None) };
    if graph.node.iter().filter(|node| is_one(node)).count() > 1 {
        return Err(format!("it has several {OPERATOR}: export it with one"));
    }
    let node = graph.node.remove(place);
    let output = node.output.first().cloned().ok_or("a NonMaxSuppression makes nothing")?;
    let constants = Constants::of(graph);
    let input = |name: &String| match constants.number(Some(name)) {
        _ if name.is_empty() => None,
        Some(value) => Some(Input::Constant(value)),
        None => Some(Input::Made(name.clone())),
    };
    let mut inputs: Vec<Option<Input>> = node.input.iter().map(input).collect();
    inputs.resize_with(INPUTS, || None);
    let are_around_middle = node
        .attribute
        .iter()
        .any(|attribute| attribute.name.as_deref() == Some("center_point_box") && attribute.i == Some(1));

    let mut made_later: HashSet<String> = HashSet::from([output.clone()]);
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for node in graph.node.drain(..) {
        if node.input.iter().any(|input| made_later.contains(input)) {
            made_later.extend(node.output.iter().cloned());
            tail.push(node);
        } else {
            head.push(node);
        }
    }
    let weights = std::mem::take(&mut graph.initializer);
    let used_by = |nodes: &[NodeProto]| -> Vec<TensorProto> {
        let used: HashSet<&String> = nodes.iter().flat_map(|node| &node.input).collect();
        weights
            .iter()
            .filter(|weight| weight.name.as_ref().is_some_and(|name| used.contains(name)))
            .cloned()
            .collect()
    };
    let is_weight = |name: &String| weights.iter().any(|weight| weight.name.as_ref() == Some(name));
    let mut border: Vec<String> = Vec::new();
    let mut add = |name: &String| {
        if !name.is_empty() && !made_later.contains(name) && !is_weight(name) && !border.contains(name) {
            border.push(name.clone());
        }
    };
    tail.iter().flat_map(|node| &node.input).for_each(&mut add);
    let value = |name: &String| ValueInfoProto { name: Some(name.clone()), r#type: None };
    let tail_inputs: Vec<ValueInfoProto> = border.iter().chain([&output]).map(value).collect();
    let (later, before): (Vec<_>, Vec<_>) = std::mem::take(&mut graph.output)
        .into_iter()
        .partition(|output| output.name.as_ref().is_some_and(|name| made_later.contains(name)));
    let later = later.into_iter().filter(|other| other.name.as_ref() != Some(&output)).collect::<Vec<_>>();
    let needed = inputs.iter().flatten().filter_map(|input| match input {
        Input::Made(name) => Some(name),
        Input::Constant(_) => None,
    });
    let mut wanted: Vec<String> = border;
    for name in needed.chain(before.iter().filter_map(|output| output.name.as_ref())) {
        if !wanted.contains(name) {
            wanted.push(name.clone());
        }
    }
    let tail = GraphProto {
        initializer: used_by(&tail),
        node: tail,
        input: tail_inputs,
        output: later,
        ..GraphProto::default()
    };
    graph.initializer = used_by(&head);
    graph.node = head;
    graph.output = wanted.iter().map(value).collect();
    let tail = (!tail.output.is_empty()).then_some(tail);
    Ok(Some((Suppression { inputs, output, are_around_middle }, tail)))
}

/// What the operator is given beside boxes and scores.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Boxes that are kept of a class.
    pub(super) most: usize,
    /// Intersection over union above which the less sure one goes.
    pub(super) overlap: f32,
    /// Boxes of a lower score, or of this one, go first.
    pub(super) least: Option<f32>,
}

impl Suppression {
    /// Boxes that are kept: picture, class and number of each, those of a class by falling score. `boxes` are
    /// `[pictures, n, 4]`, `scores` `[pictures, classes, n]`.
    pub(super) fn run(
        &self,
        (boxes, boxes_shape): (&[f32], &[usize]),
        (scores, scores_shape): (&[f32], &[usize]),
        limits: Limits,
    ) -> Result<Vec<[i32; 3]>, String> {
        let (&[pictures, count, 4], &[same, classes, same_count]) = (boxes_shape, scores_shape) else {
            return Err(format!("{OPERATOR} takes boxes {boxes_shape:?} and scores {scores_shape:?}"));
        };
        if pictures != same || count != same_count {
            return Err(format!("{OPERATOR} takes boxes {boxes_shape:?} and scores {scores_shape:?}"));
        }
        let (boxes, _) = boxes.as_chunks::<4>();
        let corners: Vec<[f32; 4]> = boxes.iter().map(|numbers| self.corners(*numbers)).collect();
        let mut kept = Vec::new();
        for of_class in 0..pictures * classes {
            let (picture, class) = (of_class / classes, of_class % classes);
            let scores = &scores[of_class * count..][..count];
            let corners = &corners[picture * count..][..count];
            let mut order: Vec<usize> =
                (0..count).filter(|&at| limits.least.is_none_or(|least| scores[at] > least)).collect();
            order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
            let first = kept.len();
            let mut chosen: Vec<usize> = Vec::new();
            for at in order {
                if chosen.len() == limits.most {
                    break;
                }
                if chosen.iter().all(|&other| shared(corners[at], corners[other]) <= limits.overlap) {
                    chosen.push(at);
                }
            }
            kept.extend(chosen.iter().map(|&at| [picture as i32, class as i32, at as i32]));
            debug_assert!(kept.len() - first <= limits.most);
        }
        Ok(kept)
    }

    /// Smaller and larger corner.
    fn corners(&self, [a, b, c, d]: [f32; 4]) -> [f32; 4] {
        if self.are_around_middle {
            return [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0];
        }
        [a.min(c), b.min(d), a.max(c), b.max(d)]
    }
}

/// Intersection over union; none if a box has no area.
fn shared(a: [f32; 4], b: [f32; 4]) -> f32 {
    let across = a[2].min(b[2]) - a[0].max(b[0]);
    let down = a[3].min(b[3]) - a[1].max(b[1]);
    let area = |of: [f32; 4]| (of[2] - of[0]) * (of[3] - of[1]);
    if across <= 0.0 || down <= 0.0 || area(a) <= 0.0 || area(b) <= 0.0 {
        return 0.0;
    }
    let both = across * down;
    both / (area(a) + area(b) - both)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suppression(are_around_middle: bool) -> Suppression {
        Suppression { inputs: Vec::new(), output: String::new(), are_around_middle }
    }

    /// Two boxes that share 3 of 5 parts, and one apart.
    const BOXES: [f32; 12] = [0.0, 0.0, 4.0, 1.0, 1.0, 1.0, 5.0, 0.0, 9.0, 0.0, 10.0, 1.0];
    /// Of two classes.
    const SCORES: [f32; 6] = [0.5, 0.75, 0.25, 0.5, 0.0, 0.25];

    fn kept(limits: Limits) -> Vec<[i32; 3]> {
        suppression(false).run((&BOXES, &[1, 3, 4]), (&SCORES, &[1, 2, 3]), limits).unwrap()
    }

    #[test]
    fn each_class_keeps_its_surest_boxes() {
        let limits = Limits { most: 9, overlap: 0.59, least: Some(0.25) };
        assert_eq!(kept(limits), [[0, 0, 1], [0, 1, 0]], "0.25 is not more than 0.25");
        let limits = Limits { least: Some(0.2), ..limits };
        assert_eq!(kept(limits), [[0, 0, 1], [0, 0, 2], [0, 1, 0], [0, 1, 2]]);
        assert_eq!(kept(Limits { most: 1, ..limits }), [[0, 0, 1], [0, 1, 0]]);
        assert_eq!(kept(Limits { overlap: 0.61, ..limits })[..2], [[0, 0, 1], [0, 0, 0]]);
        assert_eq!(kept(Limits { most: 0, ..limits }), [[0; 3]; 0]);
    }

    #[test]
    fn boxes_may_be_middle_and_size() {
        let boxes = [2.0, 0.5, 4.0, 1.0, 3.0, 0.5, 4.0, 1.0];
        let limits = Limits { most: 9, overlap: 0.59, least: None };
        let run =
            |shape: &[usize]| suppression(true).run((&boxes, shape), (&[0.5, 0.75], &[1, 1, 2]), limits);
        assert_eq!(run(&[1, 2, 4]).unwrap(), [[0, 0, 1]]);
        assert!(run(&[1, 1, 8]).unwrap_err().contains("[1, 1, 8]"));
    }
}
