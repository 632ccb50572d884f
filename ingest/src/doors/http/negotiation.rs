//! Which of the media types that we have a client wants.

use axum::http::{HeaderMap, header};

/// What the client can be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    Json,
    Jpeg,
}

/// Chooses by the `Accept` header (RFC 9110, section 12.5.1): the higher weight wins, then the more exact
/// wish, then JSON. `None` if neither is acceptable.
pub(super) fn negotiate(headers: &HeaderMap) -> Option<Media> {
    let mut ranges = Vec::new();
    for value in headers.get_all(header::ACCEPT) {
        ranges.extend(value.to_str().ok()?.split(','));
    }
    if ranges.iter().all(|range| range.trim().is_empty()) {
        return Some(Media::Json);
    }
    let json = weight(&ranges, ["application/json", "application/*", "*/*"]);
    let jpeg = weight(&ranges, ["image/jpeg", "image/*", "*/*"]);
    match (json, jpeg) {
        (None, None) => None,
        (json, jpeg) if jpeg > json => Some(Media::Jpeg),
        _ => Some(Media::Json),
    }
}

/// The weight in thousandths that `ranges` give to a type, and how exactly they name it (2, 1 or 0), where
/// `names` are the type's own name and the wildcards that hold it. The most exact name decides. `None` if
/// it is not accepted.
fn weight(ranges: &[&str], names: [&str; 3]) -> Option<(u16, u8)> {
    for (name, exactness) in names.into_iter().zip([2, 1, 0]) {
        for range in ranges {
            let mut parts = range.split(';').map(str::trim);
            if !parts.next().is_some_and(|range| range.eq_ignore_ascii_case(name)) {
                continue;
            }
            let q = parts.find_map(|p| p.strip_prefix("q=").or(p.strip_prefix("Q=")));
            let q = q.map_or(1.0, |q| q.parse().unwrap_or(0.0f32).clamp(0.0, 1.0));
            return (q > 0.0).then_some(((q * 1000.0) as u16, exactness));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn negotiated(accept: Option<&str>) -> Option<Media> {
        let mut headers = HeaderMap::new();
        if let Some(accept) = accept {
            headers.insert(header::ACCEPT, accept.parse().unwrap());
        }
        negotiate(&headers)
    }

    #[test]
    fn accept_header_chooses() {
        use Media::{Jpeg, Json};
        for (accept, expected) in [
            (None, Some(Json)),
            (Some(""), Some(Json)),
            (Some("*/*"), Some(Json)),
            (Some("image/jpeg"), Some(Jpeg)),
            (Some("IMAGE/JPEG"), Some(Jpeg)),
            (Some("image/*"), Some(Jpeg)),
            (Some("image/jpeg, */*"), Some(Jpeg)),
            (Some("image/jpeg;q=0.5, application/json"), Some(Json)),
            (Some("image/jpeg; q=0.9, application/json;q=0.8"), Some(Jpeg)),
            (Some("application/json, image/jpeg"), Some(Json)),
            (Some("image/jpeg;q=0, */*"), Some(Json)),
            (Some("application/json;q=0, */*"), Some(Jpeg)),
            (Some("text/html, */*;q=0.1"), Some(Json)),
            (Some("text/html"), None),
            (Some("image/png"), None),
            (Some("image/jpeg;q=0"), None),
            (Some("image/jpeg;q=x"), None),
        ] {
            assert_eq!(negotiated(accept), expected, "{accept:?}");
        }
    }
}
