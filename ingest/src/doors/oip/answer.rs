//! What `infer` answers: tensors, in JSON or behind it.

use bytes::Bytes;
use cloudpose_wire::{Class, Person};
use serde::Serialize;

use super::{models::VERSION, request::Outputs};

/// An output of a model, row by row.
#[derive(Debug, PartialEq)]
pub(super) struct Tensor {
    pub(super) name: &'static str,
    shape: Vec<usize>,
    values: Values,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(untagged)]
enum Values {
    Floats(Vec<f32>),
    Integers(Vec<i32>),
    Texts(Vec<String>),
}

impl Values {
    fn datatype(&self) -> &'static str {
        match self {
            Self::Floats(_) => "FP32",
            Self::Integers(_) => "INT32",
            Self::Texts(_) => "BYTES",
        }
    }

    /// Little-endian; texts with their length before them.
    fn write(&self, into: &mut Vec<u8>) {
        match self {
            Self::Floats(values) => {
                values.iter().for_each(|value| into.extend_from_slice(&value.to_le_bytes()))
            }
            Self::Integers(values) => {
                values.iter().for_each(|value| into.extend_from_slice(&value.to_le_bytes()))
            }
            Self::Texts(values) => values.iter().for_each(|text| {
                let length = u32::try_from(text.len()).expect("labels are short");
                into.extend_from_slice(&length.to_le_bytes());
                into.extend_from_slice(text.as_bytes());
            }),
        }
    }
}

/// The persons of each image, of `keypoints` keypoints each. Where an image has fewer than another, zeros stand for
/// them: `count` says how many there are.
pub(super) fn of_persons(images: &[Vec<Person>], keypoints: usize) -> Vec<Tensor> {
    let most = images.iter().map(Vec::len).max().unwrap_or(0);
    let (n, mut points, mut boxes, mut scores) = (images.len(), Vec::new(), Vec::new(), Vec::new());
    for persons in images {
        for person in persons {
            let found = person.keypoints.iter().flat_map(|point| [point.x, point.y, point.score]);
            points.extend(found.chain(std::iter::repeat(0.0)).take(keypoints * 3));
            let area = person.bounding_box;
            boxes.extend([area.x, area.y, area.width, area.height]);
            scores.push(person.score);
        }
        let missing = most - persons.len();
        points.extend(std::iter::repeat_n(0.0, missing * keypoints * 3));
        boxes.extend(std::iter::repeat_n(0.0, missing * 4));
        scores.extend(std::iter::repeat_n(0.0, missing));
    }
    let count = images.iter().map(|persons| i32::try_from(persons.len()).unwrap_or(i32::MAX)).collect();
    vec![
        Tensor { name: "keypoints", shape: vec![n, most, keypoints, 3], values: Values::Floats(points) },
        Tensor { name: "boxes", shape: vec![n, most, 4], values: Values::Floats(boxes) },
        Tensor { name: "scores", shape: vec![n, most], values: Values::Floats(scores) },
        Tensor { name: "count", shape: vec![n], values: Values::Integers(count) },
    ]
}

/// The classes of each image, by falling score. Where an image has fewer than another, empty ones follow.
pub(super) fn of_classes(images: &[Vec<Class>]) -> Vec<Tensor> {
    let most = images.iter().map(Vec::len).max().unwrap_or(0);
    let (mut labels, mut scores) = (Vec::new(), Vec::new());
    for classes in images {
        let missing = most - classes.len();
        labels.extend(classes.iter().map(|class| class.label.clone()));
        labels.extend(std::iter::repeat_n(String::new(), missing));
        scores.extend(classes.iter().map(|class| class.score));
        scores.extend(std::iter::repeat_n(0.0, missing));
    }
    let shape = vec![images.len(), most];
    vec![
        Tensor { name: "classes", shape: shape.clone(), values: Values::Texts(labels) },
        Tensor { name: "scores", shape, values: Values::Floats(scores) },
    ]
}

#[derive(Serialize)]
struct Response<'a> {
    model_name: &'a str,
    model_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    outputs: Vec<Output<'a>>,
}

#[derive(Serialize)]
struct Output<'a> {
    name: &'static str,
    datatype: &'static str,
    shape: &'a [usize],
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters: Option<Binary>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a Values>,
}

#[derive(Serialize)]
struct Binary {
    binary_data_size: usize,
}

/// Writes the outputs that are wanted, in that order. Answers the body, and how much of it is JSON if other follows.
pub(super) fn write(
    model: &str,
    id: Option<&str>,
    tensors: &[Tensor],
    wanted: &Outputs,
) -> (Bytes, Option<usize>) {
    let chosen: Vec<(&Tensor, bool)> = match wanted {
        Outputs::All { binary } => tensors.iter().map(|tensor| (tensor, *binary)).collect(),
        // They are names of the model's outputs, and all its outputs are here.
        Outputs::These(names) => names
            .iter()
            .filter_map(|(name, binary)| Some((tensors.iter().find(|tensor| tensor.name == *name)?, *binary)))
            .collect(),
    };
    let mut behind = Vec::new();
    let mut outputs = Vec::new();
    for (Tensor { name, shape, values }, binary) in &chosen {
        let begin = behind.len();
        if *binary {
            values.write(&mut behind);
        }
        let parameters = binary.then(|| Binary { binary_data_size: behind.len() - begin });
        let data = (!binary).then_some(values);
        outputs.push(Output { name, datatype: values.datatype(), shape, parameters, data });
    }
    let any_binary = chosen.iter().any(|(_, binary)| *binary);
    let response = Response { model_name: model, model_version: VERSION, id, outputs };
    let mut body = serde_json::to_vec(&response).expect("names and numbers are JSON");
    let json = any_binary.then_some(body.len());
    body.append(&mut behind);
    (body.into(), json)
}

#[cfg(test)]
mod tests {
    use cloudpose_wire::{Keypoint, event::BoundingBox};

    use super::*;

    fn person(x: f32) -> Person {
        Person {
            track_id: None,
            score: 0.5,
            bounding_box: BoundingBox { x, y: 2.0, width: 3.0, height: 4.0 },
            keypoints: vec![Keypoint { name: "nose".parse().unwrap(), x, y: 1.5, score: 0.25 }],
            coarse: false,
        }
    }

    fn class(label: &str) -> Class {
        Class { label: label.into(), score: 0.5 }
    }

    #[test]
    fn images_with_fewer_persons_are_filled_with_zeros() {
        let images = [vec![person(1.0)], vec![person(2.0), person(3.0)], vec![]];
        let (body, json) = write("m", Some("7"), &of_persons(&images, 1), &Outputs::All { binary: false });
        let told = r#"{"model_name":"m","model_version":"1","id":"7","outputs":[{"name":"keypoints","datatype":"FP32","shape":[3,2,1,3],"data":[1.0,1.5,0.25,0.0,0.0,0.0,2.0,1.5,0.25,3.0,1.5,0.25,0.0,0.0,0.0,0.0,0.0,0.0]},{"name":"boxes","datatype":"FP32","shape":[3,2,4],"data":[1.0,2.0,3.0,4.0,0.0,0.0,0.0,0.0,2.0,2.0,3.0,4.0,3.0,2.0,3.0,4.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0]},{"name":"scores","datatype":"FP32","shape":[3,2],"data":[0.5,0.0,0.5,0.5,0.0,0.0]},{"name":"count","datatype":"INT32","shape":[3],"data":[1,2,0]}]}"#;
        assert_eq!((std::str::from_utf8(&body).unwrap(), json), (told, None));
        let none = of_persons(&[vec![]], 17);
        assert_eq!(none[0].shape, [1, 0, 17, 3]);
    }

    #[test]
    fn binary_outputs_follow_the_json_in_its_order() {
        let tensors = of_classes(&[vec![class("cat"), class("dog")], vec![class("é")]]);
        let wanted = Outputs::These(vec![("scores", true), ("classes", true)]);
        let (body, json) = write("m", None, &tensors, &wanted);
        let (json, binary) = body.split_at(json.unwrap());
        let told = r#"{"model_name":"m","model_version":"1","outputs":[{"name":"scores","datatype":"FP32","shape":[2,2],"parameters":{"binary_data_size":16}},{"name":"classes","datatype":"BYTES","shape":[2,2],"parameters":{"binary_data_size":24}}]}"#;
        assert_eq!(std::str::from_utf8(json).unwrap(), told);
        let halves = [0.5f32, 0.5, 0.5, 0.0].map(f32::to_le_bytes).concat();
        assert_eq!(binary[..16], halves);
        assert_eq!(&binary[16..], b"\x03\0\0\0cat\x03\0\0\0dog\x02\0\0\0\xc3\xa9\0\0\0\0");
    }
}
