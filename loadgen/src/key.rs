//! What users show to say who they are.

use std::{fmt, str::FromStr};

use reqwest::header::HeaderValue;

/// A key of the service, or a token that somebody signed. It is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(HeaderValue);

impl Key {
    /// The value of `Authorization`.
    pub(crate) fn bearer(&self) -> HeaderValue {
        self.0.clone()
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_token = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let bearer = HeaderValue::try_from(format!("Bearer {text}")).ok().filter(|_| is_token);
        let mut bearer = bearer.ok_or("a key is one word of printable ASCII characters")?;
        bearer.set_sensitive(true);
        Ok(Self(bearer))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// The key of user `index`; none if nobody has one.
pub(crate) fn of_user(keys: &[Key], index: u64) -> Option<&Key> {
    let count = u64::try_from(keys.len()).ok().filter(|count| *count > 0)?;
    keys.get(usize::try_from(index % count).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_take_keys_in_turn_and_nobody_reads_them() {
        let keys: Vec<Key> = ["cpk_one", "cpk_two"].map(|key| key.parse().unwrap()).into();
        let shown: Vec<_> = (0..3).map(|user| of_user(&keys, user).unwrap().bearer()).collect();
        assert_eq!(shown, ["Bearer cpk_one", "Bearer cpk_two", "Bearer cpk_one"]);
        assert_eq!(of_user(&[], 1), None);
        assert!(!format!("{keys:?} {shown:?}").contains("cpk"));
        for wrong in ["", "two words", "line\nbreak", "Schlüssel"] {
            assert!(wrong.parse::<Key>().is_err(), "{wrong:?}");
        }
    }
}
