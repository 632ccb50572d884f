//! Where a request shows its key.

use axum::http::{HeaderMap, header};
use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// What WebSockets of ours speak.
pub(crate) const PROTOCOL: &str = "cloudpose.v1";
/// Before a key in base64url, among the protocols that a browser's WebSocket offers: it can send no other header.
const BEARER_PROTOCOL: &str = "cloudpose.bearer.";

const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request shows.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shown {
    Nothing,
    Key(String),
    /// Something that is no key.
    Nonsense,
}

/// The key in `Authorization: Bearer …`, or else the one among the WebSocket protocols.
pub(super) fn shown(headers: &HeaderMap) -> Shown {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    match (values.next(), values.next()) {
        (None, _) => offered(headers),
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map_or(Shown::Nonsense, |(_, key)| Shown::Key(key.trim().to_owned())),
        // Proxies differ in which of two they believe.
        (Some(_), Some(_)) => Shown::Nonsense,
    }
}

fn offered(headers: &HeaderMap) -> Shown {
    let protocols = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let protocols = protocols.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    let mut keys = protocols.filter_map(|protocol| protocol.trim().strip_prefix(BEARER_PROTOCOL));
    match (keys.next(), keys.next()) {
        (None, _) => Shown::Nothing,
        (Some(key), None) => BASE64URL
            .decode(key)
            .ok()
            .and_then(|key| String::from_utf8(key).ok())
            .map_or(Shown::Nonsense, Shown::Key),
        (Some(_), Some(_)) => Shown::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(headers: &[(&'static str, &str)]) -> Shown {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        shown(&map)
    }

    #[test]
    fn a_key_comes_in_either_header() {
        let key = || Shown::Key("cpk_a-b".into());
        assert_eq!(of(&[]), Shown::Nothing);
        assert_eq!(of(&[("authorization", "Bearer cpk_a-b")]), key());
        assert_eq!(of(&[("authorization", "bearer  cpk_a-b")]), key());
        for protocols in [
            "cloudpose.v1, cloudpose.bearer.Y3BrX2EtYg",
            "cloudpose.bearer.Y3BrX2EtYg==,cloudpose.v1",
            "cloudpose.bearer.Y3BrX2EtYg",
        ] {
            assert_eq!(of(&[("sec-websocket-protocol", protocols)]), key(), "{protocols}");
        }
        let apart = [
            ("sec-websocket-protocol", "cloudpose.v1"),
            ("sec-websocket-protocol", "cloudpose.bearer.Y3BrX2EtYg"),
        ];
        assert_eq!(of(&apart), key());
        assert_eq!(of(&[("sec-websocket-protocol", "cloudpose.v1")]), Shown::Nothing);
        let both = [("authorization", "Bearer cpk_a-b"), ("sec-websocket-protocol", "cloudpose.bearer.AAAA")];
        assert_eq!(of(&both), key());
    }

    #[test]
    fn what_is_no_key_is_none() {
        for header in [
            ("authorization", "cpk_a-b"),
            ("authorization", "Basic dTpw"),
            ("authorization", ""),
            ("sec-websocket-protocol", "cloudpose.bearer.!"),
            ("sec-websocket-protocol", "cloudpose.bearer._w"),
            ("sec-websocket-protocol", "cloudpose.bearer.YQ, cloudpose.bearer.Yg"),
        ] {
            assert_eq!(of(&[header]), Shown::Nonsense, "{header:?}");
        }
        assert_eq!(of(&[("authorization", "Bearer a"), ("authorization", "Bearer a")]), Shown::Nonsense);
    }
}
