//! What `infer` is asked: JSON, with tensors in it or behind it.
//!
//! ```text
//! ┌─ Inference-Header-Content-Length ─┬─ inputs[0] ────────┬─ inputs[1] …
//! │ JSON                              │ binary_data_size   │
//! └───────────────────────────────────┴────────────────────┴────────────
//! BYTES elements: ┌ u32, little-endian ┬ that many bytes ┐ one after another
//! ```

use std::time::Duration;

use bytes::{Buf as _, Bytes};
use serde::Deserialize;

use super::{data::Data, parameters::Parameters};
use crate::doors::{Few, MOST_IMAGES, Problem, http::body::decode_base64};

/// The input of every model.
pub(super) const IMAGE: &str = "image";

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) id: Option<String>,
    pub(super) images: Vec<Image>,
    pub(super) outputs: Outputs,
    pub(super) min_score: Option<f32>,
    pub(super) top: Option<u16>,
    pub(super) timeout: Option<Duration>,
}

/// An image of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Image {
    /// JPEG, PNG or WebP.
    File(Bytes),
    /// Rows from the top, RGB, one byte each.
    Pixels { width: u32, height: u32, rgb: Bytes },
}

/// Which outputs come back, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outputs {
    All {
        binary: bool,
    },
    /// By name, and whether each is binary.
    These(Vec<(&'static str, bool)>),
}

#[derive(Deserialize)]
struct Request<'a> {
    id: Option<String>,
    parameters: Option<Parameters>,
    #[serde(borrow)]
    inputs: Few<Input<'a>>,
    outputs: Option<Few<Output>>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: Few<u64>,
    datatype: String,
    parameters: Option<InputParameters>,
    #[serde(borrow)]
    data: Option<Data<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct InputParameters {
    binary_data_size: Option<usize>,
    shared_memory_region: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    parameters: Option<OutputParameters>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<serde::de::IgnoredAny>,
    shared_memory_region: Option<serde::de::IgnoredAny>,
}

fn bad(detail: impl Into<String>) -> Problem {
    Problem::bad_body(detail)
}

/// Reads a body, whose first `json` bytes are JSON; all of it if absent. `names` are the model's outputs.
///
/// # Errors
/// What is wrong with it, and what to send instead.
pub(super) fn read(body: &Bytes, json: Option<usize>, names: &[&'static str]) -> Result<Asked, Problem> {
    let whole = json.is_none();
    let json = json.unwrap_or(body.len());
    if json > body.len() {
        return Err(bad(format!(
            "Inference-Header-Content-Length is {json}, the body has {} bytes",
            body.len()
        )));
    }
    let request: Request<'_> = serde_json::from_slice(&body[..json]).map_err(|error| {
        let error = error.to_string();
        let more = if whole && error.starts_with("trailing characters") {
            "; bytes follow the JSON: say its length in Inference-Header-Content-Length"
        } else {
            ""
        };
        bad(format!("the JSON is not understood: {error}{more}"))
    })?;
    let Parameters { binary_data_output, min_score, top, timeout } = request.parameters.unwrap_or_default();
    let outputs = match request.outputs {
        Some(Few(outputs)) if !outputs.is_empty() => Outputs::These(
            outputs.into_iter().map(|o| wanted(o, binary_data_output, names)).collect::<Result<_, _>>()?,
        ),
        _ => Outputs::All { binary: binary_data_output },
    };
    let mut rest = body.slice(json..);
    let mut images = None;
    for input in request.inputs.0 {
        if input.name != IMAGE || images.is_some() {
            return Err(bad(format!("input {:?} is not taken; there is one, `{IMAGE}`", input.name)));
        }
        images = Some(read_input(input, &mut rest)?);
    }
    let images = images.ok_or_else(|| Problem::missing_image(format!("there is no input `{IMAGE}`")))?;
    if !rest.is_empty() {
        return Err(bad(format!("{} bytes follow the inputs", rest.len())));
    }
    Ok(Asked { id: request.id, images, outputs, min_score, top, timeout })
}

fn wanted(output: Output, binary: bool, names: &[&'static str]) -> Result<(&'static str, bool), Problem> {
    let OutputParameters { binary_data, classification, shared_memory_region } =
        output.parameters.unwrap_or_default();
    if classification.is_some() || shared_memory_region.is_some() {
        return Err(bad(format!(
            "output {:?}: neither classification nor shared memory is there",
            output.name
        )));
    }
    let name = names
        .iter()
        .find(|name| **name == output.name)
        .ok_or_else(|| bad(format!("there is no output {:?}; use {}", output.name, names.join(", "))))?;
    Ok((name, binary_data.unwrap_or(binary)))
}

fn read_input(input: Input<'_>, rest: &mut Bytes) -> Result<Vec<Image>, Problem> {
    let InputParameters { binary_data_size, shared_memory_region } = input.parameters.unwrap_or_default();
    if shared_memory_region.is_some() {
        return Err(bad("shared memory is not there; send the tensor"));
    }
    let binary = match binary_data_size {
        Some(size) if size > rest.len() => {
            return Err(bad(format!("binary_data_size is {size}, {} bytes are left", rest.len())));
        }
        Some(size) => Some(rest.split_to(size)),
        None => None,
    };
    match (input.datatype.as_str(), binary, input.data) {
        (_, Some(_), Some(_)) => Err(bad("the input has both `data` and `binary_data_size`; send one")),
        (_, None, None) => Err(Problem::missing_image("the input has neither `data` nor `binary_data_size`")),
        ("BYTES", Some(binary), None) => {
            let found = elements(binary)?;
            if let Some(n) = found.iter().position(|file| looks_like_base64(file)) {
                let told = format!("image {n} looks like base64; binary tensors carry the file itself");
                return Err(Problem::undecodable(told));
            }
            files(found, &input.shape.0)
        }
        ("BYTES", None, Some(Data { texts, numbers })) if numbers.is_empty() => {
            let decoded = texts.iter().enumerate().map(|(n, text)| {
                decode_base64(text).map_err(|problem| {
                    let why = problem.detail.trim_end_matches('.');
                    Problem::bad_base64(format!(
                        "image {n} is no base64: {why}; in JSON, BYTES are files in base64"
                    ))
                })
            });
            files(decoded.collect::<Result<_, _>>()?, &input.shape.0)
        }
        ("UINT8", Some(binary), None) => pixels(binary, &input.shape.0),
        ("UINT8", None, Some(Data { texts, numbers })) if texts.is_empty() => {
            pixels(numbers.into(), &input.shape.0)
        }
        ("BYTES", ..) => Err(bad("BYTES in JSON are image files in base64, as strings")),
        ("UINT8", ..) => Err(bad("UINT8 in JSON are whole numbers from 0 to 255")),
        (other, ..) => {
            Err(bad(format!("the datatype is {other:?}; use BYTES for image files or UINT8 for pixels")))
        }
    }
}

/// Whether it begins as a JPEG, PNG or WebP does in base64.
fn looks_like_base64(file: &[u8]) -> bool {
    [&b"/9j/"[..], b"iVBORw0KGgo", b"UklGR"].iter().any(|begin| file.starts_with(begin))
}

/// Takes BYTES apart.
fn elements(mut binary: Bytes) -> Result<Vec<Bytes>, Problem> {
    let mut found = Vec::new();
    while !binary.is_empty() {
        if found.len() == MOST_IMAGES {
            return Err(too_many(found.len() + 1));
        }
        let (length, _) =
            binary.split_first_chunk::<4>().ok_or_else(|| bad("an element's length is cut off"))?;
        let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
        binary.advance(4);
        if length > binary.len() {
            return Err(bad(format!("an element has {length} bytes, {} are left", binary.len())));
        }
        found.push(binary.split_to(length));
    }
    Ok(found)
}

fn files(files: Vec<Bytes>, shape: &[u64]) -> Result<Vec<Image>, Problem> {
    let count = files.len() as u64;
    match shape {
        [n] | [n, 1] if *n == count => bounded(files.len())?,
        [n] | [n, 1] => return Err(bad(format!("the shape says {n} images, {count} came"))),
        _ => return Err(bad(format!("the shape is {shape:?} of {count} elements; make it [{count}]"))),
    }
    Ok(files.into_iter().map(Image::File).collect())
}

fn pixels(mut data: Bytes, shape: &[u64]) -> Result<Vec<Image>, Problem> {
    let (count, height, width) = match *shape {
        [n, h, w, 3] => (n, h, w),
        [h, w, 3] => (1, h, w),
        _ => return Err(bad(format!("the shape is {shape:?}; make it [n, height, width, 3]"))),
    };
    let side = |side: u64| u32::try_from(side).ok().filter(|side| *side > 0);
    let (Some(width), Some(height)) = (side(width), side(height)) else {
        return Err(bad(format!("the shape is {shape:?}; no image has such sides")));
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    bounded(count)?;
    // Of 32, 32 and 2 bits; `count` is small.
    let each = u128::from(width) * u128::from(height) * 3;
    if each * count as u128 != data.len() as u128 {
        return Err(bad(format!("the shape is {shape:?}, the tensor has {} bytes", data.len())));
    }
    let each = data.len() / count;
    Ok((0..count).map(|_| Image::Pixels { width, height, rgb: data.split_to(each) }).collect())
}

fn bounded(count: usize) -> Result<(), Problem> {
    match count {
        0 => Err(Problem::missing_image("the tensor has no image")),
        1..=MOST_IMAGES => Ok(()),
        _ => Err(too_many(count)),
    }
}

fn too_many(count: usize) -> Problem {
    Problem::too_large(format!("{count} images or more; send at most {MOST_IMAGES} at once"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(json: &str, binary: &[u8]) -> Result<Asked, Problem> {
        read(&Bytes::from([json.as_bytes(), binary].concat()), Some(json.len()), &["count", "boxes"])
    }

    fn bytes(elements: &[&[u8]]) -> Vec<u8> {
        elements.iter().flat_map(|e| [&(e.len() as u32).to_le_bytes()[..], e].concat()).collect()
    }

    fn file(data: &'static [u8]) -> Image {
        Image::File(Bytes::from_static(data))
    }

    #[test]
    fn binary_tensors_of_both_kinds() {
        let binary = bytes(&[b"one", b"", b"three"]);
        let json = format!(
            r#"{{"id":"7","inputs":[{{"name":"image","shape":[3],"datatype":"BYTES","parameters":{{"binary_data_size":{}}}}}],
               "outputs":[{{"name":"count","parameters":{{"binary_data":true}}}},{{"name":"boxes"}}],
               "parameters":{{"min_score":0.5,"top":2,"priority":1}}}}"#,
            binary.len()
        );
        let asked = with(&json, &binary).unwrap();
        assert_eq!(asked.images, [file(b"one"), file(b""), file(b"three")]);
        assert_eq!(asked.outputs, Outputs::These(vec![("count", true), ("boxes", false)]));
        assert_eq!((asked.id.as_deref(), asked.min_score, asked.top), (Some("7"), Some(0.5), Some(2)));

        let json = r#"{"inputs":[{"name":"image","shape":[2,1,2,3],"datatype":"UINT8","parameters":{"binary_data_size":12}}],
                       "parameters":{"binary_data_output":true}}"#;
        let asked = with(json, &(0..12).collect::<Vec<u8>>()).unwrap();
        let rgb = Bytes::from_static(&[6, 7, 8, 9, 10, 11]);
        assert_eq!(asked.images[1], Image::Pixels { width: 2, height: 1, rgb });
        assert_eq!(asked.outputs, Outputs::All { binary: true });
    }

    #[test]
    fn tensors_in_json_of_both_kinds() {
        let json =
            r#"{"inputs":[{"name":"image","shape":[2,1],"datatype":"BYTES","data":["b25l",["dHdv"]]}]}"#;
        assert_eq!(with(json, b"").unwrap().images, [file(b"one"), file(b"two")]);
        let json = r#"{"inputs":[{"name":"image","shape":[1,2,3],"datatype":"UINT8","data":[[[1,2,3],[4,5,255]]]}]}"#;
        let rgb = Bytes::from_static(&[1, 2, 3, 4, 5, 255]);
        assert_eq!(with(json, b"").unwrap().images, [Image::Pixels { width: 2, height: 1, rgb }]);
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let input = |input: &str| format!(r#"{{"inputs":[{{"name":"image",{input}}}]}}"#);
        let cases: [(String, &[u8]); 19] = [
            (r#"{"inputs":[]}"#.into(), b""),
            ("{".into(), b""),
            (input(r#""shape":[1],"datatype":"BYTES""#), b""),
            (input(r#""shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":4}"#), b"\0\0\0"),
            (input(r#""shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":3}"#), b"\0\0\0"),
            (
                input(r#""shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}"#),
                b"\xff\xff\xff\xff1",
            ),
            (
                input(r#""shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":5}"#),
                b"\x01\0\0\x001",
            ),
            (
                input(r#""shape":[1],"datatype":"BYTES","parameters":{"binary_data_size":5}"#),
                b"\x01\0\0\x001more",
            ),
            (input(r#""shape":[0],"datatype":"BYTES","parameters":{"binary_data_size":0}"#), b""),
            (input(r#""shape":[1],"datatype":"BYTES","data":[1]"#), b""),
            (input(r#""shape":[1],"datatype":"BYTES","data":["*"]"#), b""),
            (input(r#""shape":[1,1,1,3],"datatype":"UINT8","data":[1,2,256]"#), b""),
            (input(r#""shape":[1,1,1,3],"datatype":"UINT8","data":[1,2,-3]"#), b""),
            (input(r#""shape":[1,1,1,3],"datatype":"UINT8","data":[1,2]"#), b""),
            (input(r#""shape":[1,1,1,4],"datatype":"UINT8","data":[1,2,3,4]"#), b""),
            (input(r#""shape":[18446744073709551615,1,1,3],"datatype":"UINT8","data":[]"#), b""),
            (input(r#""shape":[1,4294967295,4294967295,3],"datatype":"UINT8","data":[]"#), b""),
            (input(r#""shape":[1],"datatype":"FP32","data":[1]"#), b""),
            (
                input(
                    r#""shape":[1],"datatype":"BYTES","data":["b25l"]},{"name":"image","shape":[1],"datatype":"BYTES","data":["b25l"]"#,
                ),
                b"",
            ),
        ];
        for (json, binary) in cases {
            let refused = with(&json, binary).unwrap_err();
            assert!((400..500).contains(&refused.status), "{json}: {refused:?}");
        }
        assert!(read(&Bytes::from_static(b"{}"), Some(3), &[]).is_err());
        let many = bytes(&vec![&b"x"[..]; MOST_IMAGES + 1]);
        let json = input(&format!(
            r#""shape":[33],"datatype":"BYTES","parameters":{{"binary_data_size":{}}}"#,
            many.len()
        ));
        assert_eq!(with(&json, &many).unwrap_err().status, 413);
    }

    #[test]
    fn refusals_say_what_to_send_instead() {
        let input = |input: &str| format!(r#"{{"inputs":[{{"name":"image","datatype":"BYTES",{input}}}]}}"#);
        let size = r#""shape":[1],"parameters":{"binary_data_size":8}"#;
        let cases: [(String, &[u8], &str); 5] = [
            (
                input(r#""shape":[2],"data":["b25l","hello!"]"#),
                b"",
                "image 1 is no base64: Invalid symbol 33, offset 5; in JSON, BYTES are files in base64",
            ),
            (input(r#""shape":[2],"data":["b25l"]"#), b"", "the shape says 2 images, 1 came"),
            (
                input(size),
                b"\x04\0\0\0/9j/",
                "image 0 looks like base64; binary tensors carry the file itself",
            ),
            (
                r#"{"inputs":[],"outputs":[{"name":"heatmap"}]}"#.into(),
                b"",
                r#"there is no output "heatmap"; use count, boxes"#,
            ),
            (
                r#"{"inputs":[],"parameters":{"minscore":0.5}}"#.into(),
                b"",
                r#"parameter "minscore" is not known; use min_score, top, timeout"#,
            ),
        ];
        for (json, binary, words) in cases {
            let told = with(&json, binary).unwrap_err().detail;
            assert!(told.contains(words), "{told}");
        }
        let unsaid = Bytes::from_static(br#"{"inputs":[]}more"#);
        let told = read(&unsaid, None, &[]).unwrap_err().detail;
        assert!(told.ends_with("say its length in Inference-Header-Content-Length"), "{told}");
    }

    proptest! {
        #[test]
        fn any_body_is_taken_or_refused(
            json in prop::option::of(0usize..300), body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            prop_assert!(read(&Bytes::from(body), json, &[]).map_or_else(|problem| problem.status < 500, |_| true));
        }

        #[test]
        fn any_elements_are_taken_or_refused(
            shape in prop::collection::vec(0u64..5, 0..5), binary in prop::collection::vec(0u8..4, 0..60),
            kind in prop::sample::select(vec!["BYTES", "UINT8"]),
        ) {
            let json = format!(
                r#"{{"inputs":[{{"name":"image","shape":{shape:?},"datatype":"{kind}","parameters":{{"binary_data_size":{}}}}}]}}"#,
                binary.len()
            );
            prop_assert!(with(&json, &binary).map_or_else(|problem| problem.status < 500, |asked| !asked.images.is_empty()));
        }
    }
}
