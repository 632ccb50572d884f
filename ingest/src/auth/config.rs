use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use axum::http::Uri;

use super::Origin;

/// How clients say who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[group(id = "auth_config")]
pub struct Config {
    /// Clients must show one of the keys in this file, which `cloudpose keys` makes; its changes are taken in within
    /// seconds.
    #[arg(long, env = "CLOUDPOSE_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,

    /// Clients may show a JSON Web Token (RS256, ES256, EdDSA) that one of the keys in this file has signed, a JSON Web Key
    /// Set, or in what is published at this https:// address. Changes of a file are taken in within seconds, those of an
    /// address within minutes.
    #[arg(long, env = "CLOUDPOSE_JWKS", value_name = "FILE|URL", requires = "jwt_audience")]
    pub jwks: Option<KeySet>,

    /// Whom tokens must be for (`aud`): this service, as the issuer calls it.
    #[arg(long, env = "CLOUDPOSE_JWT_AUDIENCE", value_name = "NAME", requires = "jwks")]
    pub jwt_audience: Option<String>,

    /// Who must have made tokens (`iss`) [default: whoever has signed them].
    #[arg(long, env = "CLOUDPOSE_JWT_ISSUER", value_name = "NAME", requires = "jwks")]
    pub jwt_issuer: Option<String>,

    /// Lets other machines in without keys: `none` says that whoever reaches the port may use it. With --keys or
    /// --jwks these are asked for all the same.
    #[arg(long = "auth", env = "CLOUDPOSE_AUTH", value_name = "none")]
    pub way: Option<Way>,

    /// Another site whose pages may use this server from a browser, like `https://app.example.com`; may be given several
    /// times, or with commas. This server's own pages may, and programs.
    #[arg(long, env = "CLOUDPOSE_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    pub allow_origin: Vec<Origin>,
}

/// Where the keys of those are who sign tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySet {
    /// In a file.
    File(PathBuf),
    /// Published there.
    Address(Uri),
}

impl FromStr for KeySet {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let wrong =
            "write it like https://id.example.com/keys; http:// is for addresses of this machine only";
        let address: Uri = text.parse().map_err(|_| wrong)?;
        let host = address.host().ok_or(wrong)?;
        let is_here = || {
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || bare.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        };
        match address.scheme_str() {
            Some("https") => Ok(Self::Address(address)),
            Some("http") if is_here() => Ok(Self::Address(address)),
            _ => Err(wrong),
        }
    }
}

impl From<PathBuf> for KeySet {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl fmt::Display for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Address(address) => address.fmt(f),
        }
    }
}

/// A way that needs nothing else to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// Nobody is asked.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_set_is_a_file_or_an_address_that_nobody_can_change_on_the_way() {
        assert_eq!("keys.json".parse(), Ok(KeySet::File("keys.json".into())));
        for good in [
            "https://id.example.com/keys?v=1",
            "http://127.0.0.1:8080/",
            "http://[::1]/k",
            "http://localhost/k",
        ] {
            assert_eq!(good.parse::<KeySet>().unwrap().to_string(), good);
        }
        for bad in ["http://id.example.com/keys", "ftp://x/y", "https://", "http://127.0.0.1.example.com/"] {
            assert!(bad.parse::<KeySet>().is_err(), "{bad}");
        }
    }
}
