use std::path::PathBuf;

/// How clients say who they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, clap::Args)]
#[group(id = "auth_config")]
pub struct Config {
    /// Clients must show one of the keys in this file, which `cloudpose keys` makes; changes take effect at once.
    #[arg(long, env = "CLOUDPOSE_KEYS", value_name = "FILE")]
    pub keys: Option<PathBuf>,
}
