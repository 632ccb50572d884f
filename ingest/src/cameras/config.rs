//! What can be set about cameras.

use cloudpose_wire::StreamName;

use super::address::Address;
use crate::outbound::Net;

/// Settings of cameras that the gateway fetches.
#[derive(Debug, Clone, PartialEq, clap::Args)]
#[group(id = "cameras")]
pub struct Config {
    /// Fetch this camera: rtsp://, http(s):// (Motion JPEG or single pictures), or file: (a video or a folder of
    /// pictures, in a loop). Can be given several times; in the variable blanks separate them.
    #[arg(
        long,
        env = "CLOUDPOSE_CAMERA",
        hide_env_values = true,
        value_name = "NAME=URL",
        value_delimiter = ' '
    )]
    pub camera: Vec<Camera>,

    /// Clients may name cameras at these addresses too, besides public ones. Can be given several times.
    #[arg(long, env = "CLOUDPOSE_CAMERA_ALLOW", value_name = "CIDR", value_delimiter = ',')]
    pub camera_allow: Vec<Net>,

    /// Cameras that clients may name, in all; beyond it 409. Those of the command line are not counted.
    #[arg(long, env = "CLOUDPOSE_MAX_CAMERAS", value_name = "N", default_value = "64")]
    pub max_cameras: usize,

    /// Cameras that clients of one tenant may name; beyond it 409.
    #[arg(long, env = "CLOUDPOSE_MAX_CAMERAS_PER_TENANT", value_name = "N", default_value = "32")]
    pub max_cameras_per_tenant: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { camera: Vec::new(), camera_allow: Vec::new(), max_cameras: 64, max_cameras_per_tenant: 32 }
    }
}

/// A camera of the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Camera {
    pub(super) stream: StreamName,
    pub(super) address: Address,
}

impl std::str::FromStr for Camera {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (stream, url) =
            text.split_once('=').ok_or("write it like door=rtsp://user:password@host/path")?;
        let stream = StreamName::new(stream).map_err(|error| format!("the name {stream:?}: {error}"))?;
        Ok(Self { stream, address: url.parse()? })
    }
}
