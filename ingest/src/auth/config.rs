use std::path::PathBuf;

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
    /// Set; its changes are taken in within seconds.
    #[arg(long, env = "CLOUDPOSE_JWKS", value_name = "FILE", requires = "jwt_audience")]
    pub jwks: Option<PathBuf>,

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

/// A way that needs nothing else to be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Way {
    /// Nobody is asked.
    None,
}
