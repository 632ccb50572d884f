//! Sizes that a file asks for. The library takes memory for whatever they say, and a process that does not get it ends.
//!
//! Each node's own are bounded here. What many nodes ask for one after another is not: whoever adds a model runs it.

use rten_onnx::onnx::{GraphProto, NodeProto};

use super::nodes::{Attributes, Constants};

/// Pixels of windows, of padding and between windows.
pub(super) const MOST_PIXELS: usize = 1 << 10;
/// Times that a map is enlarged, along all axes together.
const MOST_TIMES: f32 = 4096.0;
/// Numbers of a tensor: a picture of 4096×4096 pixels and 3 channels has 50 million.
pub(super) const MOST_NUMBERS: usize = 1 << 26;

/// Checks every node of `graph`.
///
/// # Errors
/// In words, with the node.
pub(super) fn check(graph: &GraphProto) -> Result<(), String> {
    let constants = Constants::of(graph);
    match graph.node.iter().find(|node| !is_bounded(node, &constants)) {
        Some(node) => {
            let name = node.name.as_deref().filter(|name| !name.is_empty());
            let name = name.or_else(|| node.output.first().map(String::as_str)).unwrap_or_default();
            let operator = node.op_type.as_deref().unwrap_or_default();
            Err(format!("node {name} ({operator}) asks for more than a model of pictures can need"))
        }
        None => Ok(()),
    }
}

fn is_bounded(node: &NodeProto, constants: &Constants<'_>) -> bool {
    let attributes = Attributes(node);
    let is_small = |value: &i64| value.unsigned_abs() <= MOST_PIXELS as u64;
    let windows = ["pads", "kernel_shape", "strides", "dilations", "output_padding"];
    if !windows.iter().flat_map(|name| attributes.integers(name).unwrap_or_default()).all(is_small) {
        return false;
    }
    let floats = |at: usize| constants.floats(node.input.get(at)).map_or(Vec::new(), |(_, values)| values);
    let integers = |at: usize| constants.integers(node.input.get(at)).unwrap_or_default();
    let times = |values: &[f32]| values.iter().product::<f32>() <= MOST_TIMES;
    let numbers = |values: &[i64]| {
        let sizes = values.iter().map(|size| size.unsigned_abs().max(1));
        sizes.fold(1u64, u64::saturating_mul) <= MOST_NUMBERS as u64
    };
    match node.op_type.as_deref().unwrap_or_default() {
        "Upsample" => times(&floats(1)),
        "Resize" => times(&floats(2)) && times(&floats(1)) && numbers(&integers(3)),
        "ConvTranspose" => attributes.integers("output_shape").is_none_or(numbers),
        "Expand" | "Reshape" | "Tile" => numbers(&integers(1)),
        "ConstantOfShape" => numbers(&integers(0)),
        "Pad" => integers(1).iter().all(is_small),
        "Range" => (0..3).all(|at| numbers(&integers(at))),
        "OneHot" => numbers(&integers(1)),
        _ => true,
    }
}
