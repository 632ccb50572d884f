//! The connection to a NATS server: its settings, and whether it is there.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use cloudpose_wire::{Domain, Prefix};
use tokio::sync::watch;

use crate::metrics::{self, Loss};

/// How long the first connection may take before the process gives up.
const FIRST_CONNECTION: Duration = Duration::from_secs(10);
/// Longest pause between two attempts to connect again.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// A connection that is silent for three of these is dead: soon enough for an image that waits for it to be tried elsewhere.
const PING_EVERY: Duration = Duration::from_secs(2);
/// How long the server may take to answer, as when it is told that a still is done.
const ANSWER: Duration = Duration::from_secs(2);
/// Messages that may wait in the client for one subscription. async-nats takes 65,536 unless told
/// otherwise, whatever their size, and drops the newest, silently but for an event, when they are full.
const SUBSCRIPTION_BUFFER: usize = 256;
/// Commands that may wait in the client for the connection; each may hold an image.
const COMMAND_BUFFER: usize = 256;

/// Where the NATS server is, and who we are there.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "nats_login")]
#[command(next_help_heading = "NATS")]
pub struct Login {
    /// NATS servers, comma separated: nats://host:4222, or tls://host:4222
    #[arg(
        id = "nats",
        long = "nats",
        env = "CLOUDPOSE_NATS",
        value_name = "URL",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub servers: Vec<String>,
    /// File with the credentials (JWT and nkey) for the NATS server
    #[arg(long = "nats-credentials", env = "CLOUDPOSE_NATS_CREDENTIALS", value_name = "FILE")]
    pub credentials: Option<PathBuf>,
    /// File with the seed of our nkey for the NATS server
    #[arg(
        long = "nats-nkey",
        env = "CLOUDPOSE_NATS_NKEY",
        value_name = "FILE",
        conflicts_with = "credentials"
    )]
    pub nkey: Option<PathBuf>,
    /// File with certificates (PEM) to trust besides those of the system
    #[arg(long = "nats-ca", env = "CLOUDPOSE_NATS_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// Where the NATS server is, who we are there, and what is ours on it.
#[derive(Debug, Clone, Default, clap::Args)]
#[group(id = "nats_connection")]
#[command(next_help_heading = "NATS")]
pub struct Config {
    /// Where the server is, and who we are there.
    #[command(flatten)]
    pub login: Login,
    /// First token of every subject: keeps deployments apart that share a NATS server
    #[arg(long = "nats-prefix", env = "CLOUDPOSE_NATS_PREFIX", value_name = "NAME", default_value_t)]
    pub prefix: Prefix,
    /// JetStream domain of the queues, if not that of the server we connect to: for workers at a hub that help
    /// an edge
    #[arg(long = "nats-domain", env = "CLOUDPOSE_NATS_DOMAIN", value_name = "NAME")]
    pub domain: Option<Domain>,
    /// Copies of each queue, on as many servers of a cluster: 1, 3 or 5 [default: 1]
    #[arg(
        long = "nats-replicas",
        env = "CLOUDPOSE_NATS_REPLICAS",
        value_name = "N",
        value_parser = replicas
    )]
    pub replicas: Option<usize>,
    /// Give pose events the headers of CloudEvents (ce-id, ce-type, …); the messages stay as they are
    #[arg(long = "nats-cloudevents", env = "CLOUDPOSE_NATS_CLOUDEVENTS")]
    pub cloudevents: bool,
    /// In which turn this process's workers get frames.
    #[arg(skip)]
    pub turn: Turn,
    /// What this process does, if not everything.
    #[arg(skip)]
    pub role: Option<Role>,
}

impl Config {
    /// A server at `url`, and all else as it is unless told otherwise.
    pub fn at(url: String) -> Self {
        Self { login: Login { servers: vec![url], ..Login::default() }, ..Self::default() }
    }
}

/// What a process does, and so may do on the broker (`deploy/nats/permissions.conf`). Without one it does everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It puts frames on lanes, which it makes where they are missing, and takes results. How lanes are read, and what they hold
    /// once they are there, it leaves to workers.
    Gateway,
    /// It takes frames from lanes, and keeps them as they should be.
    Worker,
    /// It takes events that are kept, and has nothing to do with lanes.
    Recorder,
}

impl Role {
    /// Where its answers come, so that no other role hears them.
    const fn inbox(self) -> &'static str {
        match self {
            Self::Gateway => "_INBOX.gateway",
            Self::Worker => "_INBOX.worker",
            Self::Recorder => "_INBOX.recorder",
        }
    }
}

/// A cluster decides by majority: an even number would be lost as easily as one less.
fn replicas(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        "5" => Ok(5),
        _ => Err("must be 1, 3 or 5: more than half of them must be there".into()),
    }
}

/// Who gets a frame for which several workers wait.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Turn {
    /// This process's workers, in turn with all the others of whom the same holds.
    #[default]
    First,
    /// This process's workers only if no other is waiting: slow ones beside fast ones.
    Overflow,
}

impl Turn {
    /// Priority of a pull request in its group: 0 is served first, 9 last (ADR-42 of
    /// nats-architecture-and-design, nats-server 2.12).
    pub(super) const fn priority(self) -> u8 {
        match self {
            Self::First => 0,
            Self::Overflow => 9,
        }
    }
}

/// Why there is no bus on NATS.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// An address does not parse.
    #[error("{url:?} is not the address of a NATS server: write it like nats://host:4222")]
    Address {
        /// As given.
        url: String,
        /// What is wrong.
        source: std::io::Error,
    },
    /// The credentials cannot be read.
    #[error("cannot use the NATS credentials in {path}")]
    Credentials {
        /// As given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The nkey cannot be read, or is none.
    #[error("cannot use the nkey in {path}: it must hold a user's seed, which begins with SU")]
    Nkey {
        /// As given.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A server answers, and does not let us in.
    #[error(
        "NATS at {servers} does not let us in (user and password in --nats, --nats-nkey, --nats-credentials)"
    )]
    Refused {
        /// Host and port of each.
        servers: String,
        /// What the client says.
        source: async_nats::ConnectError,
    },
    /// No server answers.
    #[error("cannot connect to NATS at {servers} (is nats-server running there?)")]
    Unreachable {
        /// Host and port of each.
        servers: String,
        /// What the client says.
        source: async_nats::ConnectError,
    },
    /// A server answers, and TLS with it fails: its certificate is not trusted, has expired, is for another name.
    #[error("TLS with NATS at {servers} fails (a certificate of your own? name its issuer's with --nats-ca)")]
    Tls {
        /// Host and port of each.
        servers: String,
        /// What the client says.
        source: async_nats::ConnectError,
    },
    /// The server has no JetStream, or does not let us make streams.
    #[error(
        "cannot set up the work queues on NATS (they need nats-server 2.12 or newer with JetStream, -js, and a user who \
         may do it; `cloudpose serve` does what all roles do, and needs one who may do everything)"
    )]
    Lanes(#[source] async_nats::Error),
}

/// Whether there is a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// True while there is.
    pub(super) up: bool,
    /// Goes up with each new connection: what was asked for on the last one is forgotten.
    pub(super) epoch: u64,
}

/// Whether a server lets us in: connects once, and leaves again.
///
/// # Errors
/// Whatever a process with these settings could not connect for.
pub async fn log_in(login: &Login) -> Result<(), ConnectError> {
    let servers = servers(login)?;
    let options = introduce(ConnectOptions::new().name("cloudpose"), login, &servers).await?;
    options.connect(&servers[..]).await.map(drop).map_err(|error| unconnected(&servers, error))
}

pub(super) async fn connect(config: &Config) -> Result<(Client, watch::Receiver<Link>), ConnectError> {
    let servers = servers(&config.login)?;
    let names = names(&servers);
    let (link, mut is_up) = watch::channel(Link::default());
    let mut options = introduce(options(link, names.clone()), &config.login, &servers).await?;
    if let Some(role) = config.role {
        options = options.custom_inbox_prefix(role.inbox());
    }
    let mut told = false;
    let patience = tokio::time::Instant::now() + FIRST_CONNECTION;
    let client = loop {
        match options.clone().connect(&servers[..]).await {
            Ok(client) => break client,
            // Waiting does not help where it is TLS.
            Err(error)
                if error.kind() == async_nats::ConnectErrorKind::Io
                    && !is_tls(&error)
                    && tokio::time::Instant::now() < patience =>
            {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(servers = names, %error, "waiting for NATS");
                }
                tokio::time::sleep(LONGEST_PAUSE).await;
            }
            Err(error) => return Err(unconnected(&servers, error)),
        }
    };
    // The event comes a moment after the connection; it always comes.
    is_up.wait_for(|link| link.up).await.ok();
    Ok((client, is_up))
}

fn servers(login: &Login) -> Result<Vec<ServerAddr>, ConnectError> {
    let parse = |url: &String| {
        url.parse::<ServerAddr>().map_err(|source| ConnectError::Address { url: url.clone(), source })
    };
    login.servers.iter().map(parse).collect()
}

/// Host and port of each.
fn names(servers: &[ServerAddr]) -> String {
    let names: Vec<String> = servers.iter().map(|s| format!("{}:{}", s.host(), s.port())).collect();
    names.join(", ")
}

/// Who we are, and whom we trust.
async fn introduce(
    mut options: ConnectOptions,
    login: &Login,
    servers: &[ServerAddr],
) -> Result<ConnectOptions, ConnectError> {
    if let Some(path) = &login.credentials {
        let unusable = |source| ConnectError::Credentials { path: path.clone(), source };
        options = options.credentials_file(path).await.map_err(unusable)?;
    }
    if let Some(path) = &login.nkey {
        let seed = seed(path).map_err(|source| ConnectError::Nkey { path: path.clone(), source })?;
        options = options.nkey(seed);
    }
    // async-nats does not look into the address for them.
    let named = servers.iter().find_map(|server| Some((server.username()?, server.password()?)));
    if let Some((user, password)) = named {
        options = options.user_and_password(user.into(), password.into());
    }
    if let Some(ca) = &login.ca {
        options = options.add_root_certificates(ca.clone());
    }
    Ok(options)
}

fn unconnected(servers: &[ServerAddr], source: async_nats::ConnectError) -> ConnectError {
    use async_nats::ConnectErrorKind::{Authentication, AuthorizationViolation};

    let servers = names(servers);
    match source.kind() {
        _ if is_tls(&source) => ConnectError::Tls { servers, source },
        Authentication | AuthorizationViolation => ConnectError::Refused { servers, source },
        _ => ConnectError::Unreachable { servers, source },
    }
}

/// What is wrong with TLS comes as an I/O error that says so by its kind alone.
fn is_tls(error: &async_nats::ConnectError) -> bool {
    let source = std::error::Error::source(error).and_then(|source| source.downcast_ref::<std::io::Error>());
    source.is_some_and(|io| io.kind() == std::io::ErrorKind::InvalidData)
}

/// The user's seed in a file that may say more.
fn seed(path: &Path) -> std::io::Result<String> {
    let text = std::fs::read_to_string(path)?;
    let seed = text.lines().map(str::trim).find(|line| line.starts_with("SU"));
    seed.map(str::to_owned).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

fn options(link: watch::Sender<Link>, servers: String) -> ConnectOptions {
    ConnectOptions::new()
        .name("cloudpose")
        .ping_interval(PING_EVERY)
        .request_timeout(Some(ANSWER))
        .subscription_capacity(SUBSCRIPTION_BUFFER)
        .client_capacity(COMMAND_BUFFER)
        .reconnect_delay_callback(|attempt| {
            let attempt = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
            LONGEST_PAUSE.min(Duration::from_millis(50).saturating_mul(attempt))
        })
        .event_callback(move |event| {
            match event {
                Event::Connected => {
                    tracing::info!(servers, "connected to NATS");
                    link.send_modify(|link| *link = Link { up: true, epoch: link.epoch + 1 });
                    metrics::connected(true);
                }
                Event::Disconnected => {
                    tracing::warn!(servers, "lost the connection to NATS; trying again");
                    link.send_modify(|link| link.up = false);
                    metrics::connected(false);
                }
                Event::SlowConsumer(_) => metrics::lost(Loss::SlowConsumer),
                other => tracing::warn!(event = %other, "from NATS"),
            }
            std::future::ready(())
        })
}
