//! Tensors in JSON: numbers or strings in any depth of lists, row by row.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, SeqAccess, Visitor},
};

use crate::doors::MOST_IMAGES;

/// What is in the lists, in order. A tensor has one kind only; the other is empty.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Data<'a> {
    pub(super) texts: Vec<Cow<'a, str>>,
    /// Millions of them: pixels take no more than a byte each while they are read.
    pub(super) numbers: Vec<u8>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Data<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Data::default();
        Into(&mut data).deserialize(deserializer)?;
        Ok(data)
    }
}

struct Into<'b, 'a>(&'b mut Data<'a>);

impl<'a> Into<'_, 'a> {
    fn push<E: Error>(self, text: Cow<'a, str>) -> Result<(), E> {
        if self.0.texts.len() == MOST_IMAGES {
            return Err(E::custom(format!("there are more than {MOST_IMAGES} strings")));
        }
        self.0.texts.push(text);
        Ok(())
    }
}

impl<'de: 'a, 'a> DeserializeSeed<'de> for Into<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Into<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lists of strings, or of whole numbers from 0 to 255")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        let number = u8::try_from(number)
            .map_err(|_| E::custom(format!("{number} is no byte; use whole numbers from 0 to 255")))?;
        self.0.numbers.push(number);
        Ok(())
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<(), E> {
        self.push(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.push(Cow::Owned(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(Into(&mut *self.0))?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_bounded_while_they_are_read() {
        let list = |of: &str, count| format!("[{}]", vec![of; count].join(","));
        let texts =
            |count| serde_json::from_str::<Data<'_>>(&list(r#""""#, count)).map(|data| data.texts.len());
        assert_eq!(texts(MOST_IMAGES).unwrap(), MOST_IMAGES);
        assert!(texts(MOST_IMAGES + 1).is_err());
    }

    #[test]
    fn lists_of_any_depth_are_read_row_by_row() {
        let read = |json| serde_json::from_str::<Data<'_>>(json);
        assert_eq!(read("[[1,[2]],3]").unwrap().numbers, [1, 2, 3]);
        assert_eq!(read(r#"[["a\n"],"b"]"#).unwrap().texts, ["a\n", "b"]);
        for bad in ["[256]", "[-1]", "[1.0]", "[true]", "[null]", r#"[{"a":1}]"#] {
            assert!(read(bad).is_err(), "{bad}");
        }
        let deep = "[".repeat(10_000);
        assert!(read(&deep).is_err());
    }
}
