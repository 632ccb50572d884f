//! Where a camera is, and what of that may be shown.

use std::{fmt, path::PathBuf, str::FromStr};

use percent_encoding::percent_decode_str;
use url::Url;

use crate::outbound::http::authority;

/// Longest address that is taken, in bytes.
const LONGEST: usize = 2048;
/// What stands for what is not shown.
const HIDDEN: &str = "***";

/// Where a camera is. Its password is in none of what is printed of it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// As it was given.
    text: String,
    pub(super) place: Place,
    pub(super) credentials: Option<Credentials>,
}

/// What a camera is reached by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `http` or `https`, without user and password.
    Http(Url),
    /// `rtsp`, without user and password.
    Rtsp(Url),
    /// A video, or a folder of pictures.
    File(PathBuf),
}

/// Who a camera is told that we are.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Address {
    /// As it was given. It is for gateways only.
    pub(super) fn with_password(&self) -> &str {
        &self.text
    }

    /// The address without what may be secret: the password, and the values of a query, where cameras take passwords too.
    pub(crate) fn shown(&self) -> String {
        let url = match &self.place {
            Place::Http(url) | Place::Rtsp(url) => url,
            Place::File(_) => return self.text.clone(),
        };
        let mut shown = format!("{}://", url.scheme());
        if let Some(Credentials { user, .. }) = &self.credentials {
            shown += &format!("{user}:{HIDDEN}@");
        }
        shown += &authority(url);
        shown += url.path();
        if let Some(query) = url.query() {
            let fields = query.split('&').map(|field| match field.split_once('=') {
                Some((name, _)) => format!("{name}={HIDDEN}"),
                None => HIDDEN.to_owned(),
            });
            shown += &format!("?{}", fields.collect::<Vec<_>>().join("&"));
        }
        shown
    }

    /// `text` without the password and the query, should they be in it.
    pub(super) fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        let mut secrets = Vec::new();
        if let Some(credentials) = &self.credentials {
            secrets.push(credentials.password.clone());
        }
        if let Ok(url) = Url::parse(&self.text) {
            secrets.extend(url.password().map(str::to_owned));
            secrets.extend(url.query().map(str::to_owned));
        }
        for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
            text = text.replace(secret.as_str(), HIDDEN);
        }
        text
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("the address has {} bytes; at most {LONGEST} are taken", text.len()));
        }
        if let Some(path) = text.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            if path.is_empty() {
                return Err("say which file, like file:clip.mp4".into());
            }
            return Ok(Self { text: text.into(), place: Place::File(path.into()), credentials: None });
        }
        // The text is not repeated: it may hold a password.
        let mut url = Url::parse(text).map_err(|error| {
            format!("this is no address ({error}); write it like rtsp://user:password@host/path")
        })?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err("the address names no host; write it like rtsp://user:password@host/path".into());
        }
        let decoded = |part: &str| {
            let bytes = percent_decode_str(part);
            bytes.decode_utf8().map(String::from).map_err(|_| "user and password must be UTF-8".to_owned())
        };
        let credentials = match (decoded(url.username())?, url.password().map(decoded).transpose()?) {
            (user, None) if user.is_empty() => None,
            (user, password) => Some(Credentials { user, password: password.unwrap_or_default() }),
        };
        // Cannot fail where there is a host.
        let removed = url.set_username("").and_then(|()| url.set_password(None));
        removed.map_err(|()| "this address cannot have a user")?;
        url.set_fragment(None);
        let place = match url.scheme() {
            "http" | "https" => Place::Http(url),
            "rtsp" => Place::Rtsp(url),
            "rtsps" => return Err("RTSP over TLS (rtsps) is not spoken; use rtsp:// or https://".into()),
            other => {
                return Err(format!("{other} is not spoken; use rtsp://, http:// or https://"));
            }
        };
        Ok(Self { text: text.into(), place, credentials })
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_secret_is_shown_and_all_of_it_is_known() {
        for (text, shown) in [
            ("rtsp://joe:hun%21ter2@cam.local/ch1", "rtsp://joe:***@cam.local/ch1"),
            ("rtsp://joe@cam:8554/", "rtsp://joe:***@cam:8554/"),
            ("http://10.0.0.7:80/snap?user=joe&pwd=hun!ter2", "http://10.0.0.7/snap?user=***&pwd=***"),
            ("https://[2001:db8::1]:444/a?token", "https://[2001:db8::1]:444/a?***"),
            ("file:clips/a.mp4", "file:clips/a.mp4"),
        ] {
            let address = address(text);
            assert_eq!(address.shown(), shown);
            let printed = format!("{address:?}{address:#?}");
            assert!(!printed.contains("hun"), "{printed}");
            assert_eq!(address.text, text);
        }
        let joe = address("rtsp://joe:hun%21ter2@cam/");
        assert_eq!(joe.credentials.as_ref().map(|who| &who.password[..]), Some("hun!ter2"));
        assert_eq!(joe.place, Place::Rtsp("rtsp://cam/".parse().unwrap()), "the rest has no password in it");
        assert_eq!(joe.hide("no hun%21ter2, no hun!ter2"), "no ***, no ***");
        assert_eq!(address("http://c/?pwd=x1y2").hide("GET /?pwd=x1y2 failed"), "GET /?*** failed");
    }

    #[test]
    fn what_is_no_camera_says_what_one_looks_like() {
        for (bad, why) in [
            ("cam.local", "rtsp://user:password@host"),
            ("rtsp:///path", "no host"),
            ("ftp://host/secret", "ftp is not spoken"),
            ("rtsps://host/", "over TLS"),
            ("file:", "which file"),
            ("data:text/plain,secret", "no host"),
        ] {
            let error = bad.parse::<Address>().unwrap_err();
            assert!(error.contains(why) && !error.contains("secret"), "{bad}: {error}");
        }
        assert!(format!("rtsp://host/{}", "a".repeat(LONGEST)).parse::<Address>().is_err());
        assert_eq!(address("file:///tmp/a").place, Place::File("/tmp/a".into()));
    }
}
