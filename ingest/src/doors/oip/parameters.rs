//! What a request of `infer` says beside its tensors.

use std::{borrow::Cow, fmt, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, MapAccess, Visitor},
};

/// The longest time that a request may give its images: each that waits has one of the places of its tenant.
pub(super) const MOST_TIMEOUT: Duration = Duration::from_secs(60);

#[derive(Debug, Default, PartialEq)]
pub(super) struct Parameters {
    pub(super) binary_data_output: bool,
    pub(super) min_score: Option<f32>,
    pub(super) top: Option<u16>,
    /// Within this each image must be done.
    pub(super) timeout: Option<Duration>,
}

impl<'de> Deserialize<'de> for Parameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByName)
    }
}

struct ByName;

impl<'de> Visitor<'de> for ByName {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut read = Parameters::default();
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            match &*name {
                "binary_data_output" => {
                    read.binary_data_output = map.next_value::<Option<_>>()?.unwrap_or_default();
                }
                "min_score" => read.min_score = map.next_value()?,
                "top" => read.top = map.next_value()?,
                "timeout" => read.timeout = timeout(map.next_value()?),
                // Triton's own, for which there is nothing to do here.
                "priority"
                | "sequence_id"
                | "sequence_start"
                | "sequence_end"
                | "headers"
                | "triton_enable_empty_final_response" => {
                    map.next_value::<IgnoredAny>()?;
                }
                _ => {
                    let told = format!("parameter {name:?} is not known; use min_score, top, timeout");
                    return Err(A::Error::custom(told));
                }
            }
        }
        Ok(read)
    }
}

/// Of microseconds; 0 asks for none, as Triton has it.
fn timeout(us: Option<u64>) -> Option<Duration> {
    us.filter(|us| *us > 0).map(|us| Duration::from_micros(us).min(MOST_TIMEOUT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_or_refused_by_their_names() {
        let read = |json| serde_json::from_str::<Parameters>(json);
        let asked = read(r#"{"binary_data_output":true,"min_score":0.5,"top":null,"timeout":1500}"#).unwrap();
        let timeout = Some(Duration::from_micros(1500));
        let expected = Parameters { binary_data_output: true, min_score: Some(0.5), top: None, timeout };
        assert_eq!(asked, expected);
        let others =
            r#"{"priority":1,"sequence_id":"a","sequence_start":true,"sequence_end":[1],"timeout":0}"#;
        assert_eq!(read(others).unwrap(), Parameters::default());
        assert_eq!(read(r#"{"timeout":3600000000}"#).unwrap().timeout, Some(Duration::from_secs(60)));
        let told = read(r#"{"minscore":0.5}"#).unwrap_err().to_string();
        assert!(
            told.starts_with(r#"parameter "minscore" is not known; use min_score, top, timeout"#),
            "{told}"
        );
        assert!(read(r#"{"timeout":-1}"#).is_err());
    }
}
