//! Errors are short, whatever is wrong.

/// Longest text of an error, in characters.
const MOST: usize = 1000;
/// What is left of the beginning and of the end of a longer one.
const ENDS: usize = 300;

/// The text, or its beginning and end: what a client sent may stand in it, and be megabytes. The end is where parsers
/// say what they would have taken, and where.
pub(crate) fn brief(text: String) -> String {
    let Some((beyond, _)) = text.char_indices().nth(MOST) else { return text };
    let head = text.char_indices().nth(ENDS).map_or(beyond, |(at, _)| at);
    let tail = text.char_indices().nth_back(ENDS - 1).map_or(0, |(at, _)| at);
    format!("{} … {}", &text[..head], &text[tail..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_errors_keep_their_ends() {
        let long = format!("unknown variant `{}`, expected `end`", "ä".repeat(8 << 20));
        let short = brief(long);
        assert!(short.len() < 2000 && short.starts_with("unknown variant `ä"), "{short}");
        assert!(short.ends_with("`, expected `end`"), "{short}");
        let fits = "x".repeat(MOST);
        assert_eq!(brief(fits.clone()), fits);
        assert!(brief(fits + "x").len() < MOST);
    }
}
